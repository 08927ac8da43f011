"""The patches that a model is judged by: held-out ones if there are any, turned so that measured data lie in the wedge."""

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

# Patches by which spectra are found.
SPECTRUM = 16


@dataclass(frozen=True)
class Chosen:
    """positions, and the rotation of each by its index; held_out: whether training never saw them."""

    positions: tuple[Position, ...]
    rotation_indices: tuple[int, ...]
    held_out: bool


def chosen(prepared: PreparedTomogram, side: int, count: int, seed: int) -> Chosen:
    """``count`` pairs of a patch and a rotation; the held-out patches in turn, each time under another rotation.

    Where none is held out, patches are drawn as in training.
    """
    generator = step_generator(seed, 0)
    held = prepared.held_out
    positions = [held[i % len(held)] if held else drawn_position(prepared, side, generator) for i in range(count)]
    rotation_indices = torch.randperm(len(prepared.orientations.rotations), generator=generator).tolist()
    return Chosen(tuple(positions), tuple(rotation_indices[i % len(rotation_indices)] for i in range(count)), bool(held))


def measured(prepared: PreparedTomogram, patches: Chosen, side: int, filled_by: Ladder | None = None) -> Measurement:
    """What q and r see of the patches, and what they are scored by; hidden are bins of which nothing was given.

    filled_by: the model by whose answer the own wedge of each is filled first, as a model trained on refilled inputs expects.
    """
    share = dropped_share(prepared, 0.0)
    keep = random_keep((len(patches.rotation_indices), side, side, side), share, step_generator(0, 0)) if share else None
    found = cube_rotated(prepared, patches.positions, patches.rotation_indices, side, keep)
    found = replace(found, target_mask=found.mask * unseen(cast(Tensor, found.input_mask)))
    if filled_by is not None:
        return filled(filled_by, found.to(filled_by.top.device))
    return found


def filled(ladder: Ladder, m: Measurement) -> Measurement:
    """The own wedge of each patch filled by the ladder's answer to what r is given, and noise. ValueError without ``input_mask``."""
    if m.input_mask is None:
        raise ValueError("a measurement without what was given found, expected cube rotations")
    # Filled as if nothing were hidden, for q; what r sees has its hidden bins taken out again.
    answer = own_wedge_filled(ladder, replace(m, input_mask=torch.ones_like(m.input_mask))).input_masked
    input_full = m.input_full + fourier.filtered(answer - m.input_full, 1 - m.mask)
    return replace(m, input_full=input_full, input_masked=fourier.filtered(input_full, m.input_mask))


def groups(m: Measurement, size: int = 2) -> list[Measurement]:
    """A few patches at a time: torch is slower by half for a single one, and memory grows with their number."""
    return [rows(m, slice(i, i + size)) for i in range(0, len(m.data), size)]


def rows(m: Measurement, which: slice) -> Measurement:
    """Some patches of a measurement."""
    return m.rows(which)


def repeated(m: Measurement, count: int) -> Measurement:
    """A measurement of one patch, ``count`` times."""
    shared = {"tolerated"}
    more = {n: v.expand(count, *v.shape[1:]) for n, v in vars(m).items() if isinstance(v, Tensor) and n not in shared}
    return replace(m, **more)


def training_patches(prepared: PreparedTomogram, side: int, seed: int, filled_by: Ladder | None = None) -> Measurement:
    """Patches that training may see, by which spectra are known: of the signal, and of the error of an answer."""
    generator = step_generator(seed, 1)
    positions = [drawn_position(prepared, side, generator) for _ in range(SPECTRUM)]
    count = len(prepared.orientations.rotations)
    rotation_indices = [int(torch.randint(count, (1,), generator=generator)) for _ in range(SPECTRUM)]
    return measured(prepared, Chosen(tuple(positions), tuple(rotation_indices), False), side, filled_by)
