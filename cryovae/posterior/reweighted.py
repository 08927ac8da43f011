"""Candidates drawn once and reweighted by a Boltzmann factor (EVIA; CryoWGEN-I).

    z_k ~ q(z | y),   x_k = G(z_k)
    w_k  ~  exp( -E(z_k) / gamma ) p(z_k) / q(z_k | y),     sum_k w_k = 1,    gamma = T sigma^2,   E / gamma = -log p(y | x_k) / T
    x    =  sum_k w_k x_k                                       1 / sum_k w_k^2: the effective sample size

The published loss is not available. It is known that candidates of a reference distribution are reweighted by the Boltzmann
factor of the cost of entropic transport, pi* ~ exp(-c / gamma), and averaged. This is a reconstruction: the reference is the
amortised posterior, corrected by its density, the potential is constant, and the cost is the misfit of measured bins. At T = 1,
where gamma is the noise variance, the target is the Bayes posterior; any other T is a tempered one. With the 10^4 to 10^6
coefficients of a patch, log-weights scatter by hundreds of nats and one candidate dominates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log

import torch
from torch import Tensor

from cryovae.models.ladder import ByLevel
from cryovae.posterior.importance import effective_sample_size
from cryovae.posterior.problem import Moves, Problem


@dataclass(frozen=True)
class Candidates:
    """Weighted samples.

    Attributes:
        densities: (candidates, batch, z, y, x).
        log_weights: (candidates, batch), in nats, not normalised.
    """

    densities: Tensor
    log_weights: Tensor

    @property
    def weights(self) -> Tensor:
        """(candidates, batch), summing to 1 over candidates."""
        return torch.softmax(self.log_weights, 0)

    @property
    def effective(self) -> Tensor:
        """Effective sample size, (batch,), from 1 to the number of candidates."""
        return effective_sample_size(self.log_weights)

    @property
    def evidence(self) -> Tensor:
        """log of the mean weight, (batch,): at T = 1 its mean is a lower bound of log p(y), tight for many candidates."""
        return torch.logsumexp(self.log_weights, 0) - log(len(self.log_weights))

    def mean(self) -> Tensor:
        """sum_k w_k x_k, (batch, z, y, x)."""
        return torch.einsum("kb,kb...->b...", self.weights.to(self.densities), self.densities)

    def drawn(self, quantiles: Tensor) -> Tensor:
        """Candidates (count, batch, z, y, x) drawn by weight, at ``quantiles`` (count,) in [0, 1) of the summed weights.

        All tiles share the quantiles, as candidates of the same number share their noise.
        """
        sums = self.weights.cumsum(0)
        index = (sums[None] <= quantiles.to(sums).view(-1, 1, 1)).sum(1).clamp(max=len(sums) - 1)
        return torch.stack([self.densities[row, torch.arange(index.shape[1])] for row in index.to(self.densities.device)])


@torch.no_grad()
def weighted(problem: Problem, noise: ByLevel, temperature: float = 1.0, moves: Moves | None = None) -> tuple[Tensor, Tensor]:
    """One candidate from N(0, I) ``noise`` by level: x (batch, z, y, x), and log p(y | x) / T + log p(z) / q(z), (batch,)."""
    sampled = problem.posterior.moved(moves).sample(noise)
    ratios = [output.log_ratio().double().flatten(1).sum(1) for output in sampled.levels]
    log_likelihood = problem.score(sampled.density).double() / temperature
    return sampled.density, log_likelihood + torch.stack(ratios).sum(0)


def candidates(problem: Problem, noises: Sequence[ByLevel], temperature: float = 1.0, moves: Moves | None = None) -> Candidates:
    """A candidate for each of ``noises``."""
    pairs = [weighted(problem, noise, temperature, moves) for noise in noises]
    return Candidates(torch.stack([x for x, _ in pairs]), torch.stack([w for _, w in pairs]))
