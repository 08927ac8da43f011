"""Patches for a diagnosis: held-out patches if there are any, rotated so that measured data lie in the canonical wedge."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor

from cryovae import fourier
from cryovae.data.measurement import Measurement, random_keep
from cryovae.data.prepare import PreparedTomogram, drawn_position
from cryovae.data.sampling import cube_rotated, dropped_share, step_generator, unseen
from cryovae.models.ladder import Ladder
from cryovae.objectives.validation import own_wedge_filled
from cryovae.tiling.grid import Position

# Number of patches from which spectra are estimated.
SPECTRUM_PATCHES = 16


@dataclass(frozen=True)
class PatchSelection:
    """Patches and their rotations.

    Attributes:
        positions: First voxel of each patch.
        rotation_indices: Index of the rotation of each patch.
        held_out: Whether the patches were held out of training.
    """

    positions: tuple[Position, ...]
    rotation_indices: tuple[int, ...]
    held_out: bool


def select_patches(prepared: PreparedTomogram, side: int, count: int, seed: int) -> PatchSelection:
    """Select pairs of a patch and a rotation.

    Args:
        prepared: Tomogram. If it has no held-out patches, patches are drawn as in training.
        side: Side length of a patch in voxels.
        count: Number of pairs.
        seed: Seed of positions and rotations.
    """
    generator = step_generator(seed, 0)
    held = prepared.held_out
    positions = [held[i % len(held)] if held else drawn_position(prepared, side, generator) for i in range(count)]
    indices = torch.randperm(len(prepared.orientations.rotations), generator=generator).tolist()
    return PatchSelection(tuple(positions), tuple(indices[i % len(indices)] for i in range(count)), bool(held))


def measurement_of(
    prepared: PreparedTomogram, patches: PatchSelection, side: int, filled_by: Ladder | None = None
) -> Measurement:
    """The inputs of q and r and the scored data of patches. Target bins are the measured bins that are absent from the input.

    Args:
        prepared: Tomogram.
        patches: Positions and rotations.
        side: Side length of a patch in voxels.
        filled_by: Model that first fills the own wedge of each patch, as required by a model trained on refilled inputs.
    """
    share = dropped_share(prepared, 0.0)
    keep = random_keep((len(patches.rotation_indices), side, side, side), share, step_generator(0, 0)) if share else None
    m = cube_rotated(prepared, patches.positions, patches.rotation_indices, side, keep)
    m = replace(m, target_mask=m.mask * unseen(cast(Tensor, m.input_mask)))
    return m if filled_by is None else filled(filled_by, m.to(filled_by.top.device))


def filled(ladder: Ladder, m: Measurement) -> Measurement:
    """Fill the own wedge of each patch with the restored density and noise.

    Raises:
        ValueError: The measurement has no ``input_mask``.
    """
    if m.input_mask is None:
        raise ValueError("a measurement without input_mask found, expected cube rotations")
    # The model fills the full input, for q. The bins hidden from r are then removed again.
    refilled = own_wedge_filled(ladder, replace(m, input_mask=torch.ones_like(m.input_mask))).input_masked
    input_full = m.input_full + fourier.filtered(refilled - m.input_full, 1 - m.mask)
    return replace(m, input_full=input_full, input_masked=fourier.filtered(input_full, m.input_mask))


def groups(m: Measurement, size: int = 2) -> list[Measurement]:
    """Split patches into groups of ``size``. Single patches take 1.5 times as long in torch; larger groups need more memory."""
    return [m.rows(slice(i, i + size)) for i in range(0, len(m.data), size)]


def repeated(m: Measurement, count: int) -> Measurement:
    """A measurement of one patch, repeated ``count`` times."""
    tensors = {name: value for name, value in vars(m).items() if isinstance(value, Tensor) and name != "model_variance"}
    return replace(m, **{name: value.expand(count, *value.shape[1:]) for name, value in tensors.items()})


def training_patches(prepared: PreparedTomogram, side: int, seed: int, filled_by: Ladder | None = None) -> Measurement:
    """Training patches, from which the spectra of the signal and of the error of restored densities are estimated."""
    generator = step_generator(seed, 1)
    positions = [drawn_position(prepared, side, generator) for _ in range(SPECTRUM_PATCHES)]
    count = len(prepared.orientations.rotations)
    indices = [int(torch.randint(count, (1,), generator=generator)) for _ in range(SPECTRUM_PATCHES)]
    return measurement_of(prepared, PatchSelection(tuple(positions), tuple(indices), False), side, filled_by)
