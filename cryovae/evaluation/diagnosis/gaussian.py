"""A Gaussian of the same spectrum: a model that contains only the power of the signal by shell.

    F y(k) ~ N(0, S(|k|) + sigma^2(k)),    S = max( 0, < |F y|^2 - sigma^2 > )   over measured bins of patches, by shell

This is a stationary Gaussian process, periodic on the patch, plus the noise. Its bins are independent: the log-likelihood is a
sum over the measured bins, and it predicts nothing about the other bins. A restored density x is compared with it on target bins
through the model N(F x, E(|k|) + sigma^2(k)), where the spectrum E of the error of x is estimated in the same way as S.
"""

from __future__ import annotations

import torch
from torch import Tensor

from cryovae import fourier
from cryovae.data.measurement import Measurement
from cryovae.physics.likelihood import log_likelihood


def shell_of(shape: tuple[int, ...] | torch.Size) -> Tensor:
    """Shell number of each bin, (z, y, x // 2 + 1). Shells are 1 / n wide, n the number of voxels of the smallest axis."""
    return (fourier.radius(shape) * min(shape)).round().long()


def signal_power(m: Measurement) -> Tensor:
    """Spectrum S of the signal of the patches, (shells,)."""
    return _excess(m, m.data, m.mask)


def error_power(m: Measurement, restored: Tensor) -> Tensor:
    """Spectrum E of the error of restored densities (batch, z, y, x) in the target bins, without the noise, (shells,)."""
    return _excess(m, m.data - restored, m.target_mask)


def _excess(m: Measurement, density: Tensor, mask: Tensor) -> Tensor:
    shape = m.data.shape[-3:]
    shell = shell_of(shape)
    power = fourier.transform(density).abs().square().cpu()
    weight = (mask * fourier.multiplicity(shape, mask.device)).cpu()
    terms = torch.stack(((weight * (power - m.variance.cpu())).sum(0), weight.sum(0)))
    sums = fourier.shell_sums(terms, shell, int(shell.max()) + 1)
    return (sums[0] / sums[1].clamp_min(1e-9)).clamp_min(0).float()


def gaussian_log_likelihood(m: Measurement, spectrum: Tensor, target: bool = False, restored: Tensor | None = None) -> Tensor:
    """Log-likelihood of the patches under a Gaussian.

    Args:
        m: Patches.
        spectrum: S (shells,), or E (shells,) if ``restored`` is given.
        target: Score the target bins instead of the measured bins.
        restored: Densities (batch, z, y, x) that are the mean of the Gaussian; 0 if None.

    Returns:
        Log-likelihood (batch,), in nats.
    """
    prior = spectrum.to(m.data.device)[shell_of(m.data.shape[-3:]).to(m.data.device)]
    mask = m.target_mask if target else m.mask
    mean = torch.zeros_like(m.data) if restored is None else restored
    return log_likelihood(mean, m.data, mask, m.variance + prior, m.support, m.mask)
