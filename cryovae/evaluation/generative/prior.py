"""Are draws of the prior like patches of the truth? A classifier, the power by shell, the moments, and the nearest patches.

Moments are those of densities low-passed at ``LOW_PASS`` cycles per voxel. The null is a Gaussian random field with the same mean
power at every frequency: what a model of the spectrum alone would draw.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from cryovae import fourier
from cryovae.evaluation.generative.classifier import Separation, separation
from cryovae.physics.rotation import cube_rotations

# Cycles per voxel up to which densities are compared.
LOW_PASS = 0.2
# A draw that is this similar to a training patch was copied, unless data patches have such neighbours too.
COPIED = 0.95


@dataclass(frozen=True)
class Moments:
    """Moments of the voxels of low-passed densities.

    Attributes:
        deviation: standard deviation.
        skewness: third standardised moment; 0 for a Gaussian.
        kurtosis: fourth standardised moment less 3; 0 for a Gaussian.
    """

    deviation: float
    skewness: float
    kurtosis: float


@dataclass(frozen=True)
class PriorMeasures:
    """One set of draws beside data patches.

    Attributes:
        separation: of draws and data as they are.
        smooth_separation: of both low-passed.
        power: power of the draws relative to that of the data, by shell.
        frequency: middle of each shell, in cycles per voxel.
        moments: of the draws.
        nearest: largest correlation of each draw with a training patch, over all cube rotations; empty if not asked for.
    """

    separation: Separation
    smooth_separation: Separation
    power: tuple[float, ...]
    frequency: tuple[float, ...]
    moments: Moments
    nearest: tuple[float, ...] = ()


def prior_measures(
    data: Tensor, draws: Tensor, seed: int = 0, scenes: Tensor | None = None, training: Tensor | None = None
) -> PriorMeasures:
    """Compare draws with data.

    Args:
        data: patches (n, z, y, x), cubes.
        draws: patches (m, z, y, x).
        seed: of the classifier.
        scenes: number of the scene of each data patch, (n,), or None.
        training: training patches (k, z, y, x) among which the nearest one of each draw is looked for, or None.
    """
    frequency, power = power_by_shell(data)
    _, of_draws = power_by_shell(draws)
    smooth_data, smooth_draws = low_passed(data), low_passed(draws)
    return PriorMeasures(
        separation(data, draws, seed, scenes),
        separation(smooth_data, smooth_draws, seed, scenes),
        tuple((of_draws / power.clamp_min(1e-12)).tolist()),
        tuple(frequency.tolist()),
        moments(smooth_draws),
        () if training is None else tuple(nearest(draws, training).tolist()),
    )


def low_passed(density: Tensor, frequency: float = LOW_PASS) -> Tensor:
    """Densities (n, z, y, x) without what is finer than ``frequency`` cycles per voxel, with an edge of two bins."""
    shape = density.shape[-3:]
    width = 2 / max(shape)
    return fourier.filtered(density, ((frequency - fourier.radius(shape)) / width + 0.5).clamp(0, 1))


def moments(density: Tensor) -> Moments:
    """Moments of all voxels of densities together."""
    x = density.double() - density.double().mean()
    deviation = x.square().mean().sqrt()
    z = x / deviation.clamp_min(1e-12)
    return Moments(float(deviation), float(z.pow(3).mean()), float(z.pow(4).mean() - 3))


def power_by_shell(density: Tensor) -> tuple[Tensor, Tensor]:
    """Frequencies in cycles per voxel and mean power of patches (n, z, y, x) by shell, up to 1/2; shells are two bins wide."""
    shape = density.shape[-3:]
    side = min(shape)
    shell = (fourier.radius(shape) * side / 2).round().long()
    weight = fourier.multiplicity(shape).expand(shell.shape)
    power = fourier.transform(density).abs().square().double().mean(0)
    sums = fourier.shell_sums(torch.stack((power * weight, weight)), shell, int(shell.max()) + 1)
    count = side // 4 + 1
    return torch.arange(count) * 2 / side, (sums[0] / sums[1].clamp_min(1e-12))[:count]


def gaussian_field(data: Tensor, count: int, seed: int) -> Tensor:
    """``count`` Gaussian random fields with the mean power of the data (n, z, y, x) at every frequency."""
    power = fourier.transform(data).abs().square().mean(0)
    white = torch.randn(count, *data.shape[-3:], generator=torch.Generator().manual_seed(seed))
    return fourier.filtered(white, power.sqrt())


def nearest(draws: Tensor, training: Tensor, watch: Callable[[int, int], None] = lambda done, total: None) -> Tensor:
    """Largest correlation (m,) of each draw (m, z, y, x) with a training patch (k, z, y, x), over the 24 cube rotations.

    Correlations are of low-passed densities less their means. A draw of almost no contrast is like any other such, so patches
    with less than a fifth of the contrast of the training patches are compared on their absolute scale: their correlation is
    reduced by the smaller contrast.
    """
    floor = 0.2 * float(low_passed(training).std())
    known = _unit(low_passed(training), floor)
    best = torch.full((len(draws),), -1.0)
    smooth = low_passed(draws)
    for number, rotation in enumerate(cube_rotations()):
        rotated = _unit(rotation(smooth), floor)
        best = torch.maximum(best, (rotated @ known.T).max(1).values)
        watch(number + 1, 24)
    return best


def _unit(density: Tensor, floor: float) -> Tensor:
    """Rows (n, voxels) of mean 0 and length 1, or less if the standard deviation is below ``floor``."""
    rows = density.flatten(1) - density.flatten(1).mean(1, keepdim=True)
    length = rows.norm(dim=1, keepdim=True)
    return rows / length.clamp_min(floor * rows.shape[1] ** 0.5)
