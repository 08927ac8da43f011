"""Training of the generative model on simulated pairs: first the VAE by its ELBO, then the flow over its latents.

The flow is trained on sampled latents. With the condition of the observed patch it becomes the sampler of the posterior, without
it the prior; a head that predicts the mean of the latents makes the features of the condition useful from the first steps.

A network that is small, or not trained for long, averages over structures that it cannot tell apart: draws of the prior have too
little contrast. Its early state made the same errors, only larger, so the way from there to here points to the truth. The last
steps go further on it: the velocity without a condition learns

    u + w (u - early)      u the velocity that was trained so far, w the guidance

(Karras et al. 2024, "Guiding a diffusion model with a bad version of itself"; Meng et al. 2023, "On distillation of guided
diffusion models"). With a condition it stays u: guidance made samples of the posterior worse.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, replace
from typing import Annotated, Any, Protocol

import torch
from torch import Tensor, nn

from cryovae.data.sampling import step_generator
from cryovae.models.generator import Generator
from cryovae.models.latent_flow import LatentFlow
from cryovae.models.patch_vae import PatchVAE
from cryovae.models.precision import convolving
from cryovae.objectives.aggregate import DISTANCES, cloud_distance
from cryovae.objectives.generative import DETAIL, LAYOUT, draw_flow, flow_matching, mean_error, patch_bound, scored_places
from cryovae.objectives.schedules import learning_rate_at
from cryovae.ranges import OneOf, Range, check_fields
from cryovae.simulation.patches import Pairs
from cryovae.training.method import Method, Network, TrainingConfig, timed
from cryovae.training.muon import Muon, hidden_convolutions

# Patches from which the principal components, and mean and scale of the latents, are computed.
FIRST_PATCHES = 512


@dataclass(frozen=True)
class GenerativeConfig:
    """Weights of the losses of the generative model, and a rate.

    Attributes:
        beta: weight of the KL of the VAE, or of the distance in its place; 1 is the ELBO.
        divergence: kl, or the distance of the aggregated posterior from N(0, I) that a Wasserstein autoencoder has in its place.
        conditioned: share of the patches with a condition while details are learned; the others train the prior.
        layout_conditioned: the same while the layout is learned, which a condition gives away.
        mean_weight: weight of the prediction of the mean of the latents.
        hidden_rate: highest learning rate of Muon, for the hidden convolutions.
        detail_until: share of the steps of the flow, at their beginning, in which most times are small; then it is early.
        guidance: w, how far the prior is moved away from the early flow.
        guided_pace: learning rates of the guided steps, relative to the highest before.
    """

    beta: Annotated[float, Range(0, 1000)] = 1.0
    divergence: Annotated[str, OneOf(("kl", *DISTANCES))] = "kl"
    conditioned: Annotated[float, Range(0, 1)] = 0.55
    layout_conditioned: Annotated[float, Range(0, 1)] = 0.3
    mean_weight: Annotated[float, Range(0, 100)] = 0.5
    hidden_rate: Annotated[float, Range(0, 1, above=True)] = 5e-3
    detail_until: Annotated[float, Range(0, 1)] = 2 / 9
    guidance: Annotated[float, Range(0, 10)] = 0.8
    guided_pace: Annotated[float, Range(0, 1, above=True)] = 0.1

    def __post_init__(self) -> None:
        check_fields(self)


class PairSource(Protocol):
    """Where batches of pairs come from."""

    def batch(self, step: int, size: int, generator: torch.Generator) -> Pairs:
        """``size`` pairs of a step."""


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
        self, network: Network, pool: PairSource, config: TrainingConfig, generative: GenerativeConfig, device: torch.device
    ) -> None:
        super().__init__(network, config, device)
        self.pool, self.generative = pool, generative

    def draw(self, step: int) -> Pairs:
        """Pairs of the pool."""
        return self.pool.batch(step, self.config.batch, step_generator(self.config.seed, 2 * step))


class VAETraining(PairTraining[PatchVAE]):
    """The VAE of clean patches, trained by its ELBO, or as a Wasserstein autoencoder."""

    def backward(self, batch: Pairs, step: int, seconds: dict[str, float]) -> dict[str, Tensor]:
        """Gradients of the negative objective, a mean over voxels, so that their size does not depend on the patch."""
        density = batch.clean.to(self.device)
        with timed(seconds, "forward"):
            generator = step_generator(self.config.seed, 2 * step + 1)
            shape = (len(density), *self.network.latent_shape(density[0].shape))  # type: ignore[arg-type]
            noise = torch.randn(shape, generator=generator).to(self.device)
            with convolving(self.device, self.mixed):
                bound = patch_bound(self.network, density, noise)
            penalty = bound.kl.mean()
            if self.generative.divergence != "kl":
                prior = torch.randn(shape, generator=generator).to(self.device)
                penalty = cloud_distance(bound.latents, prior, self.generative.divergence, generator) / len(density)
            loss = (self.generative.beta * penalty - bound.log_likelihood.mean()) / density[0].numel()
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

    Attributes:
        early: weights of the flow at the end of the steps for details, by name; None before, and where there are no such steps.
    """

    early: dict[str, Tensor] | None = None

    def __init__(
        self, generator: Generator, pool: PairSource, config: TrainingConfig, generative: GenerativeConfig, device: torch.device
    ) -> None:
        super().__init__(generator.flow, pool, config, generative, device)
        self.generator = copy.deepcopy(generator).to(device).requires_grad_(False)
        self.weights = self.generator.channel_weights()
        self.layout_start = math.ceil(generative.detail_until * config.steps)
        self.refill_at = frozenset((self.layout_start,) if self.layout_start else ())

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
        with timed(seconds, "forward"), convolving(self.device, self.mixed):
            latents = self._latents(batch.clean.to(self.device), rng)
            times, conditioned = self._phase(step)
            drawn = draw_flow(latents.shape, conditioned, rng, times).to(self.device)
            context = self.generator.context(observation, self.network)
            places = self._places(batch)
            error = flow_matching(self.network, latents, context, drawn, self.weights, places)
            of_mean = mean_error(context.mean.float() - latents, self.weights, places).mean()
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

    def refill(self, average: LatentFlow, step: int) -> None:
        """Keep the early flow."""
        self.early = {name: value.detach().cpu().clone() for name, value in average.state_dict().items()}

    def state(self) -> dict[str, Any]:
        """The early flow."""
        return {} if self.early is None else {"early": self.early}

    def resume(self, state: dict[str, Any]) -> None:
        """Continue with the early flow of a saved state."""
        self.early = state.get("early")

    def _phase(self, step: int) -> tuple[tuple[float, float], float]:
        """Law of the times, and share of the patches with a condition, at a step."""
        g = self.generative
        return (DETAIL, g.conditioned) if step < self.layout_start else (LAYOUT, g.layout_conditioned)

    def _places(self, batch: Pairs) -> Tensor | None:
        """Places of the latents that are scored."""
        places = scored_places(batch.scored, self.generator.config.vae.stride)
        return None if places is None else places.to(self.device)

    @torch.no_grad()
    def _latents(self, density: Tensor, rng: torch.Generator) -> Tensor:
        q = self.generator.vae.encode(density)
        noise = torch.randn(q.mean.shape, generator=rng).to(self.device)
        return self.generator.standardised(q.sample(noise)).float()


class GuidedTraining(FlowTraining):
    """The last steps of a flow: its prior moves away from an early state of it. The network of the condition stays as it is.

    Args:
        generator: the model, with a trained flow; a copy of that is trained.
        early: the early flow.
        pool: of pairs.
        config: training settings.
        generative: weights of the losses.
        device: where the flow and its batches are.
    """

    def __init__(
        self,
        generator: Generator,
        early: LatentFlow,
        pool: PairSource,
        config: TrainingConfig,
        generative: GenerativeConfig,
        device: torch.device,
    ) -> None:
        super().__init__(generator, pool, config, replace(generative, detail_until=0.0), device)
        self.early_flow = copy.deepcopy(early).to(device, memory_format=torch.channels_last_3d).requires_grad_(False)  # type: ignore[call-overload]
        for part in self.network.condition_parts():
            part.requires_grad_(False)

    def learning_rates(self, step: int) -> list[float]:
        """Low ones: the flow is near to what it learns."""
        return [self.generative.guided_pace * rate for rate in super().learning_rates(step)]

    def backward(self, batch: Pairs, step: int, seconds: dict[str, float]) -> dict[str, Tensor]:
        """Gradients of the mean squared distance from the guided velocity."""
        rng = step_generator(self.config.seed, 2 * step + 1)
        observation = batch.observation.map(lambda part: part.to(self.device))
        with timed(seconds, "forward"), convolving(self.device, self.mixed):
            latents = self._latents(batch.clean.to(self.device), rng)
            times, conditioned = self._phase(step)
            drawn = draw_flow(latents.shape, conditioned, rng, times).to(self.device)
            with torch.no_grad():
                context = self.generator.context(observation, self.network)
                context, state = context.kept(drawn.has_condition), drawn.state(latents)
                own = self.generator.flow(state, drawn.time, context)
                way = own - self.early_flow(state, drawn.time, context)
                wanted = own + self.generative.guidance * (1 - drawn.has_condition).view(-1, 1, 1, 1, 1) * way
            velocity = self.network(state, drawn.time, context)
            error = ((velocity - wanted).square().mean((2, 3, 4)) * self.weights).mean(1)
            before = ((own - wanted).square().mean((2, 3, 4)) * self.weights).mean(1)
        with timed(seconds, "backward"):
            error.mean().backward()  # type: ignore[no-untyped-call]
        return {"loss": error.mean(), "distance": error.mean(), "distance_before": before.mean()}


def first_patches(pool: PairSource, seed: int) -> Tensor:
    """Clean patches (n, z, y, x) by which a VAE begins and latents are measured."""
    return pool.batch(0, FIRST_PATCHES, step_generator(seed, 2**40)).clean
