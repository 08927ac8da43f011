"""Training of a ladder on simulated patches, whose truth is known, so that it restores a tomogram that it has not seen.

    u = F^-1[ M F (y - level) ] / s          y the measured patch, level its mean, s the standard deviation of its scene's data
    means:    sum_k w(k) | F( T (x - level - s G( E_r[z | u] )) ) |^2               T a taper, w(k) = (P(k) + 1)^-1/2
    widths:   sum_k log P_d + |F(T e)|^2 / P_d,  P_d the power of samples about the mean by shell, in and out of the wedge

The ladder is conditioned on the traits of the tomogram of a patch (physics/traits.py): its spectrum and its noise. Those of some
patches are held back, and the noise of others, because tomograms without halves have none that is known.

First r's means, the decoder and the features are trained by the error of the mean. P is the power of a typical specimen: with the
root of it as weight, fine detail counts as well. Then r's widths alone are trained, by the likelihood of the errors e. In the end
q is started from r, so that a training on a tomogram may go on with all of it.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from cryovae import fourier
from cryovae.data.sampling import step_generator
from cryovae.errors import InputError
from cryovae.models.ladder import Ladder, R
from cryovae.models.ladder_config import LadderConfig
from cryovae.models.precision import precision_of
from cryovae.objectives.schedules import learning_rate_at
from cryovae.physics.observation import typical_power
from cryovae.physics.traits import without_noise
from cryovae.physics.wedge import smeared_mask
from cryovae.ranges import Range, check_fields
from cryovae.simulation.patches import Pairs, PatchConfig
from cryovae.simulation.pool import PoolConfig
from cryovae.tiling.grid import levels
from cryovae.tomogram import TiltGeometry
from cryovae.training.generative import PairSource
from cryovae.training.method import Method, TrainingConfig, timed

# Shares of the patches of which the noise is held back, and all traits.
NOISE_HELD_BACK, TRAITS_HELD_BACK = 0.35, 0.05
# Standard deviation of the error that is added to traits: they are measured on other patches than those of the training.
TRAITS_ERROR = 0.02
# Share of the steps, at the end, in which r's widths are trained.
WIDTHS_SHARE = 0.12
# Power of the detail, in that of noise of variance 1 a voxel, from which it counts no more than what is coarser.
FLOOR = 1.0
# Voxels at the border of a patch in which errors count less and less, because the network lacks the data beyond.
BORDER = 6
# Shells, in cycles per voxel, in which the power of samples is compared with that of errors.
EDGES = (0.0, 0.03, 0.06, 0.1, 0.15, 0.2, 0.3, 0.5)


@dataclass(frozen=True)
class LadderRecipe:
    """All that determines the network, but the files of molecules themselves, and the precision of the processor.

    Attributes:
        sizes: of the ladder.
        patches: what patches show.
        pool: how many scenes the patches are drawn from at once.
        steps: of the training.
        batch: patches a step.
        learning_rate: highest learning rate.
        ema: decay of the averaged weights.
        seed: of all random numbers.
    """

    sizes: LadderConfig = field(default_factory=lambda: LadderConfig(widths=(16, 32, 64, 128), latents=(4, 8, 16, 16), blocks=1))
    patches: PatchConfig = field(
        default_factory=lambda: PatchConfig(side=40, snr=(0.03, 3.0), cuts=24, fall_off=3000.0, lamellae=0.25)
    )
    pool: PoolConfig = field(default_factory=lambda: PoolConfig(scenes=32, steps_per_scene=14))
    steps: Annotated[int, Range(1, 10**8)] = 11000
    batch: Annotated[int, Range(1, 4096)] = 4
    learning_rate: Annotated[float, Range(0, 1, above=True)] = 8e-4
    ema: Annotated[float, Range(0, 1, below=True)] = 0.998
    seed: Annotated[int, Range(0, 2**31)] = 0

    def __post_init__(self) -> None:
        check_fields(self)
        if self.patches.side % self.sizes.stride:
            raise InputError(f"side {self.patches.side} found, expected a multiple of {self.sizes.stride}, the coarsest stride")

    def training(self) -> TrainingConfig:
        """The settings of the trainer."""
        return TrainingConfig(
            patch=self.patches.side,
            batch=self.batch,
            steps=self.steps,
            learning_rate=self.learning_rate,
            ema=self.ema,
            clip=1.0,
            validate_every=500,
            checkpoint_minutes=4.0,
            seed=self.seed,
        )

    def plain(self) -> dict[str, Any]:
        """The recipe as plain values, with the names of the molecules instead of their paths."""
        plain = asdict(self)
        plain["patches"]["seed"] = self.seed
        plain["patches"]["molecules"] = [Path(path).name for path in self.patches.molecules]
        return plain


class LadderTraining(Method[Ladder, Pairs]):
    """A ladder trained on pairs of a pool.

    Args:
        network: the ladder to begin with; a copy is trained.
        pool: of pairs, with the scale of their data.
        config: training settings.
        device: where the network and its batches are.
    """

    def __init__(self, network: Ladder, pool: PairSource, config: TrainingConfig, device: torch.device) -> None:
        super().__init__(network, config, device)
        self.pool = pool
        self.phase_start = math.ceil((1 - WIDTHS_SHARE) * config.steps)
        shape = (config.patch,) * 3
        radius = fourier.radius(shape)
        power = typical_power(radius)
        weights = (power + FLOOR).rsqrt() * fourier.multiplicity(shape)
        self.weights = (weights / (weights * power).mean()).to(device)
        self.taper = _taper(config.patch).to(device)
        self.shells = torch.bucketize(radius, torch.tensor(EDGES[1:-1]), right=True).to(device)
        self._masks: dict[TiltGeometry, Tensor] = {}

    def draw(self, step: int) -> Pairs:
        """Pairs of the pool."""
        return self.pool.batch(step, self.config.batch, step_generator(self.config.seed, 2 * step))

    def parameter_groups(self) -> list[list[nn.Parameter]]:
        """Two groups: all but r's widths, and those."""
        widths = self.network.spread_parameters()
        known = {id(parameter) for parameter in widths}
        return [[parameter for parameter in self.network.parameters() if id(parameter) not in known], widths]

    def learning_rates(self, step: int) -> list[float]:
        """A rise and a fall for each group, in the steps that train it."""
        start, steps, highest = self.phase_start, self.config.steps, self.config.learning_rate
        last = max(steps - start, 1)
        return [learning_rate_at(step, max(start, 1), highest), learning_rate_at(max(step - start, 0), last, highest)]

    def clipped(self, step: int) -> list[list[nn.Parameter]]:
        """r's widths in the last steps, all else before them."""
        means, widths = self.parameter_groups()
        return [widths] if step >= self.phase_start else [means]

    def backward(self, batch: Pairs, step: int, seconds: dict[str, float]) -> dict[str, Tensor]:
        """Gradients of the error of the mean, or of the likelihood of the errors under the widths."""
        assert batch.scale is not None
        scale = batch.scale.to(self.device).view(-1, 1, 1, 1)
        data = batch.observation.data.to(self.device) / scale
        level = levels(data)
        truth = batch.clean.to(self.device) / scale - level
        mask = torch.stack([self._mask(tilts) for tilts in batch.tilts])
        masked = fourier.filtered(data - level, mask)
        network = self.network
        with timed(seconds, "forward"), precision_of(network, self.mixed), network.conditioning(self._traits(batch, step)):
            terms = self._widths(masked, truth, mask, step) if step >= self.phase_start else self._means(masked, truth, scale)
        with timed(seconds, "backward"):
            parameters = self.clipped(step)[0]
            gradients = torch.autograd.grad(terms["loss"], parameters, allow_unused=True)
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.grad = gradient
        return terms

    def finished(self, network: Ladder) -> Ladder:
        """The network, its q started from r."""
        network.init_q_from_r()
        return network

    def _means(self, masked: Tensor, truth: Tensor, scale: Tensor) -> dict[str, Tensor]:
        error = scale * (truth - self.network.restore(self.network.encode(masked, R), None))
        spectrum = fourier.transform(error * self.taper).abs().square()
        return {"loss": (self.weights * spectrum).mean(), "squared_error": error.square().mean()}

    def _widths(self, masked: Tensor, truth: Tensor, mask: Tensor, step: int) -> dict[str, Tensor]:
        network = self.network
        generator = step_generator(self.config.seed, 2 * step + 1)
        noise = network.draw_noise(masked.shape[-3:], len(masked), generator)
        with torch.no_grad():
            features = network.encode(masked, R)
            error = truth - network.restore(features, None)
        plus, minus = network.restore_pair(features, noise)
        count = fourier.multiplicity(masked.shape[-3:]).to(self.device)
        powers = [fourier.transform(x * self.taper).abs().square() for x in (error, (plus - minus) / 2)]
        terms, ratios = [], []
        for inside in (mask > 0.5, mask <= 0.5):
            for shell in range(len(EDGES) - 1):
                bins = (self.shells == shell) * inside * count
                if not bool(bins.any()):
                    continue
                wrong, spread = ((power * bins).sum() / bins.sum() for power in powers)
                # A floor, so that no width vanishes: a millionth of the variance of the data.
                spread = spread + 1e-6
                terms.append(bins.sum() * (spread.log() + wrong / spread))
                ratios.append((wrong / spread).detach())
        voxels = masked.numel()
        return {"loss": torch.stack(terms).sum() / voxels, "error_over_std": torch.stack(ratios).mean().sqrt()}

    def _traits(self, batch: Pairs, step: int) -> Tensor | None:
        """The traits of each patch on which the ladder is conditioned, (batch, TRAITS); None if they are held back."""
        generator = step_generator(self.config.seed + 1, step)
        chance = torch.rand(2, generator=generator)
        if batch.traits is None or chance[0] < TRAITS_HELD_BACK:
            return None
        unknown = torch.rand((len(batch), 1), generator=generator) < NOISE_HELD_BACK
        error = TRAITS_ERROR * torch.randn(batch.traits.shape, generator=generator)
        return torch.where(unknown, without_noise(batch.traits), batch.traits).add(error).to(self.device)

    def _mask(self, tilts: TiltGeometry) -> Tensor:
        if tilts not in self._masks:
            if len(self._masks) > 4096:
                self._masks.clear()
            self._masks[tilts] = smeared_mask((self.config.patch,) * 3, tilts).to(self.device)
        return self._masks[tilts]


def _taper(side: int) -> Tensor:
    """1 inside a cube, falling to 0 over BORDER voxels at its faces, (side, side, side)."""
    place = torch.arange(side) + 0.5
    edge = (torch.minimum(place, side - place) / BORDER).clamp(max=1)
    profile = torch.sin(0.5 * math.pi * edge).square()
    return profile[:, None, None] * profile[:, None] * profile
