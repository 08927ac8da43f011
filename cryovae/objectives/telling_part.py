"""The part of a tomogram to train on where all of it would not go into memory: the box that shows most specimen.

Over boxes of one shape, as large as is allowed, the power of the tomogram averaged over blocks of voxels is largest, as in
reserved.py; beyond MOST standard deviations it counts no more, so that gold or a grid bar are not what is learned from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from scipy.ndimage import uniform_filter

from cryovae.io.stored import released
from cryovae.objectives.reserved import BLOCK, block_means
from cryovae.tomogram import Tomogram

MOST = 4.0
# Sides are multiples of this.
STEP = 8


def part_of(tomogram: Tomogram, voxels: int) -> Tomogram:
    """The box of ``voxels`` at most, cut out into memory; to be standardised as the whole is. The whole may lie on the disk.

    Its shape differs from that of the whole in the longest axes only; halves and mask are cut alike.
    """
    sizes = sides_within(tomogram.shape, voxels)
    mean, scale = _mean_and_std(tomogram.density)
    z, y, x = (slice(start, start + size) for start, size in zip(_most_telling(tomogram, sizes, mean), sizes, strict=True))

    def cut(density: Any) -> np.ndarray:
        found = np.array(density[z, y, x], dtype=np.float32)
        released(density)
        return found

    halves = None if tomogram.halves is None else (cut(tomogram.halves[0]), cut(tomogram.halves[1]))
    mask = None if tomogram.mask is None else tomogram.mask[z, y, x].copy()
    return replace(tomogram, density=cut(tomogram.density), halves=halves, mask=mask, grey=(mean, scale))


def sides_within(shape: Sequence[int], voxels: int) -> tuple[int, int, int]:
    """Sides (z, y, x) of a box of ``voxels`` at most: short axes whole, the others alike, multiples of STEP."""
    sides = dict(enumerate(shape))
    left = float(voxels)
    for rank, axis in enumerate(sorted(sides, key=lambda axis: shape[axis])):
        most = int(left ** (1 / (3 - rank)) + 1e-6)
        sides[axis] = shape[axis] if shape[axis] <= most else max(most // STEP * STEP, 1)
        left /= sides[axis]
    return sides[0], sides[1], sides[2]


def _mean_and_std(density: Any) -> tuple[float, float]:
    """Of a (z, y, x) density, some planes at a time."""
    sums = torch.zeros(2, dtype=torch.float64)
    middle: float | None = None
    for start in range(0, density.shape[0], STEP):
        part = torch.from_numpy(np.asarray(density[start : start + STEP], dtype=np.float64).copy())
        released(density)
        middle = float(part.mean()) if middle is None else middle
        part -= middle
        sums += torch.stack((part.sum(), part.square_().sum()))
    count = int(np.prod(density.shape))
    mean = float(sums[0]) / count
    return mean + (middle or 0.0), float((sums[1] / count - mean**2).clamp_min(0).sqrt())


def _most_telling(tomogram: Tomogram, sizes: Sequence[int], mean: float) -> list[int]:
    """Where the box of ``sizes`` begins, (z, y, x)."""
    away = block_means(tomogram.density) - mean
    released(tomogram.density)
    power = np.minimum(np.square(away), (MOST * away.std()) ** 2)
    if tomogram.mask is not None:
        power *= block_means(tomogram.mask)
    found = power
    for axis, size in enumerate(sizes):
        blocks = min(max(size // BLOCK, 1), power.shape[axis])
        # Of the window that begins at each block, whole windows alone.
        moved = uniform_filter(found, [blocks if a == axis else 1 for a in range(3)], mode="constant", origin=0)
        first = blocks // 2
        found = np.take(moved, range(first, first + power.shape[axis] - blocks + 1), axis)
    place = np.unravel_index(int(found.argmax()), found.shape)
    return [min(int(p) * BLOCK, n - s) for p, n, s in zip(place, tomogram.shape, sizes, strict=True)]
