"""Reads positions of picked particles: STAR tables of RELION, Warp and cryovae, and picks of copick (JSON).

rlnCenteredCoordinateXAngst ... are in angstrom from voxel n // 2 of the tomogram. rlnCoordinateX ... are in pixels of
rlnTomoTiltSeriesPixelSize, else of rlnImagePixelSize, else in voxels of the tomogram, 0 at the centre of the first voxel.
rlnOriginXAngst ... are subtracted. Points of copick are in angstrom from the first voxel.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cryovae.errors import InputError
from cryovae.io.star.table import Block, read_blocks
from cryovae.io.text import read_text

CENTRED, PLAIN = "rlnCenteredCoordinate{}Angst", "rlnCoordinate{}"
PIXEL_SIZES = ("rlnTomoTiltSeriesPixelSize", "rlnImagePixelSize", "rlnPixelSize", "rlnDetectorPixelSize")
TOMOGRAMS = ("rlnTomoName", "rlnMicrographName")
MAX_BYTES = 256 * 2**20


@dataclass(frozen=True)
class Picks:
    """Picked particles of one tomogram.

    Attributes:
        positions: (n, 3) as z, y, x, in angstrom from the centre of the first voxel.
        names: Name of the kind of each particle.
        how: What the coordinates were taken for, in words.
    """

    positions: np.ndarray
    names: tuple[str, ...]
    how: str


def read_picks(path: Path, shape: Sequence[int], voxel_size: float, tomogram: str = "") -> Picks:
    """Read the particles of a tomogram.

    Args:
        path: A STAR table, or the JSON of picks of copick.
        shape: Shape (z, y, x) of the tomogram.
        voxel_size: Voxel size in angstrom.
        tomogram: Name of the tomogram, which selects the rows of a table of several.

    Raises:
        InputError: The file is neither, holds no coordinates, or is of several other tomograms.
    """
    if path.suffix.lower() == ".json":
        return _of_copick(path)
    blocks = read_blocks(path)
    for block in blocks.values():
        if block.loop and len(block) and all(CENTRED.format(axis) in block or PLAIN.format(axis) in block for axis in "XYZ"):
            return _of_star(path, block, blocks, shape, voxel_size, tomogram)
    raise InputError(f"{path} has no rlnCoordinateX, Y and Z, expected picked particles: give a table of particles")


def _of_star(path: Path, block: Block, blocks: dict[str, Block], shape: Sequence[int], voxel_size: float, tomogram: str) -> Picks:
    rows = _rows_of(path, block, tomogram)
    if all(CENTRED.format(axis) in block for axis in "XYZ"):
        places = _columns(path, block, CENTRED, rows) + voxel_size * (np.array(shape[::-1]) // 2)
        how = "coordinates in angstrom from the middle"
    else:
        size, where = _pixel_size(path, block, blocks, rows, voxel_size)
        places = _columns(path, block, PLAIN, rows) * size
        how = f"coordinates in pixels of {size:g} Å, {where}"
    if all(f"rlnOrigin{axis}Angst" in block for axis in "XYZ"):
        places = places - _columns(path, block, "rlnOrigin{}Angst", rows)
    names = tuple(block.text("rlnGroupName", row) or block.text("rlnClassNumber", row) or "particle" for row in rows)
    return Picks(places[:, ::-1].copy(), names, how)


def _rows_of(path: Path, block: Block, tomogram: str) -> list[int]:
    """The rows of a tomogram; all rows of a table of one."""
    column = next((one for one in TOMOGRAMS if one in block), None)
    rows = list(range(len(block)))
    if column is None:
        return rows
    texts = [Path(block.text(column, row) or "").name.split(".")[0] for row in rows]
    if len(set(texts)) == 1:
        return rows
    own = [row for row, text in zip(rows, texts, strict=True) if text == tomogram]
    if not own:
        listed = ", ".join(sorted(set(texts))[:3])
        raise InputError(f"{path} has particles of {listed} ..., expected some of {tomogram}: give its own table")
    return own


def _columns(path: Path, block: Block, name: str, rows: Sequence[int]) -> np.ndarray:
    """Three columns (rows, 3) as x, y, z."""
    values = [[block.number(name.format(axis), row, path) for axis in "XYZ"] for row in rows]
    for row, value in zip(rows, values, strict=True):
        if None in value:
            raise InputError(f"{path} row {row + 1} has no {name.format('X')}, Y or Z: complete it")
    return np.array(values, dtype=float).reshape(-1, 3)


def _pixel_size(path: Path, block: Block, blocks: dict[str, Block], rows: Sequence[int], voxel_size: float) -> tuple[float, str]:
    for name in PIXEL_SIZES:
        for table in (block, *blocks.values()):
            if name in table and len(table):
                size = table.number(name, rows[0] if table is block and rows else 0, path)
                if size:
                    return size, f"by {name}"
    return voxel_size, "the voxels of the tomogram, as the table names no pixel size"


def _of_copick(path: Path) -> Picks:
    try:
        content: Any = json.loads(read_text(path, MAX_BYTES, "check the path", "picks of copick"))
        points = content["points"]
        places = [[float(point["location"][axis]) for axis in "zyx"] for point in points]
        unit, name = content.get("unit", "angstrom"), str(content.get("pickable_object_name", "particle"))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} holds no points of copick, expected 'points' with a 'location' each: give its picks") from error
    if unit not in ("angstrom", "Å"):
        raise InputError(f"{path} has points in {unit}, expected angstrom: convert them")
    return Picks(np.array(places, dtype=float).reshape(-1, 3), (name,) * len(places), "points of copick, in angstrom")
