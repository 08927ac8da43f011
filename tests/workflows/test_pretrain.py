"""Training of the generative model as a workflow: from nothing to its file, stopped and resumed, refused in one line."""

import logging
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch

from cryovae.checkpoint import load_state, save_state
from cryovae.errors import InputError
from cryovae.generator_file import FILE, GeneratorFile, load_generator, save_generator
from cryovae.io.claim import claimed
from cryovae.models.latent_flow import LatentFlowConfig
from cryovae.simulation.patches import PatchConfig
from cryovae.training.generative import VAETraining
from cryovae.training.recipe import Recipe, recipe_from, recipe_of
from cryovae.training.trainer import Interrupted
from cryovae.workflows import pretrain as module
from cryovae.workflows.pretrain import (
    CARD,
    EARLY,
    EARLY_STATE,
    FLOW_STATE,
    GUIDED_STATE,
    VAE_STATE,
    early_of,
    model_to_begin_with,
    molecule_files,
    pretrain,
)
from tests.helpers.generative import TINY_RECIPE, made_up_pairs, tiny_generator

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _made_up_scenes(monkeypatch):
    monkeypatch.setattr("cryovae.simulation.patches.scene_pairs", made_up_pairs)
    monkeypatch.setattr("cryovae.training.generative.FIRST_PATCHES", 24)


@pytest.fixture(scope="module")
def uninterrupted():
    """The bytes of the model, kept by the first test that trains it."""
    return {}


def _trained(folder, recipe=TINY_RECIPE, resume=False, overwrite=False):
    return pretrain(folder, recipe, CPU, 0, resume, overwrite)


@pytest.fixture
def whole_run(tmp_path, uninterrupted):
    if not uninterrupted:
        path = _trained(tmp_path / "once")
        uninterrupted["bytes"] = path.read_bytes()
        uninterrupted["names"] = sorted(p.name for p in path.parent.iterdir())
    return uninterrupted


def _stopped(monkeypatch, folder, calls, recipe=TINY_RECIPE, resume=False):
    """Train until the question whether to stop was asked so many times: before each step, and after each phase."""
    asked = []

    @contextmanager
    def stoppable():
        yield lambda: asked.append(1) or len(asked) > calls

    with monkeypatch.context() as patch:
        patch.setattr(module, "stoppable", stoppable)
        with pytest.raises(Interrupted):
            _trained(folder, recipe, resume)


def test_a_run_leaves_a_model_and_its_log(whole_run, tmp_path):
    assert whole_run["names"] == [CARD, EARLY, FILE, "pretrain.log"]
    (tmp_path / FILE).write_bytes(whole_run["bytes"])
    file = load_generator(tmp_path)
    assert file.patch == 16
    assert file.recipe["vae_steps"] == 4
    assert file.recipe["patches"]["kinds"] == 4
    assert file.generator.config == TINY_RECIPE.sizes
    # Both networks have learned something: what began at 0 is not.
    assert file.generator.vae.leave.weight.abs().max() > 0
    assert file.generator.flow.leave.weight.abs().max() > 0
    assert (file.generator.latent_scale - 1).abs().max() > 1e-3


def test_the_same_recipe_gives_the_same_model_and_another_seed_another(whole_run, tmp_path):
    assert _trained(tmp_path / "a").read_bytes() == whole_run["bytes"]
    other = _trained(tmp_path / "b", replace(TINY_RECIPE, seed=1))
    assert other.read_bytes() != whole_run["bytes"]
    # The seed of its scenes, which diagnose draws training patches by.
    assert load_generator(other).recipe["patches"]["seed"] == 1


@pytest.mark.parametrize("calls", [1, 4, 5, 7, 9, 10, 12], ids=lambda calls: f"after {calls} questions")
def test_a_stopped_run_goes_on_to_the_same_model(calls, whole_run, tmp_path, monkeypatch):
    """The VAE asks five times, before each of four steps and at its end, then the flow does, then the two guided steps."""
    folder = tmp_path / "run"
    _stopped(monkeypatch, folder, calls)
    left = {p.name for p in folder.iterdir()}
    of_flow, guided = {FLOW_STATE} if calls >= 5 else set(), {EARLY, GUIDED_STATE} if calls >= 10 else set()
    assert left == {"pretrain.log", VAE_STATE} | of_flow | guided
    assert load_state(folder / VAE_STATE)["step"] == min(calls, 4)
    taken = []
    backward = VAETraining.backward
    monkeypatch.setattr(VAETraining, "backward", lambda *arguments: taken.append(1) or backward(*arguments))
    assert _trained(folder, resume=True).read_bytes() == whole_run["bytes"]
    # The steps of the VAE that were taken are not taken again.
    assert len(taken) == 4 - min(calls, 4)
    assert sorted(p.name for p in folder.iterdir()) == whole_run["names"]


def test_a_run_can_be_stopped_twice(whole_run, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    _stopped(monkeypatch, folder, 2)
    _stopped(monkeypatch, folder, 4, resume=True)
    assert _trained(folder, resume=True).read_bytes() == whole_run["bytes"]


def test_to_resume_what_was_never_begun_is_to_begin(whole_run, tmp_path):
    assert _trained(tmp_path / "run", resume=True).read_bytes() == whole_run["bytes"]


def test_another_recipe_is_not_resumed(tmp_path, monkeypatch):
    folder = tmp_path / "run"
    _stopped(monkeypatch, folder, 6)
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    for other in (
        replace(TINY_RECIPE, seed=1),
        replace(TINY_RECIPE, flow_steps=9),
        replace(TINY_RECIPE, patches=replace(TINY_RECIPE.patches, crowding=0.1)),
        replace(TINY_RECIPE, sizes=replace(TINY_RECIPE.sizes, flow=replace(TINY_RECIPE.sizes.flow, blocks=2))),
    ):
        with pytest.raises(InputError, match="another recipe"):
            _trained(folder, other, resume=True)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before


def test_the_states_of_a_stopped_run_are_not_lost(whole_run, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    _stopped(monkeypatch, folder, 6)
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    with pytest.raises(InputError, match="pass --resume to go on, or --overwrite to begin anew"):
        _trained(folder)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before
    # To begin anew forgets the flow of the run before, which a later --resume would take for its own.
    with monkeypatch.context() as patch:
        patch.setattr(module, "stoppable", _at_once)
        with pytest.raises(Interrupted):
            _trained(folder, overwrite=True)
    assert not (folder / FLOW_STATE).exists()
    assert load_state(folder / VAE_STATE)["step"] == 0
    assert _trained(folder, resume=True).read_bytes() == whole_run["bytes"]


@contextmanager
def _at_once():
    yield lambda: True


@pytest.mark.parametrize("content", [b"", b"garbage" * 999, b"PK\x03\x04"])
def test_a_damaged_state_is_refused(content, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    _stopped(monkeypatch, folder, 6)
    (folder / FLOW_STATE).write_bytes(content)
    with pytest.raises(InputError, match=FLOW_STATE) as caught:
        _trained(folder, resume=True)
    assert "\n" not in str(caught.value)


def test_a_state_of_another_network_is_refused(tmp_path, monkeypatch):
    folder = tmp_path / "run"
    _stopped(monkeypatch, folder, 6)
    state = load_state(folder / FLOW_STATE)
    vae = load_state(folder / VAE_STATE)
    save_state(tmp_path / "other.pt", vae | {"recipe": state["recipe"]})
    (tmp_path / "other.pt").replace(folder / FLOW_STATE)
    with pytest.raises(InputError, match="other weights"):
        _trained(folder, resume=True)
    assert not (folder / FILE).exists()


def test_a_model_that_is_there_is_kept_without_overwrite(whole_run, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / FILE).write_bytes(b"mine")
    for resume in (False, True):
        with pytest.raises(InputError, match="is there already: pass --overwrite"):
            _trained(folder, resume=resume)
    assert [p.name for p in folder.iterdir()] == [FILE]
    # It is replaced at the end alone.
    with monkeypatch.context() as patch:
        patch.setattr(module, "stoppable", _at_once)
        with pytest.raises(Interrupted):
            _trained(folder, overwrite=True)
    assert (folder / FILE).read_bytes() == b"mine"
    assert _trained(folder, resume=True, overwrite=True).read_bytes() == whole_run["bytes"]


def test_two_runs_do_not_share_a_folder(tmp_path):
    for name in ("pretrain", "other"):
        with claimed(tmp_path / ".pretrain.claim", name), pytest.raises(InputError, match="another run") as caught:
            _trained(tmp_path)
        assert "\n" not in str(caught.value)
        assert not (tmp_path / FILE).exists()


def test_a_run_leaves_logging_as_it_was(tmp_path):
    log = logging.getLogger("cryovae")
    log.setLevel(logging.WARNING)
    before = list(log.handlers), log.level
    _trained(tmp_path / "run")
    assert (list(log.handlers), log.level) == before
    assert "trained in" in (tmp_path / "run/pretrain.log").read_text()


def test_a_file_in_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "run").write_text("mine")
    with pytest.raises(InputError, match="run"):
        _trained(tmp_path / "run")
    assert (tmp_path / "run").read_text() == "mine"


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ({"vae_steps": 0}, "vae_steps 0"),
        ({"flow_batch": 0}, "flow_batch 0"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"ema": 1.0}, "ema 1"),
        ({"precision": "half"}, "precision 'half' found, expected auto, float32 or bfloat16"),
        ({"seed": -1}, "seed -1"),
        ({"patches": PatchConfig(side=20)}, "side 20 found, expected a multiple of 8"),
        ({"sizes": replace(TINY_RECIPE.sizes, flow=LatentFlowConfig(entries=12))}, "entries 12 found, expected 231"),
    ],
)
def test_impossible_recipes_are_refused(bad, words):
    with pytest.raises(InputError, match=words):
        replace(TINY_RECIPE, **bad)


def test_recipes_have_names():
    assert recipe_of("base") == Recipe()
    large = recipe_of("large")
    assert large.sizes.flow.width > 2 * Recipe().sizes.flow.width
    assert large.training(10, 4).patch == large.patches.side
    with pytest.raises(InputError, match="--latent huge found, expected base or large"):
        recipe_of("huge")


ATOM = "ATOM      1  CA  ALA A   1      {:6.3f}  20.000  30.000  1.00 10.00           C\nEND\n"


def test_molecules_are_the_files_of_folders(tmp_path):
    for name in ("b.pdb", "a.pdb", "notes.txt"):
        (tmp_path / name).write_text(ATOM.format(1.5))
    assert molecule_files([tmp_path]) == (str(tmp_path / "a.pdb"), str(tmp_path / "b.pdb"))
    assert molecule_files([]) == ()
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError, match="holds no molecules"):
        molecule_files([tmp_path / "none"])
    with pytest.raises(InputError, match="does not exist"):
        molecule_files([tmp_path / "c.pdb"])
    (tmp_path / "c.pdb").write_text("garbage")
    with pytest.raises(InputError, match=r"c\.pdb"):
        molecule_files([tmp_path])


def test_a_molecule_too_wide_for_the_smallest_voxels_is_refused_at_once(tmp_path):
    """At 10 angstrom it would pass, and stop the training hours later at a scene of 6."""
    far = "ATOM      2  CA  ALA A   2    3200.000  20.000  30.000  1.00 10.00           C\n"
    (tmp_path / "wide.pdb").write_text(far + ATOM.format(1.5))
    with pytest.raises(InputError, match="voxels wide at 6 angstrom"):
        molecule_files([tmp_path / "wide.pdb"])


def test_a_model_names_its_molecules_without_their_folders(tmp_path):
    recipe = replace(TINY_RECIPE, patches=replace(TINY_RECIPE.patches, molecules=(str(tmp_path / "secret/a.pdb"),)))
    assert module.plain_recipe(recipe)["patches"]["molecules"] == ["a.pdb"]


def _continued(folder, before, **settings):
    model, digest = model_to_begin_with(str(before))
    recipe = replace(recipe_from(TINY_RECIPE, model, digest), **settings)
    early = early_of(str(before), model)
    return recipe, lambda resume=False: pretrain(folder, recipe, CPU, 0, resume, False, model, early)


def _moved(before, after):
    """Names of the tensors that differ."""
    return {name for name, tensor in before.state_dict().items() if not torch.equal(tensor, after.state_dict()[name])}


def test_guided_steps_alone_move_the_prior_alone(whole_run, tmp_path):
    """The VAE and the network of the condition stay; the early flow is that of the folder, so none is trained."""
    before = load_generator(_trained(tmp_path / "before", replace(TINY_RECIPE, guided_steps=0)))
    assert not (tmp_path / "before" / EARLY).exists()
    early = tiny_generator()
    early.vae.load_state_dict(before.generator.vae.state_dict())
    save_generator(tmp_path / "before" / EARLY, GeneratorFile(early, 16, before.recipe))
    _, train = _continued(tmp_path / "more", tmp_path / "before", vae_steps=0, flow_steps=0, guided_steps=5)
    moved = _moved(before.generator, load_generator(train()).generator)
    assert "flow.leave.weight" in moved
    condition = ("vae.", "latent_", "flow.observe", "flow.of_information", "flow.predicted")
    assert not any(name.startswith(condition) for name in moved)
    kept = load_generator(tmp_path / "more" / EARLY).generator
    assert torch.equal(kept.flow.leave.weight, load_generator(tmp_path / "before" / EARLY).generator.flow.leave.weight)
    assert "early flow" not in (tmp_path / "more/pretrain.log").read_text()


def test_an_early_flow_is_trained_where_there_is_none(whole_run, tmp_path, monkeypatch):
    (tmp_path / FILE).write_bytes(whole_run["bytes"])
    settings = {"vae_steps": 0, "flow_steps": 1}
    _, once = _continued(tmp_path / "once", tmp_path, **settings)
    _, again = _continued(tmp_path / "again", tmp_path, **settings)
    asked = []

    @contextmanager
    def stoppable():
        # Two for the step of the flow, then before each step of the early flow.
        yield lambda: asked.append(1) or len(asked) > 4

    with monkeypatch.context() as patch:
        patch.setattr(module, "stoppable", stoppable)
        with pytest.raises(Interrupted):
            again()
    assert load_state(tmp_path / "again" / EARLY_STATE)["step"] == 2
    assert again(resume=True).read_bytes() == once().read_bytes()
    assert sorted(p.name for p in (tmp_path / "again").iterdir()) == whole_run["names"]


def test_guided_steps_are_not_taken_twice(whole_run, tmp_path):
    (tmp_path / FILE).write_bytes(whole_run["bytes"])
    _, train = _continued(tmp_path / "more", tmp_path, vae_steps=0, flow_steps=0)
    with pytest.raises(InputError, match="has had its guided steps") as caught:
        train()
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "more").exists()


def test_an_early_flow_of_a_model_before_is_not_left_beside_another(whole_run, tmp_path):
    (tmp_path / EARLY).write_bytes(whole_run["bytes"])
    _trained(tmp_path, replace(TINY_RECIPE, guided_steps=0))
    assert not (tmp_path / EARLY).exists()


def test_an_early_flow_is_that_beside_a_model_and_of_its_vae(whole_run, tmp_path):
    (tmp_path / FILE).write_bytes(whole_run["bytes"])
    file = load_generator(tmp_path)
    assert early_of(str(tmp_path), file) is None
    (tmp_path / EARLY).write_bytes(whole_run["bytes"])
    for model in (tmp_path, tmp_path / FILE):
        assert torch.equal(early_of(str(model), file).generator.flow.leave.weight, file.generator.flow.leave.weight)
    save_generator(tmp_path / EARLY, GeneratorFile(tiny_generator(), 16, file.recipe))
    assert early_of(str(tmp_path), file) is None
    (tmp_path / EARLY).write_bytes(b"garbage")
    with pytest.raises(InputError, match=EARLY):
        early_of(str(tmp_path), file)


def test_a_model_goes_on_from_another(whole_run, tmp_path):
    (tmp_path / FILE).write_bytes(whole_run["bytes"])
    recipe, train = _continued(tmp_path / "more", tmp_path)
    assert (recipe.seed, recipe.generative.detail_until) == (1, 0.0)
    before, after = load_generator(tmp_path), load_generator(train())
    assert after.recipe["before"]["seed"] == 0
    assert after.recipe["start"] == recipe.start
    # It began with these weights: 4 small steps do not lead far from them.
    for name, weight in before.generator.vae.named_parameters():
        assert (after.generator.vae.get_parameter(name) - weight).abs().max() < 0.05, name
    assert not torch.equal(after.generator.vae.expand.weight, before.generator.vae.expand.weight)


def test_without_steps_of_the_vae_its_latents_stay_as_they_were(whole_run, tmp_path):
    (tmp_path / FILE).write_bytes(whole_run["bytes"])
    _, train = _continued(tmp_path / "more", tmp_path, vae_steps=0)
    before, after = load_generator(tmp_path).generator.state_dict(), load_generator(train()).generator.state_dict()
    changed = {name for name, tensor in before.items() if not torch.equal(tensor, after[name])}
    assert changed
    assert all(name.startswith("flow.") for name in changed)


def test_going_on_from_a_model_is_resumed_to_the_same(whole_run, tmp_path, monkeypatch):
    (tmp_path / FILE).write_bytes(whole_run["bytes"])
    _, once = _continued(tmp_path / "once", tmp_path)
    _, again = _continued(tmp_path / "again", tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(module, "stoppable", _at_once)
        with pytest.raises(Interrupted):
            again()
    # From random weights it is another training.
    with pytest.raises(InputError, match="another recipe"):
        _trained(tmp_path / "again", resume=True)
    assert again(resume=True).read_bytes() == once().read_bytes()


def test_networks_of_random_weights_are_trained():
    with pytest.raises(InputError, match="vae_steps 0 found, expected 1 or more"):
        replace(TINY_RECIPE, vae_steps=0)
    with pytest.raises(InputError, match="flow_steps 0 found, expected 1 or more"):
        replace(TINY_RECIPE, flow_steps=0)
    with pytest.raises(InputError, match="flow_steps 0 found with vae_steps 4, expected 1 or more"):
        replace(TINY_RECIPE, start="ab", flow_steps=0)
    with pytest.raises(InputError, match="expected something to train"):
        replace(TINY_RECIPE, start="ab", vae_steps=0, flow_steps=0, guided_steps=0)


@pytest.mark.parametrize(
    "recipe", [{}, {"patches": 3}, {"patches": {"molecules": ["a"]}, "seed": "x"}], ids=["none", "3", "text"]
)
def test_a_model_without_its_recipe_is_no_beginning(recipe, tmp_path):
    save_generator(tmp_path / FILE, GeneratorFile(tiny_generator(), 16, recipe))
    with pytest.raises(InputError, match="does not say how it was trained"):
        model_to_begin_with(str(tmp_path))
