"""A Gaussian of the same spectrum: what knows how strong the signal is at each frequency, and nothing else.

    F y(k) ~ N(0, S(|k|) + sigma^2(k)),    S = < |F y|^2 - sigma^2 > over measured bins of patches, by shell, never below 0

The stationary Gaussian process, periodic on the patch, plus the noise: its bins are independent, so that its log-likelihood is a
sum over those that were measured, exactly, and what it foretells of bins that are hidden is nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor

from cryovae import fourier
from cryovae.objectives.pairs import Measurement
from cryovae.physics.likelihood import log_likelihood


def shell_of(shape: tuple[int, ...] | torch.Size) -> Tensor:
    """The shell of each bin (z, y, x // 2 + 1), one bin of the smallest axis wide."""
    return (fourier.radius(shape) * min(shape)).round().long()


def signal_power(m: Measurement) -> Tensor:
    """S by shell, (shells,), of the patches of a measurement."""
    shape = m.data.shape[-3:]
    shell = shell_of(shape)
    power = fourier.transform(m.data).abs().square().cpu()
    weight = (m.mask * fourier.multiplicity(shape, m.mask.device)).cpu()
    sums = torch.zeros(2, int(shell.max()) + 1, dtype=torch.float64)
    terms = torch.stack(((weight * (power - m.variance.cpu())).sum(0), weight.sum(0))).double()
    sums.index_add_(1, shell.flatten(), terms.flatten(1))
    return (sums[0] / sums[1].clamp_min(1e-9)).clamp_min(0).float()


def gaussian_log_likelihood(m: Measurement, signal: Tensor, hidden: bool = False) -> Tensor:
    """(batch,) in nats, of all measured bins or of those that are hidden; ``signal``: S by shell."""
    prior = signal.to(m.data.device)[shell_of(m.data.shape[-3:]).to(m.data.device)]
    mask = m.hidden if hidden else m.mask
    return log_likelihood(torch.zeros_like(m.data), m.data, mask, m.variance + prior, m.support, m.mask)
