"""What a restoration begins with: a network that restores at once if it suits the tomogram, or that is trained further."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from cryovae.checkpoint import Checkpoint, load_model, save_model
from cryovae.checks.trial import Trial, tried
from cryovae.config import PRESETS, override, preset
from cryovae.errors import InputError
from cryovae.io.files import read_volume
from cryovae.models.ladder import Ladder
from cryovae.models.ladder_config import LadderConfig
from cryovae.workflows import start as starts
from cryovae.workflows.requests import RestoreRequest
from cryovae.workflows.restoration import begin
from cryovae.workflows.run import job_of
from cryovae.workflows.settings import RestorationSettings
from cryovae.workflows.start import continued, default_start, start_of
from tests.helpers.cli import RANGE, TINY, cryovae, refused

pytestmark = pytest.mark.usefixtures("undrawn")
# Without the sizes of the network, which are those that it begins with.
LIGHT = ["--set", "training.validate_every=4", "--device", "cpu", "--threads", "1", "--set", "restoration.sampler=amortised"]
LIGHT += ["--samples", "2", "--patch", "16"]
GOOD, BAD = Trial(0.4, 0.1), Trial(0.1, 0.4)


@pytest.fixture
def base(small_run, tmp_path, monkeypatch):
    """The model of the small run in place of the package's."""
    path = tmp_path / "base" / "ladder.safetensors"
    path.parent.mkdir()
    # The package's network names no tomogram that it was trained on.
    save_model(path, replace(load_model(small_run / "run"), trained_on=()))
    monkeypatch.setattr(starts, "BASE_LADDER", path)
    return path


def _trial(monkeypatch, trial):
    monkeypatch.setattr("cryovae.workflows.restoration.tried", lambda *_: trial)


def _restore(small_run, out, *options):
    sizes = [] if "--from" in options else TINY
    return cryovae("restore", small_run / "ts_01.mrc", *RANGE, *LIGHT, *sizes, "-o", out, *options)


@pytest.mark.parametrize("text", [None, "none"])
def test_nothing_to_begin_with(text):
    assert start_of(text, False) is None


def test_a_model_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InputError, match="expected base, none, or a model"):
        start_of(str(tmp_path / "nothing"), False)


def test_the_sizes_are_those_of_the_network_and_the_patch_fits_them(base):
    start = start_of("base", True)
    config = continued(preset("default"), start)
    assert config.ladder == start.network.ladder.config != preset("default").ladder
    assert config.training == preset("default").training
    coarse = replace(start, network=replace(start.network, ladder=Ladder(LadderConfig((4,) * 6, (2,) * 6, 1)), patch=64))
    assert continued(preset("quick"), coarse).training.patch == 64


@pytest.mark.parametrize(
    ("settings", "words"), [({"objective.name": "deepdewedge"}, "deepdewedge"), ({"objective.encoders": 1}, "encoder")]
)
def test_another_objective_or_number_of_encoders_is_refused(base, settings, words):
    with pytest.raises(InputError, match=words):
        continued(override(preset("quick"), settings), start_of("base", True))


def test_a_network_that_suits_restores_at_once(base, small_run, tmp_path, monkeypatch):
    _trial(monkeypatch, GOOD)
    out = tmp_path / "out"
    result = _restore(small_run, out, "--from", "base")
    assert result.returncode == 0, result.stderr
    assert "base with a correlation of 0.400" in result.stderr
    assert not (out / "metrics.csv").exists()
    record = json.loads((out / "run.json").read_text())
    assert record["start"]["name"] == "base"
    assert record["model_sha256"] == record["start"]["sha256"]
    known = tmp_path / "known"
    assert cryovae("restore", small_run / "ts_01.mrc", *RANGE, *TINY, "-o", known, "--model", base).returncode == 0
    assert np.array_equal(read_volume(out / "ts_01_mean.mrc").density, read_volume(known / "ts_01_mean.mrc").density)


def test_a_network_that_does_not_suit_is_trained_first_and_that_is_said(base, small_run, tmp_path, monkeypatch):
    _trial(monkeypatch, BAD)
    monkeypatch.setitem(PRESETS, "quick", override(preset("quick"), {"training.steps": 2}))
    out = tmp_path / "out"
    result = _restore(small_run, out, "--from", "base", "--preset", "quick")
    assert result.returncode == 0, result.stderr
    assert "0.100" in result.stderr
    assert "it is trained first" in result.stderr
    assert (out / "metrics.csv").exists()
    record = json.loads((out / "run.json").read_text())
    assert any("it is trained first" in note for note in record["notes"])
    assert load_model(out).step == 2


def test_with_steps_it_is_trained_from_its_weights_whatever_a_trial_would_say(base, small_run, tmp_path, monkeypatch):
    _trial(monkeypatch, None)
    out = tmp_path / "out"
    result = _restore(small_run, out, "--from", str(small_run / "run"), "--steps", "1", "--learning-rate", "1e-9")
    assert result.returncode == 0, result.stderr
    before, after = (load_model(path).ladder.state_dict() for path in (base, out))
    means = [name for name in before if "posterior" not in name and "role" not in name]
    assert len(means) > 10
    assert all(torch.allclose(before[name], after[name], atol=1e-4) for name in means)


def test_training_alone_begins_with_it_too(base, small_run, tmp_path):
    out = tmp_path / "trained"
    words = ["train", small_run / "ts_01.mrc", *RANGE, *LIGHT[:-4], "--patch", "16", "-o", out]
    result = cryovae(*words, "--from", "base", "--steps", "2")
    assert result.returncode == 0, result.stderr
    assert json.loads((out / "run.json").read_text())["start"]["name"] == "base"


def test_model_and_from_together_are_refused(base, small_run, tmp_path):
    refused(_restore(small_run, tmp_path / "out", "--from", "base", "--model", str(base)), "--model and --from found")


def test_a_resumed_run_must_begin_with_the_same(base, small_run, tmp_path, monkeypatch):
    _trial(monkeypatch, GOOD)
    out = tmp_path / "out"
    assert _restore(small_run, out, "--from", "base").returncode == 0
    again = _restore(small_run, out, "--from", "base", "--resume")
    assert again.returncode == 0
    ladder = load_model(base)
    changed = ladder.ladder
    with torch.no_grad():
        changed.out.bias.add_(1)
    save_model(base, replace(ladder, ladder=changed))
    assert _restore(small_run, out, "--from", "base", "--resume").returncode == 2


def test_a_voxel_size_that_the_base_has_not_seen_is_said(base, small_run, tmp_path, monkeypatch):
    _trial(monkeypatch, GOOD)
    result = _restore(small_run, tmp_path / "out", "--from", "base", "--voxel-size", "30")
    assert result.returncode == 0, result.stderr
    assert "voxel size of 30 angstrom found, 6 to 16" in result.stderr


def test_the_trial_compares_the_network_with_clipping(small, ladder):
    """An untrained network predicts nothing, so clipping is better; where nothing can be hidden, nothing is said."""
    network = Checkpoint(ladder, 16, 0, 2, {})
    trial = tried(network, small, 0, torch.device("cpu"))
    assert abs(trial.network) < 0.2
    assert trial.clipping > 0.05
    assert Trial(None, None).is_good
    assert Trial(0.3, 0.2).is_good
    assert not Trial(0.2, 0.3).is_good
    full = replace(small, tilts=replace(small.tilts, angles=(-90.0, 90.0)))
    assert tried(network, full, 0, torch.device("cpu")) == Trial(None, None)


def test_a_training_that_is_resumed_must_begin_with_the_same(base, small_run, tmp_path):
    """Otherwise it would begin with random weights, and its record would say something else."""
    out = tmp_path / "out"
    assert _restore(small_run, out, "--from", "base", "--steps", "2").returncode == 0
    assert _restore(small_run, out, "--from", "base", "--steps", "2", "--resume").returncode == 0
    refused(_restore(small_run, out, "--from", "none", *TINY, "--steps", "2", "--resume"), "start")
    plain = tmp_path / "plain"
    assert _restore(small_run, plain, "--from", "none", *TINY, "--steps", "2").returncode == 0
    refused(_restore(small_run, plain, "--from", "base", "--steps", "2", "--resume"), "start")


def test_a_table_restores_at_once_or_trains_one_model_and_can_be_run_again(base, small_run, tmp_path, monkeypatch):
    table = tmp_path / "tomograms.star"
    row = f"{small_run / 'ts_01.mrc'} 10.0 -60 60"
    table.write_text(f"data_\n\nloop_\n_rlnTomoName #1\n_rlnPixelSize #2\n_rlnTiltMin #3\n_rlnTiltMax #4\n{row}\n")
    _trial(monkeypatch, GOOD)
    at_once, words = tmp_path / "at_once", ["restore", table, *LIGHT, "--from", "base"]
    done = cryovae(*words, "-o", at_once)
    assert done.returncode == 0, done.stderr
    assert "it restores without training" in done.stderr
    assert not (at_once / "model").exists()
    trained = tmp_path / "trained"
    for _ in range(2):
        done = cryovae(*words, "-o", trained, "--steps", "2")
        assert done.returncode == 0, done.stderr
    assert "skipped" in done.stdout
    refused(cryovae("restore", table, *TINY, "--from", "none", "-o", trained, "--steps", "2"), "start")


@pytest.mark.parametrize(
    ("options", "sampler"),
    [
        ({}, "amortised"),
        ({"sampler": "flow"}, "flow"),
        ({"settings": ["restoration.sampler=flow"]}, "flow"),
        ({"quality": "best"}, "flow"),
        ({"quality": "fast"}, "amortised"),
    ],
)
def test_without_training_the_encoder_samples_unless_another_sampler_is_asked_for(base, small, monkeypatch, options, sampler):
    _trial(monkeypatch, GOOD)
    request = RestoreRequest(start="base", settings=RestorationSettings(preset="quick", **options))
    job = job_of(request)
    assert begin(job.start, small, job, job.config)[1].restoration.sampler == sampler


@pytest.mark.parametrize("options", [["--set", "ladder.blocks=2"], ["--posterior", "flow"]])
def test_sizes_beside_a_network_are_refused(base, small_run, tmp_path, options):
    words = ["restore", small_run / "ts_01.mrc", *RANGE, "-o", tmp_path / "out", "--preset", "quick", "--from", "base"]
    refused(cryovae(*words, *options), "whose sizes are kept")
    assert not (tmp_path / "out").exists()


def test_without_from_training_begins_with_the_base_where_its_sizes_fit_and_it_suits(base, small_run, tmp_path, monkeypatch):
    """Other sizes, objectives or numbers of encoders begin with nothing."""
    sizes = continued(preset("quick"), start_of("base", True))
    assert default_start(sizes).name == "base"
    assert default_start(preset("quick")) is None
    for other in ({"objective.encoders": 1}, {"objective.name": "wae"}, {"objective.name": "deepdewedge"}):
        assert default_start(override(sizes, other)) is None
    out = tmp_path / "out"
    words = ["restore", small_run / "ts_01.mrc", *RANGE, *TINY, "--steps", "1"]
    for trial, name in ((GOOD, "base"), (BAD, None)):
        _trial(monkeypatch, trial)
        out = tmp_path / str(name)
        result = cryovae(*words, "-o", out)
        assert result.returncode == 0, result.stderr
        start = json.loads((out / "run.json").read_text())["start"]
        assert (start and start["name"]) == name
        assert ("training begins with it" if name else "training begins with nothing") in result.stderr
        # What was said does not change when it is resumed, nor when the folder is of a version that began with nothing.
        assert cryovae(*words, "-o", out, "--resume").returncode == 0
    assert "begun with" in (tmp_path / "base" / "report.html").read_text()


def test_the_base_of_the_package_is_that_of_quick_and_small():
    start = start_of("base", False)
    assert start.network.ladder.config == preset("quick").ladder
    assert start.path.stat().st_size < 12e6
    assert (start.path.parent / "ladder_card.md").is_file()
