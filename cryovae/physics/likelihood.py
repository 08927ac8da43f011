"""The Fourier likelihood of a density, over measured bins only.

    log p(y | x) = -1/2 sum_k M(k) ( |F(x - y)(k)|^2 / sigma^2(k) + log 2 pi sigma^2(k) )

With a support t(r), for patches that hold padding, or that were turned off the grid, the residual is t (T_M x - y): what is
outside the support is scored nowhere, and the number of bins is reduced by the mean of t^2.
"""

from __future__ import annotations

from math import pi

import torch
from torch import Tensor

from cryovae import fourier


def residual_spectrum(density: Tensor, data: Tensor, mask: Tensor, support: Tensor | None = None) -> Tensor:
    """F of the residual (batch, z, y, x // 2 + 1), for densities and data (batch, z, y, x); independent of x where M = 0."""
    if support is None:
        return fourier.transform(density - data)
    return fourier.transform(support * (fourier.filtered(density, mask) - data))


def log_likelihood(
    density: Tensor,
    data: Tensor,
    mask: Tensor,
    variance: Tensor,
    support: Tensor | None = None,
    measured: Tensor | None = None,
) -> Tensor:
    """Log-likelihood (batch,) in nats.

    density, data: (batch, z, y, x). mask: M, (batch, z, y, x // 2 + 1), the bins that are scored.
    variance: sigma^2, same shape, of the noise in an orthonormal spectrum.
    support: (batch, z, y, x) in [0, 1] or None for all. measured: the mask of all that was measured, when ``mask`` scores
    only a part of it; needed with a support.
    """
    residual = residual_spectrum(density, data, mask if measured is None else measured, support)
    shape = density.shape[-3:]
    weight = mask * fourier.multiplicity(shape, density.device)
    count = weight if support is None else weight * support.square().mean((-3, -2, -1)).view(-1, 1, 1, 1)
    power = residual.real.square() + residual.imag.square()
    terms = weight * power / variance + count * torch.log(2 * pi * variance)
    return -0.5 * terms.sum((-3, -2, -1))


def scored_bins(mask: Tensor, shape: torch.Size | tuple[int, ...], support: Tensor | None = None) -> Tensor:
    """Number of scored coefficients (batch,), counted over the full spectrum, less what a support leaves out."""
    count = (mask * fourier.multiplicity(shape, mask.device)).sum((-3, -2, -1))
    return count if support is None else count * support.square().mean((-3, -2, -1))
