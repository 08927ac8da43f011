"""A model and a batch of patches: latents are drawn from a posterior, decoded, and scored.

    L   = log p(y | G(z)) - sum_l KL( q(z_l | z_>l) || p(z_l | z_>l) )          z ~ q, the KL in closed form, or of a flow by z
    w   = log p(y | G(z)) + sum_l log p(z_l | z_>l) - log q(z_l | z_>l)         of the same z

Both have the same mean, the ELBO; the first scatters less, the second is what importance weighting needs. The posterior of each
patch may be moved: by ``shift`` in its own standard deviations, and by ``widen`` in its log-variance.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cryovae.data.measurement import Measurement
from cryovae.models.distributions import DiagonalGaussian, Posterior, standardised
from cryovae.models.ladder import Choice, Ladder, LevelOutput, Q, R
from cryovae.physics.likelihood import log_likelihood, scored_bins

Inference = Callable[[int, DiagonalGaussian, Tensor], Posterior]


@dataclass(frozen=True)
class Problem:
    """top_down: runs down the model with a choice of latents, to what is decoded and the rungs, coarse to fine. score: what is
    decoded to log p(y | x), (batch,). posterior: of a level, given prior and state. bins (batch,): coefficients that are scored.
    """

    top_down: Callable[[Choice], tuple[Tensor, list[LevelOutput]]]
    score: Callable[[Tensor], Tensor]
    posterior: Inference
    bins: Tensor


@dataclass(frozen=True)
class Move:
    """By how much the posterior of one level is moved; both as its mean, (batch, channels, z, y, x)."""

    shift: Tensor
    widen: Tensor

    def of(self, q: Posterior) -> Posterior:
        """The posterior moved."""
        return q.moved(self.shift, self.widen)


# By level, 0 the finest.
Moves = dict[int, Move]


@dataclass(frozen=True)
class Terms:
    """Of one draw: log_likelihood (batch,), kl (levels, batch), coarse to fine, and log_weight (batch,), all in nats."""

    log_likelihood: Tensor
    kl: Tensor
    log_weight: Tensor

    @property
    def bound(self) -> Tensor:
        """(batch,)."""
        return self.log_likelihood - self.kl.sum(0)

    @property
    def bound_mean(self) -> Tensor:
        """The mean over draws, (batch,), where there are several."""
        return self.bound.double().mean(0)


def terms(problem: Problem, generator: torch.Generator, moves: Moves | None = None) -> Terms:
    """One draw from the posterior, moved or not; differentiable in what it was moved by."""
    ratios: list[Tensor] = []

    def choose(level: int, prior: DiagonalGaussian, state: Tensor) -> tuple[Posterior, Tensor]:
        q = problem.posterior(level, prior, state)
        q = q if moves is None else moves[level].of(q)
        noise = torch.randn(prior.mean.shape, generator=generator, dtype=prior.mean.dtype).to(prior.mean.device)
        z = q.sample(noise)
        ratios.append(log_ratio(z, noise, q, prior))
        return q, z

    density, outputs = problem.top_down(choose)
    found = problem.score(density)
    kl = torch.stack([output.kl() for output in outputs])
    ratio = torch.stack([part.double().sum((1, 2, 3, 4)) for part in ratios]).sum(0)
    return Terms(found, kl, found.double() + ratio)


def log_ratio(z: Tensor, noise: Tensor, q: Posterior, prior: DiagonalGaussian) -> Tensor:
    """log p(z) - log q(z) of each latent; of a Gaussian q by the noise that z was made of, which is exact where it is narrow."""
    if not isinstance(q, DiagonalGaussian):
        return prior.log_densities(z) - q.log_densities(z)
    return 0.5 * (noise.square() + q.log_variance - standardised(z, prior).square() - prior.log_variance)


def decoded(problem: Problem, moves: Moves | None = None, noise: Sequence[Tensor] | None = None) -> Tensor:
    """x (batch, z, y, x) of the posterior, moved or not: a sample, given N(0, I) ``noise`` by level, or without it the means."""

    def choose(level: int, prior: DiagonalGaussian, state: Tensor) -> tuple[Posterior, Tensor]:
        q = problem.posterior(level, prior, state)
        q = q if moves is None else moves[level].of(q)
        return q, q.mean if noise is None else q.sample(noise[level])

    return problem.top_down(choose)[0]


@torch.no_grad()
def drawn(problem: Problem, count: int, seed: int, moves: Moves | None = None) -> Terms:
    """``count`` draws: log_likelihood and log_weight (count, batch), kl (levels, count, batch)."""
    generator = torch.Generator().manual_seed(seed)
    found = [terms(problem, generator, moves) for _ in range(count)]
    return Terms(
        torch.stack([t.log_likelihood for t in found]),
        torch.stack([t.kl for t in found], 1),
        torch.stack([t.log_weight for t in found]),
    )


def problem_of(ladder: Ladder, m: Measurement, role: int = Q, scored: Tensor | None = None) -> Problem:
    """The patches of a measurement, with q or r of the ladder as posterior; all measured bins are scored, whichever it is.

    scored: (batch, z, y, x // 2 + 1), the mask of the bins that are, if not all that were measured.
    ValueError for a measurement that was turned off the grid.
    """
    if m.inverse_rotation is not None:
        raise ValueError("a measurement turned off the grid found, expected cube rotations")
    mask = m.mask if scored is None else scored
    with torch.no_grad():
        features = ladder.encode(m.input_masked if role == R else m.input_full, role)

    def posterior(level: int, prior: DiagonalGaussian, state: Tensor) -> Posterior:
        block = ladder.level(level)
        return (block.masked_posterior if role == R else block.posterior)(state, features[level], prior)

    return Problem(
        top_down=lambda choose: ladder.top_down(m.data.shape[-3:], len(m.data), choose),
        score=lambda density: log_likelihood(density, m.data, mask, m.scored_variance, m.support, m.mask),
        posterior=posterior,
        bins=scored_bins(mask, m.data.shape, m.support),
    )
