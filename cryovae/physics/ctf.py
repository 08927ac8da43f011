"""The contrast transfer function, one for all directions, as an uncorrected tomogram carries it.

CTF(k) = -sin( pi lambda dz k^2 - pi/2 Cs lambda^3 k^4 + arcsin A ),      k in 1/angstrom, dz > 0 for underfocus
"""

from __future__ import annotations

from math import asin, pi, sqrt

import torch
from torch import Tensor

# Rest energy of the electron in eV; h / sqrt(2 m e) in angstrom times the root of a volt.
ELECTRON_ENERGY, PLANCK_TERM = 510998.95, 12.2643


def wavelength(kilovolts: float) -> float:
    """Electron wavelength in angstrom, relativistic."""
    volts = kilovolts * 1e3
    return PLANCK_TERM / sqrt(volts * (1 + volts / (2 * ELECTRON_ENERGY)))


def contrast_transfer(
    frequency: Tensor, voxel_size: float, defocus: float, kilovolts: float = 300.0, cs: float = 2.7, amplitude: float = 0.1
) -> Tensor:
    """CTF (...) at |k| (...) in cycles per voxel. voxel_size in angstrom, defocus in micrometres, cs in millimetres."""
    k2 = (frequency / voxel_size) ** 2
    length = wavelength(kilovolts)
    phase = pi * length * defocus * 1e4 * k2 - 0.5 * pi * cs * 1e7 * length**3 * k2**2
    return -torch.sin(phase + asin(amplitude))
