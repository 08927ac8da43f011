"""Which patches are kept from training: those that cost few others, of those that show something."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from cryovae.data.measurement import MaskingConfig
from cryovae.data.prepare import hold_out_whole, prepare
from cryovae.data.sampling import draw, step_generator
from cryovae.data.validation_split import _share_lost, block_means, held_out_patches, shown_patches

NOISE = torch.randn(112, 120, 136, generator=torch.Generator().manual_seed(0))


def brute_share(shape, boxes, side):
    """The share of positions that overlap a box, each position looked at."""
    places = np.stack(np.meshgrid(*(np.arange(max(n - side, 0) + 1) for n in shape), indexing="ij"), -1).reshape(-1, 3)
    return np.mean([any((np.abs(place - box) < side).all() for box in boxes) for place in places])


def test_where_all_is_alike_they_lie_in_corners():
    density = NOISE[:96]
    assert held_out_patches(density, 24) == ((72, 96, 112), (0, 0, 0), (0, 96, 0), (72, 0, 112))
    assert held_out_patches(density[:40, :56, :48], 40) == ()


@pytest.mark.parametrize("shape", [(30, 41, 52), (24, 38, 45)])
def test_three_quarters_of_the_positions_are_left(shape):
    side = 16
    patches = held_out_patches(NOISE[tuple(slice(0, n) for n in shape)], side)
    assert patches
    assert brute_share(shape, patches, side) <= (0.25 if len(patches) > 1 else 0.4)
    corners = [(1, 1, 1), (0, 0, 0), (0, 1, 0), (1, 0, 1)][: len(patches) + 1]
    more = [tuple(c * (n - side) for c, n in zip(corner, shape, strict=True)) for corner in corners]
    assert len(patches) == 4 or brute_share(shape, more, side) > 0.25


def test_empty_corners_are_not_held_out():
    """A slab of specimen in vacuum, as in most tomograms: what is held out lies in it."""
    slab = torch.zeros(112, 120, 136)
    waves = torch.randn(1, 1, 30, 122, 138, generator=torch.Generator().manual_seed(1))
    slab[44:72] = torch.nn.functional.avg_pool3d(waves, 3, 1)[0, 0] * 27
    patches = held_out_patches(slab + NOISE, 24)
    assert len(patches) >= 2
    for z, _, _ in patches:
        assert min(z + 24, 72) - max(z, 44) >= 12, patches


def test_means_of_blocks():
    density = NOISE[:10, :11, :13]
    means = block_means(density.numpy())
    assert means.shape == (3, 3, 4)
    assert means[1, 0, 2] == pytest.approx(float(density[4:8, 0:4, 8:12].mean()), abs=1e-6)
    assert means[2, 2, 3] == pytest.approx(float(density[8:10, 8:11, 12:13].mean()), abs=1e-6)


def test_without_room_patches_from_all_over_stand_for_the_whole():
    small, side = NOISE[:40, :40, :48], 20
    assert held_out_patches(small, side) == ()
    patches = np.array(shown_patches(small, side))
    assert 4 <= len(patches) <= 8
    assert (patches.max(0) - patches.min(0) >= side // 2).all()
    assert shown_patches(NOISE[:16, :20, :18], side) == ((0, 0, 0),)


def test_of_many_small_specimens_some_are_held_out_whole(tomogram):
    small = replace(tomogram, density=tomogram.density[:20, :20, :20], halves=None)
    prepared = prepare(small, 24)
    assert prepared.held_out == ()
    many = hold_out_whole([replace(prepared, name=str(i)) for i in range(30)], 24)
    held_out_whole = [s for s in many if s.held_out]
    assert len(held_out_whole) == 2
    assert all(s.share == 0 and s.held_out == ((0, 0, 0),) for s in held_out_whole)
    drawn = [draw(many, 24, 1, MaskingConfig(), step_generator(3, step)) for step in range(3)]
    assert all(torch.isfinite(m.data).all() for m in drawn)
    assert not any(s.held_out for s in hold_out_whole([prepared] * 5, 24))
    assert sum(bool(s.held_out) for s in hold_out_whole([prepared] * 500, 24)) <= 16


def test_the_share_of_positions_that_boxes_cost_is_counted_exactly():
    rng = np.random.default_rng(0)
    last, side = (9, 14, 11), 4
    boxes = [tuple(int(rng.integers(-3, n + 4)) for n in last) for _ in range(40)]
    for some in (boxes[:1], boxes[:5], boxes):
        near = [
            any(all(abs(a - b) < side for a, b in zip(at, box, strict=True)) for box in some)
            for at in np.ndindex(*(n + 1 for n in last))
        ]
        assert _share_lost(last, some, side) == pytest.approx(np.mean(near))
