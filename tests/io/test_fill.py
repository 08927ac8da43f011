"""Constant regions of a tomogram: what is fill, what is data, and what reading makes of it."""

import mrcfile
import numpy as np
import pytest

from cryovae.errors import InputError
from cryovae.io.fill import find_fill
from cryovae.io.load import load_tomogram
from cryovae.tomogram import TiltGeometry

TILTS = TiltGeometry.from_range(-60, 60)
SHAPE = (24, 44, 52)


@pytest.fixture
def noise():
    return np.random.default_rng(0).normal(100, 5, SHAPE).astype(np.float32)


def corners(shape=SHAPE, angle=0.3, share=0.8):
    """True in the corners around a square that is rotated in the plane (y, x)."""
    y, x = np.mgrid[: shape[1], : shape[2]]
    y, x = y - (shape[1] - 1) / 2, x - (shape[2] - 1) / 2
    along, across = y * np.cos(angle) + x * np.sin(angle), x * np.cos(angle) - y * np.sin(angle)
    outside = (np.abs(along) > share * shape[1] / 2) | (np.abs(across) > share * shape[2] / 2)
    return np.broadcast_to(outside, shape)


@pytest.mark.parametrize("value", [0.0, -3.5, 100.0])
@pytest.mark.parametrize("dtype", [np.float32, np.int16])
def test_borders_and_corners_of_any_value_are_fill(noise, value, dtype):
    for mask in (np.pad(np.zeros((24, 44, 34), bool), [(0, 0), (0, 0), (5, 13)], constant_values=True), corners()):
        fill = find_fill(np.where(mask, value, noise).astype(dtype))[:]
        assert fill[mask].all()
        # A few whole numbers beside it have its value by chance.
        assert fill[~mask].mean() < (0 if dtype == np.float32 else 3e-3) + 1e-9


def test_two_faces_may_hold_two_values_and_one_plane_is_enough(noise):
    noise[:, :6], noise[:, -3:], noise[0] = 0.0, 250.0, 7.0
    fill = find_fill(noise)[:]
    assert fill[:, :6].all()
    assert fill[:, -3:].all()
    assert fill[0].all()
    assert not fill[1:, 6:-3].any()


def test_each_section_may_hold_its_own_value(noise):
    mask = corners()
    values = np.linspace(80, 120, SHAPE[0], dtype=np.float32)[:, None, None]
    fill = find_fill(np.where(mask, values, noise))[:]
    assert not fill[~mask].any()
    # Tips of corners that are narrower than a square are left.
    assert fill[mask].mean() > 0.9


def test_a_ripple_of_rounding_does_not_hide_fill(noise):
    noise[..., :9] = np.random.default_rng(1).normal(0, 1e-5, (*SHAPE[:2], 9))
    fill = find_fill(noise)[:]
    assert fill[..., :9].all()
    assert not fill[..., 9:].any()


def test_data_are_no_fill(noise):
    """Noise, coarse grey levels, clipped gold, and a slope that was stretched over the border."""
    assert find_fill(noise) is None
    assert find_fill(np.round(noise / 8).astype(np.int8)) is None
    gold = noise.copy()
    gold[8:14, 20:27, 30:37] = gold.min() - 20
    assert find_fill(gold) is None
    stretched = noise.copy()
    stretched[..., :10] = stretched[..., 10:11]
    assert find_fill(stretched) is None


def test_a_constant_volume_has_no_usual_step():
    assert find_fill(np.full(SHAPE, 3.0, np.float32)) is None


def _file(path, density):
    with mrcfile.new(path) as file:
        file.set_data(density.astype(np.float32))
        file.voxel_size = 10.0
    return path


@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize("unrotated", [False, True])
def test_a_read_tomogram_has_its_mean_in_place_of_fill(tmp_path, noise, mapped, unrotated):
    noise[..., 40:] = 0.0
    tomogram = load_tomogram(_file(tmp_path / "a.mrc", noise), None, TILTS, unrotated=unrotated, mapped=mapped)
    assert tomogram.fill is not None
    assert np.all(tomogram.fill[:, :, 40:])
    assert not np.any(tomogram.fill[:, :, :40])
    density = tomogram.density[:, :, :]
    assert density[..., 40:] == pytest.approx(noise[..., :40].mean(), rel=1e-5)
    assert sorted(density[..., :40].ravel()) == sorted(noise[..., :40].ravel())
    kept = tomogram.fill.kept(np.full(tomogram.shape, 9.0, np.float32), 0)
    assert np.all(kept[..., 40:] == 0)
    assert np.all(kept[..., :40] == 9)


def test_of_halves_all_is_fill_that_is_fill_in_either(tmp_path, noise):
    second = np.random.default_rng(2).normal(100, 5, SHAPE)
    noise[:, :8], second[:, -6:] = 0.0, 0.0
    files = _file(tmp_path / "a_half1.mrc", noise), _file(tmp_path / "a_half2.mrc", second)
    tomogram = load_tomogram(None, files, TILTS)
    assert np.all(tomogram.fill[:, :8])
    assert np.all(tomogram.fill[:, -6:])
    assert not np.any(tomogram.fill[:, 8:-6])
    zeros = np.zeros(SHAPE, np.float32)
    assert np.array_equal(tomogram.fill.kept(zeros, 2)[:, :8], second[:, :8].astype(np.float32))
    assert np.all(tomogram.fill.kept(zeros + 1, 1)[:, :8] == 0)


def test_info_and_restore_say_what_is_fill(tmp_path, noise, capsys):
    from cryovae.workflows.info import print_information

    noise[..., 39:] = 0.0
    path = _file(tmp_path / "a.mrc", noise)
    print_information(path, None, None)
    line = next(line for line in capsys.readouterr().out.splitlines() if "constant regions" in line)
    assert line.startswith("note")
    assert "take 25 % of the voxels" in line
    assert [f.check for f in load_tomogram(path, None, TILTS).findings] == ["fill"]


def test_a_mask_that_lies_in_fill_alone_is_refused(tmp_path, noise):
    noise[..., 40:] = 0.0
    mask = np.zeros(SHAPE)
    mask[..., 42:] = 1
    with pytest.raises(InputError, match="constant regions take all voxels"):
        load_tomogram(_file(tmp_path / "a.mrc", noise), None, TILTS, mask=_file(tmp_path / "mask.mrc", mask))
