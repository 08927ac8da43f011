import mrcfile
import numpy as np
import pytest

from cryovae.errors import InputError
from cryovae.io.atomic import whole_file
from cryovae.io.files import read_volume, write_volume
from cryovae.io.load import load_tomogram
from cryovae.io.volume import voxel_size_of
from cryovae.tomogram import TiltGeometry
from tests.conftest import write_mrc

SHAPE = (5, 7, 6)
TILTS = TiltGeometry.from_range(-60, 60)


@pytest.mark.parametrize(("kind", "mode"), [("i1", 0), ("i2", 1), ("f4", 2), ("u2", 6), ("f2", 12)])
def test_every_mode_comes_in_memory_mapped_with_its_values(tmp_path, kind, mode):
    values = np.arange(np.prod(SHAPE)).reshape(SHAPE) % 100
    path = write_mrc(tmp_path / "a.mrc", values.astype(kind))
    volume = read_volume(path)
    assert volume.mode == mode
    assert isinstance(volume.density, np.memmap)
    assert np.array_equal(volume.density, values)
    assert volume.voxel_size == pytest.approx((10, 10, 10))


def test_unsigned_bytes_are_not_read_as_negative(shared):
    volume = read_volume(shared / "readers/tardis_mrc3D_unsigned_nostamp.mrc")
    assert (int(volume.density.min()), int(volume.density.max())) == (141, 163)


def test_signed_bytes_with_an_imod_stamp_stay_signed(shared):
    volume = read_volume(shared / "readers/visfd_test_blob_detect.rec")
    assert volume.density.dtype == np.int8
    assert int(volume.density.max()) == 55


def test_awkward_headers_open(shared):
    for name in ("pyseg_tomo_int16_noMAP.mrc", "tomotwin_5MRC_nstart.mrc", "mrcfile_EMD-3197.map", "mrcfile_emd_3197.map.gz"):
        assert read_volume(shared / "readers" / name).density.ndim == 3


def test_restored_volumes_take_over_header_and_grey_scale(tmp_path):
    source = tmp_path / "source.mrc"
    with mrcfile.new(source) as mrc:
        mrc.set_data(np.ones(SHAPE, dtype=np.int16))
        mrc.set_volume()
        mrc.voxel_size = 13.48
        mrc.header.origin = (-10.0, 20.0, 30.5)
        mrc.nstart = (-3, 4, 5)
        mrc.set_extended_header(np.frombuffer(b"SERI" * 32, dtype="V4"))
        mrc.header.exttyp = b"SERI"
        mrc.add_label("reconstructed by somebody")
    density = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32) * 1000 + 5000
    write_volume(tmp_path / "out.mrc", density, source, 13.48, "posterior mean")
    assert mrcfile.validate(tmp_path / "out.mrc")
    with mrcfile.open(tmp_path / "out.mrc") as mrc:
        assert np.array_equal(mrc.data, density)
        assert tuple(mrc.voxel_size.tolist()) == pytest.approx((13.48,) * 3)
        assert tuple(mrc.header.origin.tolist()) == pytest.approx((-10, 20, 30.5))
        assert tuple(mrc.nstart.tolist()) == (-3, 4, 5)
        assert bytes(mrc.header.exttyp) == b"SERI"
        assert mrc.extended_header.nbytes == 128
        assert float(mrc.header.dmin) == pytest.approx(float(density.min()))
        labels = mrc.get_labels()
        assert "reconstructed by somebody" in labels
        assert "posterior mean" in labels[-1]
        assert labels[-1].startswith("cryovae ")


def test_a_full_list_of_labels_loses_our_oldest(tmp_path):
    source = write_mrc(tmp_path / "source.mrc", np.ones(SHAPE, dtype=np.float32))
    with mrcfile.open(source, mode="r+") as mrc:
        mrc.header.nlabl = 0
        for i in range(10):
            mrc.add_label("cryovae 0.0 first" if i == 2 else f"label {i}")
    write_volume(tmp_path / "out.mrc", np.zeros(SHAPE) + np.arange(6), source, 10.0, "with an Å, and a line that is too long" * 4)
    with mrcfile.open(tmp_path / "out.mrc") as mrc:
        labels = mrc.get_labels()
    assert len(labels) == 10
    assert not any("first" in label for label in labels)
    assert "label 9" in labels[-2]


def test_a_write_that_fails_leaves_what_was_there(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("before")

    def fail():
        with whole_file(path) as beside:
            beside.write_text("half of it")
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        fail()
    assert path.read_text() == "before"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_halves_are_averaged_and_named_by_what_they_share(files):
    tomogram = load_tomogram(None, (files["half1"], files["half2"]), TILTS)
    assert tomogram.name == "ts_01"
    assert tomogram.halves is not None
    assert np.allclose(tomogram.density, (tomogram.halves[0] + tomogram.halves[1]) / 2)


@pytest.mark.parametrize("size", [0.0, np.inf, np.nan])
def test_a_voxel_size_must_be_there_or_given(tmp_path, size):
    volume = read_volume(write_mrc(tmp_path / "a.mrc", np.ones(SHAPE, dtype=np.float32), size))
    with pytest.raises(InputError, match="no voxel size"):
        voxel_size_of(volume, None)
    assert voxel_size_of(volume, 7.5) == 7.5
    with pytest.raises(InputError, match="above 0"):
        voxel_size_of(volume, -1.0)


def test_a_negative_voxel_size_loses_its_sign_and_says_so(tmp_path):
    volume = read_volume(write_mrc(tmp_path / "a.mrc", np.ones(SHAPE, dtype=np.float32), -4.0))
    assert voxel_size_of(volume, None) == pytest.approx(4.0)
    assert any("negative voxel size" in note for note in volume.notes)
