"""Volumes with the beam along the middle axis, as IMOD's tilt writes them."""

from dataclasses import replace

import numpy as np
import pytest

from cryovae.errors import InputError
from cryovae.io.load import load_tomogram
from cryovae.io.orientation import as_stored, middle_is_thin, upright
from cryovae.simulation.simulate import SimulationConfig, simulate
from cryovae.tomogram import TiltGeometry
from cryovae.workflows.orientation import is_unrotated
from tests.conftest import write_mrc

TILTS = TiltGeometry((-50.0, 66.0))


def test_turning_there_and_back_gives_the_same_voxels():
    stored = np.random.default_rng(0).normal(size=(7, 4, 9))
    assert upright(stored).shape == (4, 7, 9)
    assert np.array_equal(as_stored(upright(stored)), stored)


def test_it_is_a_rotation_by_minus_90_degrees_about_x_and_no_mirror():
    """+y goes to -z and +z to +y: by the right-hand rule, the turn by -90 degrees about x; three arms keep their handedness."""
    stored = np.zeros((11, 11, 11))
    centre = 5
    stored[centre, centre + 3, centre] = 2  # an arm along the file's +y
    stored[centre + 4, centre, centre] = 3  # along its +z
    stored[centre, centre, centre + 2] = 1  # along its +x
    rotated = upright(stored)
    arms = {value: np.argwhere(rotated == value)[0] - centre for value in (1, 2, 3)}
    assert arms[1].tolist() == [0, 0, 2]
    assert arms[2].tolist() == [-3, 0, 0]
    assert arms[3].tolist() == [0, 4, 0]
    before = np.linalg.det([[0, 0, 2], [0, 3, 0], [4, 0, 0]])
    assert np.linalg.det([arms[1], arms[2], arms[3]]) == pytest.approx(before)


def test_the_thin_axis_is_recognised_by_shape():
    assert middle_is_thin((200, 60, 180))
    assert not middle_is_thin((60, 200, 180))
    assert not middle_is_thin((100, 90, 100))


@pytest.fixture(scope="module")
def lamella():
    made = simulate(SimulationConfig(shape=(36, 88, 80), tilt_range=(-50.0, 66.0), seed=5))
    return made.half1.numpy()


def test_unrotated_volumes_are_recognised_and_load_upright(tmp_path, lamella):
    unrotated_file = write_mrc(tmp_path / "lying.mrc", as_stored(lamella))
    level = write_mrc(tmp_path / "level.mrc", lamella)
    # Thin along the middle axis, but the beam is along z: a strip of a tomogram.
    strip = write_mrc(tmp_path / "strip.mrc", np.ascontiguousarray(np.tile(lamella, (2, 1, 1))[:, 20:60]))
    assert is_unrotated(unrotated_file, None)
    assert not is_unrotated(level, None)
    assert not is_unrotated(strip, None)
    assert not is_unrotated(unrotated_file, False)
    assert is_unrotated(level, True)
    loaded = load_tomogram(unrotated_file, None, TILTS, unrotated=True)
    assert loaded.unrotated
    assert np.array_equal(loaded.density, lamella)
    assert "rotated" in loaded.notes[-1]


def test_a_mask_is_rotated_with_the_tomogram_and_must_fit_it(tmp_path, lamella):
    unrotated_file = write_mrc(tmp_path / "lying.mrc", as_stored(lamella))
    inside = np.zeros(lamella.shape, dtype=np.float32)
    inside[10:20, 5:50, 7:70] = 1
    mask = write_mrc(tmp_path / "mask.mrc", as_stored(inside))
    loaded = load_tomogram(unrotated_file, None, TILTS, unrotated=True, mask=mask)
    assert np.array_equal(loaded.mask, inside > 0)
    with pytest.raises(InputError, match="expected that of the tomogram"):
        load_tomogram(write_mrc(tmp_path / "level.mrc", lamella), None, TILTS, mask=mask)
    with pytest.raises(InputError, match="0 everywhere"):
        load_tomogram(unrotated_file, None, TILTS, mask=write_mrc(tmp_path / "empty.mrc", 0 * as_stored(inside)))
    assert replace(loaded, mask=None).mask is None
