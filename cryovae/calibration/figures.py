"""Figures of a calibration for the record of a restoration: correlation, chi^2 and coverage of held-out bins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
import torch
from scipy.stats import norm
from torch import Tensor

from cryovae.calibration.factors import NOMINAL_COVERAGE, listed
from cryovae.calibration.hidden_bins import SHELLS
from cryovae.calibration.variance import (
    BINS,
    CROSS,
    DATA,
    MODEL,
    VARIANCE,
    VarianceCalibration,
    error_power,
    fit_wedge,
)

# Cycles per voxel between which figures without a shell are computed.
BAND = (0.01, 0.2)


@dataclass(frozen=True)
class PatchSums:
    """Sums over the target bins of one held-out patch in all its rotations, over sigma^2; rows are those of variance.py.

    Attributes:
        sums: (rows, SHELLS).
        deep: the same by depth in the wedge, (rows, SHELLS, DEPTHS).
        bins: single bins (6, bins): data and mean as real and imaginary parts over sigma, variance over sigma^2, shell.
    """

    sums: Tensor
    deep: Tensor
    bins: Tensor


def total_of(patches: Sequence[PatchSums]) -> Tensor:
    """Sums (rows, SHELLS) over patches."""
    return reduce(torch.add, (p.sums for p in patches))


def held_out_figures(patches: Sequence[PatchSums], fitted: tuple[Tensor, Tensor], power: Tensor) -> dict[str, object]:
    """Figures of held-out bins; errors are compared with variances that were fitted to the other patches, if there are two.

    Args:
        patches: the sums.
        fitted: c^2 and amplitude of all patches, (SHELLS,) each.
        power: upper bound of the specimen's power over sigma^2, (SHELLS,).
    """
    total, radius = total_of(patches), VarianceCalibration.frequency()
    band = (radius > BAND[0]) & (radius < BAND[1])
    folds = [(patches[0::2], patches[1::2]), (patches[1::2], patches[0::2])] if len(patches) > 1 else [(patches, patches)]
    residual, expected = torch.zeros(SHELLS, dtype=torch.float64), torch.zeros(SHELLS, dtype=torch.float64)
    ratios, error, spread = [], 0.0, 0.0
    for fold, others in folds:
        scale, amplitude = (table.double() for table in fit_wedge(total_of(others), power))
        for p in fold:
            squared, variance = error_power(p.sums, amplitude), scale * p.sums[VARIANCE]
            residual += squared + p.sums[BINS]
            expected += p.sums[BINS] + variance
            error += float(squared[band].sum())
            spread += float(variance[band].sum())
            ratios.append(_over_std(p.bins, scale.float(), amplitude.float(), band))
    over_std = np.concatenate(ratios)
    signal = (total[DATA] - total[BINS]).clamp_min(0)
    banded = total[:, band].sum(1)
    return {
        "frequency": listed(radius),
        "fsc": listed(total[CROSS] / (total[MODEL] * total[DATA]).sqrt()),
        "ceiling": listed((signal / total[DATA]).sqrt()),
        "correlation": float(banded[CROSS] / (banded[MODEL] * banded[DATA]).sqrt()),
        "correlation_ceiling": float((banded[DATA] - banded[BINS]).clamp_min(0).div(banded[DATA]).sqrt()),
        "chi2": listed(residual / expected),
        "chi2_band": float(residual[band].sum() / expected[band].sum()),
        "factor_two": 1 + spread / error if error > 0 else None,
        "rms_over_std": (error / spread) ** 0.5 if error > 0 and spread > 0 else None,
        "coverage": {f"{level:g}": float((over_std < norm.ppf(0.5 + level / 2)).mean()) for level in NOMINAL_COVERAGE},
        "spread_factor": listed(fitted[0].sqrt()),
        "amplitude": listed(fitted[1]),
        "bins": int(total[BINS].sum()),
    }


def _over_std(bins: Tensor, scale: Tensor, amplitude: Tensor, band: Tensor) -> np.ndarray:
    """|residual| over its predicted standard deviation, of real and imaginary parts of single bins in the band."""
    shell = bins[5].long()
    in_band = band[shell]
    std = ((1 + scale[shell] * bins[4]) / 2).sqrt()
    residual = (bins[0:2] - amplitude[shell] * bins[2:4]).abs()
    return np.asarray((residual / std)[:, in_band].flatten().numpy())
