"""The contents of a volume file of either format, and the metadata that a written volume carries over."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cryovae.errors import InputError

# Voxel sizes in angstrom that are accepted from a header, and the largest ratio of two sides of a voxel.
MIN_VOXEL, MAX_VOXEL, MAX_ASPECT = 1e-2, 1e4, 1.01


@dataclass(frozen=True)
class Volume:
    """A volume as stored.

    Attributes:
        path: its file or folder.
        density: (z, y, x), memory-mapped or read on demand where the format allows it.
        stored: the number type in the file, in words.
        voxel_size: along x, y, z in angstrom, 0 where the file has none.
        origin: along x, y, z in angstrom.
        labels: lines of text of the header.
        notes: one line for each ambiguity of the file and how it was resolved.
        mode: number type as a mode of the MRC format, None for other formats.
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
    """Metadata that a restored volume carries over from its input, with axes in the order x, y, z.

    Attributes:
        origin: in angstrom.
        start: index of the first voxel in a larger grid.
        labels: lines of text of the header.
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
    """Voxel size in angstrom, from the file unless ``override`` is set.

    Raises:
        InputError: the override is out of range, or the file has no usable voxel size or voxels that are no cubes.
    """
    if override is not None:
        if not 0 < override < MAX_VOXEL:
            raise InputError(f"--voxel-size {override:g} found, expected angstrom above 0, e.g. 10.0")
        return override
    x, y, z = volume.voxel_size
    if not all(MIN_VOXEL <= size <= MAX_VOXEL for size in (x, y, z)):
        raise InputError(
            f"{volume.path} has no voxel size in its header that can be used ({x:g}, {y:g}, {z:g}): "
            "pass --voxel-size in angstrom, e.g. 10.0"
        )
    if max(x, y, z) > MAX_ASPECT * min(x, y, z):
        raise InputError(
            f"{volume.path} has voxels of {x:g} x {y:g} x {z:g} angstrom, expected cubes: resample it, or pass --voxel-size"
        )
    return x
