"""A Gaussian of the same spectrum: a model that knows the power of the signal at each frequency and nothing else.

    F y(k) ~ N(0, S(|k|) + sigma^2(k)),    S = < |F y|^2 - sigma^2 > over measured bins of patches, by shell, not below 0

It is the stationary Gaussian process, periodic on the patch, plus the noise. Its bins are independent: the log-likelihood is a
sum over the measured bins, and it predicts nothing about the other bins. A restored density x is compared with it on target bins
as N(F x, E(|k|) + sigma^2(k)), with the spectrum E of its error estimated as S is: only the mean differs.
"""

from __future__ import annotations

import torch
from torch import Tensor

from cryovae import fourier
from cryovae.data.measurement import Measurement
from cryovae.physics.likelihood import log_likelihood


def shell_of(shape: tuple[int, ...] | torch.Size) -> Tensor:
    """The shell of each bin, (z, y, x // 2 + 1); shells are one bin of the smallest axis wide."""
    return (fourier.radius(shape) * min(shape)).round().long()


def signal_power(m: Measurement) -> Tensor:
    """S by shell, (shells,), of the patches."""
    return _excess(m, m.data, m.mask)


def error_power(m: Measurement, restored: Tensor) -> Tensor:
    """E by shell, (shells,), of restored densities (batch, z, y, x) in the target bins, without the noise."""
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
    """Log-likelihood in nats, (batch,), of the measured or the ``target`` bins; spectrum: S by shell, or E of ``restored``."""
    prior = spectrum.to(m.data.device)[shell_of(m.data.shape[-3:]).to(m.data.device)]
    mask = m.target_mask if target else m.mask
    mean = torch.zeros_like(m.data) if restored is None else restored
    return log_likelihood(mean, m.data, mask, m.variance + prior, m.support, m.mask)
