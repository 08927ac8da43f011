"""What the model of a batch begins with: it restores all rows at once if it suits the first, or is trained further."""

import json
from dataclasses import replace

import pytest
import starfile
import torch

from cryovae.batch import steps
from cryovae.batch.plan import Batch, model_state, open_batch, write_batch
from cryovae.batch.summary import write_summary
from cryovae.checkpoint import Checkpoint, load_model, save_model
from cryovae.checks.trial import Trial
from cryovae.config import override, preset
from cryovae.errors import InputError
from cryovae.io.star.table import Block, write_blocks
from cryovae.models.ladder import Ladder
from cryovae.models.ladder_config import LadderConfig
from cryovae.posterior.search import AMORTISED, FLOW
from cryovae.workflows.start import continued, start_of, start_of_model
from tests.conftest import write_mrc

CPU = torch.device("cpu")
GOOD, BAD = Trial(0.4, 0.1), Trial(0.1, 0.4)


@pytest.fixture
def model(tmp_path):
    """A small model of random weights."""
    torch.manual_seed(0)
    path = tmp_path / "start" / "model.safetensors"
    path.parent.mkdir()
    save_model(path, Checkpoint(Ladder(LadderConfig((4, 6, 8), (2, 3, 4), 1)), 16, 7, 2, {}))
    return path


@pytest.fixture
def begun(tmp_path, small, model, monkeypatch):
    """Begins a batch of two rows with a start, and runs its first step; returns the batch as it is opened then."""
    for name in ("TS_1", "TS_2"):
        write_mrc(tmp_path / f"{name}.mrc", small.density, 10.0)
    columns = {
        "rlnTomoName": ["TS_1", "TS_2"],
        "rlnTomoReconstructedTomogram": ["TS_1.mrc", "TS_2.mrc"],
        "rlnTiltMin": ["-60"] * 2,
        "rlnTiltMax": ["60"] * 2,
    }
    write_blocks(tmp_path / "t.star", {"": Block(columns)})

    def run(start, trial=None, trains=False, asked=False, train=True):
        monkeypatch.setattr("cryovae.workflows.restoration.tried", lambda *_: trial)
        batch = Batch(str(tmp_path / "t.star"), start=start, trains=trains, sampler_asked=asked, device="cpu", threads=1)
        config = override(preset("quick"), {"training.steps": 2, "training.patch": 16, "restoration.samples": 2})
        network = start_of(start, trains)
        config = override(config, {"ladder.widths": (4, 6, 8), "ladder.latents": (2, 3, 4), "ladder.blocks": 1})
        config = config if network is None else continued(config, network)
        write_batch(tmp_path / "out", batch, config)
        opened = open_batch(tmp_path / "out")
        if train:
            steps.train_step(opened, CPU)
        return open_batch(tmp_path / "out")

    return run


def record_of(batch):
    return json.loads((batch.model / "run.json").read_text())


def test_a_start_that_suits_becomes_the_model_and_is_not_trained(begun, model, capsys):
    batch = begun(str(model), GOOD)
    assert "it restores without training" in capsys.readouterr().err
    assert model_state(batch) == "done"
    assert load_model(batch.model).step == 7
    assert not (batch.model / "metrics.csv").exists()
    assert record_of(batch)["start"] == {"name": str(model), "sha256": batch.mark}
    # At once the encoder draws the samples: no flow is fitted for each row.
    assert preset("quick").restoration.sampler == FLOW
    assert batch.config.restoration.sampler == AMORTISED


def test_the_sampler_that_the_user_names_stays(begun, model):
    assert begun(str(model), GOOD, asked=True).config.restoration.sampler == preset("quick").restoration.sampler


def test_a_start_that_does_not_suit_is_trained_further(begun, model, monkeypatch):
    trained = []
    monkeypatch.setattr(steps, "train_on", lambda folder, *_, start, **__: trained.append((folder.folder.name, start.name)))
    monkeypatch.setattr(steps.RunFolder, "save", lambda *_, **__: None)
    begun(str(model), BAD)
    assert trained == [("model", str(model))]


def test_with_steps_a_start_is_trained_whatever_a_trial_would_say(begun, model, monkeypatch):
    trained = []
    monkeypatch.setattr(steps, "train_on", lambda folder, *_, start, **__: trained.append(start.trains))
    monkeypatch.setattr(steps.RunFolder, "save", lambda *_, **__: None)
    begun(str(model), GOOD, trains=True)
    assert trained == [True]


def test_none_begins_with_random_weights_and_without_a_word_the_default_decides(begun, model, monkeypatch):
    starts, default = [], replace(start_of(str(model), True), is_default=True)
    monkeypatch.setattr(steps, "train_on", lambda *_, start, **__: starts.append(start))
    monkeypatch.setattr(steps, "default_start", lambda config: default)
    monkeypatch.setattr(steps.RunFolder, "save", lambda *_, **__: None)
    begun("none")
    begun(None)
    assert starts == [None, default]


@pytest.mark.parametrize(("start", "trains"), [(None, False), ("none", False), ("same", True)])
def test_a_model_that_began_otherwise_is_stale(begun, model, start, trains):
    begun(str(model), GOOD)
    assert model_state(begun(str(model), train=False)) == "done"
    assert model_state(begun(str(model) if start == "same" else start, trains=trains, train=False)) == "stale"


@pytest.mark.usefixtures("undrawn_batch")
def test_rows_are_restored_by_it_and_the_table_says_with_what_they_began(begun, model):
    batch = begun(str(model), GOOD)
    steps.restore_step(batch, "TS_1", CPU)
    states = {status.name: status.state for status in write_summary(batch)}
    assert states == {"model": "done", "TS_1": "done", "TS_2": "waiting"}
    table = starfile.read(batch.out / "t.star")
    assert table["crvStart"].astype(str).tolist()[0] == str(model)
    assert table["crvStart"].isna().tolist() == [False, True] or table["crvStart"].tolist()[1] == "None"
    assert json.loads((batch.out / "TS_1" / "run.json").read_text())["model_start"] == str(model)


@pytest.fixture
def undrawn_batch(monkeypatch):
    monkeypatch.setattr("cryovae.workflows.restore.report_on", lambda *_: None)


def test_a_start_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InputError, match="expected base, none, or a model"):
        start_of(str(tmp_path / "gone"), False)


def test_the_start_of_a_model_is_that_of_its_record(tmp_path, model):
    assert start_of_model(model) is None
    for start, words in (({"name": "base", "sha256": "0"}, "base"), (None, "random")):
        (model.parent / "run.json").write_text(json.dumps({"command": "train", "start": start}))
        assert start_of_model(model) == start_of_model(model.parent) == words
    other = model.with_name("other.safetensors")
    assert start_of_model(other) is None
