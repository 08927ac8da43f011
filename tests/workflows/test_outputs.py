"""Places for results are checked before work, in every command; what is no result is not written."""

import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from cryovae.api import restore, save
from cryovae.checkpoint import Checkpoint, load_model, save_model
from cryovae.errors import BrokenResult, InputError
from cryovae.io.files import write_volume
from cryovae.io.mrc.writing import write_mrc_by_slabs
from cryovae.io.outputs import check_file, check_folder
from cryovae.io.volume import Provenance
from cryovae.tomogram import Fill
from cryovae.workflows.restore import check_result
from tests.helpers.cli import RANGE, TINY, TINY_TRAIN, cryovae, refused


@pytest.mark.parametrize("command", ["restore", "train", "simulate", "evaluate", "json", "sample", "diagnose", "mask", "star"])
def test_every_command_refuses_a_place_that_it_cannot_write(small_run, tmp_path, command):
    """Below a file nothing can be made. It is said at once: work on these volumes takes seconds."""
    (tmp_path / "file").write_text("mine")
    there, tomogram, run = tmp_path / "file/below", small_run / "ts_01.mrc", small_run / "run"
    words = {
        "restore": ["restore", tomogram, *RANGE, "-o", there, "--steps", "2000", *TINY],
        "train": ["train", tomogram, *RANGE, "-o", there, "--steps", "2000", *TINY_TRAIN],
        "simulate": ["simulate", "-o", there, "--shape", "64", "64", "64"],
        "evaluate": ["evaluate", run / "ts_01_mean.mrc", "--report", there / "a.html"],
        "json": ["evaluate", run / "ts_01_mean.mrc", "--json", there / "a.json"],
        "sample": ["sample", run, "-o", there],
        "diagnose": ["diagnose", run, "-o", there],
        "mask": ["mask", tomogram, "-o", there / "mask.mrc"],
        "star": ["star", "import", "--even", small_run, "--odd", small_run, "--tilt-range", "-60", "60", "-o", there / "a.star"],
    }[command]
    began = time.monotonic()
    refused(cryovae(*words), "lies below", "which is a file")
    assert time.monotonic() - began < 3
    assert (tmp_path / "file").read_text() == "mine"


def test_a_folder_in_place_of_a_file_and_a_file_in_place_of_a_folder(tmp_path):
    (tmp_path / "a.mrc").mkdir()
    (tmp_path / "b").write_text("")
    with pytest.raises(InputError, match="is a folder, expected the name of a file"):
        check_file(tmp_path / "a.mrc")
    with pytest.raises(InputError, match="is a file, expected a folder"):
        check_folder(tmp_path / "b")
    check_folder(tmp_path / "new/deep")
    assert not (tmp_path / "new").exists()


def test_a_disk_without_room_is_said_before_work(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda folder: shutil._ntuple_diskusage(10**9, 10**9, 1000))
    with pytest.raises(OSError, match=r"0\.00 GB free, 0\.01 GB needed"):
        check_folder(tmp_path, 10_000_000)
    result = cryovae("simulate", "-o", tmp_path / "out", "--shape", "64", "64", "64")
    assert result.returncode == 1
    assert "no room left on the disk" in result.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs unshare to mount a file system that cannot be written")
def test_a_file_system_that_is_read_only_is_refused(tmp_path):
    """Root may write everywhere else."""
    (tmp_path / "ro").mkdir()
    code = f"from cryovae.io.outputs import check_folder; check_folder({str(tmp_path / 'ro')!r} + '/new')"
    script = f'mount -t tmpfs -o ro none {tmp_path / "ro"} && exec python -c "{code}"'
    path = f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}"
    result = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script], capture_output=True, text=True, env={**os.environ, "PATH": path}
    )
    if "unshare" in result.stderr or "mount" in result.stderr:
        pytest.skip("this machine lets nobody mount")
    assert "InputError" in result.stderr
    assert "may not be written" in result.stderr


@pytest.fixture
def broken(small_run, tmp_path):
    """The model with one weight that is not a number."""
    shutil.copytree(small_run / "run", tmp_path / "broken")
    path = tmp_path / "broken/model.safetensors"
    with safe_open(path, "pt") as file:
        about = file.metadata()
    tensors = load_file(path)
    name = next(n for n in tensors if n.startswith("weights."))
    tensors[name].view(-1)[0] = float("nan")
    save_file(tensors, path, about)
    return tmp_path / "broken"


@pytest.mark.parametrize("command", ["restore", "sample", "diagnose"])
def test_a_model_that_is_not_finite_makes_no_result(small_run, broken, tmp_path, command):
    out = tmp_path / "out"
    words = {
        "restore": ["restore", small_run / "ts_01.mrc", *RANGE, "--model", broken, "-o", out, *TINY],
        "sample": ["sample", broken, "-o", out],
        "diagnose": ["diagnose", broken, "-o", out],
    }[command]
    result = cryovae(*words)
    assert result.returncode == 1
    assert len(result.stderr.strip().splitlines()) == 1
    assert "NaN or infinity" in result.stderr
    assert not list(tmp_path.glob("out/*.mrc"))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", ["mrc", "slabs", "zarr"])
def test_no_volume_that_is_not_finite_is_written(tmp_path, value, kind):
    density = np.zeros((5, 6, 7), np.float32)
    density[3, 2, 4] = value
    path = tmp_path / ("a.zarr" if kind == "zarr" else "a.mrc")
    path.parent.joinpath("keep").write_text("")
    write, source = (write_mrc_by_slabs, Provenance()) if kind == "slabs" else (write_volume, None)
    with pytest.raises(BrokenResult, match=r"a\.\w+ would have voxels that are NaN or infinite"):
        write(path, density, source, 10.0, "")
    assert [p.name for p in tmp_path.iterdir()] == ["keep"]


def test_no_model_that_is_not_finite_is_written(small_run, tmp_path):
    checkpoint = load_model(small_run / "run")
    with torch.no_grad():
        next(checkpoint.ladder.parameters()).view(-1)[0] = float("inf")
    with pytest.raises(BrokenResult, match="expected weights"):
        save_model(tmp_path / "a.safetensors", Checkpoint(**vars(checkpoint)))
    assert not list(tmp_path.iterdir())


def test_the_api_writes_nothing_that_is_not_finite(small, small_run, tmp_path):
    restored = restore(small, small_run / "run", samples=2)
    restored.mean[1, 2, 3] = float("nan")
    with pytest.raises(BrokenResult):
        save(restored, small, tmp_path / "out")
    assert not list(tmp_path.glob("out/*_mean.mrc"))


def test_a_result_of_another_shape_or_scale_is_no_result(small, tmp_path):
    path = tmp_path / "a_mean.mrc"
    check_result(path, small, "mean", torch.from_numpy(small.density * 0.5))
    with pytest.raises(BrokenResult, match="expected"):
        check_result(path, small, "mean", torch.zeros(3, 4, 5))
    for scaled in (small.density * 1e3, small.density + 1e3 * small.density.std()):
        with pytest.raises(BrokenResult, match="standard deviation"):
            check_result(path, small, "mean", torch.from_numpy(scaled))


def test_fill_far_from_the_data_is_no_broken_result(small, tmp_path):
    """It is written as it was, whatever its value; the data beside it are still judged."""
    mask = np.zeros(small.shape, bool)
    mask[..., :5] = True
    filled = replace(small, fill=Fill.of(mask))
    restored = np.where(mask, small.density.mean() + 1000 * small.density.std(), small.density)
    check_result(tmp_path / "a_mean.mrc", filled, "mean", torch.from_numpy(restored))
    with pytest.raises(BrokenResult, match="standard deviation"):
        check_result(tmp_path / "a_mean.mrc", filled, "mean", torch.from_numpy(np.where(mask, restored, small.density * 1e3)))
    middle = replace(small, fill=Fill.of(np.ones(small.shape, bool)))
    check_result(tmp_path / "a_mean.mrc", middle, "mean", torch.from_numpy(restored))


def test_outputs_are_chosen_and_those_of_an_earlier_run_do_not_stay(small_run, tmp_path):
    """What is not written anew would be taken for that of the new run, e.g. by ``evaluate``."""
    out, words = tmp_path / "out", ["restore", small_run / "ts_01.mrc", *RANGE, "--model", small_run / "run", *TINY]
    assert cryovae(*words, "-o", out, "--samples-out", "1").returncode == 0
    assert {path.name for path in out.glob("*.mrc")} == {f"ts_01_{kind}.mrc" for kind in ("mean", "std", "measured", "sample_0")}
    assert "take the mean without its wedge" in " ".join((out / "report.html").read_text().split())
    (out / "ts_01_notes.mrc").write_bytes(b"mine")
    again = cryovae(*words, "-o", out, "--outputs", "none", "--overwrite")
    assert again.returncode == 0, again.stderr
    assert {path.name for path in out.glob("*.mrc")} == {"ts_01_mean.mrc", "ts_01_notes.mrc"}
    assert "take the mean without its wedge" not in " ".join((out / "report.html").read_text().split())
    assert cryovae("evaluate", out / "ts_01_mean.mrc").returncode == 0


def test_a_volume_of_an_earlier_run_is_not_mixed_with_those_of_a_new_one(small_run, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(small_run / "run", out)
    (out / "ts_01_mean.mrc").unlink()
    words = ["restore", small_run / "ts_01.mrc", *RANGE, "--model", small_run / "run", *TINY, "-o", out, "--outputs", "none"]
    refused(cryovae(*words), "ts_01_std.mrc is there already")


def test_samples_without_the_output_of_samples_are_refused(small_run, tmp_path):
    words = ["restore", small_run / "ts_01.mrc", *RANGE, *TINY, "-o", tmp_path / "out", "--outputs", "std", "--samples-out", "1"]
    refused(cryovae(*words), "outputs are without samples")
