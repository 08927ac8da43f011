"""What a killed process left beside a file goes with the next that is written there, and nothing else does."""

import os
import platform
import subprocess
import sys

import pytest

from cryovae.io.atomic import whole_file, whole_folder, write_text

KILLED = """
import os, sys
from pathlib import Path
from cryovae.io.atomic import {how}
with {how}(Path(sys.argv[1])) as beside:
    {write}
    os.kill(os.getpid(), 9)
"""
FILE, FOLDER = "beside.write_text('half')", "beside.mkdir(); (beside / 'one').write_text('half')"


def _killed(path, how, write):
    done = subprocess.run([sys.executable, "-c", KILLED.format(how=how, write=write), str(path)], check=False)
    assert done.returncode == -9


def test_the_next_writer_takes_away_what_a_killed_one_left(tmp_path):
    path, other = tmp_path / "a[1].json", tmp_path / "b.json"
    _killed(path, "whole_file", FILE)
    _killed(other, "whole_file", FILE)
    assert len(list(tmp_path.iterdir())) == 2
    write_text(path, "whole")
    assert path.read_text() == "whole"
    # What lies beside another file is not ours.
    assert len(list(tmp_path.iterdir())) == 2


def test_of_a_folder_too(tmp_path):
    path = tmp_path / "a.zarr"
    _killed(path, "whole_folder", FOLDER)
    with whole_folder(path) as beside:
        beside.mkdir()
    assert [p.name for p in tmp_path.iterdir()] == ["a.zarr"]


@pytest.mark.parametrize("writer", [f"{platform.node()}-{os.getppid()}", "elsewhere-1", "17"])
def test_what_may_still_be_written_is_left_alone(tmp_path, writer):
    """By a process that runs, on another machine, or by who knows whom."""
    left = tmp_path / f".a.json.{writer}.part.json"
    left.write_text("half")
    write_text(tmp_path / "a.json", "whole")
    assert left.exists()


def test_on_an_error_nothing_is_left(tmp_path):
    def broken():
        with whole_file(tmp_path / "a.json") as beside:
            beside.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        broken()
    assert not list(tmp_path.iterdir())
