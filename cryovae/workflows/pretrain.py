"""cryovae pretrain: a generative model of simulated patches, from nothing to its file, with saved states between."""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
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
from cryovae.models.latent_flow import LatentFlow
from cryovae.progress.watch import Watch
from cryovae.report.model_card import Training, is_recorded, model_card
from cryovae.saved_state import ANEW, check_fits
from cryovae.simulation.patches import PatchConfig
from cryovae.simulation.pool import PairPool, PoolConfig
from cryovae.training.generative import FlowTraining, GuidedTraining, VAETraining, first_patches
from cryovae.training.recipe import Recipe, plain_recipe, recipe_of
from cryovae.training.trainer import Interrupted, Report, Trainer
from cryovae.workflows.signals import stoppable

log = logging.getLogger("cryovae")
SHOWN = ("elbo", "kl", "squared_error", "prior", "posterior", "mean", "distance", "distance_before", "norm")
VAE_STATE, FLOW_STATE, EARLY_STATE, GUIDED_STATE = STATES = "vae.pt", "flow.pt", "early.pt", "guided.pt"
# The early flow, with its VAE, is kept: a training that goes on with the model needs it.
CARD, EARLY = "card.md", "early.safetensors"
# Scenes of the VAE, of the flow and of the other steps of the flow have other numbers.
FLOW_SCENES, EARLY_SCENES, GUIDED_SCENES = 1_000_000, 2_000_000, 3_000_000


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
    early: GeneratorFile | None = None,
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
        early: the model with the early flow of ``start``; None if there is none, then one is trained.
    """
    check_folder(folder)
    target = folder / FILE
    if target.exists() and not overwrite:
        raise InputError(f"{target} is there already: pass --overwrite, or another folder with -o")
    if start is not None and start.recipe.get("guided_steps") and recipe.guided_steps and not recipe.flow_steps:
        raise InputError(
            f"flow_steps 0 and guided_steps {recipe.guided_steps} found with a model that has had its guided steps, expected one "
            "without: again they would overdo it; pass --flow-steps, or --guided-steps 0"
        )
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
            file, seconds = _Pretraining(folder, recipe, device, processes, resume, start, early).run()
            save_generator(target, file)
            write_text(folder / CARD, model_card(file.recipe, training_of(file, recipe, seconds, device)))
            if not recipe.guided_steps:
                # That of a model which was here before.
                (folder / EARLY).unlink(missing_ok=True)
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


def early_of(model: str, file: GeneratorFile) -> GeneratorFile | None:
    """The model with the early flow that lies beside a model, if there is one and it is of the same VAE."""
    folder = BASE.parent if model == "base" else Path(model) if Path(model).is_dir() else Path(model).parent
    if not (folder / EARLY).is_file():
        return None
    early = load_generator(folder / EARLY)
    mine, its = file.generator.vae.state_dict(), early.generator.vae.state_dict()
    is_same = early.generator.config == file.generator.config and all(torch.equal(mine[name], its[name]) for name in mine)
    return early if is_same else None


def _forget(folder: Path) -> None:
    """Remove the saved states of a folder."""
    for name in STATES:
        (folder / name).unlink(missing_ok=True)


def _check_states(folder: Path, recipe: Recipe, resume: bool, overwrite: bool) -> None:
    """InputError, before anything is written, if saved states would be lost, or are of another recipe."""
    for path in (folder / name for name in STATES):
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


@dataclass(frozen=True)
class _Pretraining:
    """A training in its parts, each with a saved state: the VAE, the flow, an early flow if there is none, the guided steps.

    Attributes are the arguments of ``pretrain``.
    """

    folder: Path
    recipe: Recipe
    device: torch.device
    processes: int
    resume: bool
    start: GeneratorFile | None
    early: GeneratorFile | None

    def run(self) -> tuple[GeneratorFile, float]:
        """The trained model, and the seconds that its training took, before it was resumed too."""
        recipe = self.recipe
        torch.manual_seed(recipe.seed)
        generator = Generator(recipe.sizes)
        if self.start is not None:
            generator.load_state_dict(self.start.generator.state_dict())
        generator.to(self.device)
        seconds = self._train_vae(generator) if recipe.vae_steps else 0.0
        # An early flow over the latents of another VAE is of no use.
        early = None if self.early is None or recipe.vae_steps else self.early.generator.flow
        if recipe.flow_steps:
            early_here, more = self._train_flow(generator)
            early, seconds = early_here or early, seconds + more
        if recipe.guided_steps:
            if early is None:
                early, more = self._train_early(generator)
                seconds += more
            self._save_early(generator, early)
            seconds += self._guide(generator, early)
        log.info("trained in %.0f seconds", seconds)
        return self._file(generator), seconds

    def _file(self, generator: Generator) -> GeneratorFile:
        plain = plain_recipe(self.recipe) | ({} if self.start is None else {"before": self.start.recipe})
        return GeneratorFile(generator.cpu(), self.recipe.patches.side, plain)

    def _pool(self, config: PoolConfig, first_scene: int = 0) -> PairPool:
        return PairPool(replace(self.recipe.patches, seed=self.recipe.seed), config, self.processes, first_scene)

    def _train_vae(self, generator: Generator) -> float:
        """Train the VAE of a generator in place; returns the seconds that it took."""
        recipe = self.recipe
        with self._pool(recipe.pool) as pool:
            first = first_patches(pool, recipe.seed)
            if self.start is None:
                generator.vae.cpu().start_from(first)
                generator.to(self.device)
            settings = recipe.training(recipe.vae_steps, recipe.vae_batch)
            method = VAETraining(generator.vae, pool, settings, recipe.generative, self.device)
            trained, seconds = self._run(VAE_STATE, Trainer(method), "training the VAE")
        generator.vae.load_state_dict(trained.state_dict())
        generator.measure_latents(first.to(self.device))
        return seconds

    def _train_flow(self, generator: Generator) -> tuple[LatentFlow | None, float]:
        """Train the flow of a generator in place; returns its early state, if there are steps for details, and the seconds."""
        recipe = self.recipe
        with self._pool(recipe.flow_pool, FLOW_SCENES) as pool:
            settings = recipe.training(recipe.flow_steps, recipe.flow_batch)
            method = FlowTraining(generator, pool, settings, recipe.generative, self.device)
            trained, seconds = self._run(FLOW_STATE, Trainer(method), "training the flow")
        generator.flow.load_state_dict(trained.state_dict())
        if method.early is None:
            return None, seconds
        early = copy.deepcopy(generator.flow)
        early.load_state_dict(method.early)
        return early, seconds

    def _train_early(self, generator: Generator) -> tuple[LatentFlow, float]:
        """An early flow from random weights, which learns details alone; and the seconds that it took."""
        recipe = self.recipe
        new = copy.deepcopy(generator)
        torch.manual_seed(recipe.seed)
        new.flow = LatentFlow(recipe.sizes.flow, generator.flow.channels, generator.flow.stride).to(self.device)
        with self._pool(recipe.flow_pool, EARLY_SCENES) as pool:
            settings = recipe.training(recipe.early_steps, recipe.flow_batch)
            method = FlowTraining(new, pool, settings, replace(recipe.generative, detail_until=1.0), self.device)
            return self._run(EARLY_STATE, Trainer(method), "training an early flow")

    def _save_early(self, generator: Generator, early: LatentFlow) -> None:
        """Keep the early flow beside the model."""
        file = self._file(copy.deepcopy(generator))
        file.generator.flow.load_state_dict(early.state_dict())
        save_generator(self.folder / EARLY, file)

    def _guide(self, generator: Generator, early: LatentFlow) -> float:
        """Train the guided steps of the flow of a generator in place; returns the seconds that they took."""
        recipe = self.recipe
        with self._pool(recipe.flow_pool, GUIDED_SCENES) as pool:
            settings = recipe.training(recipe.guided_steps, recipe.flow_batch)
            method = GuidedTraining(generator, early, pool, settings, recipe.generative, self.device)
            trained, seconds = self._run(GUIDED_STATE, Trainer(method), "training the flow, guided")
        generator.flow.load_state_dict(trained.state_dict())
        return seconds

    def _run(self, name: str, trainer: Trainer[Any, Any], title: str) -> tuple[Any, float]:
        """Train one part to the end, or go on with it; its state stays in the folder for a run that is resumed later.

        Returns:
            The trained network, and the seconds that it took.
        """
        path, began = self.folder / name, time.monotonic()
        if self.resume and path.is_file():
            state = _load(path, self.recipe)
            check_fits(path, state, trainer.network, trainer.optimiser)
            trainer.resume(state)
            began -= float(state.get("seconds", 0.0))
            log.info("%s resumed at step %d", title, trainer.step)

        def save(state: dict[str, Any]) -> None:
            save_state(path, state | {"recipe": _recorded(self.recipe), "seconds": time.monotonic() - began})
            log.info("saved at step %d", state["step"])

        with Watch(title, trainer.config.steps, trainer.step) as watch, stoppable() as stop:
            trained = trainer.run(_shown(watch), save, stop)
            save(trainer.state())
            if stop():
                raise Interrupted(trainer.step)
        return trained, time.monotonic() - began


def training_of(file: GeneratorFile, recipe: Recipe, seconds: float, device: torch.device) -> Training:
    """How the training went, for the card."""
    command = ["cryovae pretrain", f"--vae-steps {recipe.vae_steps}", f"--flow-steps {recipe.flow_steps}"]
    command += [f"--guided-steps {recipe.guided_steps}"]
    command += ["--from MODEL"] if recipe.start else []
    command += ["--latent large"] if recipe.sizes == recipe_of("large").sizes and not recipe.start else []
    command += [f"--beta {recipe.generative.beta:g}"] if recipe.generative.beta != 1 else []
    command += [f"--divergence {recipe.generative.divergence}"] if recipe.generative.divergence != "kl" else []
    command += [f"--seed {recipe.seed}"] if recipe.seed else []
    command += [f"--molecule {Path(path).name}" for path in recipe.patches.molecules]
    cpu = f"{torch.get_num_threads()} thread{'s' * (torch.get_num_threads() > 1)} of a CPU"
    machine = torch.cuda.get_device_name(device) if device.type == "cuda" else cpu
    weights = sum(parameter.numel() for parameter in file.generator.parameters())
    return Training(" ".join(command), seconds, f"{machine}, torch {torch.__version__}", weights, __version__)


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
