"""Reads tables of tomograms written by IsoNet, RELION, Warp or cryovae. ``results`` writes them with columns for the results.

A table of cryovae has the columns of IsoNet2 and one for the tilt file. Relative paths start at the folder of the STAR file, or
else at one of its parents, because RELION writes paths from its project folder. Tables are never overwritten.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from cryovae.errors import InputError
from cryovae.io.names import checked_name, common_name, is_volume, stem
from cryovae.io.star.table import Block, read_blocks
from cryovae.io.tilts import TiltSeries, read_tilt_series
from cryovae.io.tilts.tables import KINDS, PARTICLES, one_of, projections_of
from cryovae.tomogram import Optics, TiltGeometry
from cryovae.units import check_voxel_size

HALVES = ("rlnTomoReconstructedTomogramHalf1", "rlnTomoReconstructedTomogramHalf2")
# Columns of a single volume in order of preference; rlnTomoName is a name in tables of RELION and a path in those of IsoNet2.
FULL = ("rlnTomoReconstructedTomogram", "rlnMicrographName", "rlnTomoName")
TILTS, SERIES = "crvTilts", "rlnTomoTiltSeriesStarFile"
# Number of parent folders that are searched as RELION's project folder; Tomograms/job006/tomograms.star is two deep.
PARENT_FOLDERS = 4
# By row, from 1: the name of the tomogram, empty if it is unknown or cannot be used, and why the row cannot be used.
Problems: TypeAlias = dict[int, tuple[str, str]]


@dataclass(frozen=True)
class Entry:
    """One row of a table of tomograms.

    Attributes:
        name: name of the tomogram.
        row: row in the table, from 1.
        full: file of the tomogram, or None if the row has halves.
        halves: files of the two halves, or None.
        tilts: the tilt geometry, or None if it is unknown.
        voxel_size: voxel size in angstrom, or None for that of the header.
        mask: file of a 0/1 volume, or None.
        optics: parameters of the contrast transfer function, or None.
        unrotated: whether the beam is along the middle axis of the volumes.
        pixel_size: of the raw images of the tilts in angstrom, or None.
    """

    name: str
    row: int
    full: Path | None
    halves: tuple[Path, Path] | None
    tilts: TiltGeometry | None
    voxel_size: float | None
    mask: Path | None = None
    optics: Optics | None = None
    unrotated: bool = False
    pixel_size: float | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """Files of the volumes: the two halves or the single volume."""
        return self.halves if self.halves is not None else (self.full,) if self.full is not None else ()


@dataclass(frozen=True)
class TomogramTable:
    """A table of tomograms.

    Attributes:
        path: the STAR file.
        blocks: all blocks of the file by name.
        listing: name of the block that lists the tomograms.
        entries: rows of that block; unusable rows may be left out.
    """

    path: Path
    blocks: Mapping[str, Block]
    listing: str
    entries: tuple[Entry, ...]

    @property
    def rows(self) -> Block:
        """The block that lists the tomograms."""
        return self.blocks[self.listing]


def read_tomograms(path: Path | str, tilts: TiltGeometry | None = None, problems: Problems | None = None) -> TomogramTable:
    """Read a table of tomograms and check that all its files exist.

    Args:
        path: a table, or an optimisation set of RELION that names one.
        tilts: geometry of the rows that have none, or None.
        problems: receives name and reason of each unusable row, by its number; if None, an unusable row raises an error.

    Raises:
        InputError: the file is not a table of tomograms, a row has no volume or a missing file, or a name appears twice.
    """
    path = Path(path)
    blocks = read_blocks(path)
    first = next(iter(blocks.values()))
    listed = first.text("rlnTomoTomogramsFile", 0) if len(first) == 1 else None
    if listed is not None:
        return read_tomograms(named_file(path, listed), tilts, problems)
    listing = _listing(blocks, path)
    rows = blocks[listing]
    if problems is None:
        _check_files(rows, path, range(len(rows)))
        entries = tuple(_entry(rows, row, path, blocks, tilts) for row in range(len(rows)))
    else:
        usable = [_entry_or_problem(rows, row, path, blocks, tilts, problems) for row in range(len(rows))]
        entries = tuple(entry for entry in usable if entry is not None)
    entries = _check_names(entries, path, problems)
    return TomogramTable(path, blocks, listing, entries)


def _listing(blocks: Mapping[str, Block], path: Path) -> str:
    """Name of the block that lists tomograms. InputError, which describes the file, if there is none."""
    volumes = {*HALVES, *FULL[:2]}
    names = []
    for name, block in blocks.items():
        columns = set(block.columns)
        if not columns & PARTICLES and len(block) and (columns & volumes or _has_paths(block)) and "rlnCtfImage" not in columns:
            names.append(name)
    if names:
        # Blocks of tilts may name images, which look like volumes.
        return one_of([n for n in names if KINDS.keys().isdisjoint(blocks[n].columns)] or names, path, "tomograms")
    columns = {column for block in blocks.values() for column in block.columns}
    if columns & PARTICLES:
        raise InputError(f"{path} is a table of particles, expected one of tomograms: give the tomograms.star that goes with it")
    if columns & {"rlnTomoNominalStageTiltAngle", "rlnTomoYTilt", "rlnDefocusU", "tilt_angle"} and "rlnTomoName" not in columns:
        raise InputError(f"{path} is a table of tilts, expected one of tomograms: pass it with --tilts")
    if "rlnTomoName" in columns:
        raise InputError(f"{path} names no reconstructed tomograms, expected {HALVES[0]} or {FULL[0]}: reconstruct them first")
    some = ", ".join(sorted(columns)[:3]) or "no columns"
    raise InputError(f"{path} is no table of tomograms ({some}): expected e.g. {FULL[1]} or {HALVES[0]}")


def _has_paths(block: Block) -> bool:
    return any(is_volume(name) for name in block.columns.get(FULL[2], ()))


def named_file(table: Path, text: str) -> Path:
    """Path of a file that is named in a table.

    Relative paths are searched in the folder of the table and its parents; of a table that is a link, first in the folder of
    the table that it links to. If the file does not exist, the path is in the folder of the table. os.path.exists is False for
    names that no file can have (too long, with a zero byte), where pathlib raises OSError.

    Args:
        table: path of the table.
        text: path of the file as written in the table.
    """
    file = Path(text)
    if file.is_absolute():
        return file
    # The parents of a folder that is a link are not those of its target: RELION's project folder may be above either.
    folders = [table.absolute().parent, Path(os.path.realpath(table)).parent]
    if os.path.islink(table):
        folders.reverse()
    roots = [root for folder in dict.fromkeys(folders) for root in [folder, *list(folder.parents)[:PARENT_FOLDERS]]]
    return next((root / file for root in roots if os.path.exists(root / file)), table.parent / file)


def _volumes(rows: Block, row: int, table: Path) -> tuple[Path | None, tuple[Path, Path] | None]:
    """The single volume and the halves of a row; one of them is None."""
    halves = [rows.text(column, row) for column in HALVES]
    if halves[0] is not None and halves[1] is not None:
        return None, (named_file(table, halves[0]), named_file(table, halves[1]))
    if halves[0] is not None or halves[1] is not None:
        raise InputError(f"{table} row {row + 1} has one half, expected {HALVES[0]} and {HALVES[1]}: add the other")
    named = [rows.text(column, row) for column in FULL[:2]]
    named += [name for name in [rows.text(FULL[2], row)] if name is not None and is_volume(name)]
    full = next((name for name in named if name is not None), None)
    if full is None:
        raise InputError(f"{table} row {row + 1} has no tomogram, expected {HALVES[0]} and its other half, or {FULL[0]}: add it")
    return named_file(table, full), None


def _entry_or_problem(
    rows: Block, row: int, table: Path, blocks: Mapping[str, Block], tilts: TiltGeometry | None, problems: Problems
) -> Entry | None:
    """The entry of a row; for an unusable row None, and a line is added to ``problems``."""
    name = ""
    try:
        name = _name(rows, row, table)
        _check_files(rows, table, [row])
        return _entry(rows, row, table, blocks, tilts)
    except InputError as error:
        problems[row + 1] = (name, str(error))
        return None


def _check_files(rows: Block, table: Path, which: Sequence[int]) -> None:
    """InputError if a file of these rows, counted from 0, is missing."""
    missing = []
    for row in which:
        full, halves = _volumes(rows, row, table)
        named = [*(halves or ()), *([full] if full is not None else [])]
        others = [rows.text(column, row) for column in (TILTS, SERIES, "rlnMaskName")]
        named += [named_file(table, text) for text in others if text is not None]
        missing += [(row + 1, file) for file in named if not os.path.exists(file)]
    if missing:
        row, file = missing[0]
        more = f", and {len(missing) - 1} more files are missing" if len(missing) > 1 else ""
        raise InputError(f"{table} row {row}: {file} does not exist{more}: correct the path, relative to the STAR file")


def _entry(rows: Block, row: int, table: Path, blocks: Mapping[str, Block], tilts: TiltGeometry | None) -> Entry:
    full, halves = _volumes(rows, row, table)
    series = _series(rows, row, table, blocks, rows.text("rlnTomoName", row))
    geometry = series.geometry() if series is not None else _range(rows, row, table) or tilts
    mask = rows.text("rlnMaskName", row)
    return Entry(
        name=_name(rows, row, table),
        row=row + 1,
        full=full,
        halves=halves,
        tilts=geometry,
        voxel_size=_voxel_size(rows, row, table),
        mask=None if mask is None else named_file(table, mask),
        optics=_optics(rows, row, table, series),
        pixel_size=None if series is None else series.pixel_size,
    )


def _name(rows: Block, row: int, table: Path) -> str:
    """Name of the tomogram in a row, from its name column or else from its files. InputError if no file may have it."""
    name = rows.text("rlnTomoName", row)
    if name is not None and "/" not in name and not is_volume(name):
        name = name.removesuffix(".tomostar")
    else:
        full, halves = _volumes(rows, row, table)
        name = common_name(halves) if halves is not None else stem(full or "")
    return checked_name(name, f"{table} row {row + 1}")


def _series(rows: Block, row: int, table: Path, blocks: Mapping[str, Block], name: str | None) -> TiltSeries | None:
    """Tilt series of a row, from a file, or in tables of RELION 4 and Warp from a block of projection matrices."""
    for column in (TILTS, SERIES):
        text = rows.text(column, row)
        if text is not None:
            series = read_tilt_series(named_file(table, text))
            # Checked here, so that the error can name the row.
            try:
                series.geometry()
            except InputError as error:
                raise InputError(f"{table} row {row + 1}, {text}: {error}") from error
            return series
    block = blocks.get(name) if name is not None else None
    return projections_of(block, table) if block is not None and "rlnTomoProjX" in block and len(block) else None


def _range(rows: Block, row: int, table: Path) -> TiltGeometry | None:
    lowest, highest = rows.number("rlnTiltMin", row, table), rows.number("rlnTiltMax", row, table)
    if lowest is None or highest is None:
        return None
    try:
        return TiltGeometry.from_range(lowest, highest)
    except InputError as error:
        raise InputError(f"{table} row {row + 1}: {error}") from error


def _voxel_size(rows: Block, row: int, table: Path) -> float | None:
    size = rows.number("rlnPixelSize", row, table)
    if size is None:
        pixel, binning = rows.number("rlnTomoTiltSeriesPixelSize", row, table), rows.number("rlnTomoTomogramBinning", row, table)
        size = None if pixel is None or binning is None else pixel * binning
    if size is not None:
        check_voxel_size(size, f"{table} row {row + 1}: voxel size")
    return size


def _optics(rows: Block, row: int, table: Path, series: TiltSeries | None) -> Optics | None:
    """Optics of a row. Defoci of the tilt series replace the single defocus; microscope columns replace other values."""
    columns = {
        "voltage": "rlnVoltage",
        "spherical_aberration": "rlnSphericalAberration",
        "amplitude_contrast": "rlnAmplitudeContrast",
        "phase_shift": "rlnPhaseShift",
    }
    known = {name: value for name, column in columns.items() if (value := rows.number(column, row, table)) is not None}
    defocus = rows.number("rlnDefocus", row, table)
    try:
        optics = None if series is None else series.optics(**known)
        # IsoNet writes 0 for an unknown defocus.
        return Optics((defocus,), **known) if optics is None and defocus else optics  # type: ignore[arg-type]
    except InputError as error:
        raise InputError(f"{table} row {row + 1}: {error}") from error


def _check_names(entries: Sequence[Entry], table: Path, problems: Problems | None) -> tuple[Entry, ...]:
    """The entries with a name of their own. InputError for another one, or its row is added to ``problems``."""
    seen: dict[str, Entry] = {}
    for entry in entries:
        first = seen.setdefault(entry.name, entry)
        if first is entry:
            continue
        why = f"{table} rows {first.row} and {entry.row} are both {entry.name}, expected different names: rename one"
        if problems is None:
            raise InputError(why)
        problems[entry.row] = ("", why)
    return tuple(seen.values())


def relative_path(file: Path, table: Path) -> str:
    """Path of a file relative to the folder of a table; links of folders are followed, because ``..`` is above their target."""
    return os.path.relpath(os.path.join(os.path.realpath(file.parent), file.name), os.path.realpath(table.parent))
