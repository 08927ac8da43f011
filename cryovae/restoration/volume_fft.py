"""Filters over the whole spectrum of a volume that is never held at once: transforms in two passes over files.

    F = F_z F_yx          planes (y, x) slab by slab, then columns along z, some rows y of all planes at a time

This is the transform itself, not one by blocks: what comes of it differs from one in memory by rounding alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import prod

import numpy as np
import torch
from torch import Tensor

from cryovae import fourier
from cryovae.io.stored import Stored
from cryovae.physics.wedge import volume_edge, wedge_mask
from cryovae.tiling.streaming import Readable
from cryovae.tomogram import TiltGeometry

# Bytes that are held for each bin of the rows at hand, frequencies, masks and filters included, and for each voxel of a slab.
PER_BIN, PER_VOXEL = 260, 48
# Draws of torch come in groups of so many: cut elsewhere, a stream of them is another one.
GROUP = 16


def spectrum_shape(shape: Sequence[int]) -> tuple[int, int, int]:
    """Bins (z, y, x // 2 + 1) of a volume (z, y, x)."""
    return shape[0], shape[1], shape[2] // 2 + 1


class Transforms:
    """Spectra in files of a volume of ``shape``, worked on within ``memory`` bytes."""

    def __init__(self, shape: tuple[int, int, int], memory: float) -> None:
        self.shape = shape
        nz, ny, nx = shape
        self.slab = int(min(max(memory // (PER_VOXEL * ny * nx), 1), nz))
        self.rows = int(min(max(memory // (PER_BIN * nz * (nx // 2 + 1)), 1), ny))

    def slabs(self) -> Iterator[slice]:
        """Slabs along z, from the first plane to the last."""
        for start in range(0, self.shape[0], self.slab):
            yield slice(start, min(start + self.slab, self.shape[0]))

    def planes(self, parts: Iterator[Tensor], spectrum: Stored) -> None:
        """Transform a volume that comes in ``slabs``, (planes, y, x) each, along y and x."""
        for place, part in zip(self.slabs(), parts, strict=True):
            spectrum.write(fourier.planes(part).numpy(), place.start)

    def columns(self, *spectra: Stored) -> Iterator[tuple[slice, list[Tensor]]]:
        """Some rows y at a time, and the whole spectra there, (z, rows, x // 2 + 1) each, of what ``planes`` left."""
        for start in range(0, self.shape[1], self.rows):
            rows = slice(start, min(start + self.rows, self.shape[1]))
            yield rows, [fourier.along_z(torch.from_numpy(spectrum[:, rows])) for spectrum in spectra]

    def replace(self, rows: slice, values: Tensor, spectrum: Stored) -> None:
        """Lay whole-spectrum values (z, rows, x // 2 + 1) into ``spectrum``, ready for ``densities``."""
        spectrum.write(fourier.along_z_inverse(values).numpy(), 0, rows.start)

    def densities(self, spectrum: Stored) -> Iterator[Tensor]:
        """The volume in ``slabs``, once all rows of its spectrum were replaced."""
        for place in self.slabs():
            yield fourier.planes_inverse(torch.from_numpy(spectrum[place]), self.shape)

    def read(self, volume: Readable) -> Iterator[Tensor]:
        """A volume in ``slabs``, float32."""
        for place in self.slabs():
            yield torch.from_numpy(np.array(volume[place, :, :], dtype=np.float32))

    def white(self, generator: torch.Generator) -> Iterator[Tensor]:
        """``torch.randn(shape, generator)`` in ``slabs``, number by number."""
        total, plane = prod(self.shape), self.shape[1] * self.shape[2]
        rest, made = torch.empty(0), 0
        for place in self.slabs():
            needed = (place.stop - place.start) * plane
            if len(rest) < needed:
                count = -(-(needed - len(rest)) // GROUP) * GROUP
                count = total - made if total - made - count < GROUP else count
                rest, made = torch.cat((rest, torch.randn(count, generator=generator))), made + count
            yield rest[:needed].view(-1, *self.shape[1:])
            rest = rest[needed:].clone()

    def filtered(
        self, parts: Iterator[Tensor], weight: Callable[[Tensor, slice], Tensor], spectrum: Stored, volume: Stored
    ) -> None:
        """F^-1[ weight F density ] into ``volume``; weight: of frequencies (3, z, rows, x // 2 + 1) and the rows y."""
        self.planes(parts, spectrum)
        for rows, (found,) in self.columns(spectrum):
            self.replace(rows, found * weight(self.frequencies(rows), rows), spectrum)
        for place, part in zip(self.slabs(), self.densities(spectrum), strict=True):
            volume.write(part.numpy(), place.start)

    def frequencies(self, rows: slice) -> Tensor:
        """Frequencies (3, z, rows, x // 2 + 1) in cycles per voxel."""
        return fourier.frequencies(self.shape, rows=rows)

    def mask(self, frequency: Tensor, tilts: TiltGeometry, edge_bins: float = 1.0) -> Tensor:
        """``volume_mask`` at frequencies (3, ...) of the volume's spectrum."""
        return wedge_mask(frequency, tilts, volume_edge(self.shape, tilts, edge_bins))
