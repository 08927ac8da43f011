"""Distributions over latents, and the divergences between them.

KL( N(m, s^2) || N(n, t^2) ) = 1/2 sum ( ((m - n)^2 + s^2) / t^2 - 1 - ln s^2 / t^2 )
KL( q || p ) = E log q(z) - log p(z),  z ~ q                                from one draw if q is not Gaussian
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

SHIFT_LIMIT, LOG_VARIANCE_LIMIT = 10.0, 7.0


class Posterior(Protocol):
    """A distribution over the latents of one level, (batch, channels, z, y, x): a DiagonalGaussian or a FlowPosterior."""

    @property
    def mean(self) -> Tensor: ...

    @property
    def base(self) -> DiagonalGaussian: ...

    def sample(self, noise: Tensor) -> Tensor: ...

    def log_prob(self, z: Tensor) -> Tensor: ...

    def detach(self) -> Posterior: ...

    def moved(self, move: Move) -> Posterior: ...

    def within(self, prior: DiagonalGaussian) -> Posterior: ...


@dataclass(frozen=True)
class Move:
    """A change of the posterior of one level; both fields have the shape of its mean, (batch, channels, z, y, x).

    Attributes:
        shift: Shift of the mean, in standard deviations of the posterior.
        widen: Change of the log-variance.
    """

    shift: Tensor
    widen: Tensor


@dataclass(frozen=True)
class DiagonalGaussian:
    """N(mean, exp(log_variance)), both (batch, channels, z, y, x)."""

    mean: Tensor
    log_variance: Tensor

    @property
    def base(self) -> DiagonalGaussian:
        """The distribution itself. (A FlowPosterior returns the Gaussian that its flow transforms.)"""
        return self

    def sample(self, noise: Tensor) -> Tensor:
        """mean + s * noise, differentiable in mean and variance; noise is N(0, I), of the shape of the mean."""
        return self.mean + torch.exp(0.5 * self.log_variance) * noise

    def detach(self) -> DiagonalGaussian:
        """The same distribution without gradients."""
        return DiagonalGaussian(self.mean.detach(), self.log_variance.detach())

    def log_prob(self, z: Tensor) -> Tensor:
        """log q(z) of each latent, (batch, channels, z, y, x), without the constant -1/2 log 2 pi."""
        return -0.5 * (standardised(z, self).square() + self.log_variance)

    def moved(self, move: Move) -> DiagonalGaussian:
        """The distribution shifted and widened by ``move``."""
        width = torch.exp(0.5 * self.log_variance)
        return DiagonalGaussian(self.mean + width * move.shift, self.log_variance + move.widen)

    def within(self, prior: DiagonalGaussian) -> DiagonalGaussian:
        """The distribution with the same mean and a variance limited to that of ``prior``."""
        return DiagonalGaussian(self.mean, torch.minimum(self.log_variance, prior.log_variance))

    def __getitem__(self, rows: slice) -> DiagonalGaussian:
        return DiagonalGaussian(self.mean[rows], self.log_variance[rows])


def soft_clamp(x: Tensor, limit: float) -> Tensor:
    """limit tanh(x / limit): about x for small |x|, saturating at +-limit."""
    return limit * torch.tanh(x / limit)


def relative_to(prior: DiagonalGaussian, shift: Tensor, log_scale: Tensor) -> DiagonalGaussian:
    """A Gaussian parametrised relative to the prior (Vahdat, Kautz 2020, NVAE, eq. 3).

    Args:
        prior: Prior of the level.
        shift: Shift of the mean in standard deviations of the prior, limited to +-SHIFT_LIMIT.
        log_scale: Change of the log-variance, limited to +-LOG_VARIANCE_LIMIT.
    """
    width = torch.exp(0.5 * prior.log_variance)
    mean = prior.mean + width * soft_clamp(shift, SHIFT_LIMIT)
    return DiagonalGaussian(mean, prior.log_variance + soft_clamp(log_scale, LOG_VARIANCE_LIMIT))


def kl_divergence(q: DiagonalGaussian, p: DiagonalGaussian) -> Tensor:
    """KL(q || p) in nats, (batch,), summed over channels and voxels, in float32."""
    log_ratio = (q.log_variance - p.log_variance).float()
    distance = (q.mean - p.mean).float().square() * torch.exp(-p.log_variance.float())
    return 0.5 * (distance + log_ratio.exp() - 1 - log_ratio).sum((1, 2, 3, 4))


def elementwise_kl(q: DiagonalGaussian, p: DiagonalGaussian) -> Tensor:
    """KL(q || p) of each latent in nats, (batch, channels, z, y, x), in float32."""
    log_ratio = (q.log_variance - p.log_variance).float()
    shift = standardised(q.mean, p).float()
    return 0.5 * (shift.square() + log_ratio.exp() - 1 - log_ratio)


def divergence(q: Posterior, p: DiagonalGaussian, z: Tensor) -> Tensor:
    """KL(q || p) in nats, (batch,): in closed form if q is Gaussian, else estimated from z, a draw of q."""
    return kl_divergence(q, p) if isinstance(q, DiagonalGaussian) else elementwise_divergence(q, p, z).sum((1, 2, 3, 4))


def elementwise_divergence(q: Posterior, p: DiagonalGaussian, z: Tensor) -> Tensor:
    """``divergence`` of each latent, (batch, channels, z, y, x)."""
    if isinstance(q, DiagonalGaussian):
        return elementwise_kl(q, p)
    return q.log_prob(z).float() - p.log_prob(z).float()


def standardised(z: Tensor, p: DiagonalGaussian) -> Tensor:
    """(z - mean) / standard deviation of p."""
    return (z - p.mean) * torch.exp(-0.5 * p.log_variance)
