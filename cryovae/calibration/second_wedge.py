"""How much larger the error is with two missing wedges than with one.

A held-out patch is rotated so that measured bins come to lie in the canonical wedge. Two wedges are missing then: that of its own
tilts, and the canonical one. A restoration misses only one, so its error is smaller. By how much is measured on the model's own
means x, which are measured anew with noise n like that of the data:

    e_1^2 = < |F(x - G(M x + n))|^2 >                as in a restoration: the canonical wedge is missing
    e_2^2 = < |F(x - G(M (g M) x + n))|^2 >          as held out: the wedge of the tilts, rotated by g, is missing too

both over bins in the canonical wedge. (e_2^2 - e_1^2) / < |F x|^2 > is the share of the power of x that the second wedge takes
away. The specimen has more power than x in the wedge, and is assumed to lose the same share of it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import torch
from torch import Tensor

from cryovae import fourier
from cryovae.calibration.hidden_bins import SHELLS
from cryovae.calibration.variance import by_shell, pooled, shells
from cryovae.data.prepare import PreparedTomogram, held_out_rotations
from cryovae.data.sampling import cube_rotated, unseen
from cryovae.models.ladder import Ladder, R
from cryovae.objectives.validation import own_wedge_filled
from cryovae.physics.rotation import symmetry_rotations
from cryovae.tiling.grid import Position, cut, levels
from cryovae.tomogram import TiltGeometry

# Orientations over which the mean is averaged here.
MEAN_ORIENTATIONS = 2
# Largest power of the specimen in the wedge over that of the model's mean.
MAX_POWER_RATIO = 3.0


@torch.no_grad()
def second_wedge(
    ladder: Ladder,
    prepared: PreparedTomogram,
    positions: tuple[Position, ...],
    side: int,
    support: Tensor,
    power: Tensor,
    fill: bool,
    device: torch.device,
) -> Tensor:
    """Increase of e^2 / sigma^2 that the second wedge causes, per bin and by shell: (SHELLS,) float64, at least 0.

    Args:
        ladder: the model.
        prepared: the tomogram.
        positions: of the patches whose means are measured anew.
        side: of the patches, in voxels.
        support: window through which errors are seen (side, side, side).
        power: of the specimen over sigma^2, (SHELLS,).
        fill: whether held-out inputs have their own wedge filled by the model.
        device: of the ladder.
    """
    generator = torch.Generator().manual_seed(1)
    sums = torch.zeros(6, SHELLS, dtype=torch.float64)
    for position in positions:
        clean = _mean(ladder, cut(prepared.density, position, side)[None], prepared, device)[0]
        noisy = _measured(clean, prepared, generator)
        sums[:3] += _with_one_missing(ladder, clean, noisy, prepared, support, device)
        sums[3:] += _with_two_missing(ladder, clean, prepared, support, fill, generator, device)
    one, one_power, one_bins, two, _, two_bins = pooled(sums)
    bins, more = one_bins.clamp_min(1), two / two_bins.clamp_min(1) - one / one_bins.clamp_min(1)
    # A model that fills little of its wedge loses little.
    ratio = (power / (one_power / bins).clamp_min(1e-12)).clamp(1, MAX_POWER_RATIO)
    return (more * ratio).clamp_min(0) * (one_bins >= 1) * (two_bins >= 1)


def _mean(ladder: Ladder, tiles: Tensor, prepared: PreparedTomogram, device: torch.device) -> Tensor:
    """The model's mean of tiles (batch, z, y, x) in the frame of the tomogram, patch means included, on the CPU."""
    level = levels(tiles)
    return _decoded(ladder, fourier.filtered(tiles - level, prepared.orientations.input_mask).to(device), prepared.tilts) + level


def _decoded(ladder: Ladder, input_masked: Tensor, tilts: TiltGeometry) -> Tensor:
    rotations = symmetry_rotations(tilts)[:MEAN_ORIENTATIONS]
    means = [rotation.inverse(ladder.restore(ladder.encode(rotation(input_masked), R), None)) for rotation in rotations]
    return torch.stack(means).mean(0).cpu()


def _measured(clean: Tensor, prepared: PreparedTomogram, generator: torch.Generator) -> Tensor:
    """M x + n for a density (z, y, x)."""
    tables = prepared.orientations
    white = torch.randn(clean.shape, generator=generator)
    noise = fourier.filtered(white, (tables.canonical * tables.canonical_variance).sqrt())
    return fourier.filtered(clean, tables.canonical) + noise


def _errors(predicted: Tensor, clean: Tensor, bins: Tensor, variance: Tensor, support: Tensor) -> Tensor:
    """Sums (3, SHELLS) over ``bins`` of a batch: squared error over sigma^2, power of ``clean`` over sigma^2, number of bins.

    variance: sigma^2 (..., z, y, x // 2 + 1).
    """
    weight = (bins * fourier.multiplicity(support.shape)).expand(len(predicted), *bins.shape[-3:])
    noise = (variance * support.square().mean()).clamp_min(1e-12)
    error = fourier.transform(support * (predicted - clean)).abs().square() / noise
    # Without the patch mean, which is measured.
    power = fourier.transform(support * (clean - levels(clean))).abs().square() / noise
    power = power.expand_as(error)
    shell = shells(fourier.radius(support.shape))
    return torch.stack([by_shell(weight * values, shell).sum(0) for values in (error, power, torch.ones_like(error))])


def _with_one_missing(
    ladder: Ladder, clean: Tensor, noisy: Tensor, prepared: PreparedTomogram, support: Tensor, device: torch.device
) -> Tensor:
    wedge, variance = unseen(prepared.orientations.canonical), prepared.orientations.canonical_variance
    return _errors(_mean(ladder, noisy[None], prepared, device), clean, wedge, variance, support)


def _with_two_missing(
    ladder: Ladder,
    clean: Tensor,
    prepared: PreparedTomogram,
    support: Tensor,
    fill: bool,
    generator: torch.Generator,
    device: torch.device,
) -> Tensor:
    """Errors of held-out inputs made from ``clean``, which is what they show after their rotation."""
    side, tables = clean.shape[-1], prepared.orientations
    rotations = held_out_rotations(tables)
    stacked = torch.cat([_measured(tables.rotations[g].inverse(clean), prepared, generator) for g in rotations])
    patches = replace(prepared, density=stacked, filled=stacked, held_out=(), region=None, inside=None, unscored_boxes=())
    starts = [(number * side, 0, 0) for number in range(len(rotations))]
    m = cube_rotated(patches, starts, rotations, side, None)
    inputs = own_wedge_filled(ladder, m.to(device)) if fill else m.to(device)
    predicted = fourier.filtered(_decoded(ladder, inputs.input_masked, prepared.tilts), m.mask)
    wedge = m.mask * unseen(cast(Tensor, m.input_mask))
    return _errors(predicted, fourier.filtered(clean, m.mask), wedge, m.variance, support)
