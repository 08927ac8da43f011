"""The contrast transfer function, as an uncorrected tomogram carries it.

CTF(k) = -sin( pi lambda dz k^2 - pi/2 Cs lambda^3 k^4 + phi + arcsin A ),      k in 1/angstrom, dz > 0 for underfocus

A tomogram is C F x in Fourier space, with C = -CTF exp(-B k^2 / 4), the sign that keeps the grey scale of the tomogram, and dz
that of the tilt whose plane k lies in. With the data divided by C the likelihood is the one without it, at other variances:

    sum M |C F x - F y|^2 / sigma^2  =  sum M V |F x - F y / C|^2 / (sigma^2 / C^2),          V = 0 where |C| < 1/4

Around its zeroes, where V is 0, nothing was measured. Below its first maximum C is not less than 1/4: contrast that long waves
hardly transfer is raised fourfold at most.
"""

from __future__ import annotations

from math import asin, pi, radians, sqrt

import numpy as np
import torch
from torch import Tensor

from cryovae.tomogram import Optics, Transfer

# Rest energy of the electron in eV; h / sqrt(2 m e) in angstrom times the root of a volt.
ELECTRON_ENERGY, PLANCK_TERM = 510998.95, 12.2643
# |C| below which a bin counts as unmeasured.
LEAST = 0.25


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


def tilt_of(frequency: Tensor) -> Tensor:
    """Degrees (...) of the tilt, about y, whose plane holds each of the frequencies (3, ...)."""
    kz, _, kx = frequency
    return torch.rad2deg(torch.atan(kz / torch.where(kx.abs() < 1e-9, torch.full_like(kx, 1e-9), kx)))


def tomogram_transfer(frequency: Tensor, optics: Optics, voxel_size: float) -> Tensor:
    """C (...) at frequencies (3, ...) in cycles per voxel, voxel_size in angstrom; the defocus of tilts in between is linear."""
    k2 = frequency.square().sum(0) / voxel_size**2
    phase = _phase(frequency, k2, optics)
    transfer = torch.sin(phase) * torch.exp(-optics.b_factor / 4 * k2)
    if optics.flipped:
        transfer = transfer.abs()
    return torch.where(phase < pi / 2, transfer.clamp_min(LEAST), transfer)


def _phase(frequency: Tensor, k2: Tensor, optics: Optics) -> Tensor:
    length = wavelength(optics.voltage)
    defocus: Tensor | float = optics.defocus[0]
    if len(optics.defocus) > 1:
        order = np.argsort(optics.angles)
        angles, values = (np.asarray(v, dtype=np.float64)[order] for v in (optics.angles, optics.defocus))
        found = np.interp(tilt_of(frequency).cpu().numpy(), angles, values)
        defocus = torch.from_numpy(found).to(k2)
    own = 0.5 * pi * optics.spherical_aberration * 1e7 * length**3 * k2**2
    return pi * length * defocus * k2 - own + radians(optics.phase_shift) + asin(optics.amplitude_contrast)


def visible(frequency: Tensor, transfer: Transfer) -> Tensor:
    """V (...): 1 where C says something, 0 around its zeroes, at frequencies (3, ...) in cycles per voxel."""
    return (tomogram_transfer(frequency, transfer.optics, transfer.voxel_size).abs() >= LEAST).float()


def inverse_transfer(frequency: Tensor, transfer: Transfer) -> Tensor:
    """V / C (...) at frequencies (3, ...) in cycles per voxel."""
    found = tomogram_transfer(frequency, transfer.optics, transfer.voxel_size)
    return torch.where(found.abs() >= LEAST, 1 / torch.where(found == 0, torch.ones_like(found), found), torch.zeros_like(found))
