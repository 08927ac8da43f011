"""Overlapping tiles that cover a volume, blended by windows that sum to one.

    out(r) = sum_i w(r - r_i) x_i(r - r_i) / sum_i w(r - r_i),        w(r) = w(z) w(y) w(x)

On a full grid the sum of weights is the outer product of three one-dimensional sums, so no weight volume is stored.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from torch import Tensor

Position = tuple[int, int, int]


@dataclass(frozen=True)
class PatchGrid:
    """Cubic tiles at every multiple of ``step``; the last tile of an axis may extend past the volume.

    Attributes:
        shape: shape (z, y, x) of the volume, in voxels.
        side: side of a tile, in voxels.
        step: spacing of tiles in voxels, 1 to ``side``; a multiple of the coarsest latent stride lets tiles share latents.
    """

    shape: tuple[int, int, int]
    side: int
    step: int

    def __post_init__(self) -> None:
        if not 0 < self.step <= self.side:
            raise ValueError(f"step {self.step} found, expected 1 to the side of a tile, {self.side}")

    def starts(self, axis: int) -> list[int]:
        """First voxel of each tile along an axis; an axis not longer than a tile has one tile."""
        size = self.shape[axis]
        if size <= self.side:
            return [0]
        return list(range(0, size - self.side + self.step, self.step))

    def __iter__(self) -> Iterator[Position]:
        yield from product(*(self.starts(axis) for axis in range(3)))

    def __len__(self) -> int:
        return int(np.prod([len(self.starts(axis)) for axis in range(3)]))

    def window(self) -> Tensor:
        """Weights of a tile along one axis, (side,): sin^2 plus 1e-3, so that no weight is zero."""
        place = (torch.arange(self.side) + 0.5) / self.side
        return torch.sin(torch.pi * place).square() + 1e-3

    def weights(self) -> list[Tensor]:
        """Sum of the windows along each axis: three tensors (size,), in the order z, y, x."""
        sums = []
        for axis, size in enumerate(self.shape):
            total = torch.zeros(size)
            for start in self.starts(axis):
                stop = min(start + self.side, size)
                total[start:stop] += self.window()[: stop - start]
            sums.append(total)
        return sums


def cut(density: Tensor | np.ndarray, position: Position, side: int | Sequence[int]) -> Tensor:
    """Cut a cube or a box out of a volume; voxels outside the volume are filled by reflection.

    Args:
        density: volume (z, y, x).
        position: first voxel (z, y, x); may lie outside the volume.
        side: side of the cube, or sides of the box (z, y, x), in voxels.

    Returns:
        The cube or box (z, y, x) as float32.
    """
    sides = (side,) * 3 if isinstance(side, int) else side
    axes = [mirrored(*axis) for axis in zip(position, sides, density.shape, strict=True)]
    if all(axis[0] + n - 1 == axis[-1] for axis, n in zip(axes, sides, strict=True)):
        z, y, x = (slice(int(axis[0]), int(axis[0]) + n) for axis, n in zip(axes, sides, strict=True))
        patch = density[z, y, x]
    else:
        lows = [int(axis.min()) for axis in axes]
        near = density[tuple(slice(low, int(axis.max()) + 1) for low, axis in zip(lows, axes, strict=True))]
        patch = near[axes[0] - lows[0]][:, axes[1] - lows[1]][:, :, axes[2] - lows[2]]
    if isinstance(patch, Tensor):
        return patch.to(torch.float32).contiguous()
    return torch.as_tensor(np.ascontiguousarray(patch), dtype=torch.float32)


def levels(patches: Tensor) -> Tensor:
    """Mean of each patch: (batch, 1, 1, 1) from (batch, z, y, x).

    Every tilt measures the mean, so no network predicts it.
    """
    return patches.mean((-3, -2, -1), keepdim=True)


def mirrored(start: int, side: int, size: int) -> np.ndarray:
    """Indices (side,) from ``start`` along an axis of ``size`` voxels; indices outside the axis are reflected at its ends."""
    index = np.arange(start, start + side)
    if size == 1:
        return np.zeros(side, dtype=int)
    period = 2 * (size - 1)
    index = np.abs(index) % period
    return np.where(index < size, index, period - index)


def inside(position: Position, side: int, shape: Sequence[int]) -> Tensor:
    """Mask (side, side, side) of the patch at ``position``: 1 inside a volume of ``shape`` (z, y, x), 0 in the padding."""
    axes = [
        ((torch.arange(start, start + side) >= 0) & (torch.arange(start, start + side) < size)).float()
        for start, size in zip(position, shape, strict=True)
    ]
    return axes[0][:, None, None] * axes[1][None, :, None] * axes[2][None, None, :]


class Blender:
    """Sums weighted tiles into one float32 volume.

    Attributes:
        grid: positions of the tiles.
        device: device of the volume, or None for the default device.
        total: sum of the weighted tiles, (z, y, x).
    """

    def __init__(self, grid: PatchGrid, device: torch.device | None = None) -> None:
        self.grid, self.device = grid, device
        self.total = torch.zeros(grid.shape, device=device)
        bump = grid.window().to(device)
        self._window = bump[:, None, None] * bump[None, :, None] * bump[None, None, :]

    def add(self, position: Position, tile: Tensor) -> None:
        """Add a (side, side, side) tile at ``position``."""
        stop = [min(start + self.grid.side, size) for start, size in zip(position, self.grid.shape, strict=True)]
        place = tuple(slice(a, b) for a, b in zip(position, stop, strict=True))
        part = tuple(slice(0, b - a) for a, b in zip(position, stop, strict=True))
        self.total[place] += (tile.to(self.total.device) * self._window)[part]

    def blended(self) -> Tensor:
        """Divide ``total`` by the sum of weights in place, and return it; call once, after all tiles."""
        z, y, x = (weights.to(self.device) for weights in self.grid.weights())
        self.total /= z[:, None, None]
        self.total /= y[None, :, None]
        self.total /= x[None, None, :]
        return self.total
