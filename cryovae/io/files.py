"""Volumes of either format by path: a folder is OME-Zarr, a file is MRC, plain or compressed, under any name."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from cryovae.errors import InputError
from cryovae.io.mrc.reading import provenance_of_mrc, read_mrc
from cryovae.io.mrc.writing import Sections, write_mrc, write_mrc_by_slabs
from cryovae.io.ome_zarr.library import library
from cryovae.io.ome_zarr.reading import is_zarr, provenance_of_zarr, read_zarr
from cryovae.io.ome_zarr.writing import write_zarr
from cryovae.io.volume import Provenance, Volume

FORMATS = ("mrc", "zarr")
log = logging.getLogger("cryovae")


def read_volume(path: Path | str, number: int | None = None) -> Volume:
    """Open a volume. Voxels are read when they are used, unless they are compressed.

    Args:
        path: an MRC file, or a folder of OME-Zarr.
        number: which volume of a stack of volumes, from 1; None if the file holds one.

    Raises:
        InputError: the file is missing, damaged, an image, or of an unsupported kind.
    """
    path = Path(path)
    return read_zarr(path) if is_zarr(path) else read_mrc(path, number)


def write_volume(path: Path, density: np.ndarray, source: Path | str | None, voxel_size: float, note: str) -> None:
    """Write a density as OME-Zarr if ``path`` ends in .zarr, else as MRC.

    Args:
        path: the file or folder to write, atomically.
        density: (z, y, x).
        source: file of either format whose origin and labels are carried over, or None.
        voxel_size: in angstrom.
        note: text of one more label.
    """
    carried = Provenance() if source is None else provenance_of(Path(source))
    write = write_zarr if Path(path).suffix == ".zarr" else write_mrc
    write(Path(path), density, carried, voxel_size, note)


def write_volume_by_slabs(path: Path, volume: Sections, source: Path | str | None, voxel_size: float, note: str) -> None:
    """``write_volume`` for a volume that is not held in memory; MRC only."""
    carried = Provenance() if source is None else provenance_of(Path(source))
    write_mrc_by_slabs(Path(path), volume, carried, voxel_size, note)


def suffix_of(name: str) -> str:
    """The suffix of files of a format.

    Raises:
        InputError: the format is neither 'mrc' nor 'zarr', or its package is not installed.
    """
    if name not in FORMATS:
        raise InputError(f"--format {name} found, expected {' or '.join(FORMATS)}")
    if name == "zarr":
        library(Path("--format zarr"))
    return f".{name}"


def provenance_of(source: Path) -> Provenance:
    """What a restored volume carries over from its input; nothing, with a warning, if the input cannot be read any more."""
    try:
        return provenance_of_zarr(source) if is_zarr(source) else provenance_of_mrc(source)
    except InputError as error:
        # This write ends hours of work: a volume without its origin is better than none.
        log.warning("origin and labels of the input could not be taken over: %s", error)
        return Provenance()
