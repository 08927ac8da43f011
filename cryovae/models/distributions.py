"""Diagonal Gaussians over latents, what any posterior has to offer, and the divergences between them.

KL( N(m, s^2) || N(n, t^2) ) = 1/2 sum ( ((m - n)^2 + s^2) / t^2 - 1 - ln s^2 / t^2 )
KL( q || p ) = E log q(z) - log p(z),  z ~ q                                       by one draw, where q is no Gaussian
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

SHIFT_LIMIT, LOG_VARIANCE_LIMIT = 10.0, 7.0


class Posterior(Protocol):
    """A distribution over the latents of a level, (batch, channels, z, y, x): a DiagonalGaussian, or one that a flow pushed."""

    @property
    def mean(self) -> Tensor: ...

    def sample(self, noise: Tensor) -> Tensor: ...

    def log_densities(self, z: Tensor) -> Tensor: ...

    def detach(self) -> Posterior: ...

    def moved(self, shift: Tensor, widen: Tensor) -> Posterior: ...


@dataclass(frozen=True)
class DiagonalGaussian:
    """N(mean, exp(log_variance)), both (batch, channels, z, y, x)."""

    mean: Tensor
    log_variance: Tensor

    def sample(self, noise: Tensor) -> Tensor:
        """mean + s * noise: differentiable in mean and variance; noise is N(0, I) of the same shape."""
        return self.mean + torch.exp(0.5 * self.log_variance) * noise

    def detach(self) -> DiagonalGaussian:
        """The same distribution, without gradients."""
        return DiagonalGaussian(self.mean.detach(), self.log_variance.detach())

    def log_densities(self, z: Tensor) -> Tensor:
        """log q(z) of each latent less 1/2 log 2 pi, (batch, channels, z, y, x)."""
        return -0.5 * (standardised(z, self).square() + self.log_variance)

    def moved(self, shift: Tensor, widen: Tensor) -> DiagonalGaussian:
        """Moved by ``shift`` of its standard deviations, and widened by ``widen`` in its log-variance."""
        width = torch.exp(0.5 * self.log_variance)
        return DiagonalGaussian(self.mean + width * shift, self.log_variance + widen)

    def within(self, prior: DiagonalGaussian) -> DiagonalGaussian:
        """The same mean, and no wider than ``prior``."""
        return DiagonalGaussian(self.mean, torch.minimum(self.log_variance, prior.log_variance))

    def __getitem__(self, rows: slice) -> DiagonalGaussian:
        return DiagonalGaussian(self.mean[rows], self.log_variance[rows])


def soft_clamp(x: Tensor, limit: float) -> Tensor:
    """x for small |x|, levelling off smoothly at +-limit."""
    return limit * torch.tanh(x / limit)


def relative_to(prior: DiagonalGaussian, shift: Tensor, log_scale: Tensor) -> DiagonalGaussian:
    """The prior moved by ``shift`` of its standard deviations and widened by ``log_scale`` (NVAE, eq. 3)."""
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
    """KL(q || p) in nats, (batch,): in closed form, or where q is no Gaussian by z, a draw of q."""
    return kl_divergence(q, p) if isinstance(q, DiagonalGaussian) else elementwise_divergence(q, p, z).sum((1, 2, 3, 4))


def elementwise_divergence(q: Posterior, p: DiagonalGaussian, z: Tensor) -> Tensor:
    """As ``divergence``, of each latent: (batch, channels, z, y, x)."""
    if isinstance(q, DiagonalGaussian):
        return elementwise_kl(q, p)
    return q.log_densities(z).float() - p.log_densities(z).float()


def standardised(z: Tensor, p: DiagonalGaussian) -> Tensor:
    """z in standard deviations of p, about its mean."""
    return (z - p.mean) * torch.exp(-0.5 * p.log_variance)
