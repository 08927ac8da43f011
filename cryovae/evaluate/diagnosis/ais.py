"""Annealed importance sampling: the evidence of a model small enough to walk in.

    log f_t = (1 - b_t) log f_0 + b_t log f_T,    b_0 = 0, b_T = 1
    log w   = sum_t (b_t - b_t-1) ( log f_T - log f_0 )(z_t-1),        z_t from z_t-1 by Hamiltonian moves that leave f_t as it is
    E w     = Z_T / Z_0                                                (Neal 2001; for decoders Wu et al. 2017)

f_0 is normalised and can be drawn from: the posterior of an encoder, or the prior. f_T = p(y | G(z)) p(z), so that Z_T = p(y).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import log

import torch
from torch import Tensor

from cryovae.posterior.importance import LEAST, effective_sample_size

# Points (chains, D) to log f_0 and log f_T, (chains,) each.
Ends = Callable[[Tensor], tuple[Tensor, Tensor]]
ACCEPTED = 0.65


@dataclass(frozen=True)
class Annealed:
    """log_weights: (chains,). accepted: the share of moves. evidence and its standard error in nats, ESS of the chains."""

    log_weights: Tensor
    accepted: float

    @property
    def evidence(self) -> float:
        """log of the mean weight."""
        return float(torch.logsumexp(self.log_weights, 0)) - log(len(self.log_weights))

    @property
    def error(self) -> float:
        """The relative standard error of the mean weight, which is that of its log where it is small."""
        weights = torch.exp(self.log_weights - self.log_weights.max())
        return float(weights.std() / weights.mean() / len(weights) ** 0.5)

    @property
    def effective(self) -> float:
        """How many of the chains count."""
        return float(effective_sample_size(self.log_weights[:, None]))

    @property
    def converged(self) -> bool:
        """Whether enough of them count."""
        return self.effective >= LEAST


def annealed(
    start: Tensor,
    ends: Ends,
    temperatures: int,
    generator: torch.Generator,
    step: float = 0.1,
    leapfrogs: int = 10,
    watch: Callable[[int], None] = lambda temperature: None,
) -> Annealed:
    """Walk from f_0 to f_T. start: (chains, D), drawn from f_0, and f_0 normalised. step: of the first move; it is adapted to an
    acceptance of ACCEPTED. The temperatures lie closest at both ends, by a sigmoid.
    """
    place = torch.linspace(-4, 4, temperatures + 1, dtype=torch.float64).sigmoid()
    schedule = ((place - place[0]) / (place[-1] - place[0])).tolist()
    z, log_weights, accepted = start, torch.zeros(len(start), dtype=torch.float64), 0.0
    for number in range(1, temperatures + 1):
        before, now = schedule[number - 1], schedule[number]
        with torch.no_grad():
            first, last = ends(z)
        log_weights += (now - before) * (last - first).double().cpu()
        z, share = hamiltonian(z, lambda at, b=now: _between(ends, at, b), step, leapfrogs, generator)  # type: ignore[misc]
        accepted += share / temperatures
        step = min(max(step * (1.02 if share > ACCEPTED else 0.98), 1e-5), 2.0)
        watch(number)
    return Annealed(log_weights, accepted)


def _between(ends: Ends, at: Tensor, share: float) -> Tensor:
    first, last = ends(at)
    return (1 - share) * first + share * last


def hamiltonian(
    z: Tensor, log_density: Callable[[Tensor], Tensor], step: float, leapfrogs: int, generator: torch.Generator
) -> tuple[Tensor, float]:
    """One Hamiltonian move of each chain (chains, D), accepted or not, and the share accepted; it leaves the density as it is."""
    momentum = torch.randn(z.shape, generator=generator, dtype=z.dtype).to(z.device)
    # Of differing length, or chains could run round closed orbits of a Gaussian together.
    step = step * float(0.8 + 0.4 * torch.rand((), generator=generator))
    began, slope = _slope(log_density, z)
    at, speed = z, momentum
    for _ in range(leapfrogs):
        speed = speed + 0.5 * step * slope
        at = at + step * speed
        value, slope = _slope(log_density, at)
        speed = speed + 0.5 * step * slope
    gain = value - began + 0.5 * (momentum.square().sum(1) - speed.square().sum(1))
    drawn = torch.rand(len(z), generator=generator, dtype=torch.float64).log().to(gain)
    taken = drawn < gain
    return torch.where(taken[:, None], at, z), float(taken.double().mean())


def _slope(log_density: Callable[[Tensor], Tensor], z: Tensor) -> tuple[Tensor, Tensor]:
    at = z.detach().requires_grad_(True)
    with torch.enable_grad():
        value = log_density(at)
        (slope,) = torch.autograd.grad(value.sum(), at)
    return value.detach(), slope
