"""Of a tomogram larger than memory, the part that is trained on: within its size, where the specimen is, on the whole's scale."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from cryovae.data.crops import Parts, part_names, pieces_of, sides_within
from cryovae.data.prepare import drawn_position, prepare
from cryovae.data.validation_split import held_out_patches
from cryovae.tomogram import TiltGeometry, Tomogram

SHAPE = (24, 96, 80)
TILTS = TiltGeometry.from_range(-60, 60)


@pytest.mark.parametrize(
    ("shape", "voxels", "expected"),
    [
        ((24, 96, 80), 10**9, (24, 96, 80)),
        ((24, 96, 80), 24 * 48 * 48, (24, 48, 48)),
        ((500, 1000, 1000), 512**3, (500, 512, 520)),
        ((100, 100, 100), 50**3, (48, 48, 48)),
    ],
)
def test_long_axes_are_cut_and_short_ones_kept(shape, voxels, expected):
    assert sides_within(shape, voxels) == expected
    assert np.prod(sides_within(shape, voxels)) <= voxels


def _tomogram(at, mask=None, gold=None):
    """Noise, and a rough specimen of 24 x 32 x 32 voxels at ``at`` (y, x)."""
    rng = np.random.default_rng(0)
    noise = [rng.normal(size=SHAPE).astype(np.float32) for _ in range(2)]
    prepared = np.zeros(SHAPE, dtype=np.float32)
    y, x = at
    prepared[:, y : y + 32, x : x + 32] = np.repeat(np.repeat(np.repeat(rng.normal(0, 2, (4, 4, 4)), 6, 0), 8, 1), 8, 2)
    if gold is not None:
        prepared[8:16, gold[0] : gold[0] + 8, gold[1] : gold[1] + 8] += 60
    halves = (5 + prepared + noise[0], 5 + prepared + noise[1])
    return Tomogram("t", (halves[0] + halves[1]) / 2, 10.0, TILTS, halves, mask=mask)


@pytest.mark.parametrize("at", [(4, 8), (60, 44)])
def test_it_lies_where_the_specimen_is(at):
    tomogram = _tomogram(at)
    part = Parts(tomogram, 24 * 40 * 40, 16)[0]
    assert part.shape == (24, 40, 40)
    start = _start(tomogram, part)
    assert all(abs(s - a) <= 12 for s, a in zip(start, at, strict=True))
    assert np.array_equal(part.halves[1], tomogram.halves[1][:, start[0] : start[0] + 40, start[1] : start[1] + 40])


def _start(tomogram, part):
    corner = np.argwhere(np.isclose(tomogram.density[0], part.density[0, 0, 0], rtol=0, atol=0))
    return next((y, x) for y, x in corner if np.array_equal(tomogram.density[:, y : y + 40, x : x + 40], part.density))


def test_gold_does_not_draw_it_away():
    tomogram = _tomogram((4, 8), gold=(80, 70))
    start = _start(tomogram, Parts(tomogram, 24 * 40 * 40, 16)[0])
    assert start[0] <= 16
    assert start[1] <= 20


def test_a_mask_keeps_it_inside():
    mask = np.zeros(SHAPE, dtype=bool)
    mask[:, 50:, 40:] = True
    tomogram = _tomogram((4, 8), mask)
    part = Parts(tomogram, 24 * 40 * 40, 16)[0]
    start = _start(tomogram, part)
    assert start[0] >= 46
    assert start[1] >= 36
    assert np.array_equal(part.mask, mask[:, start[0] : start[0] + 40, start[1] : start[1] + 40])


def test_it_is_standardised_as_the_whole_is():
    tomogram = _tomogram((4, 8))
    part = Parts(tomogram, 24 * 40 * 40, 16)[0]
    one, other = prepare(tomogram, 16), prepare(part, 16)
    assert other.mean == pytest.approx(one.mean, abs=1e-4)
    assert other.scale == pytest.approx(one.scale, rel=1e-4)
    # Where most of the specimen is, it varies more than the whole.
    assert float(other.density.std()) > 1.05


def test_several_parts_share_no_voxel_and_are_the_whole():
    tomogram = _tomogram((60, 44))
    count = pieces_of(SHAPE, 24 * 40 * 40)
    assert count == 6
    parts = Parts(tomogram, 24 * 40 * 40, 16, count)
    seen = np.zeros(SHAPE, dtype=int)
    for number in range(count):
        seen[parts.boxes[number]] += 1
        assert np.array_equal(parts[number].density, tomogram.density[parts.boxes[number]].astype(np.float32))
        assert parts[number].density.size <= 24 * 40 * 40
        assert parts[number].name == part_names("t", count)[number]
    assert (seen == 1).all()
    # The first has most of the specimen.
    y, x = parts.boxes[0][1:]
    assert y.start <= 76 < y.stop
    assert x.start <= 60 < x.stop


def test_what_the_whole_holds_out_no_part_is_trained_on():
    """Not drawn wherever it lies, validated where all of it lies; a part that has none of it holds out patches of its own."""
    tomogram = _tomogram((20, 20))
    kept = held_out_patches(tomogram.density, 8)
    assert kept
    parts = Parts(tomogram, 24 * 40 * 40, 8, 6)
    within = 0
    for number, box in enumerate(parts.boxes):
        prepared = prepare(parts[number], 8)
        begins = [s.start for s in box]
        assert prepared.held_out
        for place in prepared.held_out:
            within += tuple(np.add(place, begins)) in kept
        generator = torch.Generator().manual_seed(number)
        for _ in range(200):
            drawn = np.add(drawn_position(prepared, 8, generator), begins)
            assert not any((np.abs(drawn - place) < 8).all() for place in kept)
    assert within


def test_a_crop_filled_by_validation_patches_is_trained_on_all_the_same():
    part = replace(
        _tomogram((20, 20)),
        validation_patches=tuple((z, y, x) for z in (0, 8) for y in range(0, 81, 16) for x in range(0, 65, 16)),
    )
    prepared = prepare(part, 16)
    assert drawn_position(prepared, 16, torch.Generator().manual_seed(0))


def test_validation_patches_stay_with_their_tomogram():
    prepared = prepare(_tomogram((20, 20)), 16)
    assert len(prepared.held_out) > 1
    fewer = prepared.validated_by(1)
    assert fewer.held_out == prepared.held_out[:1]
    assert all(fewer.overlaps_held_out(place, 16) for place in prepared.held_out)
    assert set(fewer.boxes(16)) == set(prepared.boxes(16))
