"""Volumes in files: boxes as of an array, views of others, and MRC files written some sections at a time."""

import numpy as np
import pytest

from cryovae.io.files import write_volume, write_volume_by_slabs
from cryovae.io.journal import Journal
from cryovae.io.mrc import writing
from cryovae.io.orientation import UnrotatedSections, as_stored, upright
from cryovae.io.stored import Stored
from cryovae.io.views import MeanOf, UprightOf
from tests.conftest import write_mrc

SHAPE = (7, 5, 9)


@pytest.mark.parametrize("dtype", [np.float32, np.complex64])
def test_a_volume_in_a_file_is_read_and_written_by_the_box(tmp_path, dtype):
    values = np.random.default_rng(0).normal(size=SHAPE).astype(dtype)
    stored = Stored(tmp_path / "v", SHAPE, dtype, fresh=True)
    assert not stored[:].any()
    stored.write(values[:4], 0)
    stored.write(values[4:, :2], 4)
    stored.write(values[4:, 2:], 4, 2)
    again = Stored(tmp_path / "v", SHAPE, dtype)
    for box in (
        (slice(None),),
        (slice(2, 5),),
        (slice(1, 6), slice(2, 4)),
        (slice(0, 2), slice(None), slice(3, 7)),
        (slice(6, 9),),
    ):
        assert np.array_equal(again[box], values[box])
    with pytest.raises(OSError, match="not as long"):
        Stored(tmp_path / "v", (7, 5, 10), dtype)


def test_views_are_what_they_stand_for():
    one, two = (np.random.default_rng(i).normal(size=SHAPE).astype(np.float32) for i in range(2))
    box = (slice(1, 4), slice(2, 6), slice(0, 5))
    rotated = UprightOf(MeanOf(one, two))
    assert rotated.shape == (5, 7, 9)
    assert np.array_equal(rotated[:], upright((one + two) / 2))
    assert np.array_equal(rotated[box], upright((one + two) / 2)[box])
    assert np.array_equal(UnrotatedSections(rotated)[2:6], ((one + two) / 2)[2:6])


def test_a_file_written_by_slabs_is_the_one_written_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(writing, "SLAB_BYTES", 1000)
    density = np.random.default_rng(0).normal(3, 2, (13, 21, 18)).astype(np.float32)
    source = write_mrc(tmp_path / "source.mrc", density, 7.84)
    write_volume(tmp_path / "one.mrc", as_stored(density), source, 7.84, "a note")
    write_volume_by_slabs(tmp_path / "two.mrc", UnrotatedSections(density), source, 7.84, "a note")
    assert (tmp_path / "one.mrc").read_bytes() == (tmp_path / "two.mrc").read_bytes()


def test_a_journal_is_taken_up_by_the_same_work_only(tmp_path):
    done = []
    first = Journal(tmp_path / "j.json", {"seed": 1})
    assert not first.resume()
    assert first.once("a", lambda: done.append(1) or 3.25) == 3.25
    second = Journal(tmp_path / "j.json", {"seed": 1})
    assert second.resume()
    assert second.once("a", lambda: done.append(2)) == 3.25
    assert done == [1]
    assert not Journal(tmp_path / "j.json", {"seed": 2}).resume()
    (tmp_path / "j.json").write_text('{"mark"')
    assert not Journal(tmp_path / "j.json", {"seed": 1}).resume()
