"""Boxes cut out of a tomogram, and their tapering before a Fourier transform.

x'(r) = w(r) ( x(r) - <x> ),        w a raised cosine over the outer eighth of each side

Without w the faces of the box contribute to the spectrum, and two halves cut by the same box correlate there. w widens every
shell by about one bin, so the edge of the wedge is less sharp in a small box.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cryovae.errors import InputError

# Share of each side over which the window rises.
TAPERED = 1 / 8
SMALLEST = 16


@dataclass(frozen=True)
class Box:
    """A box of voxels of a grid.

    Attributes:
        start: First voxel (z, y, x).
        stop: Voxel after the last (z, y, x).
    """

    start: tuple[int, int, int]
    stop: tuple[int, int, int]

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        """The box as slices that index a density."""
        z, y, x = (slice(a, b) for a, b in zip(self.start, self.stop, strict=True))
        return z, y, x

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of voxels along z, y, x."""
        z, y, x = (b - a for a, b in zip(self.start, self.stop, strict=True))
        return z, y, x


def box_about(centre: Sequence[int], side: int, shape: Sequence[int]) -> Box:
    """A cubic box about a voxel, shifted to lie inside the grid and cropped to the size of the grid.

    Args:
        centre: Voxel (z, y, x) at the centre.
        side: Side length in voxels.
        shape: Shape (z, y, x) of the grid.

    Raises:
        InputError: A side of the box has fewer than SMALLEST voxels, too few shells for a spectrum.
    """
    sizes = [min(side, n) for n in shape]
    if min(sizes) < SMALLEST:
        raise InputError(f"a box of {' x '.join(map(str, sizes))} voxels found, expected at least {SMALLEST} along each side")
    starts = [min(max(c - s // 2, 0), n - s) for c, s, n in zip(centre, sizes, shape, strict=True)]
    z, y, x = starts
    return Box((z, y, x), (z + sizes[0], y + sizes[1], x + sizes[2]))


def cut_out(density: Any, box: Box) -> np.ndarray:
    """The voxels of a box (z, y, x) as float32; from a density on disk only these are read."""
    return np.array(density[box.slices], dtype=np.float32)


def faded(density: np.ndarray) -> Tensor:
    """A (z, y, x) density minus its mean, multiplied by the window w."""
    values = torch.from_numpy(np.array(density, dtype=np.float32))
    values = values - values.mean()
    for axis, size in enumerate(density.shape):
        values = values * window(size).view([-1 if a == axis else 1 for a in range(3)])
    return values


def window(size: int, width: int | None = None) -> Tensor:
    """w along one axis of ``size`` voxels: a raised cosine over ``width`` voxels at either end, by default a share TAPERED."""
    rise = max(round(TAPERED * size) if width is None else width, 1)
    place = torch.arange(size, dtype=torch.float32)
    depth = (torch.minimum(place, size - 1 - place) + 0.5) / rise
    return 0.5 - 0.5 * torch.cos(torch.pi * depth.clamp(max=1))
