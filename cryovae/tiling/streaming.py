"""Streamed blending: boxes are read from a file and blended into files, one row of boxes along x in memory at a time.

    out(r) = sum_i w_i(r) x_i(r)          as in tiling/boxes.py

Rows follow each other along y and form a layer; layers follow each other along z. The overlap of two rows stays in memory. The
overlap of two layers is stored in a file. Two such files alternate, so that an interrupted layer can be computed again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from cryovae.io.stored import Stored
from cryovae.tiling.boxes import Boxes, Work
from cryovae.tiling.grid import mirrored


class Readable(Protocol):
    """An array or a file from which boxes can be read."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of voxels along z, y, x."""

    def __getitem__(self, key: tuple[slice, ...], /) -> np.ndarray:
        """Read a box (z, y, x)."""


class Layers:
    """Applies a function to all boxes of a volume and blends the results into files.

    Args:
        boxes: of the volume, which may be padded.
        source: the volume (z, y, x).
        outputs: one file (z, y, x) for each output of the function.
        carry: path from which the names of the two overlap files are made; they exist until ``clear``.
    """

    def __init__(self, boxes: Boxes, source: Readable, outputs: Sequence[Stored], carry: Path) -> None:
        self.boxes, self.source, self.outputs = boxes, source, outputs
        self.starts = [boxes.starts(axis) for axis in range(3)]
        # Planes that a layer shares with the next at most.
        self.overlap = max((boxes.sides[0] + a - b for a, b in pairwise(self.starts[0])), default=0)
        _, rows, columns = source.shape
        self._shape = (len(outputs) * self.overlap, rows, columns)
        self._paths = [carry.with_name(f"{carry.name}_{i}.f32") for i in range(2)]

    def __len__(self) -> int:
        return len(self.starts[0])

    def run(self, work: Work, first: int, done: Callable[[int, int], None]) -> None:
        """Process the layers from ``first`` on.

        Args:
            work: makes the outputs of a box from its data (z, y, x) and its position.
            first: number of the first layer, from 0; above 0, the overlap file of the previous layer is read.
            done: called when a layer is on disk, with the number of the next layer and the number of boxes per layer.

        Raises:
            OSError: the overlap file is missing or of another length, or the disk is full.
        """
        before = Stored(self._paths[first % 2], self._shape) if 0 < first < len(self) else None
        for number in range(first, len(self)):
            after = Stored(self._paths[(number + 1) % 2], self._shape, fresh=True) if number + 1 < len(self) else None
            self._layer(number, work, before, after)
            for file in (*self.outputs, *((after,) if after else ())):
                file.sync()
            done(number + 1, len(self.starts[1]) * len(self.starts[2]))
            before = after

    def clear(self) -> None:
        """Remove the overlap files."""
        for path in self._paths:
            path.unlink(missing_ok=True)

    def _layer(self, number: int, work: Work, before: Stored | None, after: Stored | None) -> None:
        rows, size = self.starts[1], self.source.shape[1]
        held: Tensor | None = None
        for y, end in zip(rows, [*rows[1:], size], strict=True):
            total = self._row(self.starts[0][number], y, work)
            if held is not None:
                total[:, :, : held.shape[2]] += held
            held = total[:, :, end - y :].clone()
            self._put(number, y, total[:, :, : end - y], before, after)

    def _row(self, z: int, y: int, work: Work) -> Tensor:
        """Weighted sums (outputs, z, y, x) of the boxes of one row."""
        depth, height, side = self.boxes.sides
        block, columns = self._block(z, y), self.source.shape[2]
        total = torch.zeros(len(self.outputs), depth, height, columns)
        for x in self.starts[2]:
            box = block[:, :, torch.from_numpy(mirrored(x, side, columns))]
            made = work(box, (z, y, x)).cpu() * self.boxes.window((z, y, x))
            width = min(side, columns - x)
            total[..., x : x + width] += made[..., :width]
        return total

    def _block(self, z: int, y: int) -> Tensor:
        """The box of the volume that one row covers, (z, y, x)."""
        sides, sizes = self.boxes.sides, self.source.shape
        axes = [mirrored(start, side, size) for start, side, size in zip((z, y), sides, sizes, strict=False)]
        low = [int(axis.min()) for axis in axes]
        box = [slice(a, int(axis.max()) + 1) for a, axis in zip(low, axes, strict=True)]
        near = self.source[(*box, slice(None))]
        block = near[axes[0] - low[0]][:, axes[1] - low[1]]
        return torch.from_numpy(np.ascontiguousarray(block, dtype=np.float32))

    def _put(self, number: int, y: int, total: Tensor, before: Stored | None, after: Stored | None) -> None:
        """Write the finished planes of ``total`` (outputs, z, rows, x), and store its overlap with the next layer."""
        starts, rows = self.starts[0], slice(y, y + total.shape[2])
        z, depth = starts[number], self.boxes.sides[0]
        end = starts[number + 1] if after is not None else self.source.shape[0]
        for index, output in enumerate(self.outputs):
            sums, first = total[index], index * self.overlap
            if before is not None:
                shared = starts[number - 1] + depth - z
                sums[:shared] += torch.from_numpy(before[first : first + shared, rows])
            if after is not None:
                after.write(sums[end - z :].numpy(), first, y)
            output.write(sums[: end - z].numpy(), z, y)
