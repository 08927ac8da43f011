"""cryovae diagnose --prior: its files, the same figures for the same seed, and what it refuses."""

import json
from dataclasses import replace

import pytest
import torch

from cryovae.checkpoint import MODEL, Checkpoint, save_model
from cryovae.errors import InputError
from cryovae.evaluation.generative.report import GenerativeMeasureConfig
from cryovae.generator_file import GeneratorFile, save_generator
from cryovae.workflows.adapt import SAMPLER
from cryovae.workflows.diagnose_generative import GenerativeRequest, diagnose_generative, training_patches, unseen_patches
from tests.helpers.generative import made_up_pairs, tiny_generator

FEW = GenerativeMeasureConfig(patches=8, posterior_patches=2, samples=2, evidence_patches=2, evidence_draws=1, training_patches=6)
RECIPE = {"patches": {"molecules": ["seen.mrc"], "kinds": 7, "first_kind": 3, "seed": 11}}


@pytest.fixture
def model(tmp_path):
    save_generator(tmp_path / "model.safetensors", GeneratorFile(tiny_generator(), 16, RECIPE))
    return tmp_path / "model.safetensors"


@pytest.fixture
def _quick(monkeypatch):
    def pairs(config, number):
        made = made_up_pairs(config, number)
        cut = slice(0, config.side)
        observation = made.observation.map(lambda part: part[:, cut, cut, cut] if part.ndim == 4 else part)
        return type(made)(made.clean[:, cut, cut, cut], observation, made.scenes, made.tilts)

    monkeypatch.setattr("cryovae.simulation.patches.scene_pairs", pairs)


def request_of(model, output, overwrite=False, molecules=()):
    return GenerativeRequest(output, model, molecules, None, None, 0, overwrite, FEW)


@pytest.mark.usefixtures("_quick")
def test_the_measures_are_written_and_printed(model, tmp_path, capsys):
    picture = diagnose_generative(request_of(model, tmp_path / "out"), torch.device("cpu"))
    assert picture.read_bytes().startswith(b"\x89PNG")
    text = (tmp_path / "out" / "prior.json").read_text()
    record = json.loads(text)
    assert record["settings"]["patches"] == 8
    assert record["simulated"]["posterior"]["wedge"]["factor_two"] > 0
    assert record["tomogram"] is None
    printed = capsys.readouterr().out
    assert "N(0, I) latents" in printed
    assert "factor two" in printed
    with pytest.raises(InputError, match="is there already: pass --overwrite"):
        diagnose_generative(request_of(model, tmp_path / "out"), torch.device("cpu"))
    diagnose_generative(request_of(model, tmp_path / "out", overwrite=True), torch.device("cpu"))
    assert (tmp_path / "out" / "prior.json").read_text() == text


def test_a_molecule_that_was_trained_on_is_refused(model, tmp_path):
    with pytest.raises(InputError, match=r"seen\.mrc found, which the model was trained on"):
        diagnose_generative(request_of(model, tmp_path / "out", molecules=("maps/seen.mrc",)), torch.device("cpu"))
    assert not (tmp_path / "out").exists()


def test_scenes_that_are_judged_are_not_those_of_the_training():
    file = GeneratorFile(tiny_generator(), 16, RECIPE)
    training, unseen = training_patches(file, 0), unseen_patches(16, (), 0)
    assert (training.kinds, training.first_kind, training.seed) == (7, 3, 11)
    assert unseen.first_kind >= 1_000_000
    assert unseen.seed != training.seed


def test_molecules_of_the_model_it_began_with_are_known_too(tmp_path):
    model = tmp_path / "model.safetensors"
    continued = {"seed": 1, "patches": {"molecules": []}, "before": RECIPE}
    save_generator(model, GeneratorFile(tiny_generator(), 16, continued))
    with pytest.raises(InputError, match=r"seen\.mrc found, which the model was trained on"):
        diagnose_generative(request_of(model, tmp_path / "out", molecules=("maps/seen.mrc",)), torch.device("cpu"))


@pytest.mark.usefixtures("_quick")
def test_of_a_run_its_own_model_is_judged_with_the_estimate_of_its_network(small, ladder, tmp_path, capsys):
    run = tmp_path / "run"
    run.mkdir()
    save_model(run / MODEL, Checkpoint(ladder, 16, 4, 2, {}))
    save_generator(run / SAMPLER, GeneratorFile(tiny_generator().taking_estimates().eval(), 16, {"adapted_to": ["small"]}))
    request = replace(request_of(None, tmp_path / "out"), tomogram=small, run=run)
    diagnose_generative(request, torch.device("cpu"))
    record = json.loads((tmp_path / "out" / "prior.json").read_text())
    assert record["model"] == str(run / SAMPLER)
    assert 0 <= record["tomogram"]["separation"]["auc"] <= 1
    assert record["tomogram"]["evidence"]["effective"] == 1
    assert "1.00 of 1" in capsys.readouterr().out
