"""Loads the tomograms of a table one at a time, and checks all headers before the work starts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import overload

from cryovae.errors import InputError
from cryovae.io.files import read_volume
from cryovae.io.load import load_tomogram
from cryovae.io.star.tomograms import Entry, TomogramTable
from cryovae.io.volume import voxel_size_of
from cryovae.io.voxel_sizes import disagreements_of
from cryovae.tomogram import Tomogram


class Tomograms(Sequence[Tomogram]):
    """Tomograms that are read on each access and not kept in memory; iterate over them once.

    Attributes:
        names: name of each tomogram.
        load: function (index, mapped) that reads a tomogram; ``mapped`` as in ``load_tomogram``.
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
    """The tomograms of a table.

    Args:
        table: the table.
        voxel_size: voxel size in angstrom that replaces those of the table and the headers, or None.
    """
    return Tomograms([e.name for e in table.entries], lambda index, mapped: load_entry(table.entries[index], voxel_size, mapped))


def load_entry(entry: Entry, voxel_size: float | None = None, mapped: bool = False) -> Tomogram:
    """Load the tomogram of one row.

    Args:
        entry: the row; its tilts must be known.
        voxel_size: voxel size in angstrom that replaces those of the row and the header, or None.
        mapped: whether the volumes stay on disk, as in ``load_tomogram``.

    Raises:
        InputError: see ``load_tomogram``.
    """
    assert entry.tilts is not None
    size = voxel_size or entry.voxel_size
    tomogram = load_tomogram(entry.full, entry.halves, entry.tilts, size, entry.unrotated, entry.mask, mapped)
    header = read_volume(entry.files[0]).voxel_size[0]
    sources = disagreements_of(entry.name, header, entry.voxel_size, voxel_size, entry.pixel_size)
    return replace(tomogram, name=entry.name, optics=entry.optics, findings=(*tomogram.findings, *sources))


def checked_sizes(table: TomogramTable, voxel_size: float | None = None) -> dict[str, float]:
    """Check all rows of a table by the headers of their volumes.

    Args:
        table: the table.
        voxel_size: voxel size in angstrom that replaces those of the table and the headers, or None.

    Returns:
        Voxel size in angstrom of each tomogram by name.

    Raises:
        InputError: a row has no tilts or no voxel size, a volume cannot be opened, or shapes differ; the message names the row.
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
    """A warning if voxel sizes differ by more than 2 %, else None.

    With different voxel sizes one model sees the same molecule at several scales.
    """
    lowest, highest = min(sizes, key=lambda n: sizes[n]), max(sizes, key=lambda n: sizes[n])
    if sizes[highest] <= 1.02 * sizes[lowest]:
        return None
    return (
        f"voxel sizes differ, from {sizes[lowest]:g} ({lowest}) to {sizes[highest]:g} angstrom ({highest}): one model is "
        "trained on all, and does better with equal ones"
    )
