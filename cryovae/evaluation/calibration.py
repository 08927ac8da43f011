"""Calibration of the standard deviation against a truth, voxel by voxel.

error ratio   rms(mean - truth) / rms(std)                                   1 if calibrated, above 1 if std is too small
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
from cryovae.evaluation.fsc import regions
from cryovae.tomogram import TiltGeometry

NOMINAL = (0.5, 0.8, 0.9, 0.95)
BINS = 12
SMOOTHING = 1.5


@dataclass(frozen=True)
class Reliability:
    """Rms error in bins of equal counts by predicted standard deviation, and the line observed = offset + slope predicted.

    Attributes:
        predicted: Root mean variance (bins,), in grey values.
        observed: Rms error (bins,), in grey values.
        slope: Slope of the line; nan if the standard deviation hardly varies.
        offset: Offset of the line, in grey values; nan if the slope is nan.
    """

    predicted: np.ndarray
    observed: np.ndarray
    slope: float
    offset: float


@dataclass(frozen=True)
class Calibration:
    """How well a standard deviation describes the errors.

    Attributes:
        error_ratio: Rms error divided by rms standard deviation.
        coverage: Share of the voxels inside the interval, by nominal share.
        reliability: Rms error by predicted standard deviation.
        crps: Continuous ranked probability score, in grey values.
        crps_share: CRPS divided by the mean absolute error; 0.71 for a calibrated Gaussian of one width, 1 for a std of 0.
    """

    error_ratio: float
    coverage: dict[float, float]
    reliability: Reliability
    crps: float
    crps_share: float


def calibration(mean: Tensor, std: Tensor, truth: Tensor) -> Calibration:
    """Compare errors with standard deviations, all (z, y, x) in grey values. Means are subtracted: they are not restored."""
    return calibration_of_error(_error(mean, truth, None), std)


def _error(mean: Tensor, truth: Tensor, voxels: Tensor | None) -> Tensor:
    """Error (z, y, x) of a mean, both less their own mean over the voxels that count; 0 elsewhere."""
    if voxels is None:
        return (mean - mean.mean()) - (truth - truth.mean())
    return ((mean - mean[voxels].mean()) - (truth - truth[voxels].mean())) * voxels


def calibration_of_error(error: Tensor, std: Tensor) -> Calibration:
    """Calibration of an error and a standard deviation, of one shape."""
    error = error.abs()
    ratio = float(error.square().mean().sqrt() / std.square().mean().sqrt().clamp_min(1e-30))
    covered = {share: float((error < NormalDist().inv_cdf(0.5 + share / 2) * std).float().mean()) for share in NOMINAL}
    score, absolute = float(crps(error, std).mean()), float(error.mean())
    return Calibration(ratio, covered, reliability(error, std), score, score / max(absolute, 1e-30))


def crps(error: Tensor, std: Tensor) -> Tensor:
    """Continuous ranked probability score of a Gaussian, in the unit of ``error``, of the same shape.

    Closed form of Gneiting, Raftery, Westveld and Goldman, Monthly Weather Review 133 (2005), equation 5. It equals the
    absolute error where the standard deviation is 0.
    """
    width = std.clamp_min(1e-12 + 1e-6 * float(std.abs().max()))
    t = error / width
    density = torch.exp(-0.5 * t.square()) / (2 * torch.pi) ** 0.5
    return width * (t * torch.erf(t / 2**0.5) + 2 * density - torch.pi**-0.5)


def reliability(error: Tensor, std: Tensor, bins: int = BINS) -> Reliability:
    """Fit a line to the rms error as a function of the predicted standard deviation.

    Args:
        error: Errors, of any shape, in grey values.
        std: Predicted standard deviations of the same shape.
        bins: Number of bins of equal counts into which voxels are sorted by ``std``.
    """
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
    """Standard deviation due to one part of Fourier space, from samples in pairs of opposite noise.

    The variance, from the half differences o and the means c of p pairs, is

        < o^2 > + sum (c - < c >)^2 / (p - 1).

    It is unbiased for opposite pairs, where o has the odd and c the even part of the noise, and for independent draws. With one
    pair only the first term is used. The variance is smoothed with a Gaussian of SMOOTHING voxels, because its estimate from few
    samples is noisy.

    Args:
        samples: Densities (z, y, x); the last of an odd number is ignored.
        weight: Mask (z, y, x // 2 + 1): 1 for the bins of the part, else 0.

    Returns:
        Standard deviation (z, y, x), in grey values.

    Raises:
        ValueError: There is no pair.
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
    mean: Tensor,
    std: Tensor,
    truth: Tensor,
    tilts: TiltGeometry,
    samples: Sequence[Tensor] = (),
    voxels: Tensor | None = None,
) -> dict[str, Calibration | None]:
    """Calibration of the volume and, if samples are given, of its measured part and of its wedge.

    Args:
        mean: Restored density (z, y, x).
        std: Its standard deviation (z, y, x).
        truth: True density (z, y, x), on the grey scale of ``mean``.
        tilts: Measured tilts.
        samples: Samples (z, y, x), in pairs of opposite noise.
        voxels: Boolean (z, y, x), True for the voxels that count; None for all.

    Returns:
        Calibration of 'volume', 'measured' and 'wedge'; None for a part that is empty or has no samples.
    """
    counted = slice(None) if voxels is None else voxels
    error = _error(mean, truth, voxels)
    volume = calibration_of_error(error[counted], std[counted])
    parts: dict[str, Calibration | None] = {"volume": volume, "measured": None, "wedge": None}
    if len(samples) < 2:
        return parts
    wedge, measured = regions(truth.shape, tilts)
    for name, part in (("measured", measured), ("wedge", wedge)):
        inside = (part > 0).float()
        if inside.any():
            parts[name] = calibration_of_error(fourier.filtered(error, inside)[counted], part_std(samples, inside)[counted])
    return parts
