"""Boxes stay in the grid, and their faces do not raise the FSC of independent noise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cryovae.errors import InputError
from cryovae.evaluation.assessment import as_tensor
from cryovae.evaluation.fsc import score
from cryovae.evaluation.region import Box, box_about, cut_out, faded
from cryovae.tomogram import TiltGeometry

SHAPE = (40, 56, 48)


@given(st.tuples(*(st.integers(0, n - 1) for n in SHAPE)), st.integers(16, 80))
def test_a_box_lies_in_the_grid_and_holds_its_voxel(centre: tuple[int, int, int], side: int) -> None:
    box = box_about(centre, side, SHAPE)
    assert all(0 <= a <= c < b <= n for a, c, b, n in zip(box.start, centre, box.stop, SHAPE, strict=True))
    assert box.shape == tuple(min(side, n) for n in SHAPE)


def test_a_box_without_shells_is_refused() -> None:
    with pytest.raises(InputError, match="at least 16"):
        box_about((5, 5, 5), 32, (10, 64, 64))


def test_only_the_box_is_cut_out() -> None:
    density = np.arange(np.prod(SHAPE)).reshape(SHAPE)
    box = Box((3, 4, 5), (20, 30, 40))
    assert np.array_equal(cut_out(density, box), density[3:20, 4:30, 5:40])


def test_faces_in_common_are_no_agreement() -> None:
    """Two noises on one ramp: cut without fading, the jump from face to face correlates them along its axis.

    An edge faded over 5 voxels, an eighth of 40, is gone above 1/5 cycle per voxel; under that it is still a smooth density.
    """
    rng = np.random.default_rng(1)
    ramp = np.linspace(0, 12, SHAPE[0])[:, None, None]
    one, other = (rng.normal(size=SHAPE) + ramp for _ in range(2))
    tilts = TiltGeometry.from_range(-60, 60)
    band = (0.25, 0.45)
    hard = score(as_tensor(one), as_tensor(other), tilts, band).wedge.band
    soft = score(faded(one), faded(other), tilts, band).wedge.band
    assert hard > 0.7
    assert abs(soft) < 0.1


def test_fading_reaches_zero_at_every_face_and_keeps_the_middle() -> None:
    density = np.random.default_rng(2).normal(size=SHAPE).astype(np.float32)
    values = faded(density).numpy()
    for axis in range(3):
        faces = np.take(values, [0, -1], axis)
        assert np.abs(faces).max() < 0.15 * np.abs(values).max()
    middle = tuple(slice(n // 4, 3 * n // 4) for n in SHAPE)
    assert np.allclose(values[middle], (density - density.mean())[middle], atol=1e-5)
