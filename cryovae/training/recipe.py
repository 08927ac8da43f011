"""The recipe of a generative model: sizes, patches, losses and steps; that of the package's base, and that of a GPU."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

from cryovae.errors import InputError
from cryovae.generator_file import GeneratorFile
from cryovae.models.generator import GeneratorConfig
from cryovae.models.latent_flow import LatentFlowConfig
from cryovae.models.patch_vae import PatchVAEConfig
from cryovae.models.precision import PRECISIONS
from cryovae.physics.observation import ENTRIES
from cryovae.ranges import OneOf, Range, check_fields
from cryovae.simulation.patches import PatchConfig
from cryovae.simulation.pool import PoolConfig
from cryovae.training.generative import GenerativeConfig
from cryovae.training.method import TrainingConfig


@dataclass(frozen=True)
class Recipe:
    """All that determines a generative model, but the files of molecules themselves.

    Attributes:
        sizes: of the networks.
        patches: what patches show.
        pool: how many scenes the patches of the VAE are drawn from at once.
        flow_pool: the same for the flow.
        generative: weights of the losses.
        vae_steps: steps of the VAE.
        flow_steps: steps of the flow.
        early_steps: steps of an early flow, if a training goes on with a model whose early flow is not at hand.
        guided_steps: steps of the flow, after all others, that move its prior away from the early flow; 0 for none.
        vae_batch: patches a step of the VAE.
        flow_batch: patches a step of the flow.
        learning_rate: highest learning rate of both.
        ema: decay of the averaged weights.
        precision: of the convolutions.
        seed: of all random numbers.
        start: SHA-256 of the model that the training begins with; none for random weights.
    """

    sizes: GeneratorConfig = field(default_factory=GeneratorConfig)
    patches: PatchConfig = field(default_factory=PatchConfig)
    pool: PoolConfig = field(default_factory=PoolConfig)
    flow_pool: PoolConfig = field(default_factory=lambda: PoolConfig(steps_per_scene=8))
    generative: GenerativeConfig = field(default_factory=GenerativeConfig)
    vae_steps: Annotated[int, Range(0, 10**8)] = 5000
    flow_steps: Annotated[int, Range(0, 10**8)] = 13_500
    early_steps: Annotated[int, Range(1, 10**8)] = 3000
    guided_steps: Annotated[int, Range(0, 10**8)] = 1500
    vae_batch: Annotated[int, Range(1, 4096)] = 8
    flow_batch: Annotated[int, Range(1, 4096)] = 16
    learning_rate: Annotated[float, Range(0, 1, above=True)] = 1e-3
    ema: Annotated[float, Range(0, 1, below=True)] = 0.999
    precision: Annotated[str, OneOf(PRECISIONS)] = "auto"
    seed: Annotated[int, Range(0, 2**31)] = 0
    start: str = ""

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.vae_steps and not self.start:
            raise InputError("vae_steps 0 found, expected 1 or more, or a model to begin with, whose VAE is kept")
        if not self.flow_steps and not self.start:
            raise InputError("flow_steps 0 found, expected 1 or more, or a model to begin with, whose flow is kept")
        if self.vae_steps and not self.flow_steps:
            raise InputError(f"flow_steps 0 found with vae_steps {self.vae_steps}, expected 1 or more: the flow is of one VAE")
        if not self.vae_steps + self.flow_steps + self.guided_steps:
            raise InputError("vae_steps, flow_steps and guided_steps of 0 found, expected something to train: give one of them")
        unit = 2 * self.sizes.vae.stride
        if self.patches.side % unit:
            raise InputError(f"side {self.patches.side} found, expected a multiple of {unit}, twice the stride of the latents")
        if self.sizes.flow.entries != ENTRIES:
            raise InputError(f"entries {self.sizes.flow.entries} found, expected {ENTRIES}, as patches have")

    def with_steps(self, **counts: int) -> Recipe:
        """The recipe with other numbers of steps: ``vae_steps``, ``flow_steps``, ``guided_steps``."""
        return replace(self, **counts)  # type: ignore[arg-type]

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
        pool = PoolConfig(256, 1)
        return Recipe(
            sizes,
            patches,
            pool,
            pool,
            vae_steps=20_000,
            flow_steps=100_000,
            early_steps=30_000,
            guided_steps=10_000,
            vae_batch=32,
            flow_batch=64,
        )
    raise InputError(f"--latent {latent} found, expected {' or '.join(LATENT)}")


def recipe_from(recipe: Recipe, model: GeneratorFile, digest: str) -> Recipe:
    """A recipe that goes on with a trained model: its sizes and the side of its patches, new scenes, no steps for details alone.

    All else, such as kinds of molecules, pools, batches and steps, is that of ``recipe``.

    Args:
        recipe: settings of the training.
        model: to begin with.
        digest: its SHA-256.
    """
    return replace(
        recipe,
        sizes=model.generator.config,
        patches=replace(recipe.patches, side=model.patch),
        generative=replace(recipe.generative, detail_until=0.0),
        seed=recipe.seed or int(model.recipe.get("seed", 0)) + 1,
        start=digest,
    )


def plain_recipe(recipe: Recipe) -> dict[str, Any]:
    """A recipe as plain values, with the names of the molecules instead of their paths, and the seed of its scenes."""
    plain = asdict(recipe)
    plain["patches"]["seed"] = recipe.seed
    plain["patches"]["molecules"] = [Path(path).name for path in recipe.patches.molecules]
    return plain
