"""Boxes that cover a volume, as few and as large as they may be, blended in the middle of their overlaps alone.

    out(r) = sum_i w_i(r) x_i(r),    w = 1 inside a box, sin^2 in the middle of overlaps, 0 at the border of a box

Near the border of its box a convolution lacks the data beyond, so its result has no weight there. The windows sum to 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from math import pi, prod

import torch
from torch import Tensor

from cryovae.tiling.grid import Position

Shape = tuple[int, int, int]
# Makes the outputs of one box, (outputs, z, y, x), from its data and its position.
Work = Callable[[Tensor, Position], Tensor]


@dataclass(frozen=True)
class Boxes:
    """Boxes of one shape over a volume.

    Attributes:
        shape: of the volume (z, y, x), in voxels; multiples of ``unit``.
        most: longest side of a box, in voxels; longer than ``overlap``.
        overlap: of neighbours at least, in voxels.
        unit: positions and sides of boxes are multiples of it.
    """

    shape: Shape
    most: int
    overlap: int
    unit: int

    def __post_init__(self) -> None:
        if any(size % self.unit for size in (*self.shape, self.most, self.overlap)):
            raise ValueError(f"{self.shape}, {self.most} and {self.overlap} voxels found, expected multiples of {self.unit}")
        if self.most <= self.overlap:
            raise ValueError(f"boxes of {self.most} voxels found, expected more than their overlap of {self.overlap}")

    @property
    def sides(self) -> Shape:
        """Sides of a box (z, y, x), in voxels."""
        z, y, x = (self._side(axis) for axis in range(3))
        return z, y, x

    def starts(self, axis: int) -> list[int]:
        """First voxel of each box along an axis."""
        count, last = self._count(axis), self.shape[axis] - self._side(axis)
        return [round(i * last / max(count - 1, 1) / self.unit) * self.unit for i in range(count)]

    def __iter__(self) -> Iterator[Position]:
        yield from product(*(self.starts(axis) for axis in range(3)))

    def __len__(self) -> int:
        return prod(self._count(axis) for axis in range(3))

    def window(self, position: Position, step: int = 1) -> Tensor:
        """Weights of the box at a position, (z, y, x), at the middle of every ``step`` voxels."""
        z, y, x = (self._weights(axis, start, step) for axis, start in enumerate(position))
        return z[:, None, None] * y[:, None] * x

    def _count(self, axis: int) -> int:
        size = self.shape[axis]
        return 1 if size <= self.most else -((self.overlap - size) // (self.most - self.overlap))

    def _side(self, axis: int) -> int:
        """The same for all boxes: as short as their number allows."""
        count = self._count(axis)
        return -(-(self.shape[axis] + (count - 1) * self.overlap) // (count * self.unit)) * self.unit

    def _weights(self, axis: int, start: int, step: int) -> Tensor:
        starts, side = self.starts(axis), self._side(axis)
        places = start + step * (torch.arange(side // step) + 0.5)
        number, weights = starts.index(start), torch.ones(side // step)
        if number:
            weights = self._risen(places - (starts[number - 1] + side + start) / 2)
        if number + 1 < len(starts):
            weights = weights - self._risen(places - (start + side + starts[number + 1]) / 2)
        return weights

    def _risen(self, distance: Tensor) -> Tensor:
        """0 to 1 over half of the least overlap, by the distance from its middle in voxels."""
        if not self.overlap:
            return (distance > 0).float()
        return torch.sin(0.5 * pi * (distance / (0.5 * self.overlap) + 0.5).clamp(0, 1)).square()


def boxes_within(shape: Shape, unit: int, overlap: int, voxels: float) -> Boxes:
    """The largest boxes of at most ``voxels`` voxels, or the smallest that there are.

    Args:
        shape: of the volume (z, y, x), in voxels; multiples of ``unit``.
        unit: positions and sides of boxes are multiples of it.
        overlap: of neighbours at least, in voxels; half a box at the most.
        voxels: of a box.
    """
    for most in range(max(*shape, 2 * unit), unit, -unit):
        boxes = Boxes(shape, most, min(overlap, most // 2) // unit * unit, unit)
        if prod(boxes.sides) <= voxels:
            break
    return boxes
