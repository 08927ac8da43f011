"""Correlation in Fourier space, in the measured part and in the wedge apart: one number over both hides everything.

FSC(k) = sum Re( F a conj F b ) / sqrt( sum |F a|^2  sum |F b|^2 )           sums over a shell, or over a band of shells

and over the part of a shell that lies in a cone of directions about the beam, where acos( |k_z| / |k| ) is between two angles.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cryovae import fourier
from cryovae.physics.wedge import volume_mask
from cryovae.tomogram import TiltGeometry

BAND = (0.01, 0.2)
CONES = ((0.0, 30.0), (30.0, 60.0), (60.0, 90.0))
LEVELS = (0.5, 0.143)
SLAB = 32


@dataclass(frozen=True)
class Correlation:
    """Correlation with a truth: one figure over a band, and one for each shell.

    band: over ``limits``, cycles per voxel. shells: (shells,) at ``frequency`` (shells,), cycles per voxel. nan where empty.
    """

    band: float
    limits: tuple[float, float]
    frequency: np.ndarray
    shells: np.ndarray


@dataclass(frozen=True)
class Score:
    """Correlation with a truth inside the missing wedge, and in the measured part."""

    wedge: Correlation
    measured: Correlation


@dataclass(frozen=True)
class Cone:
    """Correlation over directions from ``low`` to ``high`` degrees off the beam: of all bins, and of the two parts apart."""

    low: float
    high: float
    whole: Correlation
    wedge: Correlation
    measured: Correlation


def regions(shape: tuple[int, int, int], tilts: TiltGeometry) -> tuple[Tensor, Tensor]:
    """Weights (z, y, x // 2 + 1) of the bins in the wedge, and of those measured, with multiplicity and without DC.

    Bins within half a bin of the wedge's edge are in neither: whether they were measured is a matter of rounding.
    """
    mask = volume_mask(shape, tilts)
    count = fourier.multiplicity(shape).expand_as(mask).clone()
    count[0, 0, 0] = 0.0
    return (mask == 0) * count, (mask == 1) * count


def correlation(a: Tensor, b: Tensor, weight: Tensor, limits: tuple[float, float] = BAND) -> Correlation:
    """Correlate two (z, y, x) densities over the bins of ``weight`` (z, y, x // 2 + 1), by shell and over ``limits``."""
    return spectral_correlation(centred_spectrum(a), centred_spectrum(b), weight, (a.shape[0], a.shape[1], a.shape[2]), limits)


def spectral_correlation(
    x: Tensor, y: Tensor, weight: Tensor, shape: tuple[int, int, int], limits: tuple[float, float] = BAND
) -> Correlation:
    """The same of two half spectra (z, y, x // 2 + 1) of densities of ``shape``."""
    radius = fourier.radius(shape)
    width = 1 / min(shape)
    count = int(0.5 / width)
    sums, whole = torch.zeros(3, count + 2, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    for start in range(0, shape[0], SLAB):
        z = slice(start, start + SLAB)
        shell = (radius[z] / width).round().long().clamp(max=count + 1)
        terms = torch.stack([(x[z] * y[z].conj()).real, x[z].abs().square(), y[z].abs().square()]).double() * weight[z]
        fourier.add_shell_sums(sums, terms, shell)
        whole += (terms * ((radius[z] > limits[0]) & (radius[z] < limits[1]))).sum((1, 2, 3))
    with np.errstate(invalid="ignore"):
        cross, left, right = sums[:, 1 : count + 1].numpy()
        shells = np.where(left * right > 0, cross / np.sqrt(np.maximum(left * right, 1e-300)), np.nan)
    norm = float(torch.sqrt(whole[1] * whole[2]))
    band = float(whole[0]) / norm if norm > 0 else float("nan")
    return Correlation(band, limits, np.arange(1, count + 1) * width, shells)


def centred_spectrum(density: Tensor) -> Tensor:
    """Half spectrum of a (z, y, x) density less its mean, which on an offset grey scale would cost the rest its precision."""
    return fourier.transform((density - density.mean(dtype=torch.float64)).float())


def score(restored: Tensor, truth: Tensor, tilts: TiltGeometry, limits: tuple[float, float] = BAND) -> Score:
    """Correlation of a restored (z, y, x) density with the truth, or of two halves, in the wedge and in the measured part."""
    shape = (truth.shape[0], truth.shape[1], truth.shape[2])
    x, y = centred_spectrum(restored), centred_spectrum(truth)
    found = [spectral_correlation(x, y, weight, shape, limits) for weight in regions(shape, tilts)]
    return Score(*found)


def cone_scores(restored: Tensor, truth: Tensor, tilts: TiltGeometry, limits: tuple[float, float] = BAND) -> list[Cone]:
    """Correlation of two (z, y, x) densities in each of CONES, the one about the beam first."""
    shape = (truth.shape[0], truth.shape[1], truth.shape[2])
    x, y = centred_spectrum(restored), centred_spectrum(truth)
    wedge, measured = regions(shape, tilts)
    whole = fourier.multiplicity(shape) * (fourier.radius(shape) > 0)
    off_beam = angle_to_beam(shape)
    cones = []
    for low, high in CONES:
        inside = (off_beam >= low) & ((off_beam < high) if high < 90 else (off_beam <= 90))
        parts = [spectral_correlation(x, y, inside * weight, shape, limits) for weight in (whole, wedge, measured)]
        cones.append(Cone(low, high, *parts))
    return cones


def angle_to_beam(shape: tuple[int, int, int]) -> Tensor:
    """Degrees (z, y, x // 2 + 1) from 0 to 90 between k and k_z; 0 at zero frequency."""
    kz, ky, kx = fourier.frequencies(shape)
    return torch.rad2deg(torch.atan2((ky.square() + kx.square()).sqrt(), kz.abs()))


def resolution_at(frequency: np.ndarray, shells: np.ndarray, voxel_size: float, level: float) -> float:
    """Resolution in angstrom where a shell curve first falls under ``level``, linear between shells.

    Empty shells (nan) are passed over. nan if the curve starts under it or is empty, 2 voxels if it never falls under it.
    """
    known = np.isfinite(shells)
    frequency, shells = frequency[known], shells[known]
    under = np.flatnonzero(shells < level)
    if len(shells) == 0 or (len(under) and under[0] == 0):
        return float("nan")
    if len(under) == 0:
        return 2 * voxel_size
    last = under[0] - 1
    share = (shells[last] - level) / (shells[last] - shells[last + 1])
    return float(voxel_size / (frequency[last] + share * (frequency[last + 1] - frequency[last])))
