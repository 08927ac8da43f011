"""What is resumed is the run that was begun: other settings, data or geometry are named, and nothing is written."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cryovae.checkpoint import MODEL, STATE, load_model, load_state, save_state
from cryovae.config import as_plain, override, preset, read_config
from cryovae.errors import InputError
from cryovae.io.geometry_record import checksums_of, recorded
from cryovae.tomogram import TiltGeometry
from cryovae.workflows.extend import EXTENDED, begin_extension
from cryovae.workflows.resume import check_model, forget
from cryovae.workflows.run_folder import RunFolder, read_metrics, summed
from tests.conftest import write_mrc
from tests.helpers.cli import RANGE, TINY, TINY_TRAIN, cryovae, refused

FILES = ("run.json", "config.toml", "metrics.csv", "model.safetensors", "run.log")


def _contents(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}


@pytest.fixture
def run(small_run, tmp_path):
    shutil.copytree(small_run, tmp_path / "run")
    record = tmp_path / "run/run/run.json"
    record.write_text(record.read_text().replace(str(small_run), str(tmp_path / "run")))
    return tmp_path / "run"


def _resumed(run, *changes, tomogram="ts_01.mrc", tilts=RANGE, steps="4"):
    return cryovae("restore", run / tomogram, *tilts, "-o", run / "run", "--steps", steps, *TINY, *changes, "--resume")


def test_a_finished_run_is_said_to_be_finished_and_left_as_it_is(run):
    before = _contents(run / "run")
    result = _resumed(run)
    assert result.returncode == 0
    assert "already finished" in result.stderr
    assert _contents(run / "run") == before


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"tilts": ["--tilt-range", "-50", "60"]}, ["tilts.lowest -60, now -50"]),
        ({"steps": "2"}, ["--steps 2", "begun with 4", "has done 4", "4 or more"]),
        ({"changes": ["--seed", "3"]}, ["training.seed 0, now 3"]),
        ({"changes": ["--voxel-size", "7"]}, ["voxel_size 10, now 7"]),
        ({"changes": ["--samples", "4"]}, ["restoration.samples 2, now 4"]),
        ({"tomogram": "other/ts_01.mrc"}, ["another tomogram (ts_01.mrc, now ts_01.mrc)"]),
    ],
)
@pytest.mark.parametrize("killed", [False, True])
def test_what_differs_is_named_before_anything_is_written(run, small, change, words, killed):
    (run / "other").mkdir()
    write_mrc(run / "other/ts_01.mrc", np.flip(small.density, 2).copy())
    if killed:
        # As kill -9 leaves it: the record says running, no result is there.
        record = json.loads((run / "run/run.json").read_text())
        (run / "run/run.json").write_text(json.dumps(record | {"status": "running"}))
        for result in (run / "run").glob("*.mrc"):
            result.unlink()
    before = _contents(run / "run")
    change = dict(change)
    result = _resumed(run, *change.pop("changes", []), **change)
    assert result.returncode == 2
    for word in [*words, "--overwrite"]:
        assert word in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert _contents(run / "run") == before


def test_a_moved_tomogram_with_the_same_voxels_is_the_same(run):
    (run / "moved").mkdir()
    shutil.move(run / "ts_01.mrc", run / "moved/ts_01.mrc")
    result = _resumed(run, tomogram="moved/ts_01.mrc")
    assert result.returncode == 0
    assert "already finished" in result.stderr


@pytest.mark.slow
def test_missing_results_of_a_finished_model_are_restored(run):
    mean = run / "run/ts_01_mean.mrc"
    before, training = mean.read_bytes(), json.loads((run / "run/run.json").read_text())["training"]
    mean.unlink()
    result = _resumed(run)
    assert result.returncode == 0, result.stderr
    assert mean.read_bytes()[1024:] == before[1024:]
    record = json.loads((run / "run/run.json").read_text())
    assert record["training"] == training
    assert record["status"] == "done"


def test_more_steps_go_on_from_where_a_finished_run_ended(run):
    before = (run / "run/ts_01_mean.mrc").read_bytes()
    result = _resumed(run, steps="7")
    assert result.returncode == 0, result.stderr
    assert "begun with 4 steps: it goes on to 7" in result.stderr
    record = json.loads((run / "run/run.json").read_text())
    assert record["extended"] == [{"from": 4, "to": 7}]
    assert record["training"]["steps"] == 7
    assert record["config"]["training"]["steps"] == 7
    assert load_model(run / "run").step == 7
    # The rows of the first four steps are kept.
    assert [row["step"] for row in read_metrics(run / "run/metrics.csv")] == ["4", "7"]
    assert (run / "run/ts_01_mean.mrc").read_bytes() != before
    assert not (run / "run" / EXTENDED).exists()
    again = _resumed(run, steps="7")
    assert again.returncode == 0
    assert "already finished" in again.stderr


def test_an_extension_that_is_broken_off_at_once_goes_on(run):
    """As kill -9 leaves it before the first state is saved: the old model is no result of the new number of steps."""
    record = json.loads((run / "run/run.json").read_text())
    folder = RunFolder(run / "run", "ts_01")
    config = override(read_config(run / "run/config.toml", preset("quick")), {"training.steps": 7})
    begin_extension(folder, record, config)
    (run / "run/run.json").write_text(json.dumps(record | {"status": "running", "config": as_plain(config)}))
    assert not (run / "run" / MODEL).exists()
    assert _resumed(run, steps="7").returncode == 0
    assert load_model(run / "run").step == 7


def test_an_interrupted_training_goes_on_to_more_steps(small_files, tmp_path):
    out = tmp_path / "model"
    words = ["train", small_files["full"], *RANGE, "-o", out, *TINY_TRAIN, "--set", "training.checkpoint_minutes=0"]
    assert cryovae(*words, "--steps", "4").returncode == 0
    assert cryovae(*words, "--steps", "6", "--resume").returncode == 0
    assert load_model(out).step == 6
    refused(cryovae(*words, "--steps", "5", "--resume"), "--steps 5", "has done 6")


def test_training_compares_the_geometry_of_its_tomograms(small_files, tmp_path):
    words = ["train", small_files["full"], "-o", tmp_path / "out", "--steps", "4", *TINY_TRAIN]
    assert cryovae(*words, *RANGE).returncode == 0
    before = _contents(tmp_path / "out")
    again = cryovae(*words, *RANGE, "--resume")
    assert again.returncode == 0
    assert "already finished" in again.stderr
    refused = cryovae(*words, "--tilt-range", "-60", "50", "--resume")
    assert refused.returncode == 2
    assert "highest 60, now 50" in refused.stderr
    assert _contents(tmp_path / "out") == before


def test_a_run_that_is_overwritten_leaves_no_state_of_another(run):
    """Killed before it has saved anything, it would be resumed from the model of other tilts."""
    folder = RunFolder(run / "run", "ts_01")
    save_state(folder.path(STATE), {"step": 2})
    forget(folder)
    assert not folder.path(STATE).exists()
    assert not folder.path(MODEL).exists()


@pytest.mark.slow
def test_overwrite_begins_anew_although_it_is_asked_to_resume(run):
    result = _resumed(run, "--overwrite", tilts=["--tilt-range", "-50", "60"])
    assert result.returncode == 0, result.stderr
    assert json.loads((run / "run/run.json").read_text())["tilts"]["lowest"] == -50
    assert (run / "run/run.log").read_text().count("training ended") == 2


@pytest.mark.parametrize("left", ["model.safetensors", "training.pt"])
def test_a_model_or_state_without_its_record_is_not_resumed(run, left):
    (run / "run/run.json").unlink()
    if left == STATE:
        (run / "run" / MODEL).unlink()
        saved = load_state(Path(__file__).parents[1] / "version_0_1/interrupted" / STATE)
        config = as_plain(read_config(run / "run/config.toml", preset("quick")))
        save_state(run / "run" / STATE, saved | {"config": config})
    result = _resumed(run)
    assert result.returncode == 2
    assert "run.json" in result.stderr
    assert not (run / "run/run.json").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"steps": 8}, "training.steps 4, now 8"),
        ({"tilts": TiltGeometry.from_range(-50, 60)}, "a tilts.lowest -60, now -50"),
        ({"voxel_size": 7.0}, "a voxel_size 10, now 7"),
        ({"content": b"other"}, "another a_0 (a.mrc, now a.mrc)"),
        ({"rows": "ab"}, None),
        ({}, None),
    ],
)
def test_a_table_is_not_restored_by_a_model_of_other_data(tmp_path, change, words):
    path = tmp_path / "a.mrc"
    path.write_bytes(b"voxels")
    config = override(preset("quick"), {"training.steps": 4})
    tilts = TiltGeometry.from_range(-60, 60)
    record = {
        "config": json.loads(json.dumps(as_plain(config))),
        "inputs": summed({"a_0": path}),
        "geometry": {"a": {"tilts": recorded(tilts), "voxel_size": 10.0, "unrotated": False, "optics": None}},
    }
    path.write_bytes(change.get("content", b"voxels"))
    now = {"tilts": recorded(change.get("tilts", tilts)), "voxel_size": change.get("voxel_size", 10.0)}
    inputs = {f"{row}_0": path for row in change.get("rows", "a")}
    config = override(config, {"training.steps": change.get("steps", 4)})
    arguments = (tmp_path, record, config, inputs, dict.fromkeys(change.get("rows", "a"), now))
    if words is None:
        check_model(*arguments)
        return
    with pytest.raises(InputError, match="--model") as error:
        check_model(*arguments)
    assert words in str(error.value)


def test_training_from_python_compares_voxels_that_are_of_no_file(tomogram):
    halves = tuple(half.copy() for half in tomogram.halves)
    halves[1][3, 4, 5] += 1
    other = replace(tomogram, halves=halves)
    assert checksums_of(tomogram) == checksums_of(replace(tomogram))
    differ = {role for role, value in checksums_of(tomogram).items() if checksums_of(other)[role] != value}
    assert differ == {"half2"}
