"""Formats on the command line: OME-Zarr in and out, and what was decided on reading is said once and kept."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from cryovae.cli.app import app
from cryovae.errors import InputError
from cryovae.io.files import read_volume, write_volume
from cryovae.workflows.run_folder import checksum
from tests.conftest import write_mrc
from tests.helpers.cli import RANGE, TINY

pytestmark = pytest.mark.usefixtures("undrawn")
GREY = np.clip(np.random.default_rng(0).normal(128, 20, (16, 18, 20)), 0, 255).astype(np.uint8)


def run(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def test_zarr_is_restored_into_zarr_and_what_was_doubtful_is_said_once(tmp_path):
    zarr = pytest.importorskip("zarr", reason="the extra zarr is not installed")
    source = tmp_path / "ts_01.ome.zarr"
    write_volume(source, GREY.astype(np.float32), None, 12.5, "made")
    ome = dict(zarr.open_group(source).attrs["ome"])
    for axis in ome["multiscales"][0]["axes"]:
        del axis["unit"]
    zarr.open_group(source).attrs["ome"] = ome
    out = tmp_path / "out"
    command = ["restore", source, *RANGE, *TINY, "--steps", "1", "--format", "zarr", "--voxel-size", "12.5", "-o", out]
    done = run(*command)
    assert done.exit_code == 0, done.output
    mean = read_volume(out / "ts_01_mean.zarr")
    assert mean.density.shape == GREY.shape
    assert mean.voxel_size == (12.5,) * 3
    assert "posterior mean" in mean.labels[-1]
    assert np.isfinite(np.asarray(read_volume(out / "ts_01_std.zarr").density)).all()
    record = json.loads((out / "run.json").read_text())
    assert record["inputs"]["tomogram"]["sha256"] == checksum(source)
    assert not list(out.glob("*.mrc"))
    assert done.stderr.count("no unit of length") == 1
    assert "no unit of length" in record["notes"][0]
    assert (out / "run.log").read_text().count("no unit of length") == 1
    again = run(*command)
    assert again.exit_code == 2
    assert "is there already" in again.stderr


def test_a_checksum_of_a_folder_changes_with_any_file(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").write_text("1")
    first = checksum(tmp_path)
    (tmp_path / "a" / "x").write_text("2")
    second = checksum(tmp_path)
    (tmp_path / "a" / "x").rename(tmp_path / "a" / "y")
    assert len({first, second, checksum(tmp_path)}) == 3


def test_info_says_what_was_decided_on_reading(tmp_path):
    source = write_mrc(tmp_path / "grey.mrc", GREY.view(np.int8))
    with source.open("r+b") as file:
        file.seek(76)
        file.write(np.array([0, 255], "<f4").tobytes())
    shown = run("info", source)
    assert "note          read as unsigned bytes" in shown.stdout
    assert "8-bit integer, unsigned" in shown.stdout


def test_an_unknown_format_is_refused_before_work_begins(tmp_path):
    source = write_mrc(tmp_path / "grey.mrc", GREY.astype(np.float32))
    refused = run("restore", source, *RANGE, *TINY, "--format", "tiff", "-o", tmp_path / "out")
    assert refused.exit_code == 2
    assert "--format tiff found, expected mrc or zarr" in refused.stderr
    assert not (tmp_path / "out").exists()


def test_zarr_without_its_package_says_what_to_install(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "zarr", None)
    (tmp_path / "a.zarr").mkdir()
    (tmp_path / "a.zarr" / "zarr.json").write_text("{}")
    with pytest.raises(InputError, match=r"pip install 'cryovae\[zarr\]'"):
        read_volume(tmp_path / "a.zarr")
