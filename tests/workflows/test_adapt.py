"""Laps of sampling and fitting: what is kept and said, resuming, tomograms without signal, and restoring by the fitted flow."""

import json
from dataclasses import replace
from itertools import count

import mrcfile
import numpy as np
import pytest
import torch

from cryovae.checkpoint import MODEL, Checkpoint, save_model
from cryovae.config import override, preset
from cryovae.errors import InputError
from cryovae.evaluation import lap_measures
from cryovae.generator_file import GeneratorFile, load_generator
from cryovae.posterior import flow_posterior
from cryovae.restoration.config import RestoreConfig
from cryovae.training.trainer import Interrupted
from cryovae.workflows import adapt
from cryovae.workflows.adapt import SAMPLER, STATE, adapt_in, lap_files, open_checkpoint, with_flow
from cryovae.workflows.restore import restore_in
from cryovae.workflows.run_folder import RunFolder
from tests.helpers.generative import tiny_generator

CPU = torch.device("cpu")
WORSENED = adapt._Adaptation._worsened
SETTINGS = {
    "training.patch": 16,
    "ladder.widths": [4, 6, 8],
    "ladder.latents": [2, 3, 4],
    "adaptation.laps": 2,
    "adaptation.steps": 3,
    "adaptation.batch": 2,
    "adaptation.scenes": 2,
    "adaptation.precision": "float32",
    "restoration.sampler": "flow",
    "restoration.flow_steps": 2,
    "restoration.samples": 2,
}


@pytest.fixture(autouse=True)
def _tiny(monkeypatch):
    monkeypatch.setattr(adapt, "load_base", lambda: GeneratorFile(tiny_generator(), 16))
    monkeypatch.setattr(flow_posterior, "MOST", 32)
    monkeypatch.setattr(lap_measures, "PRIOR_PATCHES", 2)
    # What tiny models of random weights predict is chance.
    monkeypatch.setattr(adapt._Adaptation, "_worsened", lambda laps: False)


def _predicting(monkeypatch, likelihoods):
    """Lets laps end, and sets how well each predicts held-out bins."""
    monkeypatch.setattr(adapt._Adaptation, "_worsened", WORSENED)
    calls = count()
    monkeypatch.setattr(adapt, "log_likelihood", lambda sums, factors: float(likelihoods[next(calls) % len(likelihoods)]))


@pytest.fixture
def config():
    return override(preset("quick"), SETTINGS)


@pytest.fixture
def checkpoint(ladder):
    return Checkpoint(ladder, 16, 4, 2, {})


def _adapted(path, tomograms, checkpoint, config, resume=False):
    folder = RunFolder(path, "small")
    folder.begin("restore", {}, {}, 0)
    return folder, adapt_in(folder, tomograms, checkpoint, config, CPU, resume)


def test_laps_change_the_flow_and_are_recorded(tmp_path, small, checkpoint, config):
    folder, file = _adapted(tmp_path / "run", [small], checkpoint, config)
    kept = load_generator(folder.path(SAMPLER))
    before, after = tiny_generator().taking_estimates().state_dict(), kept.generator.state_dict()
    assert all(torch.equal(after[name], file.generator.state_dict()[name]) for name in after)
    changed = {name for name in after if not torch.equal(before[name].half().float(), after[name])}
    assert any(name.startswith("flow.after") for name in changed)
    assert any(name.startswith("flow.observe") for name in changed)
    # The VAE is left as it is.
    assert not any(name.startswith("vae") or name.startswith("latent") for name in changed)
    laps = json.loads((tmp_path / "run/run.json").read_text())["adaptation"]["laps"]
    assert [lap["lap"] for lap in laps] == [0, 1, 2]
    assert laps[0]["mean_change"] is None
    assert laps[2]["mean_change"] > 0
    assert all(np.isfinite([lap["held_out"], lap["prior_power"], lap["noise_out"], lap["random_phases"]]).all() for lap in laps)
    assert kept.recipe["adapted_to"] == [small.name]
    assert (tmp_path / "run/laps.png").stat().st_size > 1000
    assert not lap_files(folder)
    assert not (tmp_path / "run" / STATE).exists()


@pytest.mark.parametrize("at", [(1, 2), (2, 1)])
def test_a_run_that_was_stopped_goes_on_to_the_same_flow(at, tmp_path, small, checkpoint, config, monkeypatch):
    """Stopped within a lap, resumed: bit for bit the flow of a run that was not stopped."""
    _, expected = _adapted(tmp_path / "whole", [small], checkpoint, config)
    lap, step = at
    counted = {"laps": 0}
    run = adapt.Trainer.run

    def stopped(trainer, watch, save, stop):
        counted["laps"] += 1
        last = counted["laps"] == lap
        return run(trainer, watch, save, (lambda: trainer.step >= step) if last else stop)

    monkeypatch.setattr(adapt.Trainer, "run", stopped)
    with pytest.raises(Interrupted):
        _adapted(tmp_path / "run", [small], checkpoint, config)
    assert (tmp_path / "run" / STATE).exists()
    monkeypatch.setattr(adapt.Trainer, "run", run)
    _, file = _adapted(tmp_path / "run", [small], checkpoint, config, resume=True)
    for name, weight in expected.generator.state_dict().items():
        assert torch.equal(file.generator.state_dict()[name], weight), name
    assert [row["lap"] for row in file.recipe["laps"]] == [0, 1, 2]


def test_a_lap_that_predicts_held_out_bins_worse_is_not_kept(tmp_path, small, checkpoint, config, monkeypatch, caplog):
    """It is the last one, too: of five laps the second is the last, and the flow is that of one lap."""
    _predicting(monkeypatch, (1,))
    _, expected = _adapted(tmp_path / "one", [small], checkpoint, override(config, {"adaptation.laps": 1}))
    _predicting(monkeypatch, (1, 3, 2))
    folder, file = _adapted(tmp_path / "run", [small], checkpoint, override(config, {"adaptation.laps": 5}))
    assert [row["held_out"] for row in file.recipe["laps"]] == [1, 3, 2]
    assert file.recipe["lap"] == 1
    for name, weight in expected.generator.state_dict().items():
        assert torch.equal(file.generator.state_dict()[name], weight), name
    assert "lap 2 predicts held-out bins worse than lap 1, which is kept" in caplog.text
    assert not lap_files(folder)


def test_other_settings_do_not_resume(tmp_path, small, checkpoint, config, monkeypatch):
    run = adapt.Trainer.run
    monkeypatch.setattr(adapt.Trainer, "run", lambda t, watch, save, stop: run(t, watch, save, lambda: t.step >= 1))
    with pytest.raises(Interrupted):
        _adapted(tmp_path / "run", [small], checkpoint, config)
    with pytest.raises(InputError, match="other settings"):
        _adapted(tmp_path / "run", [small], checkpoint, override(config, {"adaptation.steps": 5}), resume=True)


def test_a_finished_flow_is_not_fitted_again(tmp_path, small, checkpoint, config, monkeypatch):
    _, file = _adapted(tmp_path / "run", [small], checkpoint, config)
    monkeypatch.setattr(adapt, "load_base", lambda: pytest.fail("it began again"))
    _, again = _adapted(tmp_path / "run", [small], checkpoint, config, resume=True)
    assert torch.equal(again.generator.flow.leave.weight, file.generator.flow.leave.weight)


def _noise(small):
    rng = np.random.default_rng(0)
    halves = tuple(rng.normal(size=small.shape).astype(np.float32) for _ in range(2))
    return replace(small, name="noise", density=(halves[0] + halves[1]) / 2, halves=halves)


def test_tomograms_without_signal_are_left_out(tmp_path, small, checkpoint, config):
    _, file = _adapted(tmp_path / "run", [_noise(small), small], checkpoint, config)
    assert file.recipe["adapted_to"] == [small.name]
    folder, nothing = _adapted(tmp_path / "noise", [_noise(small)], checkpoint, config)
    assert nothing is None
    assert not folder.path(SAMPLER).exists()


def test_of_a_large_tomogram_a_part_is_used(tmp_path, tomogram, checkpoint, config):
    _, file = _adapted(tmp_path / "run", [tomogram], checkpoint, override(config, {"adaptation.voxels": 40_000}))
    assert file.recipe["adapted_to"] == [tomogram.name]


def test_held_out_voxels_are_not_drawn(tomogram, config):
    (part,) = adapt._parts([tomogram], config, 16, 16)
    assert part.prepared.held_out
    for box in part.prepared.held_out:
        separate = (part.corners - torch.tensor(box)).abs() >= 16
        assert bool(separate.any(1).all())


def test_without_laps_the_flow_of_the_base_is_used(tmp_path, small, checkpoint, config):
    _, file = _adapted(tmp_path / "run", [small], checkpoint, override(config, {"adaptation.laps": 0}))
    base = tiny_generator().taking_estimates()
    assert all(torch.equal(file.generator.state_dict()[name], weight) for name, weight in base.state_dict().items())


def test_results_of_the_fitted_flow_are_written(tmp_path, small, checkpoint, config):
    folder, file = _adapted(tmp_path / "run", [small], checkpoint, config)
    save_model(tmp_path / "run" / MODEL, checkpoint)
    opened = open_checkpoint(tmp_path / "run")
    assert torch.equal(opened.flow.flow.leave.weight, file.generator.flow.leave.weight)
    restore_in(folder, small, opened, config, CPU)
    record = json.loads((tmp_path / "run/run.json").read_text())["restoration"]
    assert record["search"]["sampler"] == "flow"
    assert record["held_out"]["measured"]["bins"] > 0
    with mrcfile.open(tmp_path / "run/small_std.mrc") as mrc:
        assert float(mrc.data.min()) > 0
    assert "held-out" in (tmp_path / "run/report.html").read_text()


def test_without_a_flow_the_encoder_draws(tmp_path, small, checkpoint, config):
    """A tomogram of noise has no flow, and is restored all the same, by a model that has one too."""
    folder = RunFolder(tmp_path / "run", "noise")
    folder.begin("restore", {}, {}, 0)
    restored = restore_in(folder, _noise(small), checkpoint, config, CPU)
    with_one = with_flow(checkpoint, GeneratorFile(tiny_generator().taking_estimates(), 16))
    again = restore_in(folder, _noise(small), with_one, config, CPU)
    assert torch.equal(again.mean, restored.mean)
    assert bool(torch.isfinite(restored.mean).all())
    assert restored.search is None


def test_the_flow_has_one_temperature():
    with pytest.raises(InputError, match=r"--temperature 0\.5 found with the flow sampler"):
        RestoreConfig(sampler="flow", temperature=0.5)


def test_what_is_refined_is_the_posterior_of_the_encoder():
    assert RestoreConfig(sampler="flow", refine=3).sampler == "amortised"
