"""MRC files as other programs write them: what each holds, or why it is refused.

The first half makes files with the peculiarities of the shared readers, so that it runs without them; the second half reads
these themselves, whose values are those of the manifest.
"""

import bz2
import gzip

import numpy as np
import pytest

from cryovae.errors import InputError
from cryovae.io.files import read_volume
from cryovae.io.volume import voxel_size_of
from tests.io.made import mrc_bytes

CUBES, NO_SIZE, NOT_CUBES = None, "no voxel size", "expected cubes"
# name: shape (z, y, x), voxel size (x, y, z), least, greatest, mean, what its voxel size is refused for, words of its notes
READ = {
    "cryodrgn_hand.5_stack_nostamp.mrcs": ((5, 64, 64), (1, 1, 1), -0.0001412, 17.81, 0.4029, CUBES, ()),
    "cryojax_000000_mz1.mrcs": ((3, 16, 16), (1, 12, 12), -0.08298, 0.03568, -0.0009637, NOT_CUBES, ("stack of images",)),
    "czi_10001_input_metadata_TS_run1.st": ((4, 10, 20), (5.678,) * 3, 0, 19, 9.309, CUBES, ()),
    "czi_10001_input_tomograms_TS_run1.rec": ((10, 8, 6), (13.48,) * 3, 0, 19, 9.477, CUBES, ()),
    "czi_sample_tomos_signed_ints.mrc": ((4, 4, 4), (14.08,) * 3, -128, 127, -0.5, CUBES, ()),
    "czi_sample_tomos_unsigned_ints.mrc": ((4, 4, 4), (14.08,) * 3, -128, 127, -0.5, CUBES, ("as signed bytes",)),
    "etspy_SerialEM_SERI_test_000.mrc": ((2, 1024, 1024), (7.88,) * 3, 2310, 10440, 4069, CUBES, ()),
    "gemmi_5i55_tiny.ccp4": (
        (10, 8, 6), (0.4908, 0.4375, 0.495), -0.531, 2.399, 0.3471, NOT_CUBES, ("axes (2, 1, 3)", "cell angles"),
    ),
    "gorgon_noMAP_mxyz_n-1.mrc.gz": ((80, 80, 80), (1.073,) * 3, 0, 1, 0.0008145, CUBES, ("one step less",)),
    "mrcfile_EMD-3001.map": (
        (73, 25, 43), (0.4482, 0.3925, 0.4587), -0.3681, 0.7216, 0.000533, NOT_CUBES, ("axes (3, 1, 2)", "cell angles"),
    ),
    "mrcfile_EMD-3001.map.bz2": (
        (73, 25, 43), (0.4482, 0.3925, 0.4587), -0.3681, 0.7216, 0.000533, NOT_CUBES, ("axes (3, 1, 2)", "cell angles"),
    ),
    "mrcfile_EMD-3197.map": ((20, 20, 20), (11.4,) * 3, -4.134, 5.577, 0.7836, CUBES, ()),
    "mrcfile_EMD-3197.map.bz2": ((20, 20, 20), (11.4,) * 3, -4.134, 5.577, 0.7836, CUBES, ()),
    "mrcfile_emd_3197.map.gz": ((20, 20, 20), (11.4,) * 3, -4.134, 5.577, 0.7836, CUBES, ()),
    "ngl_3pqr-mode0_mapc213.ccp4": (
        (59, 69, 100), (0.9585, 0.9585, 0.9155), -128, 127, -36.39, NOT_CUBES, ("as signed", "axes (2, 1, 3)", "cell angles"),
    ),
    "ngl_3pqr_mapc213.ccp4.gz": (
        (59, 69, 100), (0.9585, 0.9585, 0.9155), -0.5163, 0.9091, -0.002583, NOT_CUBES, ("axes (2, 1, 3)", "cell angles"),
    ),
    "pyseg_tomo22_ves_seg_mode0_nostamp.mrc.gz": ((50, 166, 166), (1, 1, 1), 0, 3, 2.731, CUBES, ()),
    "pyseg_tomo_int16_noMAP.mrc": ((4, 6, 5), (2.5,) * 3, -5, 30, 1.5, CUBES, ()),
    "pytom_human_ribo_mask_noMAP.mrc": ((32, 32, 32), (1, 1, 1), 0, 1, 0.09027, CUBES, ()),
    "rsciio_ROI_Random_Scan_movie.mrc": ((348, 16, 16), (10, 10, 0), 681, 1596, 1173, NO_SIZE, ("negative voxel size",)),
    # The manifest gives what mrcfile reads, 256 less: this file is why grey levels are looked at.
    "tardis_mrc3D_unsigned_nostamp.mrc": ((78, 64, 32), (23.2,) * 3, 141, 163, 153, CUBES, ("as unsigned bytes",)),
    "tomotwin_5MRC_nstart.mrc": ((20, 26, 26), (1, 1, 1), -0.5674, 1.001, -0.1634, CUBES, ()),
    "visfd_test_blob_detect.rec": ((27, 32, 22), (19.32,) * 3, 19, 55, 36.5, CUBES, ()),
}  # fmt: skip
REFUSED = {
    "mrcfile_epu2.9_FEI2_first64rows.mrc": "an image of 4096 x 64 x 1",
    "mrcfile_fei-extended_FEI1_first64rows.mrc": "an image of 3710 x 64 x 1",
    "rsciio_20241021_00405_final.mrc": "an image of 8 x 4 x 1",
    "rsciio_HAADFscan.mrc": "an image of 16 x 16 x 1",
    "tardis_mrc2D.mrc": "an image of 32 x 64 x 1",
    "etspy_SerialEM_SERI_test_000.mdoc": "no MRC file",
}


WHOLE = np.arange(4 * 6 * 5).reshape(4, 6, 5) - 20
SIGNED = (np.arange(4 * 6 * 8) % 256 - 128).astype("i1").reshape(4, 6, 8)
# Grey levels around 150, which read as signed bytes fall into two heaps.
UNSIGNED = np.clip(np.random.default_rng(3).normal(150, 12, (5, 6, 40)), 0, 255).astype("u1")
NO_STAMP = {"map": b"", "machst": (0, 0, 0, 0)}
AXES = {"mapc": 3, "mapr": 1, "maps": 2, "mx": 4, "my": 5, "mz": 6}
ANGLE = {"cellb": (90.0, 90.0, 110.0)}
# name: bytes, density (z, y, x), voxel size (x, y, z), what its voxel size is refused for, words of its notes
MADE = {
    "IMOD, big-endian": (mrc_bytes(WHOLE.astype("i2"), ">", b"\1" * 80), WHOLE, (10, 10, 10), CUBES, ()),
    "signed bytes": (mrc_bytes(SIGNED, dmin=-128, dmax=127), SIGNED, (10, 10, 10), CUBES, ()),
    "signed bytes, no stamp": (mrc_bytes(SIGNED, **NO_STAMP, dmin=-128, dmax=127), SIGNED, (10, 10, 10), CUBES, ()),
    "unsigned bytes": (mrc_bytes(UNSIGNED.view("i1")), UNSIGNED, (10, 10, 10), CUBES, ("as unsigned bytes",)),
    "integers without MAP": (mrc_bytes(WHOLE.astype("i2"), **NO_STAMP), WHOLE, (10, 10, 10), CUBES, ()),
    "half precision": (mrc_bytes(WHOLE.astype("f2")), WHOLE, (10, 10, 10), CUBES, ()),
    "not cubes": (mrc_bytes(WHOLE.astype("f4"), cella=(5.0, 12.0, 12.0)), WHOLE, (1, 2, 3), NOT_CUBES, ()),
    "tilted cell": (mrc_bytes(WHOLE.astype("f4"), **ANGLE), WHOLE, (10, 10, 10), CUBES, ("cell angles",)),
    "columns along z": (
        mrc_bytes(WHOLE.astype("f4"), **AXES, cella=(40.0, 50.0, 60.0)), WHOLE.transpose(2, 0, 1), (10, 10, 10), CUBES,
        ("axes (3, 1, 2)",),
    ),
    "negative size": (
        mrc_bytes(WHOLE.astype("f4"), cella=(-50.0, 60.0, 40.0)), WHOLE, (10, 10, 10), CUBES, ("negative voxel size",),
    ),
    "no size along z": (mrc_bytes(WHOLE.astype("f4"), cella=(50.0, 60.0, 0.0)), WHOLE, (10, 10, 0), NO_SIZE, ()),
    "gzip": (gzip.compress(mrc_bytes(WHOLE.astype("f4"))), WHOLE, (10, 10, 10), CUBES, ()),
    "bzip2": (bz2.compress(mrc_bytes(WHOLE.astype("i2"))), WHOLE, (10, 10, 10), CUBES, ()),
}  # fmt: skip


@pytest.mark.parametrize("kind", MADE)
def test_values_of_made_files_are_those_written(tmp_path, kind):
    content, density, size, trouble, notes = MADE[kind]
    path = tmp_path / "a.mrc"
    path.write_bytes(content)
    volume = read_volume(path)
    assert volume.density.shape == density.shape
    assert np.array_equal(volume.density, density)
    assert volume.voxel_size == pytest.approx(size)
    assert len(volume.notes) == len(notes), volume.notes
    assert all(words in note for words, note in zip(notes, volume.notes, strict=True))
    if trouble is None:
        assert voxel_size_of(volume, None) == pytest.approx(size[0])
    else:
        with pytest.raises(InputError, match=trouble):
            voxel_size_of(volume, None)
    assert voxel_size_of(volume, 7.5) == 7.5


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (mrc_bytes(WHOLE[:1].astype("f4")), "an image of 5 x 6 x 1"),
        (b"[ZValue = 0]\nTiltAngle = 3\n" * 60, "no MRC file"),
        (mrc_bytes(WHOLE.astype("f4"))[:-8], "480 bytes of data expected"),
    ],
)
def test_made_files_that_are_no_volumes_are_refused(tmp_path, content, words):
    (tmp_path / "a.mrc").write_bytes(content)
    with pytest.raises(InputError, match=words) as refusal:
        read_volume(tmp_path / "a.mrc")
    assert "\n" not in str(refusal.value)
    assert str(refusal.value).startswith(str(tmp_path / "a.mrc"))


def test_a_plain_file_stays_on_disk_and_equals_the_compressed_one(tmp_path):
    content = mrc_bytes(WHOLE.astype("f4"))
    for name, data in (("a.mrc", content), ("a.mrc.gz", gzip.compress(content)), ("a.mrc.bz2", bz2.compress(content))):
        (tmp_path / name).write_bytes(data)
    plain, packed, zipped = (read_volume(path) for path in sorted(tmp_path.iterdir()))
    assert isinstance(plain.density, np.memmap)
    assert np.array_equal(plain.density, packed.density)
    assert np.array_equal(plain.density, zipped.density)


def test_no_file_of_the_readers_is_left_out(shared):
    assert {path.name for path in (shared / "readers").iterdir()} == READ.keys() | REFUSED.keys()


@pytest.mark.parametrize("name", READ)
def test_values_are_those_of_the_manifest(shared, name):
    shape, size, low, high, mean, trouble, notes = READ[name]
    volume = read_volume(shared / "readers" / name)
    density = np.asarray(volume.density)
    assert density.shape == shape
    assert volume.voxel_size == pytest.approx(size, rel=2e-3)
    assert (density.min(), density.max()) == (pytest.approx(low, rel=5e-4), pytest.approx(high, rel=5e-4))
    assert float(density.mean(dtype=np.float64)) == pytest.approx(mean, rel=5e-4)
    assert len(volume.notes) == len(notes)
    assert all(words in note for words, note in zip(notes, volume.notes, strict=True))
    if trouble is None:
        assert voxel_size_of(volume, None) == pytest.approx(size[0], rel=2e-3)
    else:
        with pytest.raises(InputError, match=trouble):
            voxel_size_of(volume, None)


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_volume_is_refused_in_one_line_with_its_reason(shared, name):
    with pytest.raises(InputError, match=REFUSED[name]) as refusal:
        read_volume(shared / "readers" / name)
    assert "\n" not in str(refusal.value)
    assert name in str(refusal.value)


def test_permuted_axes_are_put_where_the_standard_says(shared):
    import mrcfile

    path = shared / "readers/mrcfile_EMD-3001.map"
    with mrcfile.open(path, permissive=True) as mrc:
        as_stored = mrc.data.copy()
    # Columns along z, rows along x, sections along y.
    assert np.array_equal(read_volume(path).density, as_stored.transpose(2, 0, 1))


def test_the_same_map_reads_the_same_plain_and_compressed(shared):
    plain, packed, zipped = (
        read_volume(shared / "readers" / name)
        for name in ("mrcfile_EMD-3197.map", "mrcfile_EMD-3197.map.bz2", "mrcfile_emd_3197.map.gz")
    )
    assert np.array_equal(plain.density, packed.density)
    assert np.array_equal(plain.density, zipped.density)
    assert isinstance(plain.density, np.memmap)
