"""The FSC of a box of two densities, in the measured part and in the missing wedge, without leakage from one into the other.

Cutting a box smears its spectrum. An empty wedge then holds nothing but what was smeared into it from the measured part, on which
two halves agree almost perfectly. So the parts are separated before the box is cut, on the grid of the volume,

    x_w = w F^-1[ V F x ],        V(k) = clip( 2 d(k) / margin - 1, 0, 1 ),        d: distance of k from the measured part,

x the volume, or the box with PAD voxels about it, tapered where it was cut, and w the window of the box. What is then left in an
empty wedge is rounding, or what a reconstruction program smears. A correlation divides by the power, however small it is, so

    FSC_w = C_w / max( sqrt(P_w Q_w), LEAST C_m )        per bin of a shell; P, Q powers, C the cross power, m the measured part:

a wedge that holds less than LEAST of the signal of the measured part counts as empty, and its FSC goes to 0 with its power.

The standard error is (1 - FSC^2) / sqrt(n). n is the number of independent bins: sum P sum Q / sum PQ, times the share that a
window leaves independent, < w^2 >^2 / < w^4 >.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cryovae import fourier
from cryovae.evaluation.fsc import BAND, Correlation, Score, regions
from cryovae.evaluation.region import Box, cut_out, faded, window
from cryovae.physics.wedge import wedge_mask
from cryovae.tomogram import TiltGeometry

# Voxels about a box that are filtered with it, and the distance from the measured part, in bins of that grid, at which V is 1.
PAD, MARGIN = 32, 3.0
# Share of the signal of the measured part below which a wedge counts as empty, and the same for rounding, of the power.
LEAST, ROUNDING = 0.05, 1e-6


def region_score(first: Any, second: Any, box: Box, tilts: TiltGeometry, limits: tuple[float, float] = BAND) -> Score:
    """Correlate two densities in a box, with standard errors.

    Args:
        first: Density (z, y, x), an array or a volume on disk, of which the box and what is about it are read.
        second: The other density, of the same shape.
        box: Box of the voxels that are compared.
        tilts: Measured tilts.
        limits: Band of the correlations, in cycles per voxel.
    """
    wedge, measured = regions(box.shape, tilts)
    independent, side = _independent(box.shape), min(box.shape)
    cuts = [faded(cut_out(density, box)) for density in (first, second)]
    seen = _sums(cuts, measured, limits)
    in_measured = _correlation(seen, np.zeros_like(seen.bins), independent, side, limits)
    if tilts.has_wedge:
        context = padded(box, first.shape)
        weight = wedge_filter(context.shape, tilts)
        cuts = [faded(wedge_part(cut_out(density, context), context, box, first.shape, weight)) for density in (first, second)]
    return Score(_correlation(_sums(cuts, wedge, limits), seen.least, independent, side, limits), in_measured)


def padded(box: Box, shape: Sequence[int]) -> Box:
    """A box with PAD voxels about it, as far as the volume goes."""
    start, stop = ([max(a - PAD, 0) for a in box.start], [min(b + PAD, n) for b, n in zip(box.stop, shape, strict=True)])
    return Box((start[0], start[1], start[2]), (stop[0], stop[1], stop[2]))


def wedge_filter(shape: Sequence[int], tilts: TiltGeometry) -> Tensor:
    """V (z, y, x // 2 + 1) of a grid: 0 in the measured part and next to it, 1 in the wedge beyond the margin."""
    margin = MARGIN / min(shape)
    weight = (1 - 4 * wedge_mask(fourier.frequencies(shape), tilts, 2 * margin)).clamp(0, 1)
    weight[0, 0, 0] = 0.0
    return weight


def wedge_part(values: np.ndarray, context: Box, box: Box, shape: Sequence[int], weight: Tensor) -> np.ndarray:
    """The part of a density in the wedge, in a box.

    Args:
        values: The density (z, y, x) in the context.
        context: The box with what is about it.
        box: The box.
        shape: Shape (z, y, x) of the volume. Along an axis that the context spans, the volume repeats, as in its spectrum.
        weight: V of the grid of the context.
    """
    density = torch.from_numpy(values - values.mean(dtype=np.float64).astype(np.float32))
    for axis, (a, b, first, last, size) in enumerate(zip(context.start, context.stop, box.start, box.stop, shape, strict=True)):
        if b - a < size:
            # Both ends are tapered, also one at a face of the volume.
            taper = window(b - a, max(first - a, b - last))
            density = density * taper.view([-1 if one == axis else 1 for one in range(3)])
    inside = tuple(slice(a - b, c - b) for a, b, c in zip(box.start, context.start, box.stop, strict=True))
    return fourier.filtered(density, weight)[inside].numpy()  # type: ignore[no-any-return]


def _independent(shape: Sequence[int]) -> float:
    """The share of the bins of a windowed box that are independent."""
    share = 1.0
    for size in shape:
        w = window(size).double()
        share *= float(w.square().mean() ** 2 / w.pow(4).mean())
    return share


@dataclass(frozen=True)
class _Sums:
    """Sums over the bins of each shell, the band last, (shells + 1,): of the cross power, the powers, their product, and bins."""

    cross: np.ndarray
    left: np.ndarray
    right: np.ndarray
    product: np.ndarray
    bins: np.ndarray

    @property
    def least(self) -> np.ndarray:
        """The mean power of a bin below which a wedge beside these measured bins counts as empty."""
        bins = np.maximum(self.bins, 1)
        return LEAST * np.maximum(self.cross, 0) / bins + ROUNDING * np.sqrt(self.left * self.right) / bins


def _sums(pair: Sequence[Tensor], weight: Tensor, limits: tuple[float, float]) -> _Sums:
    """The sums of two (z, y, x) densities over the bins of ``weight``."""
    shape = pair[0].shape
    x, y = (fourier.transform(density) for density in pair)
    radius = fourier.radius(shape)
    count = int(0.5 * min(shape))
    shell = (radius * min(shape)).round().long().clamp(max=count + 1)
    band = (radius > limits[0]) & (radius < limits[1])
    p, q = x.abs().square(), y.abs().square()
    rows = []
    for values in ((x * y.conj()).real, p, q, p * q, torch.ones_like(p)):
        terms = values.double() * weight
        by_shell = fourier.shell_sums(terms[None], shell, count + 2)[0, 1 : count + 1]
        rows.append(torch.cat((by_shell, (terms * band).sum()[None])).numpy())
    return _Sums(*rows)


def _correlation(sums: _Sums, least: np.ndarray, independent: float, side: int, limits: tuple[float, float]) -> Correlation:
    """The correlation from its sums; ``least`` (shells + 1,) is the least mean power of a bin that is divided by."""
    with np.errstate(invalid="ignore", divide="ignore"):
        power = np.maximum(np.sqrt(sums.left * sums.right), least * sums.bins)
        values = np.where(power > 0, sums.cross / power, np.nan)
        bins = independent * sums.left * sums.right / sums.product
        errors = np.where(bins > 0, (1 - values**2) / np.sqrt(bins), np.nan)
    frequency = np.arange(1, len(values)) / side
    return Correlation(float(values[-1]), limits, frequency, values[:-1], float(errors[-1]), errors[:-1])
