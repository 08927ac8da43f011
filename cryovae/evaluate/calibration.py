"""Is the standard deviation as large as the error? Against a truth, voxel by voxel.

error ratio  rms(mean - truth) / rms(std)                                  1 if calibrated, above 1 if too sure
coverage     share of voxels with |mean - truth| < z std, z of a Gaussian     the nominal share if calibrated
"""

from __future__ import annotations

from dataclasses import dataclass

from scipy.stats import norm
from torch import Tensor

NOMINAL = (0.5, 0.8, 0.9, 0.95)


@dataclass(frozen=True)
class Calibration:
    """Error ratio, and the coverage of the intervals of each nominal share."""

    error_ratio: float
    coverage: dict[float, float]


def calibration(mean: Tensor, std: Tensor, truth: Tensor) -> Calibration:
    """Compare errors with standard deviations, all (z, y, x) on one grey scale; means are taken out, as they are not restored."""
    error = ((mean - mean.mean()) - (truth - truth.mean())).abs()
    ratio = float(error.square().mean().sqrt() / std.square().mean().sqrt().clamp_min(1e-30))
    covered = {share: float((error < norm.ppf(0.5 + share / 2) * std).float().mean()) for share in NOMINAL}
    return Calibration(ratio, covered)
