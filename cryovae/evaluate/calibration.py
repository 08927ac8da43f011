"""Is the standard deviation as large as the error? Against a truth, voxel by voxel.

error ratio   rms(mean - truth) / rms(std)                                   1 if calibrated, above 1 if too sure
coverage      share of voxels with |mean - truth| < z std, z of a Gaussian      the nominal share if calibrated
reliability   rms error against root mean variance, in bins of equal counts by std     slope 1, offset 0 if calibrated
CRPS          < std ( t (2 Phi(t) - 1) + 2 phi(t) - 1 / sqrt(pi) ) >,  t = (mean - truth) / std     in grey values, less is better
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import torch
from torch import Tensor

from cryovae import fourier
from cryovae.evaluate.fsc import regions
from cryovae.tomogram import TiltGeometry

NOMINAL = (0.5, 0.8, 0.9, 0.95)
BINS = 12
SMOOTHING = 1.5


@dataclass(frozen=True)
class Reliability:
    """Bins of equal counts by predicted standard deviation, in grey values, and the line through them.

    predicted, observed: (bins,) root mean variance and rms error. slope, offset: of observed = offset + slope predicted;
    nan where the standard deviation hardly varies, as one point has no slope.
    """

    predicted: np.ndarray
    observed: np.ndarray
    slope: float
    offset: float


@dataclass(frozen=True)
class Calibration:
    """Error ratio, coverage of the intervals of each nominal share, reliability, and CRPS in grey values.

    crps_share: CRPS over the mean absolute error, which is the CRPS of the mean without a standard deviation. 0.71 for
    a calibrated Gaussian of one width, 1 if the standard deviation is of no use.
    """

    error_ratio: float
    coverage: dict[float, float]
    reliability: Reliability
    crps: float
    crps_share: float


def calibration(mean: Tensor, std: Tensor, truth: Tensor) -> Calibration:
    """Compare errors with standard deviations, all (z, y, x) on one grey scale; means are taken out, as they are not restored."""
    return calibration_of_error((mean - mean.mean()) - (truth - truth.mean()), std)


def calibration_of_error(error: Tensor, std: Tensor) -> Calibration:
    """The same of an error and a standard deviation, both (z, y, x)."""
    error = error.abs()
    ratio = float(error.square().mean().sqrt() / std.square().mean().sqrt().clamp_min(1e-30))
    covered = {share: float((error < NormalDist().inv_cdf(0.5 + share / 2) * std).float().mean()) for share in NOMINAL}
    score, absolute = float(crps(error, std).mean()), float(error.mean())
    return Calibration(ratio, covered, reliability(error, std), score, score / max(absolute, 1e-30))


def crps(error: Tensor, std: Tensor) -> Tensor:
    """Continuous ranked probability score of a Gaussian, in the unit of ``error``, of the same shape.

    Closed form of Gneiting, Raftery, Westveld and Goldman, Monthly Weather Review 133 (2005), equation 5. Where the
    standard deviation is 0 it is the absolute error.
    """
    width = std.clamp_min(1e-12 + 1e-6 * float(std.abs().max()))
    t = error / width
    density = torch.exp(-0.5 * t.square()) / (2 * torch.pi) ** 0.5
    return width * (t * torch.erf(t / 2**0.5) + 2 * density - torch.pi**-0.5)


def reliability(error: Tensor, std: Tensor, bins: int = BINS) -> Reliability:
    """Sort voxels by ``std``, cut them into ``bins`` of equal counts, and compare the rms of ``error`` in each; a line fit."""
    order = std.flatten().argsort()
    error, std = error.flatten()[order].double(), std.flatten()[order].double()
    groups = list(zip(error.tensor_split(bins), std.tensor_split(bins), strict=True))
    observed = np.array([float(e.square().mean().sqrt()) for e, _ in groups])
    predicted = np.array([float(s.square().mean().sqrt()) for _, s in groups])
    if predicted.std() < 1e-3 * predicted.mean() or predicted.mean() == 0:
        return Reliability(predicted, observed, float("nan"), float("nan"))
    slope, offset = np.polyfit(predicted, observed, 1)
    return Reliability(predicted, observed, float(slope), float(offset))


def part_std(samples: Sequence[Tensor], weight: Tensor) -> Tensor:
    """Standard deviation (z, y, x) of one part of Fourier space, from samples (z, y, x) that come in opposite pairs.

    weight (z, y, x // 2 + 1): 1 for the bins of the part, else 0. With half differences o and means c of p pairs the variance is

        < o^2 > + sum (c - < c >)^2 / (p - 1),

    unbiased for opposite pairs, in which o holds what is odd in the noise and c what is even, and for independent draws as
    well. So few are noisy voxel by voxel: the variance is smoothed with a Gaussian of SMOOTHING voxels. One pair has
    the first term alone. A sample without its partner is left out; ValueError if no pair is there.
    """
    pairs = [
        (fourier.filtered(a, weight), fourier.filtered(b, weight)) for a, b in zip(samples[::2], samples[1::2], strict=False)
    ]
    if not pairs:
        raise ValueError(f"{len(samples)} samples found, expected pairs")
    odd = torch.stack([((a - b) / 2).square() for a, b in pairs]).mean(0)
    even = torch.stack([(a + b) / 2 for a, b in pairs]).var(0) if len(pairs) > 1 else torch.zeros_like(odd)
    smooth = torch.exp(-2 * (torch.pi * SMOOTHING * fourier.radius(odd.shape)).square())
    return fourier.filtered(odd + even, smooth).clamp_min(0).sqrt()


def calibration_by_part(
    mean: Tensor, std: Tensor, truth: Tensor, tilts: TiltGeometry, samples: Sequence[Tensor] = ()
) -> dict[str, Calibration | None]:
    """Calibration of the whole volume, and of its measured part and of its wedge where samples show the spread of each.

    mean, std, truth: (z, y, x) on one grey scale. samples: those that were kept, in opposite pairs; of a part without
    them, or that is empty, nothing is known: None.
    """
    found: dict[str, Calibration | None] = {"whole": calibration(mean, std, truth), "measured": None, "wedge": None}
    if len(samples) < 2:
        return found
    wedge, measured = regions((truth.shape[0], truth.shape[1], truth.shape[2]), tilts)
    error = (mean - mean.mean()) - (truth - truth.mean())
    for name, part in (("measured", measured), ("wedge", wedge)):
        inside = (part > 0).float()
        if inside.any():
            found[name] = calibration_of_error(fourier.filtered(error, inside), part_std(samples, inside))
    return found
