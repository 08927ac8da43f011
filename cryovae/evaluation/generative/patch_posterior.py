"""Is the posterior of a patch right? Samples beside the truth, in bins of the wedge and in measured ones, without any fit.

    error over std    sqrt( E |x - m|^2 / s^2 )            m mean, s^2 variance of the samples; 1 if the posterior is right
    factor two        E |x - sample|^2 / E |x - m|^2       2 if the posterior is right: a sample is as far from m as the truth is

m is the mean of K samples. Its own error, s^2 / K, is taken off |x - m|^2 and off |m|^2: few samples give the figures of many.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from scipy.stats import t as student
from torch import Tensor

from cryovae import fourier

# Cycles per voxel between which bins are scored: below, a patch does not tell wedge from measured; above, there is no signal.
BAND = (0.04, 0.3)
# M below which a bin is in the wedge, and above which it is measured.
EMPTY, MEASURED = 0.05, 0.95
# Share of the values above the upper end of an interval that holds nine tenths.
TAIL = 0.05


@dataclass(frozen=True)
class PosteriorMeasures:
    """Measures over one part of Fourier space.

    Attributes:
        correlation: of the mean of infinitely many samples with the truth.
        predicted: of the predicted mean of the latents, decoded; NaN without it.
        error_over_std: 1 if the posterior is right.
        factor_two: 2 if the posterior is right.
        coverage: share of the voxels, low-passed and in this part, whose nine-tenths interval holds the truth.
        amplitude: best factor of the mean of the samples.
    """

    correlation: float
    predicted: float
    error_over_std: float
    factor_two: float
    coverage: float
    amplitude: float


def posterior_measures(
    truth: Tensor, samples: Tensor, mask: Tensor, predicted: Tensor | None = None, band: tuple[float, float] = BAND
) -> dict[str, PosteriorMeasures]:
    """Measures 'wedge' and 'measured'.

    Args:
        truth: x, (n, z, y, x).
        samples: (n, count, z, y, x), at least two of each patch.
        mask: M, (n, z, y, x // 2 + 1).
        predicted: a single prediction of each patch, (n, z, y, x), or None.
        band: cycles per voxel between which bins are scored.
    """
    shape = truth.shape[-3:]
    k = fourier.radius(shape)
    within = ((k >= band[0]) & (k <= band[1])) * fourier.below_nyquist(shape)
    parts = {"wedge": within * (mask < EMPTY), "measured": within * (mask > MEASURED)}
    return {name: _measures(truth, samples, part, predicted) for name, part in parts.items()}


def _measures(truth: Tensor, samples: Tensor, part: Tensor, predicted: Tensor | None) -> PosteriorMeasures:
    weight = part * fourier.multiplicity(truth.shape[-3:])
    x, drawn = fourier.transform(truth), fourier.transform(samples)
    mean, count = drawn.mean(1), samples.shape[1]
    variance = _total(drawn - mean[:, None], weight[:, None]) / (count - 1)
    of_mean = _total(x - mean, weight) - variance / count
    of_sample = _total(x[:, None] - drawn, weight[:, None]) / count
    product = float((weight * (mean.conj() * x).real).double().sum())
    power = max(_total(mean, weight) - variance / count, 1e-12)
    prediction = float("nan") if predicted is None else correlation(fourier.transform(predicted), x, weight)
    return PosteriorMeasures(
        product / (power * _total(x, weight)) ** 0.5,
        prediction,
        (of_mean / variance) ** 0.5,
        of_sample / of_mean,
        _coverage(truth, samples, part),
        product / power,
    )


def correlation(first: Tensor, second: Tensor, weight: Tensor) -> float:
    """Correlation of two sets of spectra (n, z, y, x // 2 + 1) over weighted bins of all patches."""
    product = (weight * (first.conj() * second).real).double().sum()
    return float(product / (_total(first, weight) * _total(second, weight)) ** 0.5)


def _total(spectrum: Tensor, weight: Tensor) -> float:
    return float((weight * spectrum.abs().square()).double().sum())


def _coverage(truth: Tensor, samples: Tensor, part: Tensor) -> float:
    x = fourier.filtered(truth, part)
    drawn = torch.stack([fourier.filtered(samples[:, i], part) for i in range(samples.shape[1])], 1)
    count = samples.shape[1]
    # Mean and standard deviation of few samples have errors of their own, so the interval is Student's.
    width = float(student.ppf(1 - TAIL, count - 1)) * drawn.std(1) * (1 + 1 / count) ** 0.5
    return float(((x - drawn.mean(1)).abs() <= width).double().mean())
