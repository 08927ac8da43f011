"""Steps in the latents of a volume along the slope of its posterior (latent_slope.py), without noise and with.

    u'  =  u + eta/2 g(u)                                  from the flow's predicted mean: a few steps refine it
    u'  =  u + eta/2 g(u) + sqrt(eta) xi,   xi ~ N(0, I)   from a sample of the flow: Langevin chains (CryoWGEN-II)

One pass of the flow predicts a mean that is amortised: a network's guess for any data. Refining fits it to these data. The steps
lead to the mode, so there must be few of them; hidden bins say how much the result is worth (calibration/fitted.py). The refined
mean is that of the latents under the prior, given the last state. It is nearer to the truth than the last state itself.

The flow with its condition takes the last state of a chain from t = BLUR to t = 0. A chain is approximate in three places. No
step is rejected, as a density of the flow at each step would cost too much: a bias of order eta (Roberts and Tweedie 1996). The
likelihood is that of the blurred latents, and the last part of the way is the flow's own: biases of order BLUR. How far a chain
came is seen in two figures. ``moved`` is the mean square distance of its end from the sample that it began with, over that of
two independent samples: near 0 after no step, 1 once that sample is forgotten. ``climb`` is the change of the log-likelihood
over the second half: 0 where the chain is stationary. Step, score and schedule of the published sampler are not available: this
is a reconstruction.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from cryovae.posterior.latent_slope import BLUR, LatentSlope
from cryovae.posterior.noise_field import NoiseField
from cryovae.posterior.search import LONGEST

log = logging.getLogger("cryovae")
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
    before, first = state, 0.0
    for step in range(REFINING):
        gradient, value = slope(state)
        first = first if step else value
        if not value >= first:
            log.warning("step %d of the refinement was too long, and is taken back", step)
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
