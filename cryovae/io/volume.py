"""What a file of a volume holds, whatever its format: density (z, y, x), voxel size, and what a written volume takes over."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cryovae.errors import InputError

SMALLEST, LARGEST = 1e-2, 1e4
CUBE = 1.01


@dataclass(frozen=True)
class Volume:
    """A volume as stored: density (z, y, x), memory-mapped or read on demand where the format allows it.

    stored: the numbers in the file, in words. mode: the same as a number of the MRC format, None for other formats.
    voxel_size, origin: along x, y, z in angstrom; a voxel size that the file does not tell is 0.
    notes: what was decided on reading where the file left a doubt; one line each, for whoever restores it.
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
    """What a restored volume takes over from the file that it was made from, with its axes in the order x, y, z.

    origin in angstrom; start: the first voxel in a larger grid. extended: the extended header of an MRC file as bytes, extra: the
    part of its header that says how these are laid out, both in byte order ``order``.
    """

    origin: tuple[float, float, float] = (0.0, 0.0, 0.0)
    start: tuple[int, int, int] = (0, 0, 0)
    labels: tuple[str, ...] = ()
    extended: bytes = b""
    extended_kind: bytes = b""
    extra: bytes = b""
    order: str = "<"


def voxel_size_of(volume: Volume, override: float | None) -> float:
    """Voxel size in angstrom, from the file unless overridden; InputError if the file has none that is usable."""
    if override is not None:
        if not 0 < override < LARGEST:
            raise InputError(f"--voxel-size {override:g} found, expected angstrom above 0, e.g. 10.0")
        return override
    x, y, z = volume.voxel_size
    if not all(SMALLEST <= size <= LARGEST for size in (x, y, z)):
        raise InputError(
            f"{volume.path} has no voxel size in its header that can be used ({x:g}, {y:g}, {z:g}): "
            "pass --voxel-size in angstrom, e.g. 10.0"
        )
    if max(x, y, z) > CUBE * min(x, y, z):
        raise InputError(
            f"{volume.path} has voxels of {x:g} x {y:g} x {z:g} angstrom, expected cubes: resample it, or pass --voxel-size"
        )
    return x
