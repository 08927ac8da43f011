"""The bound, and the terms that teach the partial encoder.

    bound       E_q(z|v) log p(v | G(z)) - beta sum_l KL( q(z_l | z_>l, v) || p(z_l | z_>l) )       all measured bins
    matching    sum_l KL( stopgrad q(z_l | z_>l, v) || r(z_l | z_>l, u) )                            z_>l from q
    completion  - log p( hidden bins of v | G(mean of r(z | u)) )                                    one decode from r's means

The bound prices noise with an unconditional prior; matching makes r the average of q over what u leaves open (the tower
property: Posterior Matching, Strauss and Oliva 2022). Completion trains the path that is decoded at test, on bins that r
was not given: nothing can be copied there, and as it decodes means it says nothing about the spread of r.
Everything is a sum in nats; ``Bound.loss`` divides by the number of measured coefficients.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cryovae.models.distributions import DiagonalGaussian, kl_divergence
from cryovae.models.ladder import Ladder, R
from cryovae.objectives.pairs import Measurement
from cryovae.physics.likelihood import log_likelihood, scored_bins
from cryovae.physics.rotation import rotate


@dataclass(frozen=True)
class ObjectiveConfig:
    """What is optimised.

    encoders: 2 for q and r (posterior matching), 1 for the simpler baseline in which r alone is the posterior.
    solo: share of the steps at the start in which the completion term is trained alone.
    beta: weight of the KL after the warm-up; 1 is the ELBO. warmup: share of the steps, after solo, over which it rises from 0.
    completion: weight of the completion term. drop: share of bins hidden from r on top of the wedge.
    turned: share of patches turned by a random rotation of SO(3) rather than of the cube.
    refill_from, refill_every: shares of the steps; from when and how often the input's own wedge is refilled; 1 is never.
    """

    encoders: int = 2
    solo: float = 0.3
    beta: float = 1.0
    warmup: float = 0.3
    completion: float = 1.0
    drop: float = 0.1
    turned: float = 0.1
    refill_from: float = 1.0
    refill_every: float = 0.2


@dataclass(frozen=True)
class Bound:
    """The terms of one batch, in nats summed over the batch; ``bins``: measured coefficients, ``hidden``: hidden ones."""

    log_likelihood: Tensor
    kl: tuple[Tensor, ...]
    matching: Tensor
    completion: Tensor
    bins: Tensor
    hidden: Tensor

    def loss(self, beta: float, completion: float) -> Tensor:
        """What is minimised, in nats per measured coefficient."""
        bound = self.log_likelihood - beta * torch.stack(self.kl).sum()
        return (self.matching - bound + completion * self.completion) / self.bins

    def figures(self) -> dict[str, float]:
        """Log-likelihood and KL apart, in nats per measured coefficient; the KL also by level, coarse to fine."""
        bins = self.bins.item()
        named = {f"kl_{len(self.kl) - 1 - rung}": kl.item() / bins for rung, kl in enumerate(self.kl)}
        return {
            "log_likelihood": self.log_likelihood.item() / bins,
            "kl": sum(named.values()),
            "matching": self.matching.item() / bins,
            "completion": -self.completion.item() / max(self.hidden.item(), 1.0),
        } | named


def _score(density: Tensor, m: Measurement, mask: Tensor) -> Tensor:
    if m.back is not None:
        density = torch.cat([rotate(x[None, None], r)[0] for x, r in zip(density, m.back, strict=True)])
    return log_likelihood(density, m.data, mask, m.variance, m.support, m.mask).sum()


def _noise_like(g: DiagonalGaussian, generator: torch.Generator) -> Tensor:
    shape = g.mean.shape
    return torch.randn(shape, generator=generator).to(g.mean.device)


def two_encoder_bound(ladder: Ladder, m: Measurement, generator: torch.Generator, completion: bool) -> Bound:
    """Bound, matching and completion of the main model, in one pass down the ladder over both paths."""
    batch = len(m.data)
    roles = torch.arange(2, device=m.data.device).repeat_interleave(batch)
    features = ladder.encoder(torch.cat((m.whole, m.partial)), roles)
    matching: list[Tensor] = []

    def choose(level: int, prior: DiagonalGaussian, state: Tensor) -> tuple[DiagonalGaussian, DiagonalGaussian, Tensor]:
        block = ladder.levels[level]
        whole, part = features[level][:batch], features[level][batch:]
        q = block.posterior(state[:batch], whole, prior[slice(0, batch)])
        # Matching moves r's heads alone: if it could move what q shares with r, both would run after each other for ever.
        taught = block.partial(state[:batch].detach(), part.detach(), prior[slice(0, batch)].detach())
        matching.append(kl_divergence(q.detach(), taught).sum())
        latent = q.sample(_noise_like(q, generator))
        if completion:
            own = block.partial(state[batch:], part, prior[slice(batch, None)])
            latent = torch.cat((latent, own.mean))
        return q, taught, latent

    rows = 2 * batch if completion else batch
    density, rungs = ladder.descend(m.data.shape[-3:], rows, choose)
    kl = tuple(kl_divergence(g.posterior, g.prior[slice(0, batch)]).sum() for g in rungs if g.posterior is not None)
    return Bound(
        log_likelihood=_score(density[:batch], m, m.mask),
        kl=kl,
        matching=torch.stack(matching).sum(),
        completion=-_score(density[batch:], m, m.hidden) if completion else density.new_zeros(()),
        bins=scored_bins(m.mask, m.data.shape).sum(),
        hidden=scored_bins(m.hidden, m.data.shape).sum(),
    )


def completion_only(ladder: Ladder, m: Measurement) -> Bound:
    """The completion term alone, without noise in the latents: how training begins.

    Latents that carry nothing yet are all cost to a bound: their noise swamps the decoder, and they collapse to the prior.
    """
    density = ladder.restore(ladder.encode(m.partial, R), None)
    none = density.new_zeros(())
    return Bound(
        log_likelihood=none,
        kl=tuple(none for _ in ladder.config.widths),
        matching=none,
        completion=-_score(density, m, m.hidden),
        bins=scored_bins(m.mask, m.data.shape).sum(),
        hidden=scored_bins(m.hidden, m.data.shape).sum(),
    )


def one_encoder_bound(ladder: Ladder, m: Measurement, generator: torch.Generator) -> Bound:
    """The simpler baseline: r given u is the posterior, and all measured bins are scored. Its error bars ignore the wedge."""
    features = ladder.encode(m.partial, R)

    def choose(level: int, prior: DiagonalGaussian, state: Tensor) -> tuple[DiagonalGaussian, None, Tensor]:
        r = ladder.levels[level].partial(state, features[level], prior)
        return r, None, r.sample(_noise_like(r, generator))

    density, rungs = ladder.descend(m.data.shape[-3:], len(m.data), choose)
    none = density.new_zeros(())
    return Bound(
        log_likelihood=_score(density, m, m.mask),
        kl=tuple(kl_divergence(g.posterior, g.prior).sum() for g in rungs if g.posterior is not None),
        matching=none,
        completion=none,
        bins=scored_bins(m.mask, m.data.shape).sum(),
        hidden=scored_bins(m.hidden, m.data.shape).sum(),
    )
