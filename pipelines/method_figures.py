"""The figures of the pages on the method, from the sample of data_samples and the network of the package.

    bash pipelines/quickstart.sh && .venv/bin/python pipelines/method_figures.py

method_completion.png   a block of the sample, rotated, with the wedge removed, what is predicted, and the bins that are scored
method_em.png           power of a prior by lap, learned from posterior samples and from posterior means, in exact Gaussians
method_calibration.png  error against standard deviation, and coverage of intervals, of the restored sample
"""

from __future__ import annotations

import argparse
from itertools import pairwise, product
from math import pi
from pathlib import Path

import numpy as np
import torch
from scipy.special import erfinv
from torch import Tensor

import cryovae
from cryovae import fourier
from cryovae.evaluation.plane_power import log_power_xz
from cryovae.io.files import read_volume
from cryovae.io.tilts import read_tilts
from cryovae.physics.rotation import training_rotations
from cryovae.physics.wedge import volume_mask
from cryovae.report.figure import PlainFigure
from cryovae.report.pictures import save_figure
from cryovae.report.plots import draw_power
from cryovae.tomogram import Tomogram

SAMPLE = Path("data_samples")
# A cube in the middle of the sample: every rotation keeps its shape.
CUBE = (slice(0, 64), slice(8, 72), slice(4, 68))
# Frequencies that are shown in real space, in cycles per voxel: above, noise hides all else.
SHOWN_TO = 0.15
DIRECTIONS, MISSING, LAPS = 24, 8, 400


def main() -> None:
    """Draw the three figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=Path("restored/quickstart"), help="the restored sample")
    parser.add_argument("--out", type=Path, default=Path("docs/pictures"))
    options = parser.parse_args()
    em(options.out / "method_em.png")
    calibration(options.out / "method_calibration.png", options.run)
    completion(options.out / "method_completion.png")


def completion(path: Path) -> None:
    """Hide measured bins of a block as training does, and predict them by the network of the package."""
    tilts = read_tilts(SAMPLE / "sample.tlt")
    halves = [np.asarray(read_volume(SAMPLE / f"sample_half{number}.mrc").density) for number in (1, 2)]
    measured = torch.from_numpy(np.mean(halves, axis=0, dtype=np.float32)[CUBE].copy())
    mask = volume_mask(measured.shape, tilts)
    measured = fourier.filtered(measured, mask)
    # The beam becomes x, so measured bins come into the wedge.
    rotation = next(g for g in training_rotations(tilts) if g.matrix.abs()[0, 2] == 1 and g.matrix.abs()[1, 1] == 1)
    rotated = rotation(measured)
    rotated_mask = fourier.transform(rotated).abs() > 1e-3 * fourier.transform(rotated).abs().mean()
    entered = fourier.filtered(rotated, mask)
    tomogram = Tomogram("rotated", entered.numpy(), 10.0, tilts)
    settings = {"restoration.sampler": "amortised", "restoration.calibrate": False}
    predicted = cryovae.restore(tomogram, "base", samples=2, raw=True, device="cpu", settings=settings).mean
    scored = rotated_mask.float() * (1 - mask) * (fourier.radius(measured.shape) < SHOWN_TO)
    blocks = {"measured": measured, "rotated": rotated, "wedge removed: input": entered, "predicted": predicted}
    figure = PlainFigure(figsize=(15.5, 6.4), layout="constrained")
    axes = figure.subplots(2, 5)
    for column, (name, density) in zip(axes.T, blocks.items(), strict=False):
        _slice(column[0], density, name)
        draw_power(column[1], log_power_xz(density.numpy()), 1.0, f"power, {name.split(':')[0]}", tilts)
    _slice(axes[0, 4], fourier.filtered(rotated, scored), "hidden bins, measured")
    _slice(axes[1, 4], fourier.filtered(predicted, scored), "the same bins, predicted")
    save_figure(path, figure)
    truth, guess = (fourier.filtered(density, scored).flatten() for density in (rotated, predicted))
    print(f"{path}: correlation in the hidden bins {torch.corrcoef(torch.stack([truth, guess]))[0, 1]:.3f}")


def _slice(axis: object, density: Tensor, title: str) -> None:
    pixels = density[:, density.shape[1] // 2].numpy()
    low, high = np.percentile(pixels, (0.5, 99.5))
    axis.imshow(pixels, cmap="gray", vmin=low, vmax=high, origin="lower")  # type: ignore[attr-defined]
    axis.set(title=title, xticks=[], yticks=[], xlabel="x", ylabel="z (beam)")  # type: ignore[attr-defined]


def em(path: Path) -> None:
    """Learn the covariance of Gaussian signals by laps of E and M, both in closed form: no draw, no noise of sampling."""
    figure = PlainFigure(figsize=(7.5, 3.6), layout="constrained")
    axis = figure.subplots()
    for (snr, colour), source in product(((3.0, "C0"), (1.0, "C1"), (0.3, "C2")), ("samples", "means")):
        power = powers_by_lap(snr, from_samples=source == "samples")
        line = "-" if source == "samples" else "--"
        axis.plot(range(1, LAPS + 1), power, line, color=colour, label=f"{source}, signal over noise {snr:g}")
        print(f"{path}: {source}, signal over noise {snr:g}: power {power[-1]:.2f} of the signal's after {LAPS} laps")
    axis.set(xscale="log", ylim=(0, 2.0), xlabel="lap", ylabel="power of the prior over the signal's")
    axis.legend(fontsize=8, ncols=2, loc="upper right")
    save_figure(path, figure)


def powers_by_lap(snr: float, from_samples: bool) -> list[float]:
    """Power of the learned prior over that of the signal, after each lap.

    The signal x ~ N(0, C) has directions that belong together: C is circulant, the same after any rotation. y is x with noise in
    16 of 24 directions. From samples the next C is the mean of E[x x' | y] over y; from means, that of E[x | y] E[x | y]'.
    """
    angle = 2 * pi * np.arange(DIRECTIONS) / DIRECTIONS
    signal = _circulant(np.exp((np.cos(angle) - 1) / 0.3))
    noise = np.eye(DIRECTIONS - MISSING) * np.trace(signal) / DIRECTIONS / snr
    seen = np.eye(DIRECTIONS)[MISSING:]
    prior, powers = np.eye(DIRECTIONS) * signal[0, 0], []
    for _ in range(LAPS):
        gain = prior @ seen.T @ np.linalg.inv(seen @ prior @ seen.T + noise)
        moments = gain @ (seen @ signal @ seen.T + noise) @ gain.T
        if from_samples:
            moments = moments + prior - gain @ seen @ prior
        # A random rotation of each signal makes the moments the same for all directions.
        rolled = [np.roll(moments, (shift, shift), (0, 1)) for shift in range(DIRECTIONS)]
        prior = np.mean(rolled, axis=0)
        powers.append(float(np.trace(prior) / np.trace(signal)))
    return powers


def _circulant(row: np.ndarray) -> np.ndarray:
    return np.stack([np.roll(row, shift) for shift in range(len(row))])


def calibration(path: Path, run: Path) -> None:
    """Compare the standard deviation of the restored sample with its error."""
    mean, std = (np.asarray(read_volume(run / f"sample_{kind}.mrc").density) for kind in ("mean", "std"))
    error = np.abs(mean - read_volume(SAMPLE / "sample_truth.mrc").density)
    edges = np.quantile(std, np.linspace(0, 1, 21))
    groups = [(std >= low) & (std <= high) for low, high in pairwise(edges)]
    levels = np.linspace(0.02, 0.98, 49)
    covered = [float((error <= np.sqrt(2) * erfinv(level) * std).mean()) for level in levels]
    figure = PlainFigure(figsize=(9, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(
        [std[g].mean() for g in groups], [np.sqrt((error[g] ** 2).mean()) for g in groups], "o-", label="voxels, in 20 groups"
    )
    most = float(edges[-1])
    left.plot((0, most), (0, most), "k--", label="calibrated")
    left.set(xlabel="standard deviation (grey values)", ylabel="rms error (grey values)", xlim=(0, None), ylim=(0, None))
    right.plot(levels, covered, label="the sample")
    right.plot((0, 1), (0, 1), "k--", label="calibrated")
    right.set(xlabel="level of the interval", ylabel="share of voxels within it")
    for axis in (left, right):
        axis.legend()
    save_figure(path, figure)
    print(f"{path}: rms error over standard deviation {np.sqrt(((error / std) ** 2).mean()):.2f}")


if __name__ == "__main__":
    main()
