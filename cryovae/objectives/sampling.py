"""Draws training batches: which patch, which rotation, what is hidden. A function of (seed, step), so that a resumed run
draws what an uninterrupted one would have drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import ceil
from typing import cast

import numpy as np
import torch
from torch import Tensor

from cryovae import fourier, ranks
from cryovae.io.stored import released
from cryovae.objectives.elbo import ObjectiveConfig
from cryovae.objectives.pairs import CPU, Measurement, random_keep, sent
from cryovae.objectives.specimen import Specimen, drawn_position, held_out_rotations, patch_pair
from cryovae.physics.rotation import CubeRotation, random_rotation, rotate, turned_frequencies
from cryovae.physics.wedge import wedge_mask
from cryovae.tiling.grid import Position, cut, levels

LEAST_DROPPED = 0.3


def step_generator(seed: int, step: int) -> torch.Generator:
    """The random numbers of one step."""
    return torch.Generator().manual_seed((seed * 1_000_003 + step) % 2**63)


def draw(
    specimens: Sequence[Specimen],
    side: int,
    batch: int,
    config: ObjectiveConfig,
    generator: torch.Generator,
    device: torch.device = CPU,
) -> Measurement:
    """A training batch: one specimen, ``batch`` patches, turned by cube rotations or, for a share of the batches, by any.

    Patches are cut where the specimen is, and turned, hidden and masked on ``device``.

    Of several ranks each makes its own ``batch`` of the patches that one alone would draw for all of them. A specimen on the disk
    is read where patches lie, and takes no memory afterwards.
    """
    specimen = drawn_specimen(specimens, generator)
    found = _drawn(specimen, side, batch, config, generator, device)
    for density in (specimen.density, specimen.filled):
        released(density)
    return found


def _drawn(
    specimen: Specimen, side: int, batch: int, config: ObjectiveConfig, generator: torch.Generator, device: torch.device
) -> Measurement:
    whole = batch * ranks.count()
    mine = ranks.own(whole)
    freely = bool(torch.rand((), generator=generator) < config.turned) and specimen.tilts.has_wedge
    positions = [drawn_position(specimen, side, generator) for _ in range(whole)]
    share = dropped_share(specimen, config.drop)
    keep = random_keep((whole, side, side, side), share, generator, device)[mine] if share else None
    if freely:
        rng = np.random.default_rng(int(torch.randint(2**31, (1,), generator=generator)))
        rotations = [random_rotation(rng) for _ in positions]
        return freely_turned(specimen, positions[mine], rotations[mine], side, keep, device)
    count = len(specimen.orientations.rotations)
    turns = [int(torch.randint(count, (1,), generator=generator)) for _ in range(whole)]
    return cube_turned(specimen, positions[mine], turns[mine], side, keep, device)


def drawn_specimen(specimens: Sequence[Specimen], generator: torch.Generator) -> Specimen:
    """One of the specimens, by their shares of the batches."""
    shares = torch.tensor([s.share for s in specimens])
    if bool((shares == shares[0]).all()):
        return specimens[int(torch.randint(len(specimens), (1,), generator=generator))]
    return specimens[int(torch.multinomial(shares, 1, generator=generator))]


def dropped_share(specimen: Specimen, share: float) -> float:
    """The share of bins to hide at random; where there is no wedge, they are all there is to learn denoising from."""
    return share if specimen.tilts.has_wedge else max(share, LEAST_DROPPED)


def cube_turned(
    specimen: Specimen,
    positions: Sequence[Position],
    turns: Sequence[int],
    side: int,
    keep: Tensor | None,
    device: torch.device = CPU,
) -> Measurement:
    """Patches turned by the cube rotations ``turns``; exact, so they are scored in the turned frame."""
    tables = specimen.orientations.on(device)
    pairs = [patch_pair(specimen, position, side) for position in positions]
    rotations = [tables.rotations[turn] for turn in turns]
    measured, filled = (sent(torch.stack(patches), device) for patches in zip(*pairs, strict=True))
    data = torch.stack([g(patch) for g, patch in zip(rotations, measured, strict=True)])
    whole = torch.stack([g(patch) for g, patch in zip(rotations, filled, strict=True)])
    given = tables.given.expand(len(turns), -1, -1, -1) if keep is None else tables.given * keep
    mask = torch.stack([tables.masks[turn] for turn in turns])
    level = levels(whole)
    return Measurement(
        whole=whole - level,
        partial=fourier.filtered(whole - level, given),
        data=data - level,
        mask=mask,
        hidden=mask * (1 - given),
        variance=torch.stack([tables.variances[turn] for turn in turns]),
        support=_support(specimen, positions, rotations, side, device),
        given=given,
        tolerated=tables.tolerated,
    )


def _support(
    specimen: Specimen, positions: Sequence[Position], rotations: Sequence[CubeRotation], side: int, device: torch.device
) -> Tensor | None:
    if all(size >= side for size in specimen.density.shape) and not specimen.spared:
        return None
    return sent(torch.stack([g(specimen.scored(p, side)) for g, p in zip(rotations, positions, strict=True)]), device)


def freely_turned(
    specimen: Specimen,
    positions: Sequence[Position],
    turns: Sequence[Tensor],
    side: int,
    keep: Tensor | None,
    device: torch.device = CPU,
) -> Measurement:
    """Patches turned by rotations R (3, 3) of SO(3). Only what the encoders see is interpolated: the noise-free output is
    turned back onto the data, and scored in a sphere, with the mask as it was measured.
    """
    tables = specimen.orientations.on(device)
    margin = ceil(side * (3**0.5 - 1) / 2)
    cuts = [cut(specimen.filled, (z - margin, y - margin, x - margin), side + 2 * margin) for z, y, x in positions]
    wide, turns = sent(torch.stack(cuts), device), sent(torch.stack(list(turns)), device).unbind()
    shape = (side, side, side)
    whole = torch.stack([rotate(w[None, None], r, shape)[0, 0] for w, r in zip(wide, turns, strict=True)])
    given = tables.given.expand(len(turns), -1, -1, -1) if keep is None else tables.given * keep
    k = fourier.frequencies(shape, device)
    back = torch.stack([r.T for r in turns])
    seen = torch.stack([wedge_mask(turned_frequencies(k, r), specimen.tilts, 1 / side) for r in back])
    supports = [sphere(side) * specimen.scored(p, side) for p in positions]
    level = levels(whole)
    mask = tables.canonical.expand(len(turns), -1, -1, -1)
    return Measurement(
        whole=whole - level,
        partial=fourier.filtered(whole - level, given),
        data=sent(torch.stack([cut(specimen.density, position, side) for position in positions]), device) - level,
        mask=mask,
        hidden=mask * (1 - seen),
        variance=tables.canonical_variance.expand(len(turns), -1, -1, -1),
        support=sent(torch.stack(supports), device),
        back=back,
        tolerated=tables.tolerated,
    )


def unseen(given: Tensor) -> Tensor:
    """1 for the bins of which nothing was given, else 0: in the soft edge of a wedge weakened noise is seen, and foretold."""
    return (given < 0.01).float()


def sphere(side: int, edge: float = 3.0) -> Tensor:
    """1 in the inscribed sphere, 0 outside, falling over ``edge`` voxels: (side, side, side)."""
    centred = torch.arange(side) - (side - 1) / 2
    distance = (centred[:, None, None] ** 2 + centred[None, :, None] ** 2 + centred[None, None, :] ** 2).sqrt()
    return ((side / 2 - distance) / edge).clamp(0, 1)


def held_out(specimen: Specimen, side: int) -> list[Measurement]:
    """The held-out patches under a fixed set of rotations, one batch a patch: what validation scores, where nothing was given."""
    turns = held_out_rotations(specimen.orientations)
    share = dropped_share(specimen, 0.0)
    keep = random_keep((len(turns), side, side, side), share, step_generator(0, 0)) if share else None
    found = [cube_turned(specimen, [position] * len(turns), turns, side, keep) for position in specimen.held_out]
    return [replace(m, hidden=m.mask * unseen(cast(Tensor, m.given))) for m in found]
