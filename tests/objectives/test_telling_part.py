"""Of a tomogram larger than memory, the part that is trained on: within its size, where the specimen is, on the whole's scale."""

import numpy as np
import pytest

from cryovae.objectives.specimen import prepare
from cryovae.objectives.telling_part import part_of, sides_within
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
    specimen = np.zeros(SHAPE, dtype=np.float32)
    y, x = at
    specimen[:, y : y + 32, x : x + 32] = np.repeat(np.repeat(np.repeat(rng.normal(0, 2, (4, 4, 4)), 6, 0), 8, 1), 8, 2)
    if gold is not None:
        specimen[8:16, gold[0] : gold[0] + 8, gold[1] : gold[1] + 8] += 60
    halves = (5 + specimen + noise[0], 5 + specimen + noise[1])
    return Tomogram("t", (halves[0] + halves[1]) / 2, 10.0, TILTS, halves, mask=mask)


@pytest.mark.parametrize("at", [(4, 8), (60, 44)])
def test_it_lies_where_the_specimen_is(at):
    whole = _tomogram(at)
    part = part_of(whole, 24 * 40 * 40)
    assert part.shape == (24, 40, 40)
    start = _start(whole, part)
    assert all(abs(s - a) <= 12 for s, a in zip(start, at, strict=True))
    assert np.array_equal(part.halves[1], whole.halves[1][:, start[0] : start[0] + 40, start[1] : start[1] + 40])


def _start(whole, part):
    corner = np.argwhere(np.isclose(whole.density[0], part.density[0, 0, 0], rtol=0, atol=0))
    return next((y, x) for y, x in corner if np.array_equal(whole.density[:, y : y + 40, x : x + 40], part.density))


def test_gold_does_not_draw_it_away():
    whole = _tomogram((4, 8), gold=(80, 70))
    start = _start(whole, part_of(whole, 24 * 40 * 40))
    assert start[0] <= 16
    assert start[1] <= 20


def test_a_mask_keeps_it_inside():
    mask = np.zeros(SHAPE, dtype=bool)
    mask[:, 50:, 40:] = True
    whole = _tomogram((4, 8), mask)
    part = part_of(whole, 24 * 40 * 40)
    start = _start(whole, part)
    assert start[0] >= 46
    assert start[1] >= 36
    assert np.array_equal(part.mask, mask[:, start[0] : start[0] + 40, start[1] : start[1] + 40])


def test_it_is_standardised_as_the_whole_is():
    whole = _tomogram((4, 8))
    part = part_of(whole, 24 * 40 * 40)
    one, other = prepare(whole, 16), prepare(part, 16)
    assert other.mean == pytest.approx(one.mean, abs=1e-4)
    assert other.scale == pytest.approx(one.scale, rel=1e-4)
    # Where most of the specimen is, it varies more than the whole.
    assert float(other.density.std()) > 1.05
