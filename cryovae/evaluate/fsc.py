"""Correlation in Fourier space, in the measured part and in the wedge apart: one number over both hides everything.

FSC(k) = sum Re( F a conj F b ) / sqrt( sum |F a|^2  sum |F b|^2 )           sums over a shell, or over a band of shells
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


@dataclass(frozen=True)
class Correlation:
    """Correlation with a truth: one figure over a band, and one for each shell.

    band: over ``limits``, cycles per voxel. shells: (shells,) at ``frequency`` (shells,), cycles per voxel; nan where empty.
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
    x, y = centred_spectrum(a), centred_spectrum(b)
    radius = fourier.radius(a.shape)
    width = 1 / min(a.shape)
    count = int(0.5 / width)
    shell = (radius / width).round().long().clamp(max=count + 1)
    terms = torch.stack([(x * y.conj()).real, x.abs().square(), y.abs().square()]) * weight
    sums = torch.zeros(3, count + 2, dtype=torch.float64).index_add_(1, shell.flatten(), terms.double().flatten(1))
    in_band = (radius > limits[0]) & (radius < limits[1])
    whole = (terms.double() * in_band).sum((1, 2, 3))
    with np.errstate(invalid="ignore"):
        cross, left, right = sums[:, 1 : count + 1].numpy()
        shells = np.where(left * right > 0, cross / np.sqrt(np.maximum(left * right, 1e-300)), np.nan)
    band = float(whole[0] / torch.sqrt(whole[1] * whole[2]).clamp_min(1e-300))
    return Correlation(band, limits, np.arange(1, count + 1) * width, shells)


def centred_spectrum(density: Tensor) -> Tensor:
    """Half spectrum of a (z, y, x) density less its mean, which on an offset grey scale would cost the rest its precision."""
    return fourier.transform((density - density.mean(dtype=torch.float64)).float())


def score(restored: Tensor, truth: Tensor, tilts: TiltGeometry, limits: tuple[float, float] = BAND) -> Score:
    """Correlation of a restored (z, y, x) density with the truth, in the wedge and in the measured part."""
    wedge, measured = regions((truth.shape[0], truth.shape[1], truth.shape[2]), tilts)
    return Score(correlation(restored, truth, wedge, limits), correlation(restored, truth, measured, limits))
