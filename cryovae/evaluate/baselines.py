"""Answers that cost nothing: the untouched input, and low-pass plus clipping, the best of a few chosen on what scores it.

Particles are sparse and of one sign, and any positivity fills the wedge: on sparse phantoms clipping alone reaches 0.92.
A figure without this one beside it means nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from cryovae import fourier
from cryovae.evaluate.fsc import BAND, Score, centred_spectrum, regions, score
from cryovae.physics.wedge import wedge_mask
from cryovae.tomogram import TiltGeometry

CUTOFFS = (0.06, 0.1, 0.16, 0.25)
SHARES = (0.02, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8)
SEARCHED = 160


@dataclass(frozen=True)
class Recipe:
    """A Gaussian low-pass, cycles per voxel, then everything under (``max``) or over (``min``) a quantile is set to it."""

    cutoff: float
    share: float
    keeps: str

    def __str__(self) -> str:
        return f"{self.keeps}(x, {100 * self.share:.0f} % quantile) after a low-pass at {self.cutoff:g} cycles per voxel"

    def __call__(self, density: Tensor) -> Tensor:
        """The clipped density, (z, y, x) as given."""
        smooth = low_pass(density.float(), self.cutoff)
        return self.clip(smooth, float(smooth.flatten().kthvalue(1 + int(self.share * (smooth.numel() - 1))).values))

    def clip(self, smooth: Tensor, threshold: float) -> Tensor:
        """Clip a low-passed density at the value of its quantile."""
        return smooth.clamp_min(threshold) if self.keeps == "max" else smooth.clamp_max(threshold)


@dataclass(frozen=True)
class Clipped:
    """The best low-pass plus clipping: its density, its score, and what it did."""

    density: Tensor
    score: Score
    recipe: str


@dataclass(frozen=True)
class CalibrationResult:
    """How well the best low-pass plus clipping foretells measured bins that were hidden from it."""

    correlation: float
    recipe: Recipe


def low_pass(density: Tensor, cutoff: float) -> Tensor:
    """A (z, y, x) density through a Gaussian that is exp(-1/2) at ``cutoff``, cycles per voxel."""
    radius = fourier.radius(density.shape)
    return fourier.filtered(density, torch.exp(-0.5 * (radius / cutoff) ** 2))


def best_clipping(density: Tensor, truth: Tensor, tilts: TiltGeometry, limits: tuple[float, float] = BAND) -> Clipped:
    """Low-pass the input, cut it off above or below a quantile, and keep what correlates best in the wedge."""
    found = (_middle(density), _middle(truth))
    band = regions(_shape(found[0]), tilts)[0] * _in_band(found[0], limits)
    _, recipe = _best(*found, band)
    clipped = recipe(density)
    return Clipped(clipped, score(clipped, truth, tilts, limits), str(recipe))


def foretold_by_clipping(density: Tensor, tilts: TiltGeometry, limits: tuple[float, float] = BAND) -> CalibrationResult | None:
    """Hide a second wedge, the first turned from z to y, from a (z, y, x) tomogram; score the hidden bins against its own data.

    The baseline that needs no truth: the untouched input foretells nothing, its correlation is 0. None without hidden bins.
    """
    data = _middle(density).float()
    kz, ky, kx = fourier.frequencies(data.shape)
    rotated = wedge_mask(torch.stack((ky, kz, kx)), tilts, 1 / min(data.shape))
    hidden = (rotated == 0) * regions(_shape(data), tilts)[1] * _in_band(data, limits)
    if not hidden.any():
        return None
    return CalibrationResult(*_best(fourier.filtered(data - data.mean(), rotated), data, hidden))


def _best(density: Tensor, known: Tensor, weight: Tensor) -> tuple[float, Recipe]:
    """The recipe whose result correlates best with ``known`` over the bins of ``weight``."""
    used = weight > 0
    target, count = centred_spectrum(known)[used], weight[used]
    norm = (count * target.abs().square()).sum()
    best = (-2.0, Recipe(CUTOFFS[-1], 0.0, "max"))
    for cutoff in CUTOFFS:
        smooth = low_pass(density.float(), cutoff)
        ordered = smooth.flatten().sort().values
        for share, keeps in product(SHARES, ("max", "min")):
            recipe = Recipe(cutoff, share, keeps)
            found = centred_spectrum(recipe.clip(smooth, float(ordered[int(share * (len(ordered) - 1))])))[used]
            power = (count * found.abs().square()).sum()
            agreement = float((count * (found * target.conj()).real).sum() / (power * norm).sqrt().clamp_min(1e-30))
            if agreement > best[0]:
                best = (agreement, recipe)
    return best


def _in_band(density: Tensor, limits: tuple[float, float]) -> Tensor:
    radius = fourier.radius(density.shape)
    return (radius > limits[0]) & (radius < limits[1])


def _middle(density: Tensor) -> Tensor:
    """At most SEARCHED voxels a side: a recipe has three numbers, and a search over a whole large tomogram takes hours."""
    starts = [max(0, (n - SEARCHED) // 2) for n in density.shape]
    z, y, x = (slice(start, start + SEARCHED) for start in starts)
    return density[z, y, x]


def _shape(density: Tensor) -> tuple[int, int, int]:
    return density.shape[0], density.shape[1], density.shape[2]
