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
    result, told = path.with_suffix(".out.mrc"), io.StringIO()
    write_volume(result, RESULT, volume.path, 10.0, "fuzz")
    assert mrcfile.validate(result, print_file=told), told.getvalue()


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
    found = []

    @checked(100)
    @given(content=mangled(SEEDS))
    def count(content):
        found.append(survive(use, place, content))

    count()
    assert 0.1 < np.mean(found) < 0.9


def test_the_limit_of_memory_bites():
    with pytest.raises(MemoryError), limited(memory=50 << 20):
        np.ones(100 << 20, np.uint8)
