"""Files of version 0.1 are read: its models, settings, records, columns, and an interrupted training goes on."""

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import torch

from cryovae.aliases import COLUMNS, SETTINGS, WEIGHTS, current_columns, current_record, current_settings
from cryovae.checkpoint import load_model, load_state
from cryovae.config import override, parse_setting, preset, read_config
from cryovae.workflows.diagnose_inputs import training_config_of
from cryovae.workflows.evaluate import find
from cryovae.workflows.run_folder import read_metrics, read_record
from cryovae.workflows.run_inputs import record_of

OLD = Path(__file__).parent / "version_0_1"
# Share of the standard deviation: bit for bit where these files were written, other processors round differently.
ROUNDING = 1e-5


def _cryovae(*words, cwd=OLD):
    environment = os.environ | {"PYTHONPATH": str(OLD.parents[1]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "cryovae", *map(str, words), "--threads", "1", "--device", "cpu"]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def _value(config, name):
    section, _, key = name.partition(".")
    return getattr(getattr(config, section), key)


def _old_settings():
    """The settings that were renamed and stand in a config.toml of version 0.1: old name to value."""
    written = tomllib.loads((OLD / "finished/config.toml").read_text())
    values = {f"{section}.{key}": value for section, pairs in written.items() for key, value in pairs.items()}
    return {name: value for name, value in values.items() if name in SETTINGS}


def test_old_settings_in_a_toml_file_have_their_values():
    config = read_config(OLD / "finished/config.toml", preset("default"))
    assert {"objective.solo", "objective.turned", "restoration.turns"} <= set(_old_settings())
    for name, value in _old_settings().items():
        assert _value(config, SETTINGS[name]) == value


@pytest.mark.parametrize("name", _old_settings())
def test_old_settings_can_be_set_by_name(name):
    value = _old_settings()[name]
    config = override(preset("quick"), dict([parse_setting(f"{name}={str(value).lower()}")]))
    assert _value(config, SETTINGS[name]) == value


def test_a_setting_that_moved_joins_the_section_that_it_moved_to():
    settings = {"objective": {"solo": 0.5, "beta": 2.0}, "training": {"steps": 3}, "version": 1}
    renamed = current_settings(settings)
    section, _, key = SETTINGS["objective.solo"].partition(".")
    assert renamed[section][key] == 0.5
    assert renamed["objective"]["beta"] == 2.0
    assert (renamed["training"], renamed["version"]) == ({"steps": 3}, 1)
    assert current_settings(renamed) == renamed


def test_all_readers_of_run_json_give_the_settings_by_their_new_names():
    run = OLD / "finished"
    records = [read_record(run / "run.json"), record_of(run), find(run / "old_mean.mrc").record]
    for record in records:
        for name, value in _old_settings().items():
            section, _, key = SETTINGS[name].partition(".")
            assert record["config"][section][key] == value
            assert name.partition(".")[2] not in record["config"][name.partition(".")[0]]
    assert _value(training_config_of(run), SETTINGS["objective.solo"]) == 0.5
    assert current_record({"name": "ts"}) == {"name": "ts"}


def test_weights_of_a_model_and_of_a_training_state_have_their_new_names():
    names = list(load_model(OLD / "finished").ladder.state_dict())
    assert any(".masked_posterior." in name for name in names)
    state = load_state(OLD / "interrupted/training.pt")
    known = [name for values in state.values() if isinstance(values, dict) for name in values if isinstance(name, str)]
    assert any(".masked_posterior." in name for name in known)
    assert not [name for name in known for old in WEIGHTS if old in name]


def test_columns_of_metrics_have_their_new_names():
    rows = read_metrics(OLD / "network/metrics.csv")
    assert [row["critic_accuracy"] for row in rows][:2] == ["0.5", "0.75"]
    assert not set(COLUMNS) & set(rows[0])
    assert current_columns(["step", "told"]) == ["step", "critic_accuracy"]


@pytest.mark.slow
@pytest.mark.parametrize(("run", "kinds"), [("finished", ("mean",)), ("network", ("mean",))])
def test_an_old_model_with_its_old_settings_restores_the_same(run, kinds, tmp_path):
    """A network to rounding. The variational model nearly: amplitudes are fitted otherwise, and a box replaces tiles of 16."""
    halves = ["--half1", "old_half1.mrc", "--half2", "old_half2.mrc", "--tilt-range", -60, 60]
    _cryovae("restore", *halves, "--model", run, "--config", f"{run}/config.toml", "-o", tmp_path)
    for kind in kinds:
        before, now = mrcfile.read(OLD / run / f"old_{kind}.mrc"), mrcfile.read(tmp_path / f"old_{kind}.mrc")
        if run == "network":
            np.testing.assert_allclose(now, before, rtol=0, atol=ROUNDING * float(before.std()))
        else:
            assert np.corrcoef(now.ravel(), before.ravel())[0, 1] > 0.75


@pytest.mark.slow
def test_an_old_interrupted_training_goes_on_to_its_end(tmp_path):
    run = tmp_path / "interrupted"
    shutil.copytree(OLD / "interrupted", run)
    state = torch.load(run / "training.pt", weights_only=True)
    reached = state["step"]
    steps = reached + 6
    # Its 4000 steps would take a minute: state and record are changed as if it had been started with fewer.
    state["config"]["training"]["steps"] = steps
    record = json.loads((run / "run.json").read_text())
    record["config"]["training"]["steps"] = steps
    (run / "run.json").write_text(json.dumps(record))
    torch.save(state, run / "training.pt")
    words = ["--tilt-range", -60, 60, "--config", run / "config.toml", "--steps", steps]
    _cryovae("train", "old_half1.mrc", *words, "--resume", "-o", run)
    assert f"resumed at step {reached}" in (run / "run.log").read_text()
    assert load_model(run).step == steps
    before, after = ([int(row["step"]) for row in read_metrics(folder / "metrics.csv")] for folder in (OLD / "interrupted", run))
    kept = [step for step in before if step <= reached]
    assert after[: len(kept)] == kept
    assert after[-1] == steps
