"""Trivial baselines: the untouched input, and a low-pass filter followed by clipping.

The clipping recipe is the best of a few by the score that is reported. Particles are sparse and of one sign, so clipping alone
fills much of the wedge: on sparse phantoms it reaches a correlation of 0.92. The score of a restoration must therefore be
compared with that of clipping.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from cryovae import fourier
from cryovae.evaluation.fsc import BAND, Score, centred_spectrum, regions, score
from cryovae.physics.wedge import wedge_mask
from cryovae.tomogram import TiltGeometry

CUTOFFS = (0.06, 0.1, 0.16, 0.25)
QUANTILES = (0.02, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8)
# Recipes are compared on at most this many voxels along each axis; a search over a large tomogram would take hours.
SEARCH_SIDE = 160


@dataclass(frozen=True)
class Recipe:
    """A Gaussian low-pass filter, then clipping at a quantile.

    Attributes:
        cutoff: Cutoff of the low-pass filter, in cycles per voxel.
        share: Quantile, from 0 to 1.
        keeps: 'max' raises grey values below the quantile to it, 'min' lowers those above it.
    """

    cutoff: float
    share: float
    keeps: str

    def __str__(self) -> str:
        return f"{self.keeps}(x, {100 * self.share:.0f} % quantile) after a low-pass at {self.cutoff:g} cycles per voxel"

    def __call__(self, density: Tensor) -> Tensor:
        """The low-passed and clipped density (z, y, x)."""
        smooth = low_pass(density.float(), self.cutoff)
        return self.clip(smooth, float(smooth.flatten().kthvalue(1 + int(self.share * (smooth.numel() - 1))).values))

    def clip(self, smooth: Tensor, threshold: float) -> Tensor:
        """Clip a low-passed density at the value of its quantile."""
        return smooth.clamp_min(threshold) if self.keeps == "max" else smooth.clamp_max(threshold)


@dataclass(frozen=True)
class Clipped:
    """Result of the best recipe against a truth.

    Attributes:
        density: Filtered and clipped density (z, y, x).
        score: Correlation with the truth.
        recipe: Recipe, in words.
    """

    density: Tensor
    score: Score
    recipe: str


@dataclass(frozen=True)
class ClippingPrediction:
    """Result of the best recipe on held-out bins.

    Attributes:
        correlation: Correlation with the data in the held-out bins.
        recipe: The recipe.
    """

    correlation: float
    recipe: Recipe


def low_pass(density: Tensor, cutoff: float) -> Tensor:
    """Filter a (z, y, x) density with a Gaussian that equals exp(-1/2) at ``cutoff``, in cycles per voxel."""
    radius = fourier.radius(density.shape)
    return fourier.filtered(density, torch.exp(-0.5 * (radius / cutoff) ** 2))


def best_clipping(density: Tensor, truth: Tensor, tilts: TiltGeometry, limits: tuple[float, float] = BAND) -> Clipped:
    """Apply the recipe whose result correlates best with the truth in the wedge; densities are (z, y, x)."""
    middle = _middle(density)
    band = regions(middle.shape, tilts)[0] * _in_band(middle, limits)
    _, recipe = _best(middle, _middle(truth), band)
    clipped = recipe(density)
    return Clipped(clipped, score(clipped, truth, tilts, limits), str(recipe))


def predict_by_clipping(density: Tensor, tilts: TiltGeometry, limits: tuple[float, float] = BAND) -> ClippingPrediction | None:
    """Remove a second wedge, rotated from z to y, from a (z, y, x) tomogram, and predict the removed bins by clipping.

    This baseline needs no truth. The untouched input has a correlation of 0.

    Returns:
        The best recipe and its correlation; None if no measured bins are removed.
    """
    data = _middle(density).float()
    kz, ky, kx = fourier.frequencies(data.shape)
    rotated = wedge_mask(torch.stack((ky, kz, kx)), tilts, 1 / min(data.shape))
    target_bins = (rotated == 0) * regions(data.shape, tilts)[1] * _in_band(data, limits)
    if not target_bins.any():
        return None
    return ClippingPrediction(*_best(fourier.filtered(data - data.mean(), rotated), data, target_bins))


def _best(density: Tensor, reference: Tensor, weight: Tensor) -> tuple[float, Recipe]:
    """The highest correlation with ``reference`` over the bins of ``weight``, and the recipe that reaches it."""
    used = weight > 0
    target, count = centred_spectrum(reference)[used], weight[used]
    norm = (count * target.abs().square()).sum()
    best = (-2.0, Recipe(CUTOFFS[-1], 0.0, "max"))
    for cutoff in CUTOFFS:
        smooth = low_pass(density.float(), cutoff)
        ordered = smooth.flatten().sort().values
        for share, keeps in product(QUANTILES, ("max", "min")):
            recipe = Recipe(cutoff, share, keeps)
            spectrum = centred_spectrum(recipe.clip(smooth, float(ordered[int(share * (len(ordered) - 1))])))[used]
            power = (count * spectrum.abs().square()).sum()
            agreement = float((count * (spectrum * target.conj()).real).sum() / (power * norm).sqrt().clamp_min(1e-30))
            if agreement > best[0]:
                best = (agreement, recipe)
    return best


def _in_band(density: Tensor, limits: tuple[float, float]) -> Tensor:
    radius = fourier.radius(density.shape)
    return (radius > limits[0]) & (radius < limits[1])


def _middle(density: Tensor) -> Tensor:
    """The middle of a density (z, y, x), at most SEARCH_SIDE voxels along each axis."""
    starts = [max(0, (n - SEARCH_SIDE) // 2) for n in density.shape]
    z, y, x = (slice(start, start + SEARCH_SIDE) for start in starts)
    return density[z, y, x]
