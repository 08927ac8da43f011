"""Score a restored run with its samples against a truth: mean, power, and error bars, by part and by shell of frequency.

    cryovae restore --half1 A_half1.mrc --half2 A_half2.mrc --tilts A.tlt --samples-out 8 -o RUN
    python pipelines/benchmark/error_bars.py dense_a RUN

Nothing is restored. Printed for the wedge and for measured bins are the correlation c of the mean with the truth; its power over
c^2 times the truth's (right: 1); rms error of the mean over the standard deviation of the samples (right: 1); mean square error
of a sample over that of the mean (right: 2); and what held-out bins said, before any fit and after. The first line has the
figures of run.py and docs/benchmark/all_rows.md, from 0.01 to 0.2 cycles per voxel.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from data import load
from scoring import scores
from torch import Tensor

from cryovae import fourier
from cryovae.calibration.hidden_bins import EMPTY, FULL
from cryovae.io.files import read_volume
from cryovae.physics.wedge import volume_mask

# Cycles per voxel; the first shell is all of them together.
SHELLS = ((0.05, 0.3), (0.02, 0.05), (0.05, 0.1), (0.1, 0.15), (0.15, 0.2), (0.2, 0.3))
SAID = ("correlation", "rms_over_std", "factor_two", "chi2_band", "coverage", "mean", "patches", "held_out_share")


def main() -> None:
    """Read and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="as in run.py")
    parser.add_argument("run", type=Path, help="folder of the run")
    parser.add_argument("--simulated", type=Path, help="folder of volumes that are not in CRYOVAE_SHARED_DATA")
    options = parser.parse_args()
    subject = load(options.data, options.simulated)
    mean = _volume(next(iter(sorted(options.run.glob("*_mean.mrc")))))
    samples = [_volume(path) for path in sorted(options.run.glob("*_sample_*.mrc"))]
    truth = torch.as_tensor(subject.truth).float()
    mask = volume_mask(truth.shape, subject.tomogram.tilts)
    own = scores(mean, subject)
    print(f"0.01 to 0.20, as run.py: wedge {own['wedge']:.3f}, measured {own['measured']:.3f}")
    for part, bins in (("wedge", mask < EMPTY), ("measured", mask > FULL)):
        for low, high in SHELLS:
            print(f"{part:>8} {low:4.2f} to {high:4.2f}: {described(shell_scores(mean, samples, truth, bins, low, high))}")
    held = json.loads((options.run / "run.json").read_text())["restoration"]["held_out"]
    if held is None:
        print("held-out bins: none were looked at")
        return
    for name in SAID:
        print(f"held-out {name}: wedge {held.get(name)}, measured {held.get('measured', {}).get(name)}")


def shell_scores(mean: Tensor, samples: list[Tensor], truth: Tensor, bins: Tensor, low: float, high: float) -> dict[str, float]:
    """Scores over the ``bins`` of a half spectrum between two frequencies in cycles per voxel; volumes (z, y, x)."""
    radius = fourier.radius(truth.shape)
    weight = bins * (radius >= low) * (radius < high) * fourier.multiplicity(truth.shape) * fourier.below_nyquist(truth.shape)
    x, t = fourier.transform(mean), fourier.transform(truth)
    cross, power, true = (float((weight * v).double().sum()) for v in ((x * t.conj()).real, x.abs().square(), t.abs().square()))
    correlation = cross / max(power * true, 1e-30) ** 0.5
    figures = {"correlation": correlation, "power": power / max(true * correlation**2, 1e-30)}
    if samples:
        drawn = [fourier.transform(sample) for sample in samples]
        error = float((weight * (x - t).abs().square()).double().sum())
        variance = sum(float((weight * (s - x).abs().square()).double().sum()) for s in drawn) / len(drawn)
        of_sample = sum(float((weight * (s - t).abs().square()).double().sum()) for s in drawn) / len(drawn)
        figures |= {"error_over_std": (error / max(variance, 1e-30)) ** 0.5, "factor_two": of_sample / max(error, 1e-30)}
    return figures


def described(figures: dict[str, Any]) -> str:
    """Figures in one line."""
    return ", ".join(f"{name.replace('_', ' ')} {value:.3f}" for name, value in figures.items())


def _volume(path: Path) -> Tensor:
    return torch.from_numpy(np.array(read_volume(path).density, dtype=np.float32))


if __name__ == "__main__":
    main()
