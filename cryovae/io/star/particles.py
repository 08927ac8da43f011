"""Reads tables of subtomograms, 3D volumes or 2D stacks, from RELION 3 to 5 and Warp, with the tilts of their tomograms."""

from __future__ import annotations

import ast
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from cryovae.errors import InputError
from cryovae.io.star.table import Block, read_blocks
from cryovae.io.star.tomograms import SERIES, named_file
from cryovae.io.tilts import TiltSeries, read_tilt_series
from cryovae.io.tilts.tables import one_of, projections_of
from cryovae.tomogram import TiltGeometry

IMAGE, VISIBLE = "rlnImageName", "rlnTomoVisibleFrames"
ROTATED = ("rlnTomoSubtomogramRot", "rlnTomoSubtomogramTilt", "rlnTomoSubtomogramPsi")


@dataclass(frozen=True)
class Particle:
    """One subtomogram.

    Attributes:
        name: name of the tomogram and row.
        row: row in the table, from 1.
        file: a volume in the orientation of its tomogram, or a stack of images.
        stacked: whether the file is a stack, one unrotated image per tilt.
        geometry: tilt geometry of the tomogram.
        series: tilt series of the tomogram, in which tilts that do not show the particle are excluded; None if it is unknown.
        voxel_size: voxel size in angstrom, or None for that of the header.
    """

    name: str
    row: int
    file: Path
    stacked: bool
    geometry: TiltGeometry
    series: TiltSeries | None
    voxel_size: float | None


def is_particle_table(path: Path) -> bool:
    """Whether a STAR file is a table of particles or an optimisation set that names one."""
    blocks = read_blocks(path)
    return any(IMAGE in block and block.loop for block in blocks.values()) or _named(blocks, "rlnTomoParticlesFile") is not None


def read_particles(path: Path, tilts: TiltGeometry | None = None) -> tuple[Particle, ...]:
    """Read the subtomograms of a table.

    Args:
        path: a table of particles with NAME_tomograms.star or tomograms.star in its folder, or an optimisation set naming both.
        tilts: geometry of 3D subtomograms whose tomograms are unknown, or None.

    Raises:
        InputError: a row, which is named, has a missing file, unknown tilts, or a volume that was rotated on extraction.
    """
    blocks = read_blocks(path)
    listed, tomograms = _named(blocks, "rlnTomoParticlesFile"), _named(blocks, "rlnTomoTomogramsFile")
    table = path if listed is None else named_file(path, listed)
    blocks = blocks if listed is None else read_blocks(table)
    tables = dict.fromkeys([Path(os.path.realpath(table)), table])
    beside = [file.with_name(name) for file in tables for name in (f"{file.stem}_tomograms.star", "tomograms.star")]
    where = named_file(path, tomograms) if tomograms is not None else next((p for p in beside if os.path.isfile(p)), None)
    listings = [name for name, block in blocks.items() if IMAGE in block and block.loop and len(block)]
    if not listings:
        raise InputError(f"{table} has no particles, expected a table with {IMAGE}: give a table of particles")
    rows = blocks[one_of(listings, table, "particles")]
    known = {} if where is None else _tilts_by_tomogram(where, {_tomogram(rows, row) for row in range(len(rows))})
    files = [_file(rows, row, table) for row in range(len(rows))]
    missing = [(row, file) for row, file in enumerate(files) if not os.path.isfile(file)]
    if missing:
        row, file = missing[0]
        raise InputError(
            f"{table} row {row + 1}: {file} does not exist, and {len(missing) - 1} more are missing: correct the paths"
        )
    sizes, flat = _optics(blocks, rows, table)
    return tuple(_particle(rows, row, table, files[row], known, tilts, sizes[row], flat[row]) for row in range(len(rows)))


def _named(blocks: Mapping[str, Block], column: str) -> str | None:
    """Value of a column in the first block that has it and has a single row."""
    return next((block.text(column, 0) for block in blocks.values() if column in block and len(block) == 1), None)


def _file(rows: Block, row: int, table: Path) -> Path:
    name = rows.text(IMAGE, row)
    if name is None or "@" in name:
        raise InputError(f"{table} row {row + 1} has {IMAGE} '{name}', expected a file: single particles have no tilts")
    return named_file(table, name)


def _tomogram(rows: Block, row: int) -> str:
    return rows.text("rlnTomoName", row) or rows.text("rlnMicrographName", row) or ""


def _tilts_by_tomogram(table: Path, wanted: set[str]) -> dict[str, TiltSeries]:
    """Tilt series of the wanted tomograms by name, from blocks of projection matrices or files of tilt series."""
    blocks = read_blocks(table)
    listing = next((block for block in blocks.values() if "rlnTomoName" in block), None)
    if listing is None:
        raise InputError(f"{table} names no tomograms, expected rlnTomoName: give the one of the particles")
    series = {}
    for row, name in enumerate(listing.columns["rlnTomoName"]):
        file = listing.text(SERIES, row)
        if name not in wanted:
            continue
        if name in series:
            raise InputError(f"{table} has two rows of {name}, expected one for each tomogram: take one out")
        if file is not None:
            series[name] = read_tilt_series(named_file(table, file))
        elif name in blocks and "rlnTomoProjX" in blocks[name]:
            series[name] = projections_of(blocks[name], table)
    return series


def _optics(blocks: Mapping[str, Block], rows: Block, table: Path) -> tuple[list[float | None], list[bool]]:
    """Voxel size of each row and whether it is a 2D stack, from its optics group, columns or file name."""
    groups = next((b for n, b in blocks.items() if n == "optics" and "rlnOpticsGroup" in b), Block({}))
    group = {groups.text("rlnOpticsGroup", i): i for i in range(len(groups))}
    if len(group) < len(groups):
        raise InputError(f"{table} has two optics groups of one number, expected different rlnOpticsGroup: renumber them")
    general = _named(blocks, "rlnTomoSubTomosAre2DStacks") == "1"
    sizes: list[float | None] = []
    flat = []
    for row in range(len(rows)):
        at = group.get(rows.text("rlnOpticsGroup", row))
        size = None if at is None else groups.number("rlnImagePixelSize", at, table)
        own = next((v for c in ("rlnPixelSize", "rlnDetectorPixelSize") if (v := rows.number(c, row, table)) is not None), None)
        sizes.append(size if size is not None else own)
        dimensions = None if at is None else groups.text("rlnImageDimensionality", at)
        name = rows.text(IMAGE, row) or ""
        flat.append(general or dimensions == "2" or (dimensions is None and name.endswith(".mrcs")))
    return sizes, flat


def _particle(
    rows: Block,
    row: int,
    table: Path,
    file: Path,
    known: Mapping[str, TiltSeries],
    tilts: TiltGeometry | None,
    size: float | None,
    stacked: bool,
) -> Particle:
    tomogram = _tomogram(rows, row)
    series = known.get(tomogram)
    where = f"{table} row {row + 1}"
    if series is None and (stacked or tilts is None):
        wanted = "give the optimisation set, or put tomograms.star beside it" if stacked else "pass --tilt-range -60 60"
        raise InputError(f"{where}: the tilts of {tomogram or 'its tomogram'} are not known, expected a table of them: {wanted}")
    if not stacked and any(rows.number(column, row, table) for column in ROTATED):
        raise InputError(
            f"{where} was rotated on extraction ({ROTATED[0]}), expected the orientation of the tomogram: extract it so"
        )
    if series is not None and rows.text(VISIBLE, row) is not None:
        series = _visible(series, rows, row, where)
    name = f"{Path(tomogram).name.removesuffix('.tomostar') or 'particle'}_{row + 1:06d}"
    try:
        geometry = series.geometry() if series is not None else tilts
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
    assert geometry is not None
    return Particle(name, row + 1, file, stacked, geometry, series, size)


def _visible(series: TiltSeries, rows: Block, row: int, where: str) -> TiltSeries:
    """A tilt series in which the tilts that do not show the particle are excluded."""
    text = rows.text(VISIBLE, row) or ""
    try:
        shown = [bool(int(v)) for v in ast.literal_eval(text)] if len(text) < 10_000 else []
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        shown = []
    if len(shown) != len(series.angles):
        raise InputError(f"{where} has {VISIBLE} '{text[:30]}', expected {len(series.angles)} of 0 and 1, one a tilt: correct it")
    return replace(series, excluded=tuple(out or not seen for out, seen in zip(series.excluded, shown, strict=True)))
