"""The Fourier likelihood of a density, over measured bins only.

    log p(y | x) = -1/2 sum_k M(k) ( |F(x - y)(k)|^2 / sigma^2(k) + log 2 pi sigma^2(k) )

Patches with padding, or rotated off the grid, have a support t(r). Their residual is t (T_M x - y), which is zero outside the
support, and the number of bins is multiplied by the mean of t^2. Voxels with data that are held out are left out last, of the
part of the residual in the scored bins: so nothing leaks from other bins into those.
"""

from __future__ import annotations

from math import pi

import torch
from torch import Tensor

from cryovae import fourier


def residual_spectrum(density: Tensor, data: Tensor, mask: Tensor, support: Tensor | None = None) -> Tensor:
    """F of the residual (batch, z, y, x // 2 + 1), for densities and data (batch, z, y, x).

    It is independent of the density where ``mask`` is 0. See ``log_likelihood`` for mask and support.
    """
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
    scored: Tensor | None = None,
) -> Tensor:
    """Log-likelihood (batch,) in nats.

    Args:
        density: x, (batch, z, y, x).
        data: y, (batch, z, y, x).
        mask: M, (batch, z, y, x // 2 + 1), 1 in scored bins.
        variance: sigma^2 of the noise in an orthonormal spectrum, same shape as ``mask``.
        support: t, (batch, z, y, x) in [0, 1], or None for all voxels.
        measured: mask of all measured bins where ``mask`` scores only some of them; needed with a support.
        scored: 0 for held-out voxels, else 1, (batch, z, y, x), or None if there are none.
    """
    residual = residual_spectrum(density, data, mask if measured is None else measured, support)
    shape = density.shape[-3:]
    if scored is not None:
        residual = fourier.transform(scored * fourier.inverse(mask * residual, shape))
    weight = mask * fourier.multiplicity(shape, density.device)
    count = weight * _share(support, scored)
    power = residual.real.square() + residual.imag.square()
    terms = weight * power / variance + count * torch.log(2 * pi * variance)
    return -0.5 * terms.sum((-3, -2, -1))


def scored_bins(
    mask: Tensor, shape: torch.Size | tuple[int, ...], support: Tensor | None = None, scored: Tensor | None = None
) -> Tensor:
    """Number of scored coefficients (batch,) of the full spectrum, multiplied by the mean square of support and scored voxels."""
    count = (mask * fourier.multiplicity(shape, mask.device)).sum((-3, -2, -1))
    share = _share(support, scored)
    return count if isinstance(share, float) else count * share.flatten()


def _share(support: Tensor | None, scored: Tensor | None) -> Tensor | float:
    """Mean square (batch, 1, 1, 1) of the window that both make, 1 if there is none."""
    windows = [window for window in (support, scored) if window is not None]
    return torch.stack(windows).prod(0).square().mean((-3, -2, -1)).view(-1, 1, 1, 1) if windows else 1.0
