import numpy as np
import pytest

from cryovae.errors import InputError
from cryovae.io.orientation import as_stored
from cryovae.io.stored import Stored
from cryovae.io.volume import Provenance
from cryovae.restoration import rescaling
from cryovae.restoration.rescaling import (
    axis_matrix,
    check_ratio,
    is_rescaled,
    rescaled,
    rescaled_as_stored,
    rescaled_kind,
    rescaled_shape,
)
from cryovae.tomogram import Fill

SHAPE = (24, 40, 33)


def _cosines(shape, step):
    """A sum of products of cosines that the mirrored volume of SHAPE holds exactly, at the voxels of another grid."""
    waves = ((1, 3, 2), (2, 0, 5), (0, 6, 1))
    axes = [step * np.arange(n) + 0.5 for n in shape]
    return sum(
        np.cos(np.pi * k / SHAPE[0] * axes[0])[:, None, None]
        * np.cos(np.pi * m / SHAPE[1] * axes[1])[:, None]
        * np.cos(np.pi * n / SHAPE[2] * axes[2])
        for k, m, n in waves
    ).astype(np.float32)


@pytest.mark.parametrize("ratio", [0.5, 0.77, 1.0, 1.348, 2.0, 3.1])
def test_waves_that_both_grids_hold_are_exact(ratio):
    small = rescaled(_cosines(SHAPE, 1.0), ratio)
    assert small.shape == rescaled_shape(SHAPE, ratio)
    np.testing.assert_allclose(small, _cosines(small.shape, ratio), atol=2e-5)


def test_waves_that_the_new_grid_cannot_hold_are_left_out():
    fine = np.cos(np.pi * 30 / SHAPE[1] * (np.arange(SHAPE[1]) + 0.5))
    volume = np.broadcast_to(fine[None, :, None], SHAPE).astype(np.float32) + 5
    np.testing.assert_allclose(rescaled(volume, 2.0), 5.0, atol=1e-4)


def test_the_mean_grey_level_stays():
    volume = np.random.default_rng(1).normal(7.0, size=SHAPE).astype(np.float32)
    assert rescaled(volume, 1.5).mean() == pytest.approx(7.0, abs=0.05)
    assert axis_matrix(40, 1.7).sum(1) == pytest.approx(1.0, abs=1e-5)


def test_a_volume_in_a_file_gives_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(rescaling, "PART_BYTES", 1 << 14)
    volume = np.random.default_rng(2).normal(size=SHAPE).astype(np.float32)
    stored = Stored(tmp_path / "volume.raw", SHAPE, fresh=True)
    stored.write(volume, 0)
    small = rescaled(stored, 1.7, tmp_path)
    assert isinstance(small, Stored)
    np.testing.assert_allclose(small[:], rescaled(volume, 1.7), atol=1e-5)
    small.remove()
    assert [path.name for path in tmp_path.iterdir()] == ["volume.raw"]


def test_names_of_rescaled_volumes_are_known_again():
    kinds = [rescaled_kind(kind, size) for kind in ("mean", "measured", "mean_half1", "sample_12") for size in (10, 13.48, 1e-5)]
    assert all(map(is_rescaled, kinds))
    assert kinds[:2] == ["mean_10A", "mean_13.48A"]
    assert not any(map(is_rescaled, ("mean", "std_10A", "mean_10", "sample_1", "mean_half1", "meanA")))


@pytest.mark.parametrize("new", [4.9, 201.0, 100.0])
def test_sizes_out_of_range_are_refused(new):
    with pytest.raises(InputError, match="--output-voxel-size"):
        check_ratio(10.0, new, (24, 40, 33) if new != 100.0 else (24, 400, 330))


def test_the_place_in_a_larger_grid_is_kept(monkeypatch):
    monkeypatch.setattr(rescaling, "provenance_of", lambda _: Provenance(origin=(1.0, 2.0, 3.0), start=(10, -21, 30)))
    carried = rescaling.provenance_at("a.mrc", 2.0)
    assert (carried.origin, carried.start) == ((1.0, 2.0, 3.0), (5, -10, 15))


def _stored(folder, volume):
    stored = Stored(folder / "volume.raw", volume.shape, fresh=True)
    stored.write(volume, 0)
    return stored


@pytest.mark.parametrize("in_file", [False, True])
def test_an_unrotated_tomogram_keeps_the_first_voxel_of_its_file(tmp_path, in_file):
    """A blob stays at its place in the file, in angstrom from the first voxel."""
    z, y, x = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    volume = np.exp(-((z - 17) ** 2 + (y - 12) ** 2 + (x - 20) ** 2) / 18).astype(np.float32)
    held = _stored(tmp_path, volume) if in_file else volume
    small = np.asarray(rescaled_as_stored(held, 3.0, None, True, tmp_path if in_file else None)[:])
    before = np.array(np.unravel_index(as_stored(volume).argmax(), as_stored(volume).shape))
    after = np.array(np.unravel_index(small.argmax(), small.shape))
    assert np.abs(3 * after - before).max() <= 1.5
    np.testing.assert_allclose(small, rescaled(as_stored(volume), 3.0), atol=1e-5)


@pytest.mark.parametrize("unrotated", [False, True])
@pytest.mark.parametrize("in_file", [False, True])
def test_fill_keeps_its_value_and_does_not_ring(tmp_path, in_file, unrotated):
    volume = np.random.default_rng(3).normal(size=SHAPE).astype(np.float32)
    mask = np.zeros(SHAPE, bool)
    mask[:, :12] = True
    volume[mask] = -5.0
    held = _stored(tmp_path, volume) if in_file else volume
    small = np.asarray(rescaled_as_stored(held, 2.0, Fill.of(mask), unrotated, tmp_path if in_file else None)[:])
    kept = small == -5.0
    assert kept.mean() == pytest.approx(mask.mean(), abs=0.02)
    assert small[~kept].min() > -4.0
    assert abs(small[~kept].mean()) < 0.1
