"""MRC files with damaged headers are read, or refused in one line: no traceback, no hang, no memory without need."""

import bz2
import gzip
import io

import mrcfile
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cryovae.io.files import read_volume, write_volume
from cryovae.io.load import load_tomogram
from cryovae.tomogram import TiltGeometry
from tests.io.fuzz import limited, mangled, survive
from tests.io.made import mrc_bytes

DATA = np.arange(5 * 6 * 7).reshape(5, 6, 7)
IMOD = np.void(bytes(40) + b"IMOD\x01\0\0\0" + bytes(36))
PLAIN = [
    mrc_bytes(DATA.astype("f4")),
    mrc_bytes(DATA.astype("i2"), ">"),
    mrc_bytes((DATA % 200).astype("u1").view("i1"), dmin=0, dmax=199),
    mrc_bytes(DATA.astype("u2"), extended=b"SERI" * 40, exttyp=b"SERI"),
    mrc_bytes(DATA.astype("f2"), mapc=3, mapr=1, maps=2),
    mrc_bytes((DATA % 100).astype("i1"), extra2=IMOD),
    mrc_bytes(np.zeros((5, 6, 4), "i1"), nx=7, mode=101),
    mrc_bytes(np.concatenate([DATA, DATA]).astype("f4"), ispg=401, mz=5),
    mrc_bytes(DATA.astype("f4"), map=b"", machst=(0, 0, 0, 0), nversion=0),
]
RESULT = np.arange(60, dtype=np.float32).reshape(3, 4, 5)
SEEDS = [*PLAIN, gzip.compress(PLAIN[0]), bz2.compress(PLAIN[1])]


def use(path):
    """What a restoration does with a file: all its voxels, and its header on the result, which is valid whatever that was."""
    volume = read_volume(path)
    tomogram = load_tomogram(path, None, TiltGeometry.from_range(-60, 60), 10.0)
    assert np.isfinite(np.asarray(tomogram.density, dtype=np.float32)).all()
    result, announced = path.with_suffix(".out.mrc"), io.StringIO()
    write_volume(result, RESULT, volume.path, 10.0, "fuzz")
    assert mrcfile.validate(result, print_file=announced), announced.getvalue()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    path = tmp_path_factory.mktemp("fuzz") / "damaged.mrc"
    write_volume(path.with_suffix(".out.mrc"), RESULT, None, 10.0, "warm")
    for seed in SEEDS:
        survive(use, path, seed)
    return path


def checked(examples):
    return settings(
        max_examples=examples, deadline=None, database=None, derandomize=True, print_blob=False,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip


# What a reader stumbled over, ours or the one before it, which asked for as much memory as the header wanted.
FLOATS = DATA.astype("f4")
LARGEST = (1 << 31) - 1
CASES = {
    "an extended header of 2 GB": mrc_bytes(FLOATS, nsymbt=LARGEST),
    "the same, compressed": gzip.compress(mrc_bytes(FLOATS, nsymbt=LARGEST)),
    "an extended header of 1 GB with bz2": bz2.compress(mrc_bytes(FLOATS, nsymbt=1 << 30)),
    "an extended header of less than nothing": mrc_bytes(FLOATS, nsymbt=-LARGEST),
    "more voxels than any number of 64 bits": mrc_bytes(FLOATS, nx=LARGEST, ny=LARGEST, nz=LARGEST),
    "many voxels, compressed": gzip.compress(mrc_bytes(FLOATS, nx=1 << 20, ny=1 << 20, nz=1 << 20)),
    "many voxels in four bits": mrc_bytes(FLOATS, nx=1 << 20, ny=1 << 10, mode=101),
    "many volumes": mrc_bytes(FLOATS, ispg=630, mz=1, nz=5),
    "volumes of a negative number of sections": mrc_bytes(FLOATS, ispg=401, mz=-LARGEST),
    "a sampling of zero": mrc_bytes(FLOATS, mx=0, my=0, mz=0),
    "a cell of no number": mrc_bytes(FLOATS, cella=(np.nan, np.inf, -np.inf)),
    "an origin of no number": mrc_bytes(FLOATS, origin=(np.nan, np.inf, 1.0)),
    "eleven labels in a list of ten": mrc_bytes(FLOATS, nlabl=11, label=[b"\xff\x00\x1b[31m label"] * 10),
    "statistics of no number": mrc_bytes(DATA.astype("i1"), dmin=np.nan, dmax=np.nan),
    "an extended header whose kind is no text": mrc_bytes(FLOATS, extended=b"\xfe" * 7, exttyp=b"\xff\xfe\x00\x01"),
}


@pytest.mark.parametrize("name", CASES)
def test_known_cases_are_read_or_refused(place, name):
    survive(use, place, CASES[name])


@checked(250)
@given(content=mangled(SEEDS))
def test_damaged_files_are_read_or_refused(place, content):
    survive(use, place, content)


@pytest.mark.slow
@checked(10_000)
@given(content=mangled(SEEDS))
def test_ten_thousand_damaged_files_are_read_or_refused(place, content):
    survive(use, place, content)


@checked(200)
@given(content=st.binary(max_size=3000))
def test_noise_is_read_or_refused(place, content):
    survive(use, place, content)


def test_the_damage_leaves_some_files_readable_and_not_all(place):
    """Else the test above would only see the first check."""
    outcomes = []

    @checked(100)
    @given(content=mangled(SEEDS))
    def count(content):
        outcomes.append(survive(use, place, content))

    count()
    assert 0.05 < np.mean(outcomes) < 0.9


def test_the_limit_of_memory_bites():
    """Asked for more than can lie free in the process's heap after other tests."""
    with pytest.raises(MemoryError), limited(memory=50 << 20):
        np.empty(4 << 30, np.uint8)
