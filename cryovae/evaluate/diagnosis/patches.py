"""The patches that a model is judged by: held-out ones if there are any, turned so that measured data lie in the wedge."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor

from cryovae import fourier
from cryovae.models.ladder import Ladder
from cryovae.objectives.pairs import Measurement, random_keep
from cryovae.objectives.sampling import cube_turned, dropped_share, step_generator, unseen
from cryovae.objectives.specimen import Specimen, drawn_position
from cryovae.objectives.validation import own_wedge_filled
from cryovae.tiling.grid import Position

# Patches by which spectra are found.
SPECTRUM = 16


@dataclass(frozen=True)
class Chosen:
    """positions, and the rotation of each by its index; held_out: whether training never saw them."""

    positions: tuple[Position, ...]
    turns: tuple[int, ...]
    held_out: bool


def chosen(specimen: Specimen, side: int, count: int, seed: int) -> Chosen:
    """``count`` pairs of a patch and a rotation; the held-out patches in turn, each time under another rotation.

    Where none is held out, patches are drawn as in training.
    """
    generator = step_generator(seed, 0)
    held = specimen.held_out
    positions = [held[i % len(held)] if held else drawn_position(specimen, side, generator) for i in range(count)]
    turns = torch.randperm(len(specimen.orientations.rotations), generator=generator).tolist()
    return Chosen(tuple(positions), tuple(turns[i % len(turns)] for i in range(count)), bool(held))


def measured(specimen: Specimen, patches: Chosen, side: int, filled_by: Ladder | None = None) -> Measurement:
    """What q and r see of the patches, and what they are scored by; hidden are bins of which nothing was given.

    filled_by: the model by whose answer the own wedge of each is filled first, as a model trained on refilled inputs expects.
    """
    share = dropped_share(specimen, 0.0)
    keep = random_keep((len(patches.turns), side, side, side), share, step_generator(0, 0)) if share else None
    found = cube_turned(specimen, patches.positions, patches.turns, side, keep)
    found = replace(found, hidden=found.mask * unseen(cast(Tensor, found.given)))
    if filled_by is not None:
        return filled(filled_by, found.to(filled_by.top.device))
    return found


def filled(ladder: Ladder, m: Measurement) -> Measurement:
    """The own wedge of each patch filled by the ladder's answer to what r is given, and noise. ValueError without ``given``."""
    if m.given is None:
        raise ValueError("a measurement without what was given found, expected cube rotations")
    # Filled as if nothing were hidden, for q; what r sees has its hidden bins taken out again.
    answer = own_wedge_filled(ladder, replace(m, given=torch.ones_like(m.given))).partial
    whole = m.whole + fourier.filtered(answer - m.whole, 1 - m.mask)
    return replace(m, whole=whole, partial=fourier.filtered(whole, m.given))


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


def training_patches(specimen: Specimen, side: int, seed: int, filled_by: Ladder | None = None) -> Measurement:
    """Patches that training may see, by which spectra are known: of the signal, and of the error of an answer."""
    generator = step_generator(seed, 1)
    positions = [drawn_position(specimen, side, generator) for _ in range(SPECTRUM)]
    count = len(specimen.orientations.rotations)
    turns = [int(torch.randint(count, (1,), generator=generator)) for _ in range(SPECTRUM)]
    return measured(specimen, Chosen(tuple(positions), tuple(turns), False), side, filled_by)
