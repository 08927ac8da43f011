"""A Gaussian of the same spectrum: what knows how strong the signal is at each frequency, and nothing else.

    F y(k) ~ N(0, S(|k|) + sigma^2(k)),    S = < |F y|^2 - sigma^2 > over measured bins of patches, by shell, never below 0

The stationary Gaussian process, periodic on the patch, plus the noise: its bins are independent, so that its log-likelihood is a
sum over those that were measured, exactly, and what it foretells of bins that are hidden is nothing. An answer x is set beside it
on hidden bins as N(F x, E(|k|) + sigma^2(k)), E the spectrum of its error, found as S is: only the mean differs.
"""

from __future__ import annotations

import torch
from torch import Tensor

from cryovae import fourier
from cryovae.data.measurement import Measurement
from cryovae.physics.likelihood import log_likelihood


def shell_of(shape: tuple[int, ...] | torch.Size) -> Tensor:
    """The shell of each bin (z, y, x // 2 + 1), one bin of the smallest axis wide."""
    return (fourier.radius(shape) * min(shape)).round().long()


def signal_power(m: Measurement) -> Tensor:
    """S by shell, (shells,), of the patches of a measurement."""
    return _excess(m, m.data, m.mask)


def error_power(m: Measurement, answer: Tensor) -> Tensor:
    """E by shell, (shells,), of what an answer (batch, z, y, x) leaves in the hidden bins of a measurement, less the noise."""
    return _excess(m, m.data - answer, m.target_mask)


def _excess(m: Measurement, density: Tensor, mask: Tensor) -> Tensor:
    shape = m.data.shape[-3:]
    shell = shell_of(shape)
    power = fourier.transform(density).abs().square().cpu()
    weight = (mask * fourier.multiplicity(shape, mask.device)).cpu()
    terms = torch.stack(((weight * (power - m.variance.cpu())).sum(0), weight.sum(0)))
    sums = fourier.shell_sums(terms, shell, int(shell.max()) + 1)
    return (sums[0] / sums[1].clamp_min(1e-9)).clamp_min(0).float()


def gaussian_log_likelihood(m: Measurement, spectrum: Tensor, target_mask: bool = False, answer: Tensor | None = None) -> Tensor:
    """(batch,) in nats, of all measured bins or of those that are hidden; spectrum: S by shell, or E of an answer."""
    prior = spectrum.to(m.data.device)[shell_of(m.data.shape[-3:]).to(m.data.device)]
    mask = m.target_mask if target_mask else m.mask
    mean = torch.zeros_like(m.data) if answer is None else answer
    return log_likelihood(mean, m.data, mask, m.variance + prior, m.support, m.mask)
