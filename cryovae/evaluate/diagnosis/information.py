"""Where the nats lie, and how many of them are about the patch: by level, channel and place.

    rate          KL( q(z_l | z_>l, y) || p(z_l | z_>l) )           an upper bound of the information, as it is paid for
    fitted        KL( q(z_l | z_>l, y) || s_l ),                    s_l: one Gaussian a channel, fitted to the q of all patches
    minibatch     log q(z_l | z_>l, y_i) - log 1/N sum_j q(z_l | z_>l, y_j),      z ~ q(. | y_i); at most log N

For any fixed s, E KL(q || s) is at least the mutual information I(y; z_l), so that the smaller of rate and fitted is an upper
bound but for the fit; the minibatch estimate is its lower bound (Oord et al. 2018; Hoffman, Johnson 2016): where it is log N, all
that it says is that patches are told apart.

A channel is active if the variance of its posterior mean over patches and places exceeds 0.01 of the prior's (Burda et al. 2016).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log

import torch
from torch import Tensor

from cryovae.data.measurement import Measurement
from cryovae.models.distributions import DiagonalGaussian, Posterior, elementwise_divergence, elementwise_kl, standardised
from cryovae.models.ladder import Ladder, Q, R
from cryovae.posterior.activity import LEAST_VARIANCE


@dataclass(frozen=True)
class LevelNats:
    """One level, number 0 the finest. kl: (batch, channels, z, y, x) in nats, and moved: what of it the mean's distance from the
    prior's costs, 1/2 (mu - m)^2 / s^2; the rest is the price of being narrower, whatever the patch. variance: of the posterior
    mean, in units of the prior's, (channels,). fitted, minibatch: estimates of the information, in nats a patch.
    """

    level: int
    kl: Tensor
    moved: Tensor
    variance: Tensor
    fitted: float
    minibatch: float

    @property
    def rate(self) -> float:
        """Nats a patch."""
        return float(self.kl.double().sum() / len(self.kl))

    @property
    def rate_of_mean(self) -> float:
        """What of the rate the mean's distance from the prior's costs, in nats a patch."""
        return float(self.moved.double().sum() / len(self.moved))

    @property
    def most(self) -> float:
        """The smaller of the upper bounds of the information, in nats a patch."""
        return min(self.fitted, self.rate)

    @property
    def active(self) -> int:
        """Channels whose mean moves with the data."""
        return int((self.variance > LEAST_VARIANCE).sum())


@torch.no_grad()
def nats_by_level(ladder: Ladder, m: Measurement, role: int = Q, seed: int = 0) -> list[LevelNats]:
    """Levels with latents, coarse to fine, from one draw down the ladder; role: whose posterior, q's or r's."""
    features = ladder.encode(m.input_masked if role == R else m.input_full, role)
    generator = torch.Generator().manual_seed(seed)
    found: list[LevelNats] = []

    def choose(level: int, prior: DiagonalGaussian, state: Tensor) -> tuple[Posterior, Tensor]:
        block = ladder.level(level)
        head = block.masked_posterior if role == R else block.posterior
        q = head(state, features[level], prior)
        z = q.sample(torch.randn(prior.mean.shape, generator=generator).to(prior.mean.device))
        others = [head(state, features[level].roll(by, 0), prior) for by in range(len(z))]
        shift = standardised(q.mean, prior)
        kl, variance = elementwise_divergence(q, prior, z), shift.transpose(0, 1).flatten(1).var(1)
        information = fitted_information(q, z), minibatch_information(z, others)
        found.append(LevelNats(level, kl.cpu(), 0.5 * shift.square().cpu(), variance.cpu(), *information))
        return q, z

    ladder.top_down(m.data.shape[-3:], len(m.data), choose)
    return found


def fitted_information(q: Posterior, z: Tensor) -> float:
    """The mean KL of q to one Gaussian a channel of the mean and variance of q over patches and places, in nats a patch; both by
    z, a draw of q, where it is no Gaussian, so that it scatters; not below 0, as what it estimates is not.
    """
    if not isinstance(q, DiagonalGaussian):
        places = (0, 2, 3, 4)
        drawn = DiagonalGaussian(z.mean(places, keepdim=True), z.var(places, keepdim=True).log())
        return max(0.0, float((q.log_densities(z) - drawn.log_densities(z)).double().sum() / len(z)))
    mean = q.mean.mean((0, 2, 3, 4), keepdim=True)
    variance = ((q.mean - mean).square() + q.log_variance.exp()).mean((0, 2, 3, 4), keepdim=True)
    input_full = DiagonalGaussian(mean, variance.log())
    return float(elementwise_kl(q, input_full).double().sum() / len(q.mean))


def minibatch_information(z: Tensor, posteriors: Sequence[Posterior]) -> float:
    """z: a draw for each patch. posteriors: first the patches' own, then those of others, each (batch, ...). Nats a patch."""
    densities = torch.stack([log_density(z, q) for q in posteriors])
    return float((densities[0] - torch.logsumexp(densities, 0) + log(len(densities))).mean())


def log_density(z: Tensor, q: Posterior) -> Tensor:
    """log q(z) less the constant 1/2 log 2 pi of each latent, (batch,)."""
    return q.log_densities(z).double().sum((1, 2, 3, 4))


def by_place(levels: list[LevelNats], side: int, of_mean: bool = False) -> Tensor:
    """Nats a voxel, (batch, z, y, x), of all levels distributed_command: each latent spread over the voxels that it stands for.

    of_mean: only what the mean's distance from the prior's costs.
    """
    total = torch.zeros(len(levels[0].kl), side, side, side)
    for found in levels:
        stride = 2**found.level
        spread = (found.moved if of_mean else found.kl).sum(1) / stride**3
        total += spread.repeat_interleave(stride, 1).repeat_interleave(stride, 2).repeat_interleave(stride, 3)
    return total
