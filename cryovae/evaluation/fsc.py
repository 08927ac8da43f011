"""Fourier shell correlation (FSC) in the measured part and in the missing wedge, computed separately.

FSC(k) = sum Re( F a conj F b ) / sqrt( sum |F a|^2  sum |F b|^2 )           sums over a shell, or over a band of shells

The FSC of a cone of directions about the beam is summed over the bins where acos( |k_z| / |k| ) is between two angles.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cryovae import fourier
from cryovae.physics.wedge import volume_mask
from cryovae.tomogram import TiltGeometry

BAND = (0.01, 0.2)
CONES = ((0.0, 30.0), (30.0, 60.0), (60.0, 90.0))
# Frequency in cycles per voxel by which a curve must have reached a level.
START = 0.1
LEVELS = (0.5, 0.143)
SLAB = 32


@dataclass(frozen=True)
class Correlation:
    """Correlation of two densities over a band and by shell; nan if there are no bins.

    Attributes:
        band: Correlation over all bins within ``limits``.
        limits: Lower and upper limit of the band, in cycles per voxel.
        frequency: Centres of the shells (shells,), in cycles per voxel.
        shells: Correlation in each shell (shells,).
        error: Standard error of ``band``; nan where it was not computed.
        shell_errors: Those of ``shells``, or None.
    """

    band: float
    limits: tuple[float, float]
    frequency: np.ndarray
    shells: np.ndarray
    error: float = float("nan")
    shell_errors: np.ndarray | None = None


@dataclass(frozen=True)
class Score:
    """Correlation inside the missing wedge, and in the measured part."""

    wedge: Correlation
    measured: Correlation


@dataclass(frozen=True)
class Cone:
    """Correlation over a range of directions.

    Attributes:
        low: Smallest angle to the beam, in degrees.
        high: Largest angle to the beam, in degrees.
        all_bins: Correlation over all bins of the cone.
        wedge: Correlation over its bins in the missing wedge.
        measured: Correlation over its measured bins.
    """

    low: float
    high: float
    all_bins: Correlation
    wedge: Correlation
    measured: Correlation


def regions(shape: Sequence[int], tilts: TiltGeometry) -> tuple[Tensor, Tensor]:
    """Weights (z, y, x // 2 + 1) of the bins in the wedge and of the measured bins: their multiplicity, 0 at zero frequency.

    Bins within half a bin of the edge of the wedge belong to neither, because rounding decides whether they were measured.
    """
    mask = volume_mask(shape, tilts)
    count = fourier.multiplicity(shape).expand_as(mask).clone()
    count[0, 0, 0] = 0.0
    return (mask == 0) * count, (mask == 1) * count


def correlation(a: Tensor, b: Tensor, weight: Tensor, limits: tuple[float, float] = BAND) -> Correlation:
    """Correlate two (z, y, x) densities over the bins of ``weight`` (z, y, x // 2 + 1), by shell and over ``limits``."""
    return spectral_correlation(centred_spectrum(a), centred_spectrum(b), weight, a.shape, limits)


def spectral_correlation(
    x: Tensor, y: Tensor, weight: Tensor, shape: Sequence[int], limits: tuple[float, float] = BAND
) -> Correlation:
    """Correlate two half spectra, as ``correlation`` does for densities.

    Args:
        x: Half spectrum (z, y, x // 2 + 1) of the first density.
        y: That of the second.
        weight: Weights of the bins, of the same shape.
        shape: Shape (z, y, x) of the densities.
        limits: Band, in cycles per voxel.
    """
    radius = fourier.radius(shape)
    width = 1 / min(shape)
    count = int(0.5 / width)
    sums, band_sums = torch.zeros(3, count + 2, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    for start in range(0, shape[0], SLAB):
        z = slice(start, start + SLAB)
        shell = (radius[z] / width).round().long().clamp(max=count + 1)
        terms = torch.stack([(x[z] * y[z].conj()).real, x[z].abs().square(), y[z].abs().square()]).double() * weight[z]
        fourier.add_shell_sums(sums, terms, shell)
        band_sums += (terms * ((radius[z] > limits[0]) & (radius[z] < limits[1]))).sum((1, 2, 3))
    with np.errstate(invalid="ignore"):
        cross, left, right = sums[:, 1 : count + 1].numpy()
        shells = np.where(left * right > 0, cross / np.sqrt(np.maximum(left * right, 1e-300)), np.nan)
    norm = float(torch.sqrt(band_sums[1] * band_sums[2]))
    band = float(band_sums[0]) / norm if norm > 0 else float("nan")
    return Correlation(band, limits, np.arange(1, count + 1) * width, shells)


def centred_spectrum(density: Tensor) -> Tensor:
    """Half spectrum of a (z, y, x) density minus its mean; a large mean would reduce the precision of the other bins."""
    return fourier.transform((density - density.mean(dtype=torch.float64)).float())


def score(restored: Tensor, truth: Tensor, tilts: TiltGeometry, limits: tuple[float, float] = BAND) -> Score:
    """Correlation of a restored (z, y, x) density with the truth, or of two halves, in the wedge and in the measured part."""
    x, y = centred_spectrum(restored), centred_spectrum(truth)
    return Score(*(spectral_correlation(x, y, weight, truth.shape, limits) for weight in regions(truth.shape, tilts)))


def cone_scores(restored: Tensor, truth: Tensor, tilts: TiltGeometry, limits: tuple[float, float] = BAND) -> list[Cone]:
    """Correlation of two (z, y, x) densities in each of CONES, from the beam outwards."""
    shape = truth.shape
    x, y = centred_spectrum(restored), centred_spectrum(truth)
    wedge, measured = regions(shape, tilts)
    all_bins = fourier.multiplicity(shape) * (fourier.radius(shape) > 0)
    off_beam = angle_to_beam(shape)
    cones = []
    for low, high in CONES:
        inside = (off_beam >= low) & ((off_beam < high) if high < 90 else (off_beam <= 90))
        parts = [spectral_correlation(x, y, inside * weight, shape, limits) for weight in (all_bins, wedge, measured)]
        cones.append(Cone(low, high, *parts))
    return cones


def angle_to_beam(shape: Sequence[int]) -> Tensor:
    """Angle between k and the k_z axis, (z, y, x // 2 + 1), 0 to 90 degrees; 0 at zero frequency."""
    kz, ky, kx = fourier.frequencies(shape)
    return torch.rad2deg(torch.atan2((ky.square() + kx.square()).sqrt(), kz.abs()))


def resolution_at(frequency: np.ndarray, shells: np.ndarray, voxel_size: float, level: float) -> float:
    """Resolution at which a curve first falls below a level, interpolated linearly between shells.

    Args:
        frequency: Centres of the shells (shells,), in cycles per voxel.
        shells: Correlation (shells,); empty shells (nan) are skipped.
        voxel_size: Voxel size, in angstrom.
        level: Correlation, e.g. 0.5 or 0.143.

    Returns:
        Resolution in angstrom: 2 voxels if the curve stays above the level, nan if it is empty or below the level up to START.
        Shells before the first above the level do not count: those next to zero have few bins.
    """
    known = np.isfinite(shells)
    frequency, shells = frequency[known], shells[known]
    above = np.flatnonzero(shells >= level)
    if not len(above) or (above[0] > 0 and frequency[above[0]] > START):
        return float("nan")
    frequency, shells = frequency[above[0] :], shells[above[0] :]
    under = np.flatnonzero(shells < level)
    if len(under) == 0:
        return 2 * voxel_size
    last = under[0] - 1
    share = (shells[last] - level) / (shells[last] - shells[last + 1])
    return float(voxel_size / (frequency[last] + share * (frequency[last + 1] - frequency[last])))
