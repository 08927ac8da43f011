"""cryovae pretrain as a command: what it asks for, what it refuses in one line, what it leaves."""

import signal
from contextlib import suppress

import pytest
import torch

from cryovae.checkpoint import load_model
from cryovae.generator_file import FILE, load_generator
from cryovae.models.ladder_config import LadderConfig
from cryovae.simulation.patches import PatchConfig
from cryovae.simulation.pool import PoolConfig
from cryovae.training.method import TrainingConfig
from cryovae.training.pretrained import LadderRecipe
from cryovae.training.trainer import Trainer
from tests.helpers.cli import cryovae, refused
from tests.helpers.generative import TINY_RECIPE, made_up_pairs

ONE = ["--device", "cpu", "--threads", "1", "--processes", "0"]


@pytest.fixture
def _tiny(monkeypatch):
    """The command trains a very small model on scenes that take no time."""
    monkeypatch.setattr("cryovae.simulation.patches.scene_pairs", made_up_pairs)
    monkeypatch.setattr("cryovae.training.generative.FIRST_PATCHES", 16)
    monkeypatch.setattr("cryovae.training.recipe.recipe_of", lambda latent: TINY_RECIPE)


def test_the_help_names_the_options():
    text = cryovae("pretrain", "--help").stdout
    for name in (
        "--latent",
        "--molecule",
        "--from",
        "--vae-steps",
        "--flow-steps",
        "--guided-steps",
        "--beta",
        "--processes",
        "--seed",
        "--resume",
        "--overwrite",
    ):
        assert name in text
    assert "--memory" not in text


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--latent", "huge"], ["--latent huge found", "base or large"]),
        (["--vae-steps", "0"], ["--vae-steps 0 found, expected 1 or more"]),
        (["--flow-steps", "-3"], ["--flow-steps -3 found"]),
        (["--processes", "-1"], ["--processes -1 found, expected 0 to 256"]),
        (["--processes", "1000"], ["--processes 1000 found"]),
        (["--beta", "-1"], ["beta -1 found"]),
        (["--beta", "nan"], ["beta nan found"]),
        (["--divergence", "kld"], ["divergence 'kld' found", "sliced"]),
        (["--seed", "-1"], ["seed -1 found"]),
        (["--molecule", "no.pdb"], ["no.pdb does not exist"]),
        (["--from", "nothing.safetensors"], ["nothing.safetensors does not exist"]),
        (["--from", "base", "--latent", "large"], ["--latent large found with --from"]),
        (["--flow-steps", "0"], ["--flow-steps 0 found, expected 1 or more"]),
        (["--from", "base", "--flow-steps", "-1"], ["--flow-steps -1 found, expected 0 or more"]),
        (["--guided-steps", "-1"], ["--guided-steps -1 found, expected 0 or more"]),
        (["--device", "toaster"], ["--device toaster"]),
        (["--threads", "0"], ["--threads 0 found"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) and value[0].startswith("--") else "",
)
def test_bad_input_is_one_line_and_leaves_nothing(words, parts, tmp_path):
    refused(cryovae("pretrain", "-o", tmp_path / "out", *ONE, *words), *parts)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", [b"", b"garbage\n" * 9, b"\x00\xff" * 99])
@pytest.mark.parametrize("name", ["a.pdb", "a.cif", "a.mrc", "a.txt"])
def test_a_molecule_that_cannot_be_read_is_refused(name, content, tmp_path):
    (tmp_path / name).write_bytes(content)
    refused(cryovae("pretrain", "-o", tmp_path / "out", *ONE, "--molecule", tmp_path / name), name)
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("_tiny")
def test_a_command_leaves_a_model(tmp_path):
    out = tmp_path / "out"
    result = cryovae("pretrain", "-o", out, *ONE, "--vae-steps", "2", "--flow-steps", "3", "--beta", "2", "--seed", "5")
    assert result.returncode == 0, result.stderr
    assert f"trained: {out / FILE}" in result.stdout
    recipe = load_generator(out).recipe
    assert (recipe["vae_steps"], recipe["flow_steps"], recipe["seed"], recipe["generative"]["beta"]) == (2, 3, 5, 2.0)
    before = (out / FILE).read_bytes()
    refused(cryovae("pretrain", "-o", out, *ONE), "is there already: pass --overwrite")
    assert (out / FILE).read_bytes() == before
    assert cryovae("pretrain", "-o", out, *ONE, "--overwrite", "--vae-steps", "1").returncode == 0
    assert (out / FILE).read_bytes() != before


@pytest.mark.usefixtures("_tiny")
def test_a_command_goes_on_from_a_model(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    assert cryovae("pretrain", "-o", first, *ONE).returncode == 0
    result = cryovae(
        "pretrain", "-o", second, *ONE, "--from", first, "--vae-steps", "0", "--flow-steps", "2", "--guided-steps", "1"
    )
    assert result.returncode == 0, result.stderr
    recipe = load_generator(second).recipe
    assert (recipe["vae_steps"], recipe["flow_steps"], recipe["guided_steps"], recipe["seed"]) == (0, 2, 1, 1)
    assert recipe["before"]["flow_steps"] == TINY_RECIPE.flow_steps
    assert "Begun with:** 4 steps of the VAE" in (second / "card.md").read_text()


@pytest.mark.usefixtures("_tiny")
def test_a_stopped_command_says_so_and_goes_on(tmp_path, monkeypatch):
    """SIGTERM comes while the scenes of the flow are made."""
    out, drawn = tmp_path / "out", []

    def made(config, number):
        drawn.append(number)
        if len(drawn) == 2:
            signal.raise_signal(signal.SIGTERM)
        return made_up_pairs(config, number)

    monkeypatch.setattr("cryovae.simulation.patches.scene_pairs", made)
    monkeypatch.setattr("cryovae.workflows.pretrain.FLOW_SCENES", 500)
    result = cryovae("pretrain", "-o", out, *ONE)
    assert result.returncode not in (0, 1, 2)
    assert "Traceback" not in result.stderr
    assert sorted(p.name for p in out.iterdir() if p.suffix == ".safetensors") == []
    assert (out / "vae.pt").is_file()
    refused(cryovae("pretrain", "-o", out, *ONE), "pass --resume to go on")
    refused(cryovae("pretrain", "-o", out, *ONE, "--resume", "--seed", "1"), "another recipe")
    assert cryovae("pretrain", "-o", out, *ONE, "--resume").returncode == 0
    assert sorted(p.name for p in out.iterdir()) == ["card.md", "early.safetensors", FILE, "pretrain.log"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--network", "unet"], ["network unet found", "generator or ladder"]),
        (["--ladder-steps", "3"], ["--ladder-steps found without --network ladder"]),
        (["--network", "ladder", "--ladder-steps", "0"], ["ladder-steps 0 found"]),
        (["--network", "ladder", "--flow-steps", "3"], ["--flow-steps found with --network ladder"]),
        (["--network", "ladder", "--from", "base"], ["--from found with --network ladder"]),
    ],
)
def test_options_of_the_other_network_are_refused(tmp_path, options, words):
    refused(cryovae("pretrain", "-o", tmp_path / "out", *options), *words)
    assert not (tmp_path / "out").exists()


def test_a_ladder_is_trained_resumed_and_described(tmp_path, monkeypatch):
    """Stopped after some steps, it goes on to the same network; the file has half precision and restores."""
    small = LadderRecipe(
        sizes=LadderConfig((4, 6), (2, 3), 1), patches=PatchConfig(side=16, rotations=1, cuts=4), pool=PoolConfig(1, 4), batch=2
    )
    monkeypatch.setattr("cryovae.training.pretrained.LadderRecipe", lambda: small)
    options = ["--network", "ladder", "--ladder-steps", "4", "--processes", "0", "--device", "cpu", "--threads", "1"]
    once = cryovae("pretrain", "-o", tmp_path / "once", *options)
    assert once.returncode == 0, once.stderr
    checkpoint = load_model(tmp_path / "once" / "ladder.safetensors")
    assert (checkpoint.patch, checkpoint.step) == (16, 4)
    assert "4 steps with 2 patches of 16 voxels" in (tmp_path / "once" / "ladder_card.md").read_text()
    assert not (tmp_path / "once" / "ladder.pt").exists()
    refused(cryovae("pretrain", "-o", tmp_path / "once", *options), "is there already")
    trainer, steps = Trainer._take_step, []

    def stopping(self, batches):
        steps.append(self.step)
        if len(steps) == 3:
            raise KeyboardInterrupt
        return trainer(self, batches)

    monkeypatch.setattr(Trainer, "_take_step", stopping)
    config = TrainingConfig(patch=16, batch=2, steps=4, learning_rate=8e-4, ema=0.998, clip=1.0, checkpoint_minutes=0.0)
    monkeypatch.setattr(LadderRecipe, "training", lambda self: config)
    with suppress(KeyboardInterrupt):
        cryovae("pretrain", "-o", tmp_path / "twice", *options)
    assert (tmp_path / "twice" / "ladder.pt").exists()
    refused(cryovae("pretrain", "-o", tmp_path / "twice", *options), "is of a training that was stopped")
    again = cryovae("pretrain", "-o", tmp_path / "twice", *options, "--resume")
    assert again.returncode == 0, again.stderr
    other = load_model(tmp_path / "twice" / "ladder.safetensors")
    assert all(torch.equal(a, b) for a, b in zip(checkpoint.ladder.parameters(), other.ladder.parameters(), strict=True))
