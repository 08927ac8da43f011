"""The pictures of a run: slices and power spectra before and after, and the course of the training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np

from cryovae.evaluate.plane_power import log_power_xz
from cryovae.io.atomic import whole_file

PLANES = ("xy", "xz", "yz")


def middle_slices(density: np.ndarray) -> dict[str, np.ndarray]:
    """The three central slices of a (z, y, x) density, by the axes that they show; the beam points up in xz and yz."""
    nz, ny, nx = density.shape
    return {"xy": density[nz // 2], "xz": density[:, ny // 2], "yz": density[:, :, nx // 2]}


def preview(path: Path, before: np.ndarray, after: np.ndarray, std: np.ndarray | None, voxel_size: float, title: str) -> None:
    """Slices xy, xz, yz of input, restored mean and any standard deviation, and xz power spectra; lengths in nanometres."""
    nm = voxel_size / 10
    rows = [("input", before, "gray"), ("restored mean", after, "gray")]
    rows += [] if std is None else [("standard deviation", std, "viridis")]
    last = len(rows)
    figure, axes = plt.subplots(last + 1, 3, figsize=(13, 3.75 * (last + 1)), constrained_layout=True)
    for row, (name, density, colours) in enumerate(rows):
        slices = middle_slices(density)
        low, high = np.percentile(np.concatenate([s.ravel() for s in slices.values()]), (0.5, 99.5))
        for column, plane in enumerate(PLANES):
            shown = slices[plane]
            extent = (0, shown.shape[1] * nm, 0, shown.shape[0] * nm)
            picture = axes[row, column].imshow(
                shown, cmap=colours, vmin=low, vmax=high, origin="lower", extent=extent, aspect="equal"
            )
            axes[row, column].set(title=f"{name}, {plane}", xlabel=f"{plane[0]} (nm)", ylabel=f"{plane[1]} (nm)")
        figure.colorbar(picture, ax=axes[row], shrink=0.7)
    spectra = [log_power_xz(before), log_power_xz(after)]
    high = max(float(np.percentile(s, 99.9)) for s in spectra)
    for column, (name, spectrum) in enumerate(zip(("input", "restored mean"), spectra, strict=True)):
        picture = axes[last, column].imshow(
            spectrum, cmap="magma", vmin=high - 4, vmax=high, origin="lower", extent=(-0.5, 0.5, -0.5, 0.5)
        )
        axes[last, column].set(title=f"power, {name}", xlabel="k_x (cycles per voxel)", ylabel="k_z (cycles per voxel)")
    figure.colorbar(picture, ax=axes[last, :2], shrink=0.7, label="log10 power")
    axes[last, 2].axis("off")
    figure.suptitle(title)
    _save(path, figure)


def loss_plot(path: Path, rows: list[dict[str, str]]) -> None:
    """The terms of the bound and the held-out figures over the steps; nats per coefficient."""
    figure, axes = plt.subplots(1, 3, figsize=(15, 4), constrained_layout=True)
    groups = (
        ("log-likelihood, nats per coefficient", ("log_likelihood", "completion")),
        ("divergences, nats per measured coefficient", ("kl", "matching")),
        ("held out: gain over an empty wedge, nats", ("val_gain",)),
    )
    for axis, (label, names) in zip(axes, groups, strict=True):
        for name in names:
            points = [(int(row["step"]), float(row[name])) for row in rows if row.get(name)]
            if points:
                axis.plot(*zip(*points, strict=True), label=name, marker="." if name.startswith("val") else None)
        axis.set(xlabel="step", ylabel=label)
        if axis.lines:
            axis.legend()
    axes[1].set_yscale("symlog", linthresh=0.01)
    _save(path, figure)


def regression_plot(path: Path, rows: list[dict[str, str]]) -> None:
    """The loss of a deterministic network over the steps."""
    figure, axis = plt.subplots(figsize=(6, 4), constrained_layout=True)
    axis.plot([int(row["step"]) for row in rows], [float(row["loss"]) for row in rows])
    axis.set(xlabel="step", ylabel="loss (squared standard deviations of the input)", yscale="log")
    _save(path, figure)


def _save(path: Path, figure: Any) -> None:
    with whole_file(path) as beside:
        # Tight: beside a colour bar over two panels the layout leaves no room for the label at the left.
        figure.savefig(beside, dpi=80, bbox_inches="tight")
    plt.close(figure)
