"""Overlapping tiles that cover a volume, blended by windows that sum to one.

    out(r) = sum_i w(r - r_i) x_i(r - r_i) / sum_i w(r - r_i),        w(r) = w(z) w(y) w(x)

On a full grid the sum of weights is the outer product of three one-dimensional sums, so no weight volume is kept.
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
    """Tiles of ``side`` voxels over a volume ``shape``, at every multiple of ``step``; the last may reach past the volume.

    Attributes:
        shape: of the volume (z, y, x), in voxels.
        side: of a tile, in voxels.
        step: 1 to ``side``; a multiple of the coarsest latent stride lets overlapping tiles share latents.
    """

    shape: tuple[int, int, int]
    side: int
    step: int

    def __post_init__(self) -> None:
        if not 0 < self.step <= self.side:
            raise ValueError(f"step {self.step} found, expected 1 to the side of a tile, {self.side}")

    def starts(self, axis: int) -> list[int]:
        """First voxels of the tiles along an axis; an axis no longer than a tile has one."""
        size = self.shape[axis]
        if size <= self.side:
            return [0]
        return list(range(0, size - self.side + self.step, self.step))

    def __iter__(self) -> Iterator[Position]:
        yield from product(*(self.starts(axis) for axis in range(3)))

    def __len__(self) -> int:
        return int(np.prod([len(self.starts(axis)) for axis in range(3)]))

    def window(self) -> Tensor:
        """The weights of one tile along one axis (side,): a cosine bump that is nowhere zero."""
        place = (torch.arange(self.side) + 0.5) / self.side
        return torch.sin(torch.pi * place).square() + 1e-3

    def weights(self) -> list[Tensor]:
        """Sums of the windows along each axis, three tensors (size,)."""
        sums = []
        for axis, size in enumerate(self.shape):
            total = torch.zeros(size)
            for start in self.starts(axis):
                stop = min(start + self.side, size)
                total[start:stop] += self.window()[: stop - start]
            sums.append(total)
        return sums


def cut(density: Tensor | np.ndarray, position: Position, side: int) -> Tensor:
    """The (side, side, side) patch at ``position`` as float32; what lies past the volume mirrors it."""
    axes = [mirrored(start, side, size) for start, size in zip(position, density.shape, strict=True)]
    if all(axis[0] + side - 1 == axis[-1] and len(axis) == side for axis in axes):
        z, y, x = (slice(int(axis[0]), int(axis[0]) + side) for axis in axes)
        patch = density[z, y, x]
    else:
        lows = [int(axis.min()) for axis in axes]
        near = density[tuple(slice(low, int(axis.max()) + 1) for low, axis in zip(lows, axes, strict=True))]
        patch = near[axes[0] - lows[0]][:, axes[1] - lows[1]][:, :, axes[2] - lows[2]]
    if isinstance(patch, Tensor):
        return patch.to(torch.float32).contiguous()
    return torch.as_tensor(np.ascontiguousarray(patch), dtype=torch.float32)


def levels(patches: Tensor) -> Tensor:
    """The mean of each patch (batch, 1, 1, 1) of (batch, z, y, x); it is measured at any tilts, so no network predicts it."""
    return patches.mean((-3, -2, -1), keepdim=True)


def mirrored(start: int, side: int, size: int) -> np.ndarray:
    """Indices (side,) from ``start`` on along an axis of ``size`` voxels; what lies past it mirrors it."""
    index = np.arange(start, start + side)
    if size == 1:
        return np.zeros(side, dtype=int)
    period = 2 * (size - 1)
    index = np.abs(index) % period
    return np.where(index < size, index, period - index)


def inside(position: Position, side: int, shape: Sequence[int]) -> Tensor:
    """1 for the voxels of a patch that lie inside a volume of ``shape``, 0 for its padding; (side, side, side)."""
    axes = [
        ((torch.arange(start, start + side) >= 0) & (torch.arange(start, start + side) < size)).float()
        for start, size in zip(position, shape, strict=True)
    ]
    return axes[0][:, None, None] * axes[1][None, :, None] * axes[2][None, None, :]


class Blender:
    """Sums weighted tiles into a volume on a device. Memory: one float32 volume."""

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
        """The volume (z, y, x); the sums are used up."""
        z, y, x = (weights.to(self.device) for weights in self.grid.weights())
        self.total /= z[:, None, None]
        self.total /= y[None, :, None]
        self.total /= x[None, None, :]
        return self.total
