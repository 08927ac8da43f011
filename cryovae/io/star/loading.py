"""Tomograms of a table: their headers checked before any work begins, their voxels read one tomogram at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import overload

from cryovae.errors import InputError
from cryovae.io.files import read_volume
from cryovae.io.load import load_tomogram
from cryovae.io.star.tomograms import Entry, TomogramTable
from cryovae.io.volume import voxel_size_of
from cryovae.tomogram import Tomogram


class Tomograms(Sequence[Tomogram]):
    """Tomograms that are read when they are asked for, and not kept: iterate once.

    load: the number of one to it; and whether it is to stay on the disk, as in ``load_tomogram``.
    """

    def __init__(self, names: Sequence[str], load: Callable[[int, bool], Tomogram]) -> None:
        self.names, self.load = tuple(names), load

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, index: int) -> Tomogram: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Tomogram]: ...
    def __getitem__(self, index: int | slice) -> Tomogram | Sequence[Tomogram]:
        if isinstance(index, slice):
            return [self.load(i, False) for i in range(len(self))[index]]
        return self.load(range(len(self))[index], False)


def tomograms_of(table: TomogramTable, voxel_size: float | None = None) -> Tomograms:
    """The tomograms of a table; voxel_size in angstrom goes over the table and the headers."""
    return Tomograms([e.name for e in table.entries], lambda index, mapped: load_entry(table.entries[index], voxel_size, mapped))


def load_entry(entry: Entry, voxel_size: float | None = None, mapped: bool = False) -> Tomogram:
    """One row's tomogram, on the disk if ``mapped``. InputError as for ``load_tomogram``."""
    assert entry.tilts is not None
    size = voxel_size or entry.voxel_size
    found = load_tomogram(entry.full, entry.halves, entry.tilts, size, entry.unrotated, entry.mask, mapped)
    return replace(found, name=entry.name, optics=entry.optics)


def checked_sizes(table: TomogramTable, voxel_size: float | None = None) -> dict[str, float]:
    """The voxel size in angstrom of each tomogram by name, from headers alone.

    InputError, which names the row, if a row has no tilts, a volume cannot be opened, its header has no voxel size and the table
    none either, or halves are of different shapes: all that can be known before any voxel is read.
    """
    sizes = {}
    for entry in table.entries:
        where = f"{table.path} row {entry.row}"
        if entry.tilts is None:
            raise InputError(f"{where} has no tilts: pass --tilt-range -60 60, or add the columns rlnTiltMin and rlnTiltMax")
        try:
            volumes = [read_volume(file) for file in entry.files]
            sizes[entry.name] = voxel_size_of(volumes[0], voxel_size or entry.voxel_size)
            mask = volumes[0] if entry.mask is None else read_volume(entry.mask)
        except InputError as error:
            raise InputError(f"{where}: {error}") from error
        shapes = {volume.density.shape for volume in volumes}
        if len(shapes) > 1:
            first, second = sorted(shapes)
            raise InputError(f"{where} has halves of shapes {first} and {second}, expected one shape: correct the table")
        if mask.density.shape not in shapes:
            raise InputError(f"{where} has a mask of shape {mask.density.shape}, expected {shapes.pop()}: correct the table")
    return sizes


def sizes_differ(sizes: dict[str, float]) -> str | None:
    """One line if voxel sizes differ by more than 2 %: one model then sees the same molecule at several sizes."""
    lowest, highest = min(sizes, key=lambda n: sizes[n]), max(sizes, key=lambda n: sizes[n])
    if sizes[highest] <= 1.02 * sizes[lowest]:
        return None
    return (
        f"voxel sizes differ, from {sizes[lowest]:g} ({lowest}) to {sizes[highest]:g} angstrom ({highest}): one model is "
        "trained on all, and does better with equal ones"
    )
