"""The rate of each level, channel and position, and bounds of the information about the patch.

    rate          KL( q(z_l | z_>l, y) || p(z_l | z_>l) )           an upper bound of the information
    fitted        KL( q(z_l | z_>l, y) || s_l ),                    s_l: one Gaussian per channel, fitted to the q of all patches
    minibatch     log q(z_l | z_>l, y_i) - log 1/N sum_j q(z_l | z_>l, y_j),      z ~ q(. | y_i); at most log N

For any fixed s, E KL(q || s) is at least the mutual information I(y; z_l). The smaller of rate and fitted is therefore an upper
bound, up to the error from fitting s to the same patches. The minibatch estimate is a lower bound (Oord et al. 2018; Hoffman,
Johnson 2016); a value of log N only shows that the patches can be distinguished.

A channel is active if the variance of its posterior mean over patches and positions exceeds 0.01 of the prior's (Burda et al.
2016).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import log
from typing import cast

import torch
from torch import Tensor

from cryovae.data.measurement import Measurement
from cryovae.models.distributions import DiagonalGaussian, Posterior, elementwise_kl, standardised
from cryovae.models.ladder import Ladder, LevelOutput, Q
from cryovae.posterior.activity import MIN_ACTIVE_VARIANCE
from cryovae.posterior.problem import posterior_of


@dataclass(frozen=True)
class LevelNats:
    """Rate and information of one level.

    Attributes:
        level: Number of the level, 0 the finest.
        kl: Rate of each latent in nats, (batch, channels, z, y, x).
        kl_of_mean: Part of ``kl`` due to the distance of the mean from the prior's, 1/2 (mu - m)^2 / s^2. The rest is due to the
            smaller width and is similar for all patches.
        variance: Variance of the posterior mean in units of the prior's, (channels,).
        fitted: Upper estimate of the information, in nats per patch.
        minibatch: Lower estimate of the information, in nats per patch.
    """

    level: int
    kl: Tensor
    kl_of_mean: Tensor
    variance: Tensor
    fitted: float
    minibatch: float

    @property
    def rate(self) -> float:
        """KL in nats per patch."""
        return float(self.kl.double().sum() / len(self.kl))

    @property
    def rate_of_mean(self) -> float:
        """The part of the rate due to the means, in nats per patch."""
        return float(self.kl_of_mean.double().sum() / len(self.kl_of_mean))

    @property
    def upper_bound(self) -> float:
        """The smaller of the upper bounds of the information, in nats per patch."""
        return min(self.fitted, self.rate)

    @property
    def active(self) -> int:
        """Number of channels whose mean depends on the data."""
        return int((self.variance > MIN_ACTIVE_VARIANCE).sum())


@torch.no_grad()
def nats_by_level(ladder: Ladder, m: Measurement, role: int = Q, seed: int = 0) -> list[LevelNats]:
    """Rate and information of each level, from one draw of the posterior.

    Args:
        ladder: The model.
        m: Patches.
        role: Q or R, the posterior.
        seed: Seed of the draw.

    Returns:
        The levels with latents, coarse to fine.
    """
    posterior = posterior_of(ladder, m, role)
    sampled = posterior.sample(posterior.draw_noise(torch.Generator().manual_seed(seed)), keep_states=True)
    features = posterior.features or []

    def others(output: LevelOutput) -> Iterable[Posterior]:
        for by in range(len(m.data)):
            rolled = ladder.posterior([f.roll(by, 0) for f in features], role)
            yield rolled.at_level(output.level, cast(Tensor, output.state), output.prior)

    levels = []
    for output in sampled.levels:
        shift = standardised(output.posterior.mean, output.prior)
        kl, variance = output.nats(), shift.transpose(0, 1).flatten(1).var(1)
        information = (
            fitted_information(output.posterior, output.latent),
            minibatch_information(output.latent, others(output)),
        )
        levels.append(LevelNats(output.level, kl.cpu(), 0.5 * shift.square().cpu(), variance.cpu(), *information))
    return levels


def fitted_information(q: Posterior, z: Tensor) -> float:
    """Mean KL of q to one Gaussian per channel, fitted to q over patches and positions, in nats per patch.

    If q is not Gaussian, the fit and the KL are estimated from its draw z, and a negative estimate is set to 0.
    """
    if not isinstance(q, DiagonalGaussian):
        axes = (0, 2, 3, 4)
        fit = DiagonalGaussian(z.mean(axes, keepdim=True), z.var(axes, keepdim=True).log())
        return max(0.0, float((q.log_prob(z) - fit.log_prob(z)).double().sum() / len(z)))
    mean = q.mean.mean((0, 2, 3, 4), keepdim=True)
    variance = ((q.mean - mean).square() + q.log_variance.exp()).mean((0, 2, 3, 4), keepdim=True)
    return float(elementwise_kl(q, DiagonalGaussian(mean, variance.log())).double().sum() / len(q.mean))


def minibatch_information(z: Tensor, posteriors: Iterable[Posterior]) -> float:
    """The minibatch estimate of the information, in nats per patch.

    Args:
        z: A draw for each patch, (batch, channels, z, y, x).
        posteriors: The posteriors of the patches first, then the same posteriors assigned to other patches.
    """
    densities = torch.stack([q.log_prob(z).double().sum((1, 2, 3, 4)) for q in posteriors])
    return float((densities[0] - torch.logsumexp(densities, 0) + log(len(densities))).mean())


def by_position(levels: list[LevelNats], side: int, of_mean: bool = False) -> Tensor:
    """Rate of all levels by position.

    Args:
        levels: Rate of each level.
        side: Side length of a patch in voxels.
        of_mean: Only the part due to the means.

    Returns:
        Nats per voxel, (batch, z, y, x).
    """
    total = torch.zeros(len(levels[0].kl), side, side, side)
    for nats in levels:
        stride = 2**nats.level
        density = (nats.kl_of_mean if of_mean else nats.kl).sum(1) / stride**3
        total += density.repeat_interleave(stride, 1).repeat_interleave(stride, 2).repeat_interleave(stride, 3)
    return total
