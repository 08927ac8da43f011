"""Reads and writes volumes of both formats. A folder is read as OME-Zarr, a file of any name as MRC."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from cryovae.errors import InputError
from cryovae.io.copick import SUFFIX as COPICK
from cryovae.io.copick import check_run_name
from cryovae.io.mrc.reading import provenance_of_mrc, read_mrc
from cryovae.io.mrc.writing import Sections, write_mrc, write_mrc_by_slabs
from cryovae.io.ome_zarr.library import library
from cryovae.io.ome_zarr.reading import is_zarr, provenance_of_zarr, read_zarr
from cryovae.io.ome_zarr.writing import VERSION, ZARR_2_VERSION, write_zarr
from cryovae.io.volume import Provenance, Volume

# File suffix of each format. Copick trees hold OME-Zarr 0.4 (io/copick.py).
FORMATS = {"mrc": ".mrc", "zarr": ".zarr", "copick": COPICK}
log = logging.getLogger("cryovae")


def read_volume(path: Path | str, number: int | None = None) -> Volume:
    """Open a volume. Voxels are read on access, except those of compressed or packed MRC files.

    Args:
        path: an MRC file or an OME-Zarr folder.
        number: number of the volume in a stack of volumes, from 1; None if the file contains one volume.

    Raises:
        InputError: the file is missing, damaged, an image, or of an unsupported kind.
    """
    path = Path(path)
    return read_zarr(path) if is_zarr(path) else read_mrc(path, number)


def write_volume(path: Path, density: np.ndarray, source: Path | str | Provenance | None, voxel_size: float, note: str) -> None:
    """Write a density as OME-Zarr 0.4 if ``path`` ends in .copick.zarr, as OME-Zarr 0.5 if it ends in .zarr, else as MRC.

    Args:
        path: the file or folder, written atomically.
        density: volume (z, y, x).
        source: volume of either format whose origin and labels are kept, or these themselves, or None.
        voxel_size: voxel size in angstrom.
        note: text of the label that is added.
    """
    carried, path = _carried(source), Path(path)
    if path.suffix == ".zarr":
        write_zarr(path, density, carried, voxel_size, note, ZARR_2_VERSION if path.name.endswith(COPICK) else VERSION)
    else:
        write_mrc(path, density, carried, voxel_size, note)


def write_volume_by_slabs(
    path: Path, volume: Sections, source: Path | str | Provenance | None, voxel_size: float, note: str
) -> None:
    """Write a volume that is not in memory as MRC; the arguments are those of ``write_volume``."""
    carried = _carried(source)
    write_mrc_by_slabs(Path(path), volume, carried, voxel_size, note)


def _carried(source: Path | str | Provenance | None) -> Provenance:
    """Metadata that a written volume keeps from a source."""
    if isinstance(source, Provenance):
        return source
    return Provenance() if source is None else provenance_of(Path(source))


def suffix_of(name: str) -> str:
    """File suffix of a format, with its dot.

    Raises:
        InputError: the format is unknown, or its package is not installed.
    """
    if name not in FORMATS:
        raise InputError(f"--format {name} found, expected {' or '.join(FORMATS)}")
    if name != "mrc":
        library(Path(f"--format {name}"))
    return FORMATS[name]


def check_result_name(name: str, suffix: str) -> None:
    """InputError if the name of a tomogram is not possible in a format, by its suffix."""
    if suffix == COPICK:
        check_run_name(name)


def provenance_of(source: Path) -> Provenance:
    """Metadata that a restored volume keeps from its input; empty, with a warning, if the input can no longer be read."""
    try:
        return provenance_of_zarr(source) if is_zarr(source) else provenance_of_mrc(source)
    except InputError as error:
        # This write ends hours of work: a volume without its origin is better than none.
        log.warning("origin and labels of the input could not be taken over: %s", error)
        return Provenance()
