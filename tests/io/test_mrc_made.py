"""MRC files made here: big-endian, complex, cut short, packed, stacked, and headers that contradict themselves."""

import bz2
import gzip

import mrcfile
import numpy as np
import pytest

from cryovae.errors import InputError
from cryovae.io.files import read_volume, write_volume
from cryovae.io.volume import voxel_size_of
from tests.io.made import made, mrc_bytes

VALUES = np.arange(4 * 6 * 5).reshape(4, 6, 5)
KINDS = [("i1", 0), ("i2", 1), ("f4", 2), ("u2", 6), ("f2", 12)]


@pytest.mark.parametrize(("kind", "mode"), KINDS)
def test_big_endian_files_read_as_their_values_and_stay_on_disk(tmp_path, kind, mode):
    volume = read_volume(made(tmp_path / "a.mrc", VALUES.astype(kind), ">"))
    assert isinstance(volume.density, np.memmap)
    assert np.array_equal(volume.density, VALUES)
    assert volume.mode == mode
    assert volume.voxel_size == (10, 10, 10)


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_wrong_machine_stamp_is_noticed_and_reported(tmp_path, order):
    stamp = (0x11, 0x11, 0, 0) if order == "<" else (0x44, 0x44, 0, 0)
    volume = read_volume(made(tmp_path / "a.mrc", VALUES.astype("f4"), order, machst=stamp))
    assert np.array_equal(volume.density, VALUES)
    assert any("machine stamp" in note for note in volume.notes)


def test_a_big_endian_file_without_a_stamp_is_known_by_its_size(tmp_path):
    volume = read_volume(made(tmp_path / "a.mrc", VALUES.astype("i2"), ">", machst=(0, 0, 0, 0), map=b""))
    assert np.array_equal(volume.density, VALUES)


REFUSED = {
    "complex numbers": mrc_bytes(VALUES.astype("c8")),
    "complex numbers (mode 3)": mrc_bytes(VALUES.astype("i2"), mode=3),
    "mode 16": mrc_bytes(VALUES.astype("i1"), mode=16),
    "mode 7, expected": mrc_bytes(VALUES.astype("f4"), mode=7),
    "480 bytes of data expected for 5 x 6 x 4 voxels of 32-bit float, 380 found": mrc_bytes(VALUES.astype("f4"))[:-100],
    "none found": mrc_bytes(VALUES.astype("f4"))[:1024],
    "is 1000 bytes long, expected an MRC header of 1024": mrc_bytes(VALUES.astype("f4"))[:1000],
    "is 0 bytes long": b"",
    "no MRC file": b"just some text, " * 200,
    "lacks 676": mrc_bytes(VALUES.astype("f4"), nsymbt=1056)[:-100],
    "extended header of -4 bytes": mrc_bytes(VALUES.astype("f4"), nsymbt=-4),
    "a size of 5 x -6 x 4": mrc_bytes(VALUES.astype("f4"), ny=-6),
    "a size of 5 x 6 x 0": mrc_bytes(VALUES.astype("f4"), nz=0),
    "axis order (1, 1, 3)": mrc_bytes(VALUES.astype("f4"), mapr=1),
    "an image of 5 x 6 x 1": mrc_bytes(VALUES[:1].astype("f4")),
    "4-bit values into each byte": mrc_bytes(VALUES.astype("i1"), extra2=np.void(bytes(40) + b"IMOD\x10\0\0\0" + bytes(36))),
    "stack of 2 volumes": mrc_bytes(VALUES.astype("f4"), ispg=401, mz=2),
    "stack of images": mrc_bytes(VALUES.astype("f4"), ispg=401, mz=1, nz=4) + b"",
    "cannot be read": gzip.compress(mrc_bytes(VALUES.astype("f4")))[:60],
    "cannot be read (": bz2.compress(mrc_bytes(VALUES.astype("f4")))[:-30],
    "not so many found": gzip.compress(mrc_bytes(VALUES.astype("f4"), nx=100000, ny=100000, nz=10000)),
    "480000000000000 bytes of data": bz2.compress(mrc_bytes(VALUES.astype("f4"), nx=600000, ny=200000, nz=1000)),
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_cannot_be_read_is_refused_in_one_line_with_its_reason(tmp_path, words):
    path = tmp_path / "a.mrc"
    path.write_bytes(REFUSED[words])
    with pytest.raises(InputError) as refusal:
        read_volume(path, 1 if words == "stack of images" else None)
    assert words in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert "a.mrc" in str(refusal.value)


def test_what_is_no_file_is_refused(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        read_volume(tmp_path / "none.mrc")
    with pytest.raises(InputError, match="is a folder"):
        read_volume(tmp_path)
    with pytest.raises(InputError, match="no regular file"):
        read_volume("/dev/null")


@pytest.mark.parametrize("columns", [6, 7])
def test_four_bit_files_are_unpacked_low_half_first(tmp_path, columns):
    values = np.random.default_rng(0).integers(0, 16, (3, 4, columns)).astype(np.uint8)
    padded = np.pad(values, ((0, 0), (0, 0), (0, columns % 2)))
    packed = (padded[..., 0::2] | padded[..., 1::2] << 4).view("i1")
    volume = read_volume(made(tmp_path / "a.mrc", packed, nx=columns, mx=columns, mode=101))
    assert np.array_equal(volume.density, values)
    assert volume.stored == "mode 101, 4-bit integer"


def test_volumes_of_a_stack_are_read_one_at_a_time(tmp_path):
    path = made(tmp_path / "a.mrc", np.concatenate([VALUES, VALUES + 1000]).astype("f4"), ispg=401, mz=4, cella=(50, 60, 40))
    assert np.array_equal(read_volume(path, 2).density, VALUES + 1000)
    assert read_volume(path, 1).voxel_size == (10, 10, 10)
    with pytest.raises(InputError, match=r"volume 3 .* which holds 2"):
        read_volume(path, 3)


def test_a_stack_of_one_volume_is_a_volume(tmp_path):
    assert np.array_equal(read_volume(made(tmp_path / "a.mrc", VALUES.astype("f4"), ispg=401)).density, VALUES)


@pytest.mark.parametrize(("suffix", "pack"), [(".gz", gzip.compress), (".bz2", bz2.compress), ("", gzip.compress)])
def test_compressed_files_are_known_by_their_content(tmp_path, suffix, pack):
    path = tmp_path / f"a.mrc{suffix}"
    path.write_bytes(pack(mrc_bytes(VALUES.astype("u2"), extended=b"\1" * 160)))
    assert np.array_equal(read_volume(path).density, VALUES)


@pytest.mark.parametrize("axes", [(1, 2, 3), (2, 1, 3), (3, 2, 1), (3, 1, 2), (2, 3, 1), (1, 3, 2)])
def test_any_order_of_axes_becomes_z_y_x_and_is_written_so(tmp_path, axes):
    # Columns run along axes[0], so array axis 2 of the file is array axis 3 - axes[0] of the volume.
    stored = np.ascontiguousarray(VALUES.transpose([3 - a for a in axes[::-1]])).astype("f4")
    path = made(
        tmp_path / "a.mrc", stored, mapc=axes[0], mapr=axes[1], maps=axes[2], cella=(5.0, 12.0, 12.0), mx=5, my=6, mz=4,
        nxstart=10 * axes[0], nystart=10 * axes[1], nzstart=10 * axes[2], origin=(1.0, 2.0, 3.0),
    )  # fmt: skip
    volume = read_volume(path)
    assert np.array_equal(volume.density, VALUES)
    assert volume.voxel_size == (1, 2, 3)
    write_volume(tmp_path / "out.mrc", np.array(volume.density, dtype=np.float32), path, 2.0, "turned")
    assert mrcfile.validate(tmp_path / "out.mrc")
    with mrcfile.open(tmp_path / "out.mrc") as mrc:
        assert np.array_equal(mrc.data, VALUES)
        assert (mrc.header.mapc, mrc.header.mapr, mrc.header.maps) == (1, 2, 3)
        assert mrc.nstart.tolist() == (10, 20, 30)
        assert mrc.header.origin.tolist() == (1, 2, 3)


BYTES = np.clip(np.random.default_rng(1).normal(128, 20, (6, 8, 64)), 0, 255).astype("u1")


@pytest.mark.parametrize(("low", "high"), [(0, 255), (60, 200), (0, 0), (1, -1), (0, 9), (np.nan, np.nan)])
def test_unsigned_bytes_are_known_by_the_header_or_the_grey_levels(tmp_path, low, high):
    volume = read_volume(made(tmp_path / "a.mrc", BYTES.view("i1"), dmin=low, dmax=high))
    assert np.array_equal(volume.density, BYTES)
    assert any("unsigned" in note for note in volume.notes)
    assert volume.stored == "mode 0, 8-bit integer, unsigned"


@pytest.mark.parametrize(("low", "high"), [(-128, 127), (-90, 90), (0, 0), (1, -1)])
def test_signed_bytes_stay_signed(tmp_path, low, high):
    signed = (BYTES.astype(int) - 128).astype("i1")
    volume = read_volume(made(tmp_path / "a.mrc", signed, dmin=low, dmax=high))
    assert np.array_equal(volume.density, signed)


@pytest.mark.parametrize(("flags", "kind"), [(0, np.uint8), (1, np.int8), (8, np.uint8), (9, np.int8)])
@pytest.mark.parametrize("order", ["<", ">"])
def test_imod_flags_decide_over_the_range(tmp_path, flags, kind, order):
    stamp = b"IMOD" if order == "<" else b"DOMI"
    extra = np.void(bytes(40) + stamp + np.array(flags, f"{order}i4").tobytes() + bytes(36))
    volume = read_volume(made(tmp_path / "a.mrc", (VALUES % 100).astype("i1"), order, dmin=0, dmax=99, extra2=extra))
    assert volume.density.dtype == kind


@pytest.mark.parametrize(
    ("kind", "extended", "written"),
    [
        (b"", b"X,  Y,  Z".ljust(80) + b"-X,  Y+1/2,  -Z".ljust(80), b"CCP4"),
        (b"", bytes(range(200)), b"MRCO"),
        *[(code, bytes(range(256)) * 3, code) for code in (b"SERI", b"AGAR", b"FEI1", b"FEI2", b"HDF5", b"MRCO", b"CCP4")],
        (b"junk", bytes(range(128)), b"MRCO"),
    ],
)
@pytest.mark.parametrize("order", ["<", ">"])
def test_extended_headers_of_every_kind_are_kept(tmp_path, kind, extended, written, order):
    layout = np.void(bytes(16) + np.array([8, 3], f"{order}i2").tobytes() + bytes(64))
    path = made(tmp_path / "a.mrc", VALUES.astype("i2"), order, extended, exttyp=kind, extra2=layout)
    assert np.array_equal(read_volume(path).density, VALUES)
    write_volume(tmp_path / "out.mrc", VALUES.astype("f4"), path, 10.0, "kept")
    assert mrcfile.validate(tmp_path / "out.mrc")
    with mrcfile.open(tmp_path / "out.mrc") as mrc:
        assert mrc.extended_header.tobytes() == extended
        assert bytes(mrc.header.exttyp) == written
        assert np.array_equal(mrc.data, VALUES)
        if written != b"CCP4":
            # The layout of the numbers and the order of their bytes are those of the input.
            assert bytes(mrc.header.extra2) == bytes(layout)
            assert (mrc.header.mode.dtype.byteorder == ">") == (order == ">")


def test_statistics_of_a_mean_near_zero_are_right(tmp_path):
    density = np.random.default_rng(2).normal(size=(20, 30, 40)).astype(np.float32) * 1e3
    density -= density.mean(dtype=np.float64) - 1e-3
    write_volume(tmp_path / "out.mrc", density, None, 10.0, "statistics")
    with mrcfile.open(tmp_path / "out.mrc") as mrc:
        assert float(mrc.header.dmean) == pytest.approx(density.mean(dtype=np.float64), rel=1e-5)
        assert float(mrc.header.rms) == pytest.approx(density.std(dtype=np.float64), rel=1e-6)
        assert (float(mrc.header.dmin), float(mrc.header.dmax)) == (density.min(), density.max())
    assert mrcfile.validate(tmp_path / "out.mrc")


REAL = (
    "mrcfile_EMD-3001.map.bz2", "visfd_test_blob_detect.rec", "etspy_SerialEM_SERI_test_000.mrc", "rsciio_HAADFscan.mrc",
    "tardis_mrc3D_unsigned_nostamp.mrc", "pyseg_tomo_int16_noMAP.mrc",
)  # fmt: skip


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("source", REAL)
def test_a_volume_with_the_header_of_a_real_file_is_valid(shared, tmp_path, source):
    with mrcfile.open(shared / "readers" / source, permissive=True, header_only=True) as old:
        header, extended = old.header.copy(), old.extended_header.tobytes()
    write_volume(tmp_path / "out.mrc", VALUES.astype("f4"), shared / "readers" / source, 4.0, "kept")
    assert mrcfile.validate(tmp_path / "out.mrc")
    with mrcfile.open(tmp_path / "out.mrc") as mrc:
        assert mrc.header.origin.tolist() == header.origin.tolist()
        assert mrc.extended_header.tobytes() == extended
        assert mrc.voxel_size.tolist() == (4, 4, 4)
        assert mrc.get_labels()[-1].startswith("cryovae")


def test_a_source_that_is_gone_costs_its_header_and_not_the_result(tmp_path, caplog):
    write_volume(tmp_path / "out.mrc", VALUES.astype("f4"), tmp_path / "gone.mrc", 4.0, "alone")
    assert voxel_size_of(read_volume(tmp_path / "out.mrc"), None) == pytest.approx(4.0)
    assert "gone.mrc" in caplog.text
