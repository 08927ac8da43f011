"""Diagonal Gaussians over latents, and the divergences between them.

KL( N(m, s^2) || N(n, t^2) ) = 1/2 sum ( ((m - n)^2 + s^2) / t^2 - 1 - ln s^2 / t^2 )
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

SHIFT_LIMIT, LOG_VARIANCE_LIMIT = 10.0, 7.0


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


def standardised(z: Tensor, p: DiagonalGaussian) -> Tensor:
    """z in standard deviations of p, about its mean."""
    return (z - p.mean) * torch.exp(-0.5 * p.log_variance)
