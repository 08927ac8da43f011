"""Answers that cost nothing: the untouched input, and low-pass plus clipping, the best of a few chosen on the truth.

Particles are sparse and of one sign, and any positivity fills the wedge: on sparse phantoms clipping alone reaches 0.92.
A figure without this one beside it means nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cryovae import fourier
from cryovae.evaluate.fsc import BAND, Score, centred_spectrum, regions, score
from cryovae.tomogram import TiltGeometry

CUTOFFS = (0.06, 0.1, 0.16, 0.25)
SHARES = (0.02, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8)


@dataclass(frozen=True)
class Clipped:
    """The best low-pass plus clipping: its density, its score, and what it did."""

    density: Tensor
    score: Score
    recipe: str


def low_pass(density: Tensor, cutoff: float) -> Tensor:
    """A (z, y, x) density through a Gaussian that is exp(-1/2) at ``cutoff``, cycles per voxel."""
    radius = fourier.radius(density.shape)
    return fourier.filtered(density, torch.exp(-0.5 * (radius / cutoff) ** 2))


def best_clipping(density: Tensor, truth: Tensor, tilts: TiltGeometry, limits: tuple[float, float] = BAND) -> Clipped:
    """Low-pass the input, cut it off above or below a quantile, and keep what correlates best in the wedge."""
    shape = (truth.shape[0], truth.shape[1], truth.shape[2])
    radius = fourier.radius(shape)
    band = regions(shape, tilts)[0] * ((radius > limits[0]) & (radius < limits[1]))
    known = centred_spectrum(truth)
    best: tuple[float, str, Tensor] = (-2.0, "", density)
    for cutoff in CUTOFFS:
        smooth = low_pass(density.float(), cutoff)
        ordered = smooth.flatten().sort().values
        for share in SHARES:
            threshold = float(ordered[int(share * (len(ordered) - 1))])
            for name, clipped in (("max", smooth.clamp_min(threshold)), ("min", smooth.clamp_max(threshold))):
                found = centred_spectrum(clipped)
                cross = (band * (found * known.conj()).real).sum()
                norm = ((band * found.abs().square()).sum() * (band * known.abs().square()).sum()).sqrt()
                agreement = float(cross / norm.clamp_min(1e-30))
                if agreement > best[0]:
                    recipe = f"{name}(x, {100 * share:.0f} % quantile) after a low-pass at {cutoff:g} cycles per voxel"
                    best = (agreement, recipe, clipped)
    return Clipped(best[2], score(best[2], truth, tilts, limits), best[1])
