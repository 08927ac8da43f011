"""Training patches come from where the mask says that there is specimen."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from cryovae.data.prepare import drawn_position, prepare
from cryovae.errors import InputError

SIDE = 16


def _drawn(prepared, count=300):
    generator = torch.Generator().manual_seed(1)
    return [drawn_position(prepared, SIDE, generator) for _ in range(count)]


def test_middles_of_patches_are_inside_and_held_out_ones_too(tomogram):
    mask = np.zeros(tomogram.shape, dtype=bool)
    mask[:, 20:, 10:40] = True
    prepared = prepare(replace(tomogram, mask=mask), SIDE)
    near = SIDE // 8
    wide = np.zeros_like(mask)
    wide[:, 20 - near :, 10 - near : 40 + near] = True
    positions = _drawn(prepared)
    assert len(set(positions)) > 100
    assert all(wide[tuple(p + SIDE // 2 for p in place)] for place in positions)
    assert not any(prepared.overlaps_held_out(place, SIDE) for place in positions)
    assert prepared.held_out
    assert all(mask[tuple(p + SIDE // 2 for p in box)] for box in prepared.held_out)


def test_without_a_mask_patches_come_from_everywhere(tomogram):
    positions = np.array(_drawn(prepare(tomogram, SIDE)))
    assert (positions.min(0) == 0).all()
    assert (positions.max(0) == np.array(tomogram.shape) - SIDE).all()


def test_a_tomogram_thinner_than_a_patch_has_its_middle_inside(tomogram):
    thin = replace(tomogram, density=tomogram.density[:12], halves=None, mask=np.ones((12, *tomogram.shape[1:]), dtype=bool))
    assert {z for z, _, _ in _drawn(prepare(thin, SIDE))} == {0}


def test_a_mask_without_room_is_refused(tomogram):
    mask = np.zeros(tomogram.shape, dtype=bool)
    mask[0, 0, 0] = True
    with pytest.raises(InputError, match="the mask leaves no patch"):
        prepare(replace(tomogram, mask=mask), SIDE)
