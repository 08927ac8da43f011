"""Contents of a volume file of either format, and the metadata that a restored volume keeps."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cryovae.errors import InputError
from cryovae.units import LEAST_VOXEL, MOST_VOXEL, check_voxel_size, voxel_size_hint

# Largest ratio of two sides of a voxel.
MAX_ASPECT = 1.01


@dataclass(frozen=True)
class Volume:
    """A volume as stored.

    Attributes:
        path: file or folder of the volume.
        density: voxels (z, y, x), memory-mapped or read on access where the format allows it.
        stored: description of the number type in the file.
        voxel_size: voxel size along x, y, z in angstrom; 0 if the file has none.
        origin: origin along x, y, z in angstrom.
        labels: lines of text in the header.
        notes: one line for each ambiguity of the file and its resolution.
        mode: number type as an MRC mode, None for other formats.
    """

    path: Path
    density: np.ndarray
    stored: str
    voxel_size: tuple[float, float, float]
    origin: tuple[float, float, float]
    labels: tuple[str, ...]
    notes: tuple[str, ...] = ()
    mode: int | None = None


@dataclass(frozen=True)
class Provenance:
    """Metadata that a restored volume keeps from its input, with axes in the order x, y, z.

    Attributes:
        origin: origin in angstrom.
        start: index of the first voxel in a larger grid.
        labels: lines of text in the header.
        extended: extended header of an MRC file, as bytes.
        extended_kind: four-letter code of the extended header.
        extra: the part of an MRC header that describes the layout of the extended header.
        order: byte order of ``extended`` and ``extra``, '<' or '>'.
    """

    origin: tuple[float, float, float] = (0.0, 0.0, 0.0)
    start: tuple[int, int, int] = (0, 0, 0)
    labels: tuple[str, ...] = ()
    extended: bytes = b""
    extended_kind: bytes = b""
    extra: bytes = b""
    order: str = "<"


def voxel_size_of(volume: Volume, override: float | None) -> float:
    """Voxel size in angstrom.

    Args:
        volume: the volume.
        override: voxel size in angstrom that replaces that of the file, or None.

    Raises:
        InputError: ``override`` is out of range, or the file has no usable voxel size or voxels that are not cubes.
    """
    if override is not None:
        check_voxel_size(override, "--voxel-size")
        return override
    x, y, z = volume.voxel_size
    if not all(LEAST_VOXEL <= size <= MOST_VOXEL for size in (x, y, z)):
        hint = voxel_size_hint(x) if x == y == z else ""
        raise InputError(
            f"{volume.path} has no voxel size in its header that can be used ({x:g}, {y:g}, {z:g}): "
            f"pass --voxel-size in angstrom, e.g. 10.0{hint and '; '}{hint}"
        )
    if max(x, y, z) > MAX_ASPECT * min(x, y, z):
        raise InputError(
            f"{volume.path} has voxels of {x:g} x {y:g} x {z:g} angstrom, expected cubes: resample it, or pass --voxel-size"
        )
    return x
