"""Files whose length is not that of their header: read where the voxels are, with a note, or refused; never shifted."""

from __future__ import annotations

import bz2
import gzip

import numpy as np
import pytest

from cryovae.errors import InputError
from cryovae.io.files import provenance_of, read_volume, write_volume
from cryovae.io.load import load_tomogram
from cryovae.tomogram import TiltGeometry
from tests.io.made import mrc_bytes

RNG = np.random.default_rng(0)
VALUES = RNG.normal(size=(6, 9, 7)).astype("f4")
STATISTICS = {"dmin": VALUES.min(), "dmax": VALUES.max(), "dmean": VALUES.mean(dtype=np.float64)}
HEADER = 1024
SIZES = [4, 80, 1024, 4992]


def _plain(extended=b"", values=VALUES, **words):
    return mrc_bytes(values, extended=extended, **(STATISTICS | words))


def _read(tmp_path, content, name="a.mrc"):
    path = tmp_path / name
    path.write_bytes(content)
    return read_volume(path)


def _filler(kind, count):
    if kind == "zeros":
        return bytes(count)
    return (b"FEI metadata " * count)[:count]


@pytest.mark.parametrize("announced", [80, 4992, 1 << 30])
def test_an_announced_extended_header_that_is_not_there_is_noted(tmp_path, announced):
    content = _plain(nsymbt=announced)
    for name, packed in (("a.mrc", content), ("a.mrc.gz", gzip.compress(content)), ("a.bz2", bz2.compress(content))):
        volume = _read(tmp_path, packed, name)
        np.testing.assert_array_equal(volume.density, VALUES)
        assert f"announces an extended header of {announced} bytes, the file has none" in volume.notes[0]
        assert provenance_of(tmp_path / name).extended == b""


@pytest.mark.parametrize("count", SIZES)
@pytest.mark.parametrize("kind", ["zeros", "text"])
def test_an_extended_header_that_is_not_announced_shifts_nothing(tmp_path, kind, count):
    content = _plain()
    content = content[:HEADER] + _filler(kind, count) + content[HEADER:]
    for name, packed in (("a.mrc", content), ("a.mrc.gz", gzip.compress(content))):
        volume = _read(tmp_path, packed, name)
        np.testing.assert_array_equal(volume.density, VALUES)
        assert f"the file has one of {count}" in volume.notes[0]


@pytest.mark.parametrize("count", SIZES)
@pytest.mark.parametrize("kind", ["zeros", "text"])
def test_bytes_behind_the_voxels_are_left_out(tmp_path, kind, count):
    for extended in (b"", b"header.." * 20):
        volume = _read(tmp_path, _plain(extended) + _filler(kind, count))
        np.testing.assert_array_equal(volume.density, VALUES)
        assert f"{count} bytes behind its voxels" in volume.notes[0]


def test_an_extended_header_longer_or_shorter_than_announced(tmp_path):
    whole = _plain(b"metadata" * 100)
    for announced in (400, 1200):
        content = _plain(nsymbt=announced)[:HEADER] + whole[HEADER:]
        volume = _read(tmp_path, content)
        np.testing.assert_array_equal(volume.density, VALUES)
        assert "the file has one of 800" in volume.notes[0]


def test_the_mean_tells_where_voxels_are_if_the_range_does_not(tmp_path):
    like = np.clip(RNG.normal(size=256), VALUES.min(), VALUES.max()).astype("f4").tobytes()
    content = _plain()
    np.testing.assert_array_equal(_read(tmp_path, content[:HEADER] + like + content[HEADER:]).density, VALUES)
    np.testing.assert_array_equal(_read(tmp_path, content + like).density, VALUES)


def test_what_cannot_be_told_is_refused(tmp_path):
    like = RNG.normal(size=256).astype("f4").tobytes()
    content = _plain(dmin=0.0, dmax=-1.0, dmean=-2.0)
    for ambiguous in (content[:HEADER] + like + content[HEADER:], content + like):
        with pytest.raises(InputError, match="before or behind its voxels"):
            _read(tmp_path, ambiguous)


def test_a_file_that_lost_its_end_is_not_taken_for_one_without_extended_header(tmp_path):
    whole = _plain(b"metadata" * 10)
    with pytest.raises(InputError, match="cut short"):
        _read(tmp_path, whole[:-80])


def test_integers_and_big_endian_files_are_placed_too(tmp_path):
    values = RNG.integers(-300, 300, size=(5, 8, 6)).astype("i2")
    words = {"dmin": values.min(), "dmax": values.max(), "dmean": values.mean()}
    for order in "<>":
        content = mrc_bytes(values.astype(f"{order}i2"), order=order, **words)
        padded = content[:HEADER] + _filler("text", 512) + content[HEADER:]
        np.testing.assert_array_equal(_read(tmp_path, padded).density, values)


def test_a_mapped_tomogram_is_not_shifted_and_restored_ones_keep_nothing_foreign(tmp_path):
    content = _plain(cella=(70.0, 90.0, 60.0))
    path = tmp_path / "a.mrc"
    path.write_bytes(content[:HEADER] + bytes(1024) + content[HEADER:])
    tomogram = load_tomogram(path, None, TiltGeometry.from_range(-60, 60), mapped=True)
    np.testing.assert_array_equal(tomogram.density, VALUES)
    assert "the file has one of 1024" in tomogram.notes[0]
    write_volume(tmp_path / "b.mrc", np.asarray(tomogram.density), path, 10.0, "")
    again = read_volume(tmp_path / "b.mrc")
    np.testing.assert_array_equal(again.density, VALUES)
    assert again.notes == ()
