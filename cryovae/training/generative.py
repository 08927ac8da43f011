"""Training of the generative model on simulated pairs: first the VAE by its ELBO, then the flow over its latents.

The flow is trained on sampled latents. With the condition of the observed patch it becomes the sampler of the posterior, without
it the prior; a head that predicts the mean of the latents makes the features of the condition useful from the first steps.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor, nn

from cryovae.data.sampling import step_generator
from cryovae.models.generator import Generator
from cryovae.models.latent_flow import LatentFlow
from cryovae.models.patch_vae import PatchVAE
from cryovae.objectives.generative import DETAIL, LAYOUT, draw_flow, flow_matching, patch_bound
from cryovae.objectives.schedules import learning_rate_at
from cryovae.ranges import Range, check_fields
from cryovae.simulation.patches import Pairs
from cryovae.simulation.pool import PairPool
from cryovae.training.method import Method, Network, TrainingConfig, timed
from cryovae.training.muon import Muon, hidden_convolutions

# Patches from which the principal components, and mean and scale of the latents, are computed.
FIRST_PATCHES = 512


@dataclass(frozen=True)
class GenerativeConfig:
    """Weights of the losses of the generative model, and a rate.

    Attributes:
        beta: weight of the KL of the VAE; 1 is the ELBO.
        conditioned: share of the patches with a condition while details are learned; the others train the prior.
        layout_conditioned: the same while the layout is learned, which a condition gives away.
        mean_weight: weight of the prediction of the mean of the latents.
        hidden_rate: highest learning rate of Muon, for the hidden convolutions.
        detail_until: share of the steps of the flow, at their beginning, in which most times are small.
    """

    beta: Annotated[float, Range(0, 1000)] = 1.0
    conditioned: Annotated[float, Range(0, 1)] = 0.55
    layout_conditioned: Annotated[float, Range(0, 1)] = 0.3
    mean_weight: Annotated[float, Range(0, 100)] = 0.5
    hidden_rate: Annotated[float, Range(0, 1, above=True)] = 5e-3
    detail_until: Annotated[float, Range(0, 1)] = 1 / 3

    def __post_init__(self) -> None:
        check_fields(self)


class PairTraining(Method[Network, Pairs]):
    """A method whose batches are pairs of a pool.

    Args:
        network: the network to begin with; a copy is trained.
        pool: of pairs.
        config: training settings.
        generative: weights of the losses.
        device: where the network and its batches are.
    """

    def __init__(
        self, network: Network, pool: PairPool, config: TrainingConfig, generative: GenerativeConfig, device: torch.device
    ) -> None:
        super().__init__(network, config, device)
        self.pool, self.generative = pool, generative

    def draw(self, step: int) -> Pairs:
        """Pairs of the pool."""
        return self.pool.batch(step, self.config.batch, step_generator(self.config.seed, 2 * step))


class VAETraining(PairTraining[PatchVAE]):
    """The VAE of clean patches, trained by its ELBO."""

    def backward(self, batch: Pairs, step: int, seconds: dict[str, float]) -> dict[str, Tensor]:
        """Gradients of the negative ELBO, a mean over voxels, so that their size does not depend on the patch."""
        density = batch.clean.to(self.device)
        with timed(seconds, "forward"):
            noise = torch.randn(
                (len(density), *self.network.latent_shape(density[0].shape)),  # type: ignore[arg-type]
                generator=step_generator(self.config.seed, 2 * step + 1),
            ).to(self.device)
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.mixed):
                bound = patch_bound(self.network, density, noise)
            loss = (self.generative.beta * bound.kl - bound.log_likelihood).mean() / density[0].numel()
        with timed(seconds, "backward"):
            loss.backward()  # type: ignore[no-untyped-call]
        return {
            "loss": loss,
            "elbo": (bound.log_likelihood - bound.kl).mean() / density[0].numel(),
            "kl": bound.kl.mean() / density[0].numel(),
            "squared_error": bound.squared_error.mean(),
        }


class FlowTraining(PairTraining[LatentFlow]):
    """The flow over the latents of a trained VAE.

    Args:
        generator: the model, with a trained VAE; a copy of its flow is trained.
        pool: of pairs.
        config: training settings.
        generative: weights of the losses.
        device: where the flow and its batches are.
    """

    def __init__(
        self, generator: Generator, pool: PairPool, config: TrainingConfig, generative: GenerativeConfig, device: torch.device
    ) -> None:
        super().__init__(generator.flow, pool, config, generative, device)
        self.generator = copy.deepcopy(generator).to(device).requires_grad_(False)
        self.weights = self.generator.channel_weights()

    def parameter_groups(self) -> list[list[nn.Parameter]]:
        """Two groups: the hidden convolutions, and the rest."""
        matrices = hidden_convolutions(self.network, self.network.edges)
        taken = {id(weight) for weight in matrices}
        return [matrices, [weight for weight in self.network.parameters() if id(weight) not in taken]]

    def optimiser(self) -> torch.optim.Optimizer:
        """Muon for the first group, AdamW for the second."""
        matrices, others = self.parameter_groups()
        rates = self.generative.hidden_rate, self.config.learning_rate
        return Muon(matrices, others, rates, fused=self.device.type == "cuda")

    def learning_rates(self, step: int) -> list[float]:
        """Both follow the same schedule."""
        highest = self.generative.hidden_rate, self.config.learning_rate
        return [learning_rate_at(step, self.config.steps, rate) for rate in highest]

    def clipped(self, step: int) -> list[list[nn.Parameter]]:
        """All weights together: both groups are of one loss."""
        return [list(self.network.parameters())]

    def backward(self, batch: Pairs, step: int, seconds: dict[str, float]) -> dict[str, Tensor]:
        """Gradients of flow matching, and of the prediction of the latents."""
        rng = step_generator(self.config.seed, 2 * step + 1)
        observation = batch.observation.map(lambda part: part.to(self.device))
        with timed(seconds, "forward"), torch.autocast(self.device.type, torch.bfloat16, enabled=self.mixed):
            latents = self._latents(batch.clean.to(self.device), rng)
            times, conditioned = self._phase(step)
            drawn = draw_flow(latents.shape, conditioned, rng, times)
            drawn = type(drawn)(*(part.to(self.device) for part in (drawn.noise, drawn.time, drawn.has_condition)))
            context = self.network.context(observation.data, observation.linear, observation.information)
            error = flow_matching(self.network, latents, context, drawn, self.weights)
            of_mean = ((context.mean.float() - latents).square().mean((0, 2, 3, 4)) * self.weights).mean()
        with_condition = drawn.has_condition
        loss = error.mean() + self.generative.mean_weight * of_mean
        with timed(seconds, "backward"):
            loss.backward()  # type: ignore[no-untyped-call]
        return {
            "loss": loss,
            "prior": (error * (1 - with_condition)).sum() / (1 - with_condition).sum().clamp_min(1),
            "posterior": (error * with_condition).sum() / with_condition.sum().clamp_min(1),
            "mean": of_mean,
        }

    def _phase(self, step: int) -> tuple[tuple[float, float], float]:
        """Law of the times, and share of the patches with a condition, at a step."""
        g = self.generative
        return (DETAIL, g.conditioned) if step < g.detail_until * self.config.steps else (LAYOUT, g.layout_conditioned)

    @torch.no_grad()
    def _latents(self, density: Tensor, rng: torch.Generator) -> Tensor:
        q = self.generator.vae.encode(density)
        noise = torch.randn(q.mean.shape, generator=rng).to(self.device)
        return self.generator.standardised(q.sample(noise)).float()


def first_patches(pool: PairPool, seed: int) -> Tensor:
    """Clean patches (n, z, y, x) by which a VAE begins and latents are measured."""
    return pool.batch(0, FIRST_PATCHES, step_generator(seed, 2**40)).clean
