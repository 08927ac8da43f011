"""How much farther off an answer is with two wedges missing than with one.

A held-out patch is turned, so that measured bins come to lie in the canonical wedge, and then both wedges are missing: the one of
its tilts and the one that is hidden. A tomogram at test misses its own alone, and is answered better than held-out bins say.
By how much is found on specimens that the ladder has imagined, its own answers x, measured anew with noise n like the data's:

    e_1^2 = < |F(x - G(M x + n))|^2 >                as at test: the canonical wedge is missing
    e_2^2 = < |F(x - G(M (g M) x + n))|^2 >          as held out: that of tilts turned by g is missing too

both over bins in the canonical wedge. There x is what one wedge leaves to be known, and nothing that an answer cannot know of a
true specimen is in either; so (e_2^2 - e_1^2) / < |F x|^2 > is the share of its power that the second wedge took away. The
specimen has more power than x, and loses the same share of it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import torch
from torch import Tensor

from cryovae import fourier
from cryovae.calibration.variance import SHELLS, by_shell, pooled, shells
from cryovae.data.prepare import PreparedTomogram, held_out_rotations
from cryovae.data.sampling import cube_rotated, unseen
from cryovae.models.ladder import Ladder, R
from cryovae.objectives.validation import own_wedge_filled
from cryovae.physics.rotation import symmetry_rotations
from cryovae.tiling.grid import Position, cut, levels
from cryovae.tomogram import TiltGeometry

ORIENTATIONS = 2
# By how much more power a specimen may have in the wedge than its answer.
MOST_POWER = 3.0


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
    """By how much e^2 / sigma^2 is larger in a bin for the second wedge, by shell, at least 0: (SHELLS,) float64.

    Of patches seen through ``support`` (side, side, side). power: (SHELLS,) of the specimen, over sigma^2.

    positions: of the patches (side, side, side) whose answers are measured anew. fill: whether held-out inputs have their own
    wedge filled. device: where the ladder lies.
    """
    generator = torch.Generator().manual_seed(1)
    sums = torch.zeros(6, SHELLS, dtype=torch.float64)
    for position in positions:
        imagined = _answer(ladder, cut(prepared.density, position, side)[None], prepared, device)[0]
        noisy = _measured(imagined, prepared, generator)
        sums[:3] += _as_at_test(ladder, imagined, noisy, prepared, support, device)
        sums[3:] += _as_held_out(ladder, imagined, prepared, support, fill, generator, device)
    one, one_power, one_bins, two, _, two_bins = pooled(sums)
    bins, more = one_bins.clamp_min(1), two / two_bins.clamp_min(1) - one / one_bins.clamp_min(1)
    # What fills next to nothing of its wedge loses next to nothing.
    larger = (power / (one_power / bins).clamp_min(1e-12)).clamp(1, MOST_POWER)
    return (more * larger).clamp_min(0) * (one_bins >= 1) * (two_bins >= 1)


def _answer(ladder: Ladder, tiles: Tensor, prepared: PreparedTomogram, device: torch.device) -> Tensor:
    """What tiles (batch, z, y, x) in the frame of the tomogram are answered with, levels included, on the CPU."""
    level = levels(tiles)
    return _decoded(ladder, fourier.filtered(tiles - level, prepared.orientations.input_mask).to(device), prepared.tilts) + level


def _decoded(ladder: Ladder, partial: Tensor, tilts: TiltGeometry) -> Tensor:
    rotation_indices = symmetry_rotations(tilts)[:ORIENTATIONS]
    found = [rotation.inverse(ladder.restore(ladder.encode(rotation(partial), R), None)) for rotation in rotation_indices]
    return torch.stack(found).mean(0).cpu()


def _measured(imagined: Tensor, prepared: PreparedTomogram, generator: torch.Generator) -> Tensor:
    """M x + n for a density (z, y, x)."""
    tables = prepared.orientations
    white = torch.randn(imagined.shape, generator=generator)
    noise = fourier.filtered(white, (tables.canonical * tables.canonical_variance).sqrt())
    return fourier.filtered(imagined, tables.canonical) + noise


def _errors(found: Tensor, imagined: Tensor, bins: Tensor, variance: Tensor, support: Tensor) -> Tensor:
    """Sums over ``bins`` by shell of |F(support (found - imagined))|^2 / sigma^2, of that of the imagined, and of 1: (3, SHELLS).

    Batches are summed. variance: sigma^2 (..., z, y, x // 2 + 1).
    """
    counted = (bins * fourier.multiplicity(support.shape)).expand(len(found), *bins.shape[-3:])
    noise = (variance * support.square().mean()).clamp_min(1e-12)
    missed = fourier.transform(support * (found - imagined)).abs().square() / noise
    # Whatever its level: what a patch is on the whole is measured.
    power = fourier.transform(support * (imagined - levels(imagined))).abs().square() / noise
    power = power.expand_as(missed)
    shell = shells(fourier.radius(support.shape))
    return torch.stack([by_shell(counted * values, shell).sum(0) for values in (missed, power, torch.ones_like(missed))])


def _as_at_test(
    ladder: Ladder, imagined: Tensor, noisy: Tensor, prepared: PreparedTomogram, support: Tensor, device: torch.device
) -> Tensor:
    empty = unseen(prepared.orientations.canonical)
    variance = prepared.orientations.canonical_variance
    return _errors(_answer(ladder, noisy[None], prepared, device), imagined, empty, variance, support)


def _as_held_out(
    ladder: Ladder,
    imagined: Tensor,
    prepared: PreparedTomogram,
    support: Tensor,
    fill: bool,
    generator: torch.Generator,
    device: torch.device,
) -> Tensor:
    """Of what is imagined as seen after the turn, so that what is hidden is what the ladder had filled in."""
    side, tables = imagined.shape[-1], prepared.orientations
    rotation_indices = held_out_rotations(tables)
    before = [_measured(tables.rotations[rotation].inverse(imagined), prepared, generator) for rotation in rotation_indices]
    stacked = torch.cat(before)
    alone = replace(prepared, density=stacked, filled=stacked, held_out=(), inside=None, unscored_boxes=())
    given = cube_rotated(alone, [(number * side, 0, 0) for number in range(len(rotation_indices))], rotation_indices, side, None)
    inputs = own_wedge_filled(ladder, given.to(device)) if fill else given.to(device)
    found = fourier.filtered(_decoded(ladder, inputs.input_masked, prepared.tilts), given.mask)
    hidden = given.mask * unseen(cast(Tensor, given.input_mask))
    return _errors(found, fourier.filtered(imagined, given.mask), hidden, given.variance, support)
