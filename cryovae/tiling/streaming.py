"""Streamed blending: tiles are read from a file and blended into files, one row of tiles along x in memory at a time.

    out(r) = sum_i w(r - r_i) x_i(r - r_i) / sum_i w(r - r_i)          as in tiling/grid.py

Rows follow each other along y and form a layer; layers follow each other along z. The overlap of two rows stays in memory. The
overlap of two layers is stored in a file. Two such files alternate, so that an interrupted layer can be computed again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from cryovae.io.stored import Stored
from cryovae.tiling.batching import Batches
from cryovae.tiling.grid import PatchGrid, Position, mirrored


class Readable(Protocol):
    """An array or a file from which boxes can be read."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of voxels along z, y, x."""

    def __getitem__(self, key: tuple[slice, ...], /) -> np.ndarray:
        """Read a box (z, y, x)."""


# From measured tiles (batch, side, side, side) and their positions to tiles (outputs, batch, side, side, side).
Work = Callable[[Tensor, Sequence[Position]], Tensor]


class Layers:
    """Applies a function to all tiles of a volume and blends the results into files.

    Args:
        grid: positions of the tiles.
        source: the volume (z, y, x).
        outputs: one file (z, y, x) for each output of the function.
        carry: path from which the names of the two overlap files are made; they exist until ``clear``.
        batches: number of tiles that are processed at once.
        device: device on which tiles are processed.
    """

    def __init__(
        self, grid: PatchGrid, source: Readable, outputs: Sequence[Stored], carry: Path, batches: Batches, device: torch.device
    ) -> None:
        self.grid, self.source, self.outputs, self.batches, self.device = grid, source, outputs, batches, device
        self.starts = [grid.starts(axis) for axis in range(3)]
        self.overlap = grid.side - grid.step
        bump = grid.window()
        self._window = bump[:, None, None] * bump[None, :, None] * bump[None, None, :]
        self._weights = grid.weights()
        _, rows, columns = grid.shape
        self._shape = (len(outputs) * self.overlap, rows, columns)
        self._paths = [carry.with_name(f"{carry.name}_{i}.f32") for i in range(2)]

    def __len__(self) -> int:
        return len(self.starts[0])

    def run(self, work: Work, first: int, done: Callable[[int, int], None]) -> None:
        """Process the layers from ``first`` on.

        Args:
            work: maps tiles and their positions to the tiles of each output.
            first: number of the first layer, from 0; above 0, the overlap file of the previous layer is read.
            done: called when a layer is on disk, with the number of the next layer and the number of tiles per layer.

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
        rows = self.starts[1]
        held: Tensor | None = None
        for index, y in enumerate(rows):
            total = self._row(self.starts[0][number], y, work)
            if held is not None:
                total[:, :, : self.overlap] += held
            last = index + 1 == len(rows)
            count = self.grid.shape[1] - y if last else self.grid.step
            held = total[:, :, self.grid.step :].clone() if not last else None
            self._put(number, y, total[:, :, :count], before, after)

    def _row(self, z: int, y: int, work: Work) -> Tensor:
        """Weighted sums (outputs, side, side, x) of the tiles of one row."""
        side, columns = self.grid.side, self.grid.shape[2]
        block = self._block(z, y)
        total = torch.zeros(len(self.outputs), side, side, columns)

        def on(positions: Sequence[Position]) -> Tensor:
            tiles = [block[:, :, torch.from_numpy(mirrored(x, side, columns))] for _, _, x in positions]
            return work(torch.stack(tiles).to(self.device), positions).cpu()

        for positions, made in self.batches.over([(z, y, x) for x in self.starts[2]], on):
            for number, (_, _, x) in enumerate(positions):
                width = min(side, columns - x)
                total[:, :, :, x : x + width] += (made[:, number] * self._window)[..., :width]
        return total

    def _block(self, z: int, y: int) -> Tensor:
        """The box of the volume that one row of tiles covers, (side, side, x)."""
        axes = [mirrored(start, self.grid.side, size) for start, size in zip((z, y), self.grid.shape, strict=False)]
        low = [int(axis.min()) for axis in axes]
        box = [slice(a, int(axis.max()) + 1) for a, axis in zip(low, axes, strict=True)]
        near = self.source[(*box, slice(None))]
        block = near[axes[0] - low[0]][:, axes[1] - low[1]]
        return torch.from_numpy(np.ascontiguousarray(block, dtype=np.float32))

    def _put(self, number: int, y: int, total: Tensor, before: Stored | None, after: Stored | None) -> None:
        """Write the finished planes of ``total`` (outputs, side, rows, x), and store its overlap with the next layer."""
        z, rows = self.starts[0][number], slice(y, y + total.shape[2])
        depth = self.grid.shape[0] - z if after is None else self.grid.step
        wz, wy, wx = self._weights
        for index, output in enumerate(self.outputs):
            sums = total[index]
            carried = slice(index * self.overlap, (index + 1) * self.overlap)
            if before is not None:
                sums[: self.overlap] += torch.from_numpy(before[carried, rows])
            if after is not None:
                after.write(sums[self.grid.step :].numpy(), carried.start, y)
            sums = sums[:depth]
            sums /= wz[z : z + depth, None, None]
            sums /= wy[rows][:, None]
            sums /= wx
            output.write(sums.numpy(), z, y)
