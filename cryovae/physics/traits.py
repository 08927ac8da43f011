"""Traits: 42 numbers that describe a tomogram as a whole, by the power of its shells and the share of it that is signal.

    P_s   mean of |F y|^2 over the measured bins of shell s          N_s   the same of the noise sigma^2
    traits:  log10 P_s of 20 shells,  1 - N_s / P_s of them (0 if the noise is not known),  1 if it is known, else 0,
             share of the bins that were measured

y are tapered patches of a tomogram of standard deviation 1. A contrast transfer, a fall-off by damage or by an interpolation, and
the noise show in the traits. A network that is conditioned on them need not guess them from each patch.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from cryovae import fourier
from cryovae.physics.wedge import smeared_mask
from cryovae.tomogram import TiltGeometry

# Shells about s / 40 cycles per voxel, s from 1 to 20.
SHELLS = 20
TRAITS = 2 * SHELLS + 2
# Power below which a shell counts as empty, in units of the power of white noise of variance 1.
EMPTY_POWER = 1e-4


def traits_of(patches: Tensor, tilts: TiltGeometry, noise: Callable[[Tensor], Tensor] | None) -> Tensor:
    """The traits of a tomogram, (TRAITS,).

    Args:
        patches: of the tomogram, whose mean is 0 and standard deviation 1, (n, z, y, x).
        tilts: its tilt geometry.
        noise: sigma^2 at frequencies (3, ...) in cycles per voxel, in the same units, or None if it is not known.
    """
    shape = patches.shape[-3:]
    windows = [torch.sin(torch.pi * (torch.arange(n) + 0.5) / n).square() for n in shape]
    taper = windows[0][:, None, None] * windows[1][:, None] * windows[2]
    centred = patches.float() - patches.float().mean((-3, -2, -1), keepdim=True)
    power = fourier.transform(centred * taper).abs().square().mean(0) / taper.square().mean()
    frequency = fourier.frequencies(shape)
    measured = smeared_mask(shape, tilts) > 0.5
    count = fourier.multiplicity(shape) * measured
    shell = (fourier.radius(shape) * 2 * SHELLS).round().long()
    signal, known = torch.zeros(SHELLS), 0.0
    means = _by_shell(power, shell, count)
    if noise is not None:
        signal = (1 - _by_shell(noise(frequency).expand(power.shape), shell, count) / means.clamp_min(EMPTY_POWER)).clamp(0, 1)
        known = 1.0
    within = (shell >= 1) & (shell <= SHELLS)
    share = count[within].sum() / (fourier.multiplicity(shape) * within).sum()
    return torch.cat((means.clamp_min(EMPTY_POWER).log10(), signal, torch.tensor([known, float(share)])))


def without_noise(traits: Tensor) -> Tensor:
    """The same traits (..., TRAITS) where the noise is not known."""
    unknown = traits.clone()
    unknown[..., SHELLS : 2 * SHELLS + 1] = 0.0
    return unknown


def _by_shell(power: Tensor, shell: Tensor, count: Tensor) -> Tensor:
    """Mean of each shell from 1 to SHELLS, (SHELLS,), weighted by ``count``; 0 for a shell without bins."""
    total, weight = (
        torch.zeros(int(shell.max()) + 1).index_add_(0, shell.flatten(), x.flatten()) for x in (power * count, count)
    )
    padded = torch.cat((total / weight.clamp_min(1e-9), torch.zeros(SHELLS)))
    return padded[1 : SHELLS + 1]
