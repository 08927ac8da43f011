"""Informative crops of a tomogram that does not fit into memory.

Boxes are ranked by the power of the tomogram averaged over blocks of voxels, as in validation_split.py. The power is clipped at
MOST standard deviations, so that gold or a grid bar does not dominate. A single box lies where the power is largest. Several
boxes do not overlap, and together cover the tomogram.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise, product
from math import prod
from typing import Any

import numpy as np
import torch
from scipy.ndimage import uniform_filter

from cryovae.data.held_out_boxes import Box, held_out_boxes, moved, overlapping
from cryovae.data.region import Region, region_of
from cryovae.data.validation_split import BLOCK, block_means, held_out_patches
from cryovae.io.stored import released
from cryovae.tomogram import Fill, Tomogram

MOST = 4.0
# Sides are multiples of this.
STEP = 8


@dataclass(frozen=True)
class Parts:
    """Crops of a tomogram, read into memory on access.

    Each crop is standardised by the mean and standard deviation of the full tomogram, and holds out the same patches. A single
    crop is shortened along the longest axes only; several crops divide each axis evenly.

    Attributes:
        tomogram: the full tomogram, possibly memory-mapped.
        voxels: largest number of voxels of a crop.
        side: side of a held-out patch, in voxels.
        count: number of crops.
    """

    tomogram: Tomogram
    voxels: int
    side: int
    count: int = 1

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> Tomogram:
        tomogram, box = self.tomogram, self.boxes[number]

        def cut(density: Any) -> np.ndarray:
            crop = np.array(density[box], dtype=np.float32)
            released(density)
            return crop

        halves = None if tomogram.halves is None else (cut(tomogram.halves[0]), cut(tomogram.halves[1]))
        mask = None if tomogram.mask is None else tomogram.mask[box].copy()
        fill = None if tomogram.fill is None else Fill.of(tomogram.fill[box])
        z, y, x = (s.start for s in box)
        validation_patches = tuple((a - z, b - y, c - x) for a, b, c in self._validation_patches)
        first, last = ([getattr(s, end) for s in box] for end in ("start", "stop"))
        validation_boxes = tuple(moved(one, first) for one in overlapping(self._validation_boxes, first, last))
        name = part_names(tomogram.name, self.count)[number]
        return replace(
            tomogram,
            name=name,
            density=cut(tomogram.density),
            halves=halves,
            mask=mask,
            fill=fill,
            grey=self._grey,
            validation_patches=validation_patches,
            validation_boxes=validation_boxes,
        )

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape (z, y, x) of the first box."""
        z, y, x = (s.stop - s.start for s in self.boxes[0])
        return z, y, x

    @cached_property
    def boxes(self) -> list[tuple[slice, slice, slice]]:
        """Boxes (z, y, x), by decreasing power."""
        sizes = sides_within(self.tomogram.shape, self.voxels)
        power = self._power
        if self.count == 1:
            begins = zip(_most_informative(power, self.tomogram.shape, sizes), sizes, strict=True)
            z, y, x = (slice(start, start + size) for start, size in begins)
            return [(z, y, x)]
        boxes = [(z, y, x) for z, y, x in product(*(_pieces(n, s) for n, s in zip(self.tomogram.shape, sizes, strict=True)))]
        power_of_boxes = [float(power[tuple(slice(s.start // BLOCK, -(-s.stop // BLOCK)) for s in box)].mean()) for box in boxes]
        return [boxes[i] for i in np.argsort(power_of_boxes, kind="stable")[::-1][: self.count]]

    @cached_property
    def _grey(self) -> tuple[float, float]:
        if self._region is not None:
            return self._region.statistics(self.tomogram.density)
        return _mean_and_std(self.tomogram.density)

    @cached_property
    def _region(self) -> Region | None:
        return region_of(self.tomogram)

    @cached_property
    def _power(self) -> np.ndarray:
        """Clipped power of each block, (z, y, x)."""
        away = block_means(self.tomogram.density) - self._grey[0]
        released(self.tomogram.density)
        power = np.minimum(np.square(away), (MOST * away.std()) ** 2)
        return power if self.tomogram.mask is None else power * block_means(self.tomogram.mask)

    @cached_property
    def _validation_patches(self) -> tuple[tuple[int, int, int], ...]:
        """Corners (z, y, x) of the patches held out of the full tomogram."""
        patches = held_out_patches(self.tomogram.density, self.side, self._region)
        released(self.tomogram.density)
        return patches

    @cached_property
    def _validation_boxes(self) -> tuple[Box, ...]:
        """Boxes held out of the full tomogram."""
        boxes = held_out_boxes(self.tomogram.density, self.side, self._region, self._validation_patches)
        released(self.tomogram.density)
        return boxes


def informative_box(density: Any, voxels: int) -> tuple[slice, slice, slice]:
    """The box (z, y, x) of at most ``voxels`` voxels that shows most of a standardised density (z, y, x)."""
    shape = density.shape
    sizes = sides_within(shape, voxels) if prod(shape) > voxels else tuple(shape)
    power = np.minimum(np.square(block_means(density)), MOST**2)
    released(density)
    z, y, x = (slice(a, a + size) for a, size in zip(_most_informative(power, shape, sizes), sizes, strict=True))
    return z, y, x


def part_names(name: str, count: int) -> list[str]:
    """Names of the crops of a tomogram; a single crop keeps the name of the tomogram."""
    return [name] if count == 1 else [f"{name} part {number + 1}" for number in range(count)]


def pieces_of(shape: Sequence[int], voxels: int) -> int:
    """Number of boxes of at most ``voxels`` voxels that cover a volume."""
    return int(np.prod([len(_pieces(n, s)) for n, s in zip(shape, sides_within(shape, voxels), strict=True)]))


def _pieces(size: int, most: int) -> list[slice]:
    """Divide an axis evenly into the fewest pieces of at most ``most`` voxels."""
    count = -(-size // most)
    edges = [size * i // count for i in range(count + 1)]
    return [slice(a, b) for a, b in pairwise(edges)]


def sides_within(shape: Sequence[int], voxels: int) -> tuple[int, int, int]:
    """Sides (z, y, x) of a box of at most ``voxels`` voxels; short axes are kept, the others equal multiples of STEP."""
    sides = dict(enumerate(shape))
    left = float(voxels)
    for rank, axis in enumerate(sorted(sides, key=lambda axis: shape[axis])):
        most = int(left ** (1 / (3 - rank)) + 1e-6)
        sides[axis] = shape[axis] if shape[axis] <= most else max(most // STEP * STEP, 1)
        left /= sides[axis]
    return sides[0], sides[1], sides[2]


def _mean_and_std(density: Any) -> tuple[float, float]:
    """Mean and standard deviation of a density (z, y, x), streamed by slabs."""
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


def _most_informative(power: np.ndarray, shape: Sequence[int], sizes: Sequence[int]) -> list[int]:
    """First voxel (z, y, x) of the box of ``sizes`` with the largest block power."""
    box_power = power
    for axis, size in enumerate(sizes):
        blocks = min(max(size // BLOCK, 1), power.shape[axis])
        # Mean over the window that begins at each block; incomplete windows are dropped below.
        moved = uniform_filter(box_power, [blocks if a == axis else 1 for a in range(3)], mode="constant", origin=0)
        first = blocks // 2
        box_power = np.take(moved, range(first, first + power.shape[axis] - blocks + 1), axis)
    place = np.unravel_index(int(box_power.argmax()), box_power.shape)
    return [min(int(p) * BLOCK, n - s) for p, n, s in zip(place, shape, sizes, strict=True)]
