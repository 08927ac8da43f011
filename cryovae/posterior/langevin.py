"""Steps in the latents of a volume along the slope of its posterior (latent_slope.py), without noise and with.

    u'  =  u + eta/2 g(u)                                  from the flow's predicted mean: a few steps refine it
    u'  =  u + eta/2 g(u) + sqrt(eta) xi,   xi ~ N(0, I)   from a sample of the flow: Langevin chains (CryoWGEN-II)

A refined mean is the mean of the latents, given the last state. What the flow predicts in one pass is amortised, so
these steps are its semi-amortised inference. They go up to the mode, so they must be few: hidden bins say how much the result is
worth (calibration/fitted.py).

The flow with its condition takes the last state of a chain from t = BLUR to t = 0. A density of the flow at each step would cost
too much, so no step is rejected, and a chain has a bias of order eta (Roberts and Tweedie 1996). How far it came is seen in two
figures. ``moved`` is the mean square distance of its end from its start, over that of two independent samples: 0 at the start, 1
once the start is forgotten. ``climb`` is the change of the log-likelihood over the second half: 0 where the chain is stationary.
Step, score and schedule of the published sampler are not available: this is a reconstruction. At T = 1 the target is the Bayes
posterior of the learned prior.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf

import torch
from torch import Tensor

from cryovae.posterior.latent_slope import BLUR, LatentSlope
from cryovae.posterior.noise_field import NoiseField
from cryovae.posterior.search import LONGEST

# Steps that refine a mean, and their length in units of that of a chain.
REFINING, FASTER = 6, 2.4
# Steps of Heun's method from the last state of a chain to t = 0.
LAST_STEPS = 2
# Number of the first noise field of chains, beyond those of samples.
CHAIN = 10**6

# Slope of the log-density at a state, and its log-likelihood in nats per measured coefficient.
Slope = Callable[[Tensor], tuple[Tensor, float]]


@dataclass(frozen=True)
class Walk:
    """A chain that has ended.

    Attributes:
        end: its last state, or the latents there.
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


@torch.no_grad()
def refined(slope: LatentSlope, latents: Tensor) -> Tensor:
    """Latents (channels, z, y, x) of a mean after a few steps up the slope."""
    state, size = slope.start(latents), FASTER * slope.step(latents)
    before, lowest = state, -inf
    for step in range(REFINING):
        gradient, value = slope(state)
        lowest = value if step == 0 else lowest
        # Steps that are too long lead away.
        if not value >= lowest:
            return slope.latents(before)
        before, state = state, state + 0.5 * size * gradient
    return slope.latents(state)


@torch.no_grad()
def chained(slope: LatentSlope, latents: Tensor, number: int, steps: int, seed: int) -> Walk:
    """The chain that begins at the latents (channels, z, y, x) of a sample.

    Args:
        slope: of the posterior.
        latents: of the sample.
        number: of the sample.
        steps: of the chain.
        seed: of its noise.
    """

    def noise(step: int) -> Tensor:
        return NoiseField(seed, CHAIN + number * LONGEST + step, latents.device).tile((0, 0, 0), latents.shape, 0)

    start = slope.start(latents) + BLUR * noise(0)
    chain = walk(start, slope, steps, slope.step(latents), lambda step: noise(step + 1))
    times = [BLUR * (1 - i / LAST_STEPS) for i in range(LAST_STEPS + 1)]
    return Walk(slope.sampler.flowed(chain.end, times), chain.climb)
