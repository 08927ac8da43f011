"""Langevin steps in the latents of a volume, from a sample of the flow (CryoWGEN-II).

    u    =  (1 - t) z + t e,   e ~ N(0, I)                                  t = BLUR
    s(u) =  -( u + (1 - t) v(u, t) ) / t                                    the score of u under the prior
    u'   =  u + eta/2 ( s(u) + grad log p( y | G( u / (1 - t) ) ) / T ) + sqrt(eta) xi,     xi ~ N(0, I),     eta = STEP t^2

v is the velocity of the flow without a condition: it predicts E[e - z | u], so s is the score of the prior by Tweedie's
formula. The score at t = 0 is unbounded, so the chain runs at t = BLUR, and the flow with its condition takes its last state
from there to t = 0. A density of the flow at each step would cost too much, so no step is rejected, and the chain has a bias of
order eta.

How far a chain came is seen in two figures. ``moved`` is the mean square distance of its end from its start, over that of two
independent samples: 0 at the start, 1 once the start is forgotten. ``climb`` is the change of the log-likelihood over the second
half: 0 where the chain is stationary.

Step, score and schedule of the published sampler are not available: this is a reconstruction (Song and Ermon 2019 for the score,
Roberts and Tweedie 1996 for the steps). At T = 1 the target is the Bayes posterior of the learned prior.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from cryovae import fourier
from cryovae.physics.wedge import volume_mask
from cryovae.posterior.noise_field import NoiseField
from cryovae.posterior.search import LONGEST
from cryovae.posterior.volume_data import VolumeData
from cryovae.posterior.volume_sampler import VolumeSampler

# Time t of the chain; its step in units of t^2; steps of Heun's method from there to t = 0.
BLUR, STEP, LAST_STEPS = 0.3, 0.7, 2
# Number of the first noise field of chains, beyond those of samples.
CHAIN = 10**6

# Gradient of the log-density at a state, and its log-likelihood in nats per measured coefficient.
Slope = Callable[[Tensor], tuple[Tensor, float]]


@dataclass(frozen=True)
class Walk:
    """A chain that has ended.

    Attributes:
        end: its last state.
        climb: mean log-likelihood of its last quarter less that of the quarter before, in nats per measured coefficient.
    """

    end: Tensor
    climb: float


def walk(start: Tensor, slope: Slope, steps: int, size: float, noise: Callable[[int], Tensor]) -> Walk:
    """Unadjusted Langevin steps.

    Args:
        start: first state.
        slope: of the log-density.
        steps: their number, at least 4.
        size: eta.
        noise: number of a step to its N(0, I), of the shape of the state.
    """
    state, values = start, []
    for step in range(steps):
        gradient, value = slope(state)
        state = state + 0.5 * size * gradient + size**0.5 * noise(step)
        values.append(value)
    quarter = max(steps // 4, 1)
    return Walk(state, (sum(values[-quarter:]) - sum(values[-2 * quarter : -quarter])) / quarter)


class VolumeLangevin:
    """Moves samples of a volume towards the posterior of the learned prior and the exact likelihood.

    Args:
        sampler: the flow on the boxes of the volume.
        volume: its data, in memory.
        seed: of the noise.
        temperature: T of the likelihood.
    """

    def __init__(self, sampler: VolumeSampler, volume: VolumeData, seed: int, temperature: float = 1.0) -> None:
        self.sampler, self.seed, self.temperature = sampler, seed, temperature
        shape, scale = tuple(volume.data.shape), volume.scale
        mask = volume_mask(shape, volume.tilts)
        # The decoder leaves a white residual of the model variance.
        variance = volume.noise(fourier.frequencies(shape)) / scale**2 + sampler.sampler.generator.vae.config.model_variance
        self._data = fourier.transform(volume.data / scale)
        self._precision = mask / variance
        self._weight = fourier.multiplicity(shape)
        self._bins = float((mask * self._weight).double().sum())

    @torch.no_grad()
    def moved(self, latents: Tensor, number: int, steps: int) -> Walk:
        """The chain that begins at the latents (channels, z, y, x) of sample ``number``."""
        first = CHAIN + number * LONGEST
        start = (1 - BLUR) * latents + BLUR * self._noise(first, latents)
        chain = walk(start, self.slope, steps, STEP * BLUR**2, lambda step: self._noise(first + 1 + step, latents))
        return Walk(self.sampler.flowed(chain.end, [BLUR * (1 - i / LAST_STEPS) for i in range(LAST_STEPS + 1)]), chain.climb)

    @torch.no_grad()
    def slope(self, state: Tensor) -> tuple[Tensor, float]:
        """The gradient of the log-density at a state (channels, z, y, x), and its log-likelihood per measured coefficient."""
        score = -(state + (1 - BLUR) * self.sampler.prior_velocity(state, BLUR)) / BLUR
        latents = state / (1 - BLUR)
        residual = self._data - fourier.transform(self.sampler.density(latents) / self.sampler.scale)
        value = -0.5 * float((self._weight * self._precision * residual.abs().square()).double().sum()) / self._bins
        along = fourier.inverse(self._precision * residual, self.sampler.shape)
        return score + self.sampler.pulled_back(latents, along) / ((1 - BLUR) * self.temperature), value

    def _noise(self, number: int, like: Tensor) -> Tensor:
        return NoiseField(self.seed, number, like.device).tile((0, 0, 0), like.shape, 0)
