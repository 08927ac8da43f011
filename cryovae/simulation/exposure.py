"""The electron exposure: contrast of the specimen, transmitted electrons, radiation damage and counting noise.

    c = 2 sigma_e a V,      N = dose a^2 exp( -T / (L cos t) ),      D(k) = exp( -n / 2 n_c(k) ),      n_c = 0.245 k^-1.665 + 2.81

sigma_e is the interaction constant, V the potential of protein above that of ice, a the pixel size, T the thickness, and L the
mean free path of electrons in ice. n_c is the critical dose at 300 kV in electrons per square angstrom, with k in 1/angstrom
(Grant and Grigorieff, eLife 2015, 4:e06980).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

# Radians per volt and angstrom at 300 kV; volts of protein beyond ice; angstrom.
INTERACTION, POTENTIAL, MEAN_FREE_PATH = 0.000653, 2.5, 3000.0
# Smallest expected count of a pixel, as a share of the mean; gold would make it negative.
MIN_INTENSITY = 0.02


def contrast_of(voxel_size: float) -> float:
    """Contrast c of a voxel of protein of ``voxel_size`` angstrom: the share of the beam that it removes where the CTF is 1."""
    return 2 * INTERACTION * POTENTIAL * voxel_size


def exposures(angles: Sequence[float], dose: float) -> np.ndarray:
    """Dose received halfway through each tilt, for the dose-symmetric order.

    Args:
        angles: tilts in degrees.
        dose: total dose in electrons per square angstrom.

    Returns:
        (tilts,) in electrons per square angstrom.
    """
    order = sorted(range(len(angles)), key=lambda i: (abs(angles[i]), (round(abs(angles[i]) * 2) % 2 == 0) == (angles[i] < 0)))
    received = np.empty(len(angles))
    received[order] = (np.arange(len(angles)) + 0.5) * dose / len(angles)
    return received


def damage(frequency: Tensor, received: float, voxel_size: float) -> Tensor:
    """Damage filter D at each frequency.

    Args:
        frequency: |k| (...) in cycles per voxel.
        received: dose received before, in electrons per square angstrom.
        voxel_size: in angstrom.
    """
    critical = 0.245 * (frequency / voxel_size).clamp_min(1e-6) ** -1.665 + 2.81
    return torch.exp(-received / (2 * critical))


def electrons(angles: Sequence[float], dose: float, voxel_size: float, thickness: float) -> np.ndarray:
    """Electrons per pixel behind the specimen for each tilt.

    Args:
        angles: tilts in degrees.
        dose: total dose in electrons per square angstrom.
        voxel_size: in angstrom.
        thickness: of the specimen in angstrom.

    Returns:
        N_t (tilts,).
    """
    lost = np.exp(-thickness / (MEAN_FREE_PATH * np.cos(np.radians(angles))))
    counted: np.ndarray = dose / len(angles) * voxel_size**2 * lost
    return counted


def count(images: Tensor, electrons_per_pixel: np.ndarray, noise: str, generator: torch.Generator) -> Tensor:
    """Add counting noise to images I / N - 1.

    Args:
        images: noise-free images.
        electrons_per_pixel: N_t of each image.
        noise: 'poisson' for counts, 'gaussian' for Gaussian noise of variance 1 / N_t.
        generator: of the random numbers.
    """
    n = torch.from_numpy(electrons_per_pixel).to(images).view(-1, 1, 1)
    if noise == "poisson":
        return torch.poisson((1 + images).clamp_min(MIN_INTENSITY) * n, generator=generator) / n - 1
    return images + torch.randn(images.shape, generator=generator) / n.sqrt()
