"""Answers at several binnings made one: which of two knows a frequency better is asked of tilts that both were not shown.

The outermost tilts are taken away from the data, and the tomogram is restored from the rest at both sizes, x_1 and x_2.
In the bins of the tilts taken away the mixture that leaves least error is, by shell,

    w = sum Re (F y - F x_1) conj(F x_2 - F x_1) / sum |F x_2 - F x_1|^2,        0 <= w <= 1

for the noise of y there is in neither. In the wedge the answer is x_1 + F^-1[ w F (x_2 - x_1) ]; in measured bins it stays x_1.
A tile at full size is judged as part of the tomogram here: within one patch, a hidden bin of a wave as long as the patch is seen
through its neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from cryovae import fourier
from cryovae.inference.spread import SHELLS, WIDTH, Spread, pooled
from cryovae.inference.tiled import Tiled
from cryovae.objectives.binning import doubled
from cryovae.objectives.specimen import Specimen
from cryovae.physics.wedge import volume_mask
from cryovae.tomogram import TiltGeometry

# The share of the range of tilts that is kept.
KEPT = 2 / 3
# A bin is judged where at least so much of it was measured, and at most what is left of 1 was given.
JUDGED = 0.9
# Up to this share of its Nyquist frequency a binned volume is trusted.
TRUSTED = 0.9


@dataclass(frozen=True)
class Merging:
    """How answers at several binnings are mixed: for each size but the last, w by shell of that size, (SHELLS,)."""

    tables: tuple[Tensor, ...]
    tilts: TiltGeometry

    def __call__(self, densities: list[Tensor]) -> Tensor:
        """One density (z, y, x) of the first size, from one for each, all on one grey scale."""
        merged = densities[-1]
        for density, table in zip(reversed(densities[:-1]), reversed(self.tables), strict=True):
            merged = mixed(density, merged, table, self.tilts)
        return merged


def mixed(density: Tensor, binned: Tensor, table: Tensor, tilts: TiltGeometry) -> Tensor:
    """x_1 + F^-1[ (1 - M) w F (x_2 - x_1) ] for a (z, y, x) density and the one at half its size."""
    shape = (density.shape[0], density.shape[1], density.shape[2])
    unseen = 1 - volume_mask(shape, tilts)
    weight = unseen * Spread.at(table, fourier.radius(shape)) * _held_by_both(shape)
    return density + fourier.filtered(doubled(binned, shape) - density, weight)


def _held_by_both(shape: tuple[int, int, int]) -> Tensor:
    return (fourier.frequencies(shape).abs() < TRUSTED * 0.25).all(0).float()


def found_merging(specimens: list[Specimen], tiled: Tiled) -> Merging:
    """The mixtures that leave least error in the outermost tilts; one restoration in one orientation at each size."""
    tilts = specimens[0].tilts
    if len(specimens) == 1 or not tilts.has_wedge:
        return Merging((torch.zeros(SHELLS),) * (len(specimens) - 1), tilts)
    answers = [_without_outermost(specimen, tiled) for specimen in specimens]
    tables: list[Tensor] = []
    merged = answers[-1]
    for specimen, answer in zip(reversed(specimens[:-1]), reversed(answers[:-1]), strict=True):
        data = specimen.density * specimen.scale + specimen.mean
        table = _weights(data, answer, merged, specimen.tilts)
        tables.insert(0, table)
        merged = mixed(answer, merged, table, narrowed(specimen.tilts))
    return Merging(tuple(tables), tilts)


def _without_outermost(specimen: Specimen, tiled: Tiled) -> Tensor:
    inner = narrowed(specimen.tilts)
    given = fourier.filtered(specimen.density, volume_mask(specimen.density.shape, inner))
    return tiled.answered(given, inner) * specimen.scale + specimen.mean


def _weights(data: Tensor, first: Tensor, second: Tensor, tilts: TiltGeometry) -> Tensor:
    """w by shell from the data and both answers without the outermost tilts, (z, y, x) each but the second, of half the size."""
    shape = (data.shape[0], data.shape[1], data.shape[2])
    taken = (volume_mask(shape, tilts) > JUDGED) & (volume_mask(shape, narrowed(tilts)) < 1 - JUDGED)
    weight = taken * _held_by_both(shape) * fourier.multiplicity(shape)
    y, x, z = (fourier.transform(v) for v in (data, first, doubled(second, shape)))
    shell = (fourier.radius(shape) / WIDTH).long().clamp(max=SHELLS - 1).flatten()

    def by_shell(values: Tensor) -> Tensor:
        sums = torch.zeros(SHELLS, dtype=torch.float64).index_add_(0, shell, (weight * values).double().flatten())
        return pooled(sums)

    gain, size = by_shell(((y - x) * (z - x).conj()).real), by_shell((z - x).abs().square())
    found = torch.where(size > 0, gain / size.clamp_min(1e-30), torch.zeros(())).clamp(0, 1).float()
    # The longest waves have too few bins for any to lie between the tilts that were taken away and those left.
    lowest = int((size > 0).float().argmax())
    found[:lowest] = found[lowest]
    return found


def narrowed(tilts: TiltGeometry) -> TiltGeometry:
    """The geometry without its outermost tilts, of both axes: KEPT of its range is left."""
    middle, reach = (tilts.lowest + tilts.highest) / 2, KEPT * (tilts.highest - tilts.lowest) / 2
    kept = [i for i, angle in enumerate(tilts.angles) if abs(angle - middle) <= reach]
    weights = None if tilts.weights is None else tuple(tilts.weights[i] for i in kept)
    angles = tuple(tilts.angles[i] for i in kept)
    if len(angles) < 3:
        # A range, not single tilts.
        angles, weights = (middle - reach, middle + reach), None
    second = None if tilts.second is None else narrowed(tilts.second)
    return replace(tilts, angles=angles, weights=weights, second=second)
