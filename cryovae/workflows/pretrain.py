"""cryovae pretrain: a generative model of simulated patches, from nothing to its file, with saved states between."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import torch

from cryovae.checkpoint import load_state, save_state
from cryovae.errors import InputError
from cryovae.generator_file import FILE, GeneratorFile, save_generator
from cryovae.io.claim import HeldByOther, claimed
from cryovae.io.molecules import MAPS, MODELS, read_molecule
from cryovae.io.outputs import check_folder
from cryovae.models.generator import Generator, GeneratorConfig
from cryovae.models.latent_flow import LatentFlowConfig
from cryovae.models.patch_vae import PatchVAEConfig
from cryovae.models.precision import PRECISIONS
from cryovae.physics.observation import ENTRIES
from cryovae.ranges import OneOf, Range, check_fields
from cryovae.saved_state import ANEW, check_fits
from cryovae.simulation.patches import PatchConfig
from cryovae.simulation.pool import PairPool, PoolConfig
from cryovae.training.generative import FlowTraining, GenerativeConfig, VAETraining, first_patches
from cryovae.training.trainer import Interrupted, Report, Trainer, TrainingConfig
from cryovae.workflows.progress import Watch
from cryovae.workflows.signals import stoppable

log = logging.getLogger("cryovae")
SHOWN = ("elbo", "kl", "squared_error", "prior", "posterior", "mean", "norm")
VAE_STATE, FLOW_STATE = "vae.pt", "flow.pt"
# Scenes of the VAE and of the flow have other numbers.
FLOW_SCENES = 1_000_000


@dataclass(frozen=True)
class Recipe:
    """All that determines a generative model, but the files of molecules themselves.

    Attributes:
        sizes: of the networks.
        patches: what patches show.
        pool: how many scenes patches are drawn from at once.
        generative: weights of the losses.
        vae_steps: steps of the VAE.
        flow_steps: steps of the flow.
        vae_batch: patches a step of the VAE.
        flow_batch: patches a step of the flow.
        learning_rate: highest learning rate of both.
        ema: decay of the averaged weights.
        precision: of the convolutions.
        seed: of all random numbers.
    """

    sizes: GeneratorConfig = field(default_factory=GeneratorConfig)
    patches: PatchConfig = field(default_factory=PatchConfig)
    pool: PoolConfig = field(default_factory=PoolConfig)
    generative: GenerativeConfig = field(default_factory=GenerativeConfig)
    vae_steps: Annotated[int, Range(1, 10**8)] = 1500
    flow_steps: Annotated[int, Range(1, 10**8)] = 6000
    vae_batch: Annotated[int, Range(1, 4096)] = 8
    flow_batch: Annotated[int, Range(1, 4096)] = 16
    learning_rate: Annotated[float, Range(0, 1, above=True)] = 1e-3
    ema: Annotated[float, Range(0, 1, below=True)] = 0.999
    precision: Annotated[str, OneOf(PRECISIONS)] = "bfloat16"
    seed: Annotated[int, Range(0, 2**31)] = 0

    def __post_init__(self) -> None:
        check_fields(self)
        unit = 2 * self.sizes.vae.stride
        if self.patches.side % unit:
            raise InputError(f"side {self.patches.side} found, expected a multiple of {unit}, twice the stride of the latents")
        if self.sizes.flow.entries != ENTRIES:
            raise InputError(f"entries {self.sizes.flow.entries} found, expected {ENTRIES}, as patches have")

    def training(self, steps: int, batch: int) -> TrainingConfig:
        """The settings of the trainer for one of the two networks."""
        return TrainingConfig(
            patch=self.patches.side,
            batch=batch,
            steps=steps,
            learning_rate=self.learning_rate,
            ema=self.ema,
            clip=1.0,
            validate_every=500,
            checkpoint_minutes=3.0,
            precision=self.precision,
            seed=self.seed,
        )


LATENT = ("base", "large")


def recipe_of(latent: str) -> Recipe:
    """The recipe of a name: 'base', for two cores in hours, or 'large', for a GPU. InputError if there is none."""
    if latent == "base":
        return Recipe()
    if latent == "large":
        sizes = GeneratorConfig(
            PatchVAEConfig(channels=24, width=192, fine_width=64, blocks=3, model_variance=0.01),
            LatentFlowConfig(width=256, coarse_width=384, blocks=4, condition_width=192, condition_blocks=4, embedding=512),
        )
        patches = PatchConfig(side=48, kinds=4096)
        return Recipe(sizes, patches, PoolConfig(256, 1), vae_steps=20_000, flow_steps=100_000, vae_batch=32, flow_batch=64)
    raise InputError(f"--latent {latent} found, expected {' or '.join(LATENT)}")


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


def pretrain(folder: Path, recipe: Recipe, device: torch.device, processes: int, resume: bool, overwrite: bool) -> Path:
    """Train a generative model, or go on with one; returns its file.

    Args:
        folder: for the model, its saved states and log.
        recipe: what is trained.
        device: where.
        processes: how many others make scenes.
        resume: go on from the saved states of the folder.
        overwrite: whether a model that is there is replaced.
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
            file = _trained(folder, recipe, device, processes, resume)
            save_generator(target, file)
            _forget(folder)
    except HeldByOther as held:
        raise InputError(f"{folder} is in use by another run, expected a folder of its own: give another with -o") from held
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
        handler.close()
    return target


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


def _trained(folder: Path, recipe: Recipe, device: torch.device, processes: int, resume: bool) -> GeneratorFile:
    torch.manual_seed(recipe.seed)
    generator = Generator(recipe.sizes)
    began = time.monotonic()
    patches = replace(recipe.patches, seed=recipe.seed)
    with PairPool(patches, recipe.pool, processes) as pool:
        settings = recipe.training(recipe.vae_steps, recipe.vae_batch)
        first = first_patches(pool, recipe.seed)
        generator.vae.start_from(first)
        generator.to(device)
        method = VAETraining(generator.vae, pool, settings, recipe.generative, device)
        trained = _run(folder / VAE_STATE, Trainer(method), recipe, "training the VAE", resume)
        generator.vae.load_state_dict(trained.state_dict())
        generator.measure_latents(first.to(device))
    with PairPool(patches, recipe.pool, processes, FLOW_SCENES) as pool:
        settings = recipe.training(recipe.flow_steps, recipe.flow_batch)
        flow = FlowTraining(generator, pool, settings, recipe.generative, device)
        trained_flow = _run(folder / FLOW_STATE, Trainer(flow), recipe, "training the flow", resume)
        generator.flow.load_state_dict(trained_flow.state_dict())
    log.info("trained in %.0f seconds", time.monotonic() - began)
    return GeneratorFile(generator.cpu(), recipe.patches.side, plain_recipe(recipe))


def plain_recipe(recipe: Recipe) -> dict[str, Any]:
    """A recipe as plain values, with the names of the molecules instead of their paths."""
    plain = asdict(recipe)
    plain["patches"]["molecules"] = [Path(path).name for path in recipe.patches.molecules]
    return plain


def _run(path: Path, trainer: Trainer[Any, Any], recipe: Recipe, title: str, resume: bool) -> Any:
    """Train one of the networks to the end, or go on with it; its state stays in ``path`` for a run that is resumed later."""
    if resume and path.is_file():
        state = _load(path, recipe)
        check_fits(path, state, trainer.network, trainer.optimiser)
        trainer.resume(state)
        log.info("%s resumed at step %d", title, trainer.step)

    def save(state: dict[str, Any]) -> None:
        save_state(path, state | {"recipe": _recorded(recipe)})
        log.info("saved at step %d", state["step"])

    with Watch(title, trainer.config.steps, trainer.step) as watch, stoppable() as stop:
        trained = trainer.run(_shown(watch), save, stop)
        save(trainer.state())
        if stop():
            raise Interrupted(trainer.step)
    return trained


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
