"""A model and a batch of patches: latents are drawn from a posterior, decoded, and scored.

    L   = log p(y | G(z)) - sum_l KL( q(z_l | z_>l) || p(z_l | z_>l) )          z ~ q, the KL in closed form, or from z for a flow
    w   = log p(y | G(z)) + sum_l log p(z_l | z_>l) - log q(z_l | z_>l)         of the same z

Both have the ELBO as their mean. w is the log-weight of importance weighting.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from cryovae.data.measurement import Measurement
from cryovae.models.distributions import Move
from cryovae.models.ladder import Ladder, LadderDistribution, Q, R
from cryovae.physics.likelihood import log_likelihood, scored_bins

# Moves of the posterior by level, 0 the finest.
Moves = dict[int, Move]


@dataclass(frozen=True)
class Problem:
    """The inference problem of a batch of patches.

    Attributes:
        prior: p(z).
        posterior: q(z | v) or r(z | u), as the encoder gives it.
        score: Densities (batch, z, y, x) to log p(y | x), (batch,).
        bins: Scored coefficients, (batch,).
    """

    prior: LadderDistribution
    posterior: LadderDistribution
    score: Callable[[Tensor], Tensor]
    bins: Tensor


@dataclass(frozen=True)
class Terms:
    """The terms of the bound in nats, of one draw or, with an axis in front of the batch, of several.

    Attributes:
        log_likelihood: (batch,) or (draws, batch).
        kl: By level, coarse to fine: (levels, batch) or (levels, draws, batch).
        log_weight: Log-weight of importance weighting, (batch,) or (draws, batch).
    """

    log_likelihood: Tensor
    kl: Tensor
    log_weight: Tensor

    @property
    def bound(self) -> Tensor:
        """The bound of each draw, (batch,) or (draws, batch)."""
        return self.log_likelihood - self.kl.sum(0)

    @property
    def bound_mean(self) -> Tensor:
        """The mean of the bound over several draws, (batch,)."""
        return self.bound.double().mean(0)


def terms(problem: Problem, generator: torch.Generator, moves: Moves | None = None) -> Terms:
    """The terms of one draw from the posterior with its ``moves``; differentiable in the moves."""
    posterior = problem.posterior.moved(moves)
    sampled = posterior.sample(posterior.draw_noise(generator))
    log_likelihood = problem.score(sampled.density)
    kl = torch.stack([output.kl() for output in sampled.levels])
    ratio = torch.stack([output.log_ratio().double().sum((1, 2, 3, 4)) for output in sampled.levels]).sum(0)
    return Terms(log_likelihood, kl, log_likelihood.double() + ratio)


@torch.no_grad()
def drawn(problem: Problem, count: int, seed: int, moves: Moves | None = None) -> Terms:
    """The terms of ``count`` draws."""
    generator = torch.Generator().manual_seed(seed)
    draws = [terms(problem, generator, moves) for _ in range(count)]
    return Terms(
        torch.stack([t.log_likelihood for t in draws]),
        torch.stack([t.kl for t in draws], 1),
        torch.stack([t.log_weight for t in draws]),
    )


def posterior_of(ladder: Ladder, m: Measurement, role: int) -> LadderDistribution:
    """q(z | v) or r(z | u) of the patches of a measurement; role: Q or R."""
    return ladder.posterior(ladder.encode(m.input_masked if role == R else m.input_full, role), role)


def problem_of(ladder: Ladder, m: Measurement, role: int = Q, scored: Tensor | None = None) -> Problem:
    """The problem of the patches of a measurement.

    Args:
        ladder: The model.
        m: The patches.
        role: Q or R: whose posterior.
        scored: Mask of the scored bins, (batch, z, y, x // 2 + 1); all measured bins if None.

    Raises:
        ValueError: The patches were rotated off the grid.
    """
    if m.inverse_rotation is not None:
        raise ValueError("a measurement rotated off the grid found, expected cube rotations")
    mask = m.mask if scored is None else scored
    with torch.no_grad():
        posterior = posterior_of(ladder, m, role)
    return Problem(
        prior=ladder.prior(m.data.shape[-3:], len(m.data)),
        posterior=posterior,
        score=lambda density: log_likelihood(density, m.data, mask, m.scored_variance, m.support, m.mask),
        bins=scored_bins(mask, m.data.shape, m.support),
    )
