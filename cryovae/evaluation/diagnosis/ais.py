"""Annealed importance sampling: the evidence of a small model.

    log f_t = (1 - b_t) log f_0 + b_t log f_T,    b_0 = 0, b_T = 1
    log w   = sum_t (b_t - b_t-1) ( log f_T - log f_0 )(z_t-1),        z_t from z_t-1 by moves that leave f_t invariant
    E w     = Z_T / Z_0                                                (Neal 2001; for decoders Wu et al. 2017)

f_0 is normalised and can be sampled: the posterior of an encoder, or the prior. f_T = p(y | G(z)) p(z), so that Z_T = p(y).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import log

import torch
from torch import Tensor

from cryovae.posterior.importance import MIN_EFFECTIVE, effective_sample_size

# Maps points (chains, D) to log f_0 and log f_T, (chains,) each.
LogDensities = Callable[[Tensor], tuple[Tensor, Tensor]]
TARGET_ACCEPTANCE = 0.65


@dataclass(frozen=True)
class Annealed:
    """The result of annealed importance sampling.

    Attributes:
        log_weights: Log of the weight of each chain (chains,), in nats.
        accepted: Share of accepted moves.
    """

    log_weights: Tensor
    accepted: float

    @property
    def evidence(self) -> float:
        """Log of the mean weight, in nats."""
        return float(torch.logsumexp(self.log_weights, 0)) - log(len(self.log_weights))

    @property
    def error(self) -> float:
        """Relative standard error of the mean weight; if small, it is the standard error of the evidence in nats."""
        weights = torch.exp(self.log_weights - self.log_weights.max())
        return float(weights.std() / weights.mean() / len(weights) ** 0.5)

    @property
    def effective(self) -> float:
        """Effective number of chains."""
        return float(effective_sample_size(self.log_weights[:, None]))

    @property
    def converged(self) -> bool:
        """Whether the effective number of chains is at least MIN_EFFECTIVE."""
        return self.effective >= MIN_EFFECTIVE


def annealed(
    start: Tensor,
    densities: LogDensities,
    temperatures: int,
    generator: torch.Generator,
    step: float = 0.1,
    leapfrogs: int = 10,
    watch: Callable[[int], None] = lambda temperature: None,
) -> Annealed:
    """Anneal from f_0 to f_T at temperatures on a sigmoid schedule, which is densest at both ends.

    Args:
        start: Draws from f_0, (chains, D).
        densities: log f_0 and log f_T; f_0 must be normalised.
        temperatures: Number of temperatures.
        generator: Random numbers of the moves.
        step: Step size of the first move; it is adapted to an acceptance of TARGET_ACCEPTANCE.
        leapfrogs: Number of leapfrog steps of a move.
        watch: Called with the number of each temperature.
    """
    sigmoid = torch.linspace(-4, 4, temperatures + 1, dtype=torch.float64).sigmoid()
    schedule = ((sigmoid - sigmoid[0]) / (sigmoid[-1] - sigmoid[0])).tolist()
    z, log_weights, accepted = start, torch.zeros(len(start), dtype=torch.float64), 0.0
    for number in range(1, temperatures + 1):
        before, now = schedule[number - 1], schedule[number]
        with torch.no_grad():
            first, last = densities(z)
        log_weights += (now - before) * (last - first).double().cpu()
        z, share = hamiltonian(z, lambda at, b=now: _between(densities, at, b), step, leapfrogs, generator)  # type: ignore[misc]
        accepted += share / temperatures
        step = min(max(step * (1.02 if share > TARGET_ACCEPTANCE else 0.98), 1e-5), 2.0)
        watch(number)
    return Annealed(log_weights, accepted)


def _between(densities: LogDensities, at: Tensor, share: float) -> Tensor:
    first, last = densities(at)
    return (1 - share) * first + share * last


def hamiltonian(
    z: Tensor, log_density: Callable[[Tensor], Tensor], step: float, leapfrogs: int, generator: torch.Generator
) -> tuple[Tensor, float]:
    """One Hamiltonian Monte Carlo move of each chain, which leaves the density invariant.

    Args:
        z: Positions (chains, D).
        log_density: Maps positions (chains, D) to the log-density (chains,).
        step: Mean step size.
        leapfrogs: Number of leapfrog steps.
        generator: Random numbers.

    Returns:
        New positions (chains, D), and the share of accepted moves.
    """
    momentum = torch.randn(z.shape, generator=generator, dtype=z.dtype).to(z.device)
    # The step size is random, because with a fixed size chains could follow closed orbits of a Gaussian.
    step = step * float(0.8 + 0.4 * torch.rand((), generator=generator))
    value_before, slope = _slope(log_density, z)
    at, speed = z, momentum
    for _ in range(leapfrogs):
        speed = speed + 0.5 * step * slope
        at = at + step * speed
        value, slope = _slope(log_density, at)
        speed = speed + 0.5 * step * slope
    gain = value - value_before + 0.5 * (momentum.square().sum(1) - speed.square().sum(1))
    uniform = torch.rand(len(z), generator=generator, dtype=torch.float64).log().to(gain)
    accepted = uniform < gain
    return torch.where(accepted[:, None], at, z), float(accepted.double().mean())


def _slope(log_density: Callable[[Tensor], Tensor], z: Tensor) -> tuple[Tensor, Tensor]:
    at = z.detach().requires_grad_(True)
    with torch.enable_grad():
        value = log_density(at)
        (slope,) = torch.autograd.grad(value.sum(), at)
    return value.detach(), slope
