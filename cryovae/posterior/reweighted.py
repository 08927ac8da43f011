"""Candidates drawn once and reweighted by a Boltzmann factor (EVIA; CryoWGEN-I).

    z_k ~ q(z | y),   x_k = G(z_k)
    w_k  ~  exp( -E(z_k) / gamma ) p(z_k) / q(z_k | y),     sum_k w_k = 1,    gamma = T sigma^2,   E / gamma = -log p(y | x_k) / T
    x    =  sum_k w_k x_k                                       1 / sum_k w_k^2  candidates count: the effective sample size

The published loss could not be found: what is known is that candidates of a reference distribution are reweighted by the
Boltzmann factor of the cost of entropic transport, pi* ~ exp(-c / gamma), and averaged. This is a reconstruction: the reference
is the amortised posterior, corrected for by its density, the potential is constant, and the cost is the misfit of measured
bins. At T = 1, where gamma is the noise variance, the target is the Bayes posterior; any other T is a tempered one.
With the 10^4 to 10^6 coefficients of a patch log-weights scatter by hundreds of nats, and one candidate outweighs the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log

import torch
from torch import Tensor

from cryovae.models.distributions import DiagonalGaussian, Posterior
from cryovae.posterior.importance import effective_sample_size
from cryovae.posterior.problem import Moves, Problem, log_ratio


@dataclass(frozen=True)
class Candidates:
    """Densities (candidates, batch, z, y, x) and their log-weights (candidates, batch) in nats, not normalised."""

    densities: Tensor
    log_weights: Tensor

    @property
    def weights(self) -> Tensor:
        """(candidates, batch), summing to 1 over candidates."""
        return torch.softmax(self.log_weights, 0)

    @property
    def effective(self) -> Tensor:
        """How many candidates count, (batch,), 1 to all."""
        return effective_sample_size(self.log_weights)

    @property
    def evidence(self) -> Tensor:
        """log of the mean weight, (batch,): at T = 1 a lower bound on log p(y) on average, and log p(y) for many candidates."""
        return torch.logsumexp(self.log_weights, 0) - log(len(self.log_weights))

    def mean(self) -> Tensor:
        """sum_k w_k x_k, (batch, z, y, x)."""
        return torch.einsum("kb,kb...->b...", self.weights.to(self.densities), self.densities)

    def drawn(self, places: Tensor) -> Tensor:
        """The candidates in which ``places`` (count,), each in [0, 1), of the sum of the weights lie: (count, batch, z, y, x).

        The same places for all tiles, as candidates of the same number have the same noise there.
        """
        sums = self.weights.cumsum(0)
        index = (sums[None] <= places.to(sums).view(-1, 1, 1)).sum(1).clamp(max=len(sums) - 1)
        return torch.stack([self.densities[row, torch.arange(index.shape[1])] for row in index.to(self.densities.device)])


@torch.no_grad()
def weighed(
    problem: Problem, noise: Sequence[Tensor], temperature: float = 1.0, moves: Moves | None = None
) -> tuple[Tensor, Tensor]:
    """One candidate made of N(0, I) ``noise`` by level: x (batch, z, y, x), and log p(y | x) / T + log p(z) / q(z), (batch,)."""
    ratios: list[Tensor] = []

    def choose(level: int, prior: DiagonalGaussian, state: Tensor) -> tuple[Posterior, Tensor]:
        q = problem.posterior(level, prior, state)
        q = q if moves is None else moves[level].of(q)
        z = q.sample(noise[level])
        ratios.append(log_ratio(z, noise[level], q, prior).double().flatten(1).sum(1))
        return q, z

    density, _ = problem.top_down(choose)
    return density, problem.score(density).double() / temperature + torch.stack(ratios).sum(0)


def candidates(
    problem: Problem, noises: Sequence[Sequence[Tensor]], temperature: float = 1.0, moves: Moves | None = None
) -> Candidates:
    """A candidate for each of ``noises``."""
    found = [weighed(problem, noise, temperature, moves) for noise in noises]
    return Candidates(torch.stack([x for x, _ in found]), torch.stack([w for _, w in found]))
