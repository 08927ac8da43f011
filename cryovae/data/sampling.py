"""Draws training batches: patches, rotations and hidden bins.

A batch is a function of (seed, step), so a resumed run draws the same batches as an uninterrupted one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import ceil
from typing import cast

import numpy as np
import torch
from torch import Tensor

from cryovae import distributed, fourier
from cryovae.data.measurement import CPU, MaskingConfig, Measurement, random_keep, sent
from cryovae.data.prepare import PreparedTomogram, drawn_position, held_out_rotations, patch_pair
from cryovae.io.stored import released
from cryovae.physics.rotation import IDENTITY, CubeRotation, random_rotation, rotate, rotated_frequencies
from cryovae.physics.wedge import wedge_mask
from cryovae.tiling.grid import Position, cut, levels

LEAST_DROPPED = 0.3


def step_generator(seed: int, step: int) -> torch.Generator:
    """Random number generator of one step."""
    return torch.Generator().manual_seed((seed * 1_000_003 + step) % 2**63)


def draw(
    prepared_tomograms: Sequence[PreparedTomogram],
    side: int,
    batch: int,
    masking: MaskingConfig,
    generator: torch.Generator,
    device: torch.device = CPU,
) -> Measurement:
    """Draw a training batch from one tomogram.

    Each of several processes cuts its own part of the batch that a single process would draw for all of them. A memory-mapped
    tomogram is read only where patches lie, and its pages are released afterwards.

    Args:
        prepared_tomograms: tomograms to draw from, by their shares of the batches.
        side: side of a patch, in voxels.
        batch: patches of each process.
        masking: masking settings, among them the share of batches rotated by random rotations instead of cube rotations.
        generator: random numbers of the step.
        device: where patches are rotated and masked.

    Returns:
        The batch.
    """
    prepared = drawn_tomogram(prepared_tomograms, generator)
    measurement = _drawn(prepared, side, batch, masking, generator, device)
    for density in (prepared.density, prepared.filled):
        released(density)
    return measurement


def _drawn(
    prepared: PreparedTomogram, side: int, batch: int, masking: MaskingConfig, generator: torch.Generator, device: torch.device
) -> Measurement:
    input_full = batch * distributed.count()
    mine = distributed.own(input_full)
    freely = bool(torch.rand((), generator=generator) < masking.rotated_fraction) and prepared.tilts.has_wedge
    positions = [drawn_position(prepared, side, generator) for _ in range(input_full)]
    share = dropped_share(prepared, masking.drop)
    keep = random_keep((input_full, side, side, side), share, generator, device)[mine] if share else None
    if freely:
        rng = np.random.default_rng(int(torch.randint(2**31, (1,), generator=generator)))
        rotations = [random_rotation(rng) for _ in positions]
        return freely_rotated(prepared, positions[mine], rotations[mine], side, keep, device)
    count = len(prepared.orientations.rotations)
    rotation_indices = [int(torch.randint(count, (1,), generator=generator)) for _ in range(input_full)]
    return cube_rotated(prepared, positions[mine], rotation_indices[mine], side, keep, device)


def drawn_tomogram(prepared_tomograms: Sequence[PreparedTomogram], generator: torch.Generator) -> PreparedTomogram:
    """Draw one of the tomograms, by their shares of the batches."""
    shares = torch.tensor([s.share for s in prepared_tomograms])
    if bool((shares == shares[0]).all()):
        return prepared_tomograms[int(torch.randint(len(prepared_tomograms), (1,), generator=generator))]
    return prepared_tomograms[int(torch.multinomial(shares, 1, generator=generator))]


def dropped_share(prepared: PreparedTomogram, share: float) -> float:
    """Share of bins to hide at random; without a wedge, denoising is learned from these bins alone."""
    return share if prepared.tilts.has_wedge else max(share, LEAST_DROPPED)


def cube_rotated(
    prepared: PreparedTomogram,
    positions: Sequence[Position],
    rotation_indices: Sequence[int],
    side: int,
    keep: Tensor | None,
    device: torch.device = CPU,
) -> Measurement:
    """Patches rotated by cube rotations; these are exact, so patches are scored in the rotated frame."""
    tables = prepared.orientations.on(device)
    pairs = [patch_pair(prepared, position, side) for position in positions]
    rotations = [tables.rotations[index] for index in rotation_indices]
    measured, filled = (sent(torch.stack(patches), device) for patches in zip(*pairs, strict=True))
    data = torch.stack([g(patch) for g, patch in zip(rotations, measured, strict=True)])
    input_full = torch.stack([g(patch) for g, patch in zip(rotations, filled, strict=True)])
    input_mask = tables.input_mask.expand(len(rotation_indices), -1, -1, -1) if keep is None else tables.input_mask * keep
    mask = torch.stack([tables.masks[index] for index in rotation_indices])
    level = levels(input_full)
    return Measurement(
        input_full=input_full - level,
        input_masked=fourier.filtered(input_full - level, input_mask),
        data=data - level,
        mask=mask,
        target_mask=mask * (1 - input_mask),
        variance=torch.stack([tables.variances[index] for index in rotation_indices]),
        support=_support(prepared, positions, rotations, side, device),
        scored=_scored(prepared, positions, rotations, side, device),
        input_mask=input_mask,
        model_variance=tables.model_variance,
    )


def _support(
    prepared: PreparedTomogram, positions: Sequence[Position], rotations: Sequence[CubeRotation], side: int, device: torch.device
) -> Tensor | None:
    if not prepared.has_partial_patches(side):
        return None
    return sent(torch.stack([g(prepared.valid(p, side)) for g, p in zip(rotations, positions, strict=True)]), device)


def _scored(
    prepared: PreparedTomogram, positions: Sequence[Position], rotations: Sequence[CubeRotation], side: int, device: torch.device
) -> Tensor | None:
    masks = [prepared.scored(position, side) for position in positions]
    if all(mask is None for mask in masks):
        return None
    every = torch.ones(side, side, side)
    rotated = [g(every if mask is None else mask) for g, mask in zip(rotations, masks, strict=True)]
    return sent(torch.stack(rotated), device)


def freely_rotated(
    prepared: PreparedTomogram,
    positions: Sequence[Position],
    rotation_indices: Sequence[Tensor],
    side: int,
    keep: Tensor | None,
    device: torch.device = CPU,
) -> Measurement:
    """Patches rotated by rotations R (3, 3) of SO(3).

    Only the inputs of the encoders are interpolated. The noise-free output is rotated back onto the data, and scored in a sphere
    with the mask as measured.
    """
    tables = prepared.orientations.on(device)
    margin = ceil(side * (3**0.5 - 1) / 2)
    cuts = [cut(prepared.filled, (z - margin, y - margin, x - margin), side + 2 * margin) for z, y, x in positions]
    wide, rotation_indices = sent(torch.stack(cuts), device), sent(torch.stack(list(rotation_indices)), device).unbind()
    shape = (side, side, side)
    input_full = torch.stack([rotate(w[None, None], r, shape)[0, 0] for w, r in zip(wide, rotation_indices, strict=True)])
    input_mask = tables.input_mask.expand(len(rotation_indices), -1, -1, -1) if keep is None else tables.input_mask * keep
    k = fourier.frequencies(shape, device)
    inverse_rotation = torch.stack([r.T for r in rotation_indices])
    seen = torch.stack([wedge_mask(rotated_frequencies(k, r), prepared.tilts, 1 / side) for r in inverse_rotation])
    supports = [sphere(side) * prepared.valid(p, side) for p in positions]
    level = levels(input_full)
    mask = tables.canonical.expand(len(rotation_indices), -1, -1, -1)
    return Measurement(
        input_full=input_full - level,
        input_masked=fourier.filtered(input_full - level, input_mask),
        data=sent(torch.stack([cut(prepared.density, position, side) for position in positions]), device) - level,
        mask=mask,
        target_mask=mask * (1 - seen),
        variance=tables.canonical_variance.expand(len(rotation_indices), -1, -1, -1),
        support=sent(torch.stack(supports), device),
        scored=_scored(prepared, positions, [IDENTITY] * len(positions), side, device),
        inverse_rotation=inverse_rotation,
        model_variance=tables.model_variance,
    )


def unseen(input_mask: Tensor) -> Tensor:
    """1 for bins absent from the input, else 0; in the soft edge of the wedge attenuated noise is visible and can be copied."""
    return (input_mask < 0.01).float()


def sphere(side: int, edge: float = 3.0) -> Tensor:
    """Soft mask (side, side, side): 1 in the inscribed sphere, 0 outside, with an edge of ``edge`` voxels."""
    centred = torch.arange(side) - (side - 1) / 2
    distance = (centred[:, None, None] ** 2 + centred[None, :, None] ** 2 + centred[None, None, :] ** 2).sqrt()
    return ((side / 2 - distance) / edge).clamp(0, 1)


def held_out(prepared: PreparedTomogram, side: int) -> list[Measurement]:
    """Held-out patches under a fixed set of rotations, one batch per patch, scored in the bins absent from the input."""
    rotation_indices = held_out_rotations(prepared.orientations)
    share = dropped_share(prepared, 0.0)
    keep = random_keep((len(rotation_indices), side, side, side), share, step_generator(0, 0)) if share else None
    measurements = [
        cube_rotated(prepared, [position] * len(rotation_indices), rotation_indices, side, keep) for position in prepared.held_out
    ]
    return [replace(m, target_mask=m.mask * unseen(cast(Tensor, m.input_mask))) for m in measurements]
