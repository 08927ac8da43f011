"""cryovae pretrain: a generative model of simulated patches, from nothing to its file, with saved states between."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch

from cryovae import __version__
from cryovae.checkpoint import load_state, save_state
from cryovae.errors import InputError
from cryovae.generator_file import BASE, FILE, GeneratorFile, load_generator, save_generator
from cryovae.io.atomic import write_text
from cryovae.io.claim import HeldByOther, claimed
from cryovae.io.molecules import MAPS, MODELS, read_molecule
from cryovae.io.outputs import check_folder
from cryovae.models.generator import Generator
from cryovae.report.model_card import Training, is_recorded, model_card
from cryovae.saved_state import ANEW, check_fits
from cryovae.simulation.patches import PatchConfig
from cryovae.simulation.pool import PairPool
from cryovae.training.generative import FlowTraining, VAETraining, first_patches
from cryovae.training.recipe import Recipe, plain_recipe, recipe_of
from cryovae.training.trainer import Interrupted, Report, Trainer
from cryovae.workflows.progress import Watch
from cryovae.workflows.signals import stoppable

log = logging.getLogger("cryovae")
SHOWN = ("elbo", "kl", "squared_error", "prior", "posterior", "mean", "norm")
VAE_STATE, FLOW_STATE, CARD = "vae.pt", "flow.pt", "card.md"
# Scenes of the VAE and of the flow have other numbers.
FLOW_SCENES = 1_000_000


def molecule_files(paths: list[Path]) -> tuple[str, ...]:
    """The files of molecules among paths of files and folders. InputError if one cannot be read."""
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(p for p in path.iterdir() if p.name.lower().removesuffix(".gz").endswith((*MAPS, *MODELS)))
            if not inside:
                raise InputError(f"{path} holds no molecules, expected files that end in {', '.join((*MAPS, *MODELS))}")
            files.extend(inside)
        else:
            files.append(path)
    for file in files:
        # The smallest voxels of a scene: a molecule has most of them there.
        read_molecule(file, PatchConfig().voxel_size[0])
    return tuple(str(file) for file in files)


def pretrain(
    folder: Path,
    recipe: Recipe,
    device: torch.device,
    processes: int,
    resume: bool,
    overwrite: bool,
    start: GeneratorFile | None = None,
) -> Path:
    """Train a generative model, or go on with one; returns its file.

    Args:
        folder: for the model, its saved states and log.
        recipe: what is trained.
        device: where.
        processes: how many others make scenes.
        resume: go on from the saved states of the folder.
        overwrite: whether a model that is there is replaced.
        start: the model of ``recipe.start``, to begin with; None for random weights.
    """
    check_folder(folder)
    target = folder / FILE
    if target.exists() and not overwrite:
        raise InputError(f"{target} is there already: pass --overwrite, or another folder with -o")
    _check_states(folder, recipe, resume, overwrite)
    folder.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(folder / "pretrain.log")
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        with claimed(folder / ".pretrain.claim", "pretrain"):
            if not resume:
                # The states of another training would be taken for those of this one later.
                _forget(folder)
            file, seconds = _trained(folder, recipe, device, processes, resume, start)
            save_generator(target, file)
            write_text(folder / CARD, model_card(file.recipe, training_of(file, recipe, seconds, device)))
            _forget(folder)
    except HeldByOther as held:
        raise InputError(f"{folder} is in use by another run, expected a folder of its own: give another with -o") from held
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
        handler.close()
    return target


def model_to_begin_with(model: str) -> tuple[GeneratorFile, str]:
    """A model, named base or by its file or folder, and its SHA-256. InputError if it cannot be read, or lacks its recipe."""
    path = BASE if model == "base" else Path(model)
    file = load_generator(path)
    if not is_recorded(file.recipe):
        raise InputError(f"{path} does not say how it was trained, expected its recipe: give a model of 'cryovae pretrain'")
    return file, sha256((path / FILE if path.is_dir() else path).read_bytes()).hexdigest()


def _forget(folder: Path) -> None:
    """Remove the saved states of a folder."""
    for name in (VAE_STATE, FLOW_STATE):
        (folder / name).unlink(missing_ok=True)


def _check_states(folder: Path, recipe: Recipe, resume: bool, overwrite: bool) -> None:
    """InputError, before anything is written, if saved states would be lost, or are of another recipe."""
    for path in (folder / VAE_STATE, folder / FLOW_STATE):
        if path.exists() and resume:
            _load(path, recipe)
        elif path.exists() and not overwrite:
            raise InputError(
                f"{path} is of a training that was stopped, expected none: pass --resume to go on, or --overwrite to begin anew"
            )


def _load(path: Path, recipe: Recipe) -> dict[str, Any]:
    """A saved state. InputError if it is damaged or of another recipe."""
    state = load_state(path)
    if state.get("recipe") != _recorded(recipe):
        raise InputError(f"{path} was saved by another recipe, expected the settings that it began with: {ANEW}")
    return state


def _trained(
    folder: Path, recipe: Recipe, device: torch.device, processes: int, resume: bool, start: GeneratorFile | None
) -> tuple[GeneratorFile, float]:
    """The trained model, and the seconds that its training took, before it was resumed too."""
    torch.manual_seed(recipe.seed)
    generator = Generator(recipe.sizes)
    if start is not None:
        generator.load_state_dict(start.generator.state_dict())
    generator.to(device)
    patches, seconds = replace(recipe.patches, seed=recipe.seed), 0.0
    if recipe.vae_steps:
        with PairPool(patches, recipe.pool, processes) as pool:
            seconds = _train_vae(folder, generator, pool, recipe, device, resume, start is None)
    with PairPool(patches, recipe.flow_pool, processes, FLOW_SCENES) as pool:
        settings = recipe.training(recipe.flow_steps, recipe.flow_batch)
        flow = FlowTraining(generator, pool, settings, recipe.generative, device)
        trained_flow, more = _run(folder / FLOW_STATE, Trainer(flow), recipe, "training the flow", resume)
        generator.flow.load_state_dict(trained_flow.state_dict())
    log.info("trained in %.0f seconds", seconds + more)
    plain = plain_recipe(recipe) | ({} if start is None else {"before": start.recipe})
    return GeneratorFile(generator.cpu(), recipe.patches.side, plain), seconds + more


def _train_vae(
    folder: Path, generator: Generator, pool: PairPool, recipe: Recipe, device: torch.device, resume: bool, is_new: bool
) -> float:
    """Train the VAE of a generator in place; returns the seconds that it took."""
    settings = recipe.training(recipe.vae_steps, recipe.vae_batch)
    first = first_patches(pool, recipe.seed)
    if is_new:
        generator.vae.cpu().start_from(first)
        generator.to(device)
    method = VAETraining(generator.vae, pool, settings, recipe.generative, device)
    trained, seconds = _run(folder / VAE_STATE, Trainer(method), recipe, "training the VAE", resume)
    generator.vae.load_state_dict(trained.state_dict())
    generator.measure_latents(first.to(device))
    return seconds


def training_of(file: GeneratorFile, recipe: Recipe, seconds: float, device: torch.device) -> Training:
    """How the training went, for the card."""
    command = ["cryovae pretrain", f"--vae-steps {recipe.vae_steps}", f"--flow-steps {recipe.flow_steps}"]
    command += ["--from MODEL"] if recipe.start else []
    command += ["--latent large"] if recipe.sizes == recipe_of("large").sizes and not recipe.start else []
    command += [f"--beta {recipe.generative.beta:g}"] if recipe.generative.beta != 1 else []
    command += [f"--seed {recipe.seed}"] if recipe.seed else []
    command += [f"--molecule {Path(path).name}" for path in recipe.patches.molecules]
    cpu = f"{torch.get_num_threads()} thread{'s' * (torch.get_num_threads() > 1)} of a CPU"
    machine = torch.cuda.get_device_name(device) if device.type == "cuda" else cpu
    weights = sum(parameter.numel() for parameter in file.generator.parameters())
    return Training(" ".join(command), seconds, f"{machine}, torch {torch.__version__}", weights, __version__)


def _run(path: Path, trainer: Trainer[Any, Any], recipe: Recipe, title: str, resume: bool) -> tuple[Any, float]:
    """Train one of the networks to the end, or go on with it; its state stays in ``path`` for a run that is resumed later.

    Returns:
        The trained network, and the seconds that it took.
    """
    began = time.monotonic()
    if resume and path.is_file():
        state = _load(path, recipe)
        check_fits(path, state, trainer.network, trainer.optimiser)
        trainer.resume(state)
        began -= float(state.get("seconds", 0.0))
        log.info("%s resumed at step %d", title, trainer.step)

    def save(state: dict[str, Any]) -> None:
        save_state(path, state | {"recipe": _recorded(recipe), "seconds": time.monotonic() - began})
        log.info("saved at step %d", state["step"])

    with Watch(title, trainer.config.steps, trainer.step) as watch, stoppable() as stop:
        trained = trainer.run(_shown(watch), save, stop)
        save(trainer.state())
        if stop():
            raise Interrupted(trainer.step)
    return trained, time.monotonic() - began


def _recorded(recipe: Recipe) -> dict[str, Any]:
    """A recipe without tuples, as it comes back from a saved state."""
    return {name: str(value) for name, value in plain_recipe(recipe).items()}


def _shown(watch: Watch) -> Callable[[Report], None]:
    """Shows running means of the figures of the steps."""
    means: dict[str, float] = {}

    def show(report: Report) -> None:
        for name, value in report.figures.items():
            means[name] = value if name not in means else means[name] + 0.02 * (value - means[name])
        if report.event:
            log.warning(report.event)
        watch.update(report.step, "  ".join(f"{name} {means[name]:.4g}" for name in SHOWN if name in means))

    return show
