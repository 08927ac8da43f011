"""Whether two half tomograms belong together: correlation of their phases, its best shift, and the ratio of their scales.

    z(band) = sum_k cos( phase F a(k) - phase F b(k) ) / sqrt( n / 2 ),        n independent bins of the band

is normally distributed with variance 1 if the halves share no signal, whatever their spectra are, so its significance needs no
threshold on the correlation itself. Bins near the axes of the grid are left out: slabs and borders of all tomograms look alike.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cryovae import fourier
from cryovae.evaluation.region import Box, cut_out, faded

# Upper limits of the bands, in cycles per voxel. Beyond, halves of few tilts each may be anticorrelated.
BANDS = (0.08, 0.15, 0.25)
# Largest side of the region that is compared, in the middle of the volume.
SIDE = 128
# Bins along an axis that count as near it; smallest power of a bin relative to its shell.
AXIS_BINS, LEAST_POWER = 1.5, 0.1
# Frequencies where signal is most of the power, and where noise is, in cycles per voxel.
LOW, HIGH = (0.04, 0.1), (0.35, 0.5)


@dataclass(frozen=True)
class HalfComparison:
    """A comparison of two halves.

    Attributes:
        bins: Independent bins of the widest band.
        z: Significance of the correlation in each of BANDS, in standard deviations of chance.
        correlation: Correlation of the widest band.
        shift: Position (z, y, x) of the second half relative to the first in voxels, by the largest absolute correlation.
        z_shifted: Significance of the correlation after the second half is moved back by it, in the widest band.
        scale: Standard deviation of the second half over that of the first, from the shells that correlate most.
        excess: Median power of low frequencies over that of high ones, of the half where it is smaller.
    """

    bins: int
    z: tuple[float, ...]
    correlation: float
    shift: tuple[int, int, int]
    z_shifted: float
    scale: float
    excess: float


def middle_of(shape: Sequence[int], side: int = SIDE) -> Box:
    """The middle of a volume, at most ``side`` voxels along each axis."""
    starts = [max((n - side) // 2, 0) for n in shape]
    stops = [start + min(n, side) for start, n in zip(starts, shape, strict=True)]
    return Box((starts[0], starts[1], starts[2]), (stops[0], stops[1], stops[2]))


def compare_halves(first: Any, second: Any) -> HalfComparison:
    """Compare two half tomograms (z, y, x), arrays or volumes that are read by slices, in their middle."""
    box = middle_of(first.shape)
    shape = box.shape
    a, b = (fourier.transform(faded(cut_out(half, box))) for half in (first, second))
    power = a.abs().square(), b.abs().square()
    radius = fourier.radius(shape)
    shell = (radius * min(shape)).round().long()
    count = fourier.multiplicity(shape).expand_as(radius) / 2
    used = _off_axes(shape) & (radius > 0.5 / min(shape))
    for one in power:
        used &= one > LEAST_POWER * _by_shell(one, torch.ones_like(one), shell)[shell]
    phase = a * b.conj()
    phase = phase / phase.abs().clamp_min(1e-30)
    z, bins = [], 0.0
    for limit in BANDS:
        weight = count * (used & (radius < limit))
        bins = float(weight.sum())
        z.append(float((phase.real * weight).sum()) / max(bins / 2, 1e-9) ** 0.5)
    wide = used & (radius < BANDS[-1])
    shift, z_shifted = _best_shift(phase * wide, bins, shape)
    correlation = z[-1] / max(2 * bins, 1e-9) ** 0.5
    scale = _scale(power, phase.real, wide * count, shell)
    excess = min(_excess(one, radius) for one in power)
    return HalfComparison(int(bins), tuple(z), correlation, shift, z_shifted, scale, excess)


def _off_axes(shape: Sequence[int]) -> Tensor:
    """Bins that are far from all axes of the grid."""
    k = fourier.frequencies(shape)
    return torch.stack([k[axis].abs() * shape[axis] > AXIS_BINS for axis in range(3)]).sum(0) >= 2


def _by_shell(values: Tensor, weight: Tensor, shell: Tensor) -> Tensor:
    """Weighted mean of values in each shell."""
    sums = fourier.shell_sums(torch.stack((values * weight, weight)), shell, int(shell.max()) + 1)
    return (sums[0] / sums[1].clamp_min(1e-12)).float()


def _best_shift(phase: Tensor, bins: float, shape: Sequence[int]) -> tuple[tuple[int, int, int], float]:
    """The position of the second half relative to the first with the largest absolute phase correlation; its significance."""
    correlation = fourier.inverse(phase, shape) * math.prod(shape) ** 0.5 / 2
    at = int(correlation.abs().argmax())
    z, y, x = (int(i) for i in np.unravel_index(at, tuple(shape)))
    places = [i if i <= n // 2 else i - n for i, n in zip((z, y, x), shape, strict=True)]
    # The correlation peaks where the first half lies in the second.
    shift = (-places[0], -places[1], -places[2])
    return shift, float(correlation.flatten()[at]) / max(bins / 2, 1e-9) ** 0.5


def _excess(power: Tensor, radius: Tensor) -> float:
    """Median power of low frequencies over that of high ones; 0 if either has no bins."""
    low, high = (power[(radius > a) & (radius < b)] for a, b in (LOW, HIGH))
    if not len(low) or not len(high):
        return 0.0
    return float(low.median()) / max(float(high.median()), 1e-30)


def _scale(power: tuple[Tensor, Tensor], cosine: Tensor, weight: Tensor, shell: Tensor) -> float:
    """Ratio of the standard deviations over the shells, weighted by their bins and the square of their correlation."""
    ratio = _by_shell(power[1], weight, shell).clamp_min(1e-30) / _by_shell(power[0], weight, shell).clamp_min(1e-30)
    bins = fourier.shell_sums(weight[None], shell, len(ratio))[0]
    trust = bins * _by_shell(cosine, weight, shell).double().square() * (bins > 0)
    total = float(trust.sum())
    return float(torch.exp((trust * ratio.double().log() / 2).sum() / total)) if total > 0 else 1.0
