"""The contrast transfer function of an uncorrected tomogram.

CTF(k) = -sin( pi lambda dz k^2 - pi/2 Cs lambda^3 k^4 + phi + arcsin A ),      k in 1/angstrom, dz > 0 for underfocus

A tomogram is C F x in Fourier space, with C = -CTF exp(-B k^2 / 4), the sign that keeps the grey scale of the tomogram, and dz
that of the tilt whose plane k lies in. With the data divided by C the likelihood is the one without it, at other variances:

    sum M |C F x - F y|^2 / sigma^2  =  sum M V |F x - F y / C|^2 / (sigma^2 / C^2),          V = 0 where |C| < 1/4

Where V is 0, around the zeroes of C, nothing was measured. Below its first maximum C is set to at least 1/4, so that the weakly
transferred low frequencies are amplified at most fourfold.
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
MIN_TRANSFER = 0.25


def wavelength(kilovolts: float) -> float:
    """Electron wavelength in angstrom, relativistic."""
    volts = kilovolts * 1e3
    return PLANCK_TERM / sqrt(volts * (1 + volts / (2 * ELECTRON_ENERGY)))


def contrast_transfer(
    frequency: Tensor, voxel_size: float, defocus: float, kilovolts: float = 300.0, cs: float = 2.7, amplitude: float = 0.1
) -> Tensor:
    """CTF (...) of a single image.

    Args:
        frequency: |k|, (...), in cycles per voxel.
        voxel_size: in angstrom.
        defocus: in micrometres, underfocus positive.
        kilovolts: acceleration voltage in kV.
        cs: spherical aberration in millimetres.
        amplitude: amplitude contrast, a fraction.
    """
    k2 = (frequency / voxel_size) ** 2
    length = wavelength(kilovolts)
    phase = pi * length * defocus * 1e4 * k2 - 0.5 * pi * cs * 1e7 * length**3 * k2**2
    return -torch.sin(phase + asin(amplitude))


def tilt_of(frequency: Tensor) -> Tensor:
    """Tilt about y in degrees, (...), whose central plane contains each of the frequencies (3, ...)."""
    kz, _, kx = frequency
    return torch.rad2deg(torch.atan(kz / torch.where(kx.abs() < 1e-9, torch.full_like(kx, 1e-9), kx)))


def tomogram_transfer(frequency: Tensor, optics: Optics, voxel_size: float) -> Tensor:
    """C (...) at frequencies (3, ...) in cycles per voxel, voxel_size in angstrom; defocus is interpolated between tilts."""
    k2 = frequency.square().sum(0) / voxel_size**2
    phase = _phase(frequency, k2, optics)
    transfer = torch.sin(phase) * torch.exp(-optics.b_factor / 4 * k2)
    if optics.flipped:
        transfer = transfer.abs()
    return torch.where(phase < pi / 2, transfer.clamp_min(MIN_TRANSFER), transfer)


def _phase(frequency: Tensor, k2: Tensor, optics: Optics) -> Tensor:
    """Phase (...) of the transfer in radians, at frequencies (3, ...) whose squared lengths are k2 (...) per square angstrom."""
    length = wavelength(optics.voltage)
    defocus: Tensor | float = optics.defocus[0]
    if len(optics.defocus) > 1:
        order = np.argsort(optics.angles)
        angles, values = (np.asarray(v, dtype=np.float64)[order] for v in (optics.angles, optics.defocus))
        defocus = torch.from_numpy(np.interp(tilt_of(frequency).cpu().numpy(), angles, values)).to(k2)
    aberration = 0.5 * pi * optics.spherical_aberration * 1e7 * length**3 * k2**2
    return pi * length * defocus * k2 - aberration + radians(optics.phase_shift) + asin(optics.amplitude_contrast)


def visible(frequency: Tensor, transfer: Transfer) -> Tensor:
    """V (...): 1 where |C| is at least 1/4, else 0, at frequencies (3, ...) in cycles per voxel."""
    return (tomogram_transfer(frequency, transfer.optics, transfer.voxel_size).abs() >= MIN_TRANSFER).float()


def inverse_transfer(frequency: Tensor, transfer: Transfer) -> Tensor:
    """V / C (...) at frequencies (3, ...) in cycles per voxel."""
    values = tomogram_transfer(frequency, transfer.optics, transfer.voxel_size)
    reciprocal = 1 / torch.where(values == 0, torch.ones_like(values), values)
    return torch.where(values.abs() >= MIN_TRANSFER, reciprocal, torch.zeros_like(values))
