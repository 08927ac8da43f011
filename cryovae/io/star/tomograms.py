"""Tables of tomograms: IsoNet's, RELION's and Warp's, and our own, which is IsoNet2's with a column for the file of tilts.

Relative paths are relative to the folder of the STAR file; what is not there is looked for from the folders above it, as RELION
writes paths from its project folder. Tables are never written in place.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cryovae.errors import InputError
from cryovae.io.names import common_name, is_volume, stem
from cryovae.io.star.table import Block, read_blocks, write_blocks
from cryovae.io.tilts import TiltSeries, read_tilt_series
from cryovae.io.tilts.tables import PARTICLES, projections_of
from cryovae.tomogram import Optics, TiltGeometry

HALVES = ("rlnTomoReconstructedTomogramHalf1", "rlnTomoReconstructedTomogramHalf2")
# Where a single volume stands, in this order; rlnTomoName holds a name in RELION's tables and a path in IsoNet2's.
FULL = ("rlnTomoReconstructedTomogram", "rlnMicrographName", "rlnTomoName")
TILTS, SERIES = "crvTilts", "rlnTomoTiltSeriesStarFile"
# Parent folders of the table in which RELION's project may be rooted: Tomograms/job006/tomograms.star is two deep.
LEVELS = 4


@dataclass(frozen=True)
class Entry:
    """One row of a table of tomograms.

    row: counted from 1. full or halves: the volumes. tilts: the geometry, or None where the table has none. voxel_size: angstrom,
    or None for that of the header. mask: a 0/1 volume, or None. optics: contrast transfer, or None. unrotated: the beam is along
    the middle axis of its volumes.
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

    @property
    def files(self) -> tuple[Path, ...]:
        """The volumes that are read."""
        return self.halves if self.halves is not None else (self.full,) if self.full is not None else ()


@dataclass(frozen=True)
class TomogramTable:
    """A table as it was read: all its blocks, which of them lists the tomograms, and what its rows mean."""

    path: Path
    blocks: Mapping[str, Block]
    listing: str
    entries: tuple[Entry, ...]

    @property
    def rows(self) -> Block:
        """The block that lists the tomograms."""
        return self.blocks[self.listing]


def read_tomograms(path: Path | str, tilts: TiltGeometry | None = None, problems: dict[str, str] | None = None) -> TomogramTable:
    """A table of tomograms, all of whose files are there.

    tilts: of the rows that have none of their own. problems: takes the rows that cannot be used, by name, and why; they are left
    out of the entries then. InputError, in one line that names the row, if the file is no such table, a row has no volume or no
    tilts, a file is missing, or a name appears twice.
    """
    path = Path(path)
    blocks = read_blocks(path)
    first = next(iter(blocks.values()))
    listed = first.text("rlnTomoTomogramsFile", 0) if len(first) == 1 else None
    if listed is not None:
        return read_tomograms(found(path, listed), tilts, problems)
    listing = _listing(blocks, path)
    rows = blocks[listing]
    if problems is None:
        _check_files(rows, path, range(len(rows)))
        entries = tuple(_entry(rows, row, path, blocks, tilts) for row in range(len(rows)))
    else:
        tried = [_tried(rows, row, path, blocks, tilts, problems) for row in range(len(rows))]
        entries = tuple(entry for entry in tried if entry is not None)
    _check_names(entries, path)
    return TomogramTable(path, blocks, listing, entries)


def _listing(blocks: Mapping[str, Block], path: Path) -> str:
    """The name of the block with tomograms. InputError, which says what was found instead, if there is none."""
    volumes = {*HALVES, *FULL[:2]}
    for name, block in blocks.items():
        columns = set(block.columns)
        if not columns & PARTICLES and len(block) and (columns & volumes or _has_paths(block)) and "rlnCtfImage" not in columns:
            return name
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


def found(table: Path, text: str) -> Path:
    """Where a file named in a table is: beside it, or from a folder above; where it should be beside it if nowhere.

    A name that no file can have (too long, with a zero byte) is nowhere: os.path says so where pathlib raises OSError.
    """
    named = Path(text)
    if named.is_absolute():
        return named
    folder = table.absolute().parent
    places = [folder, *list(folder.parents)[:LEVELS]]
    return next((place / named for place in places if os.path.exists(place / named)), table.parent / named)


def _volumes(rows: Block, row: int, table: Path) -> tuple[Path | None, tuple[Path, Path] | None]:
    halves = [rows.text(column, row) for column in HALVES]
    if halves[0] is not None and halves[1] is not None:
        return None, (found(table, halves[0]), found(table, halves[1]))
    if halves[0] is not None or halves[1] is not None:
        raise InputError(f"{table} row {row + 1} has one half, expected {HALVES[0]} and {HALVES[1]}: add the other")
    named = [rows.text(column, row) for column in FULL[:2]]
    named += [name for name in [rows.text(FULL[2], row)] if name is not None and is_volume(name)]
    full = next((name for name in named if name is not None), None)
    if full is None:
        raise InputError(f"{table} row {row + 1} has no tomogram, expected {HALVES[0]} and its other half, or {FULL[0]}: add it")
    return found(table, full), None


def _tried(
    rows: Block, row: int, table: Path, blocks: Mapping[str, Block], tilts: TiltGeometry | None, problems: dict[str, str]
) -> Entry | None:
    """A row's entry; None if it cannot be used, and why in ``problems``."""
    name = f"row_{row + 1}"
    try:
        name = _name(rows, row, table)
        _check_files(rows, table, [row])
        return _entry(rows, row, table, blocks, tilts)
    except InputError as error:
        problems[name] = str(error)
        return None


def _check_files(rows: Block, table: Path, which: Sequence[int]) -> None:
    """InputError if any file of these rows, counted from 0, is missing, before anything else is looked at."""
    missing = []
    for row in which:
        full, halves = _volumes(rows, row, table)
        named = [*(halves or ()), *([full] if full is not None else [])]
        others = [rows.text(column, row) for column in (TILTS, SERIES, "rlnMaskName")]
        named += [found(table, text) for text in others if text is not None]
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
        mask=None if mask is None else found(table, mask),
        optics=_optics(rows, row, table, series),
    )


def _name(rows: Block, row: int, table: Path) -> str:
    """The name of a row, or what its files are called."""
    given = rows.text("rlnTomoName", row)
    if given is not None and "/" not in given and not is_volume(given):
        return given.removesuffix(".tomostar")
    full, halves = _volumes(rows, row, table)
    return common_name(halves) if halves is not None else stem(full or "")


def _series(rows: Block, row: int, table: Path, blocks: Mapping[str, Block], name: str | None) -> TiltSeries | None:
    """The row's own tilt series: a file, or in RELION 4's and Warp's tables a block of projection matrices by its name."""
    for column in (TILTS, SERIES):
        text = rows.text(column, row)
        if text is not None:
            series = read_tilt_series(found(table, text))
            # That there are enough of them is checked here, where the row can be named.
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
    if size is not None and not 0 < size < 1e4:
        raise InputError(f"{table} row {row + 1} has voxels of {size:g} angstrom, expected more than 0: correct rlnPixelSize")
    return size


def _optics(rows: Block, row: int, table: Path, series: TiltSeries | None) -> Optics | None:
    """What the tilt series knows of each tilt goes over the table's one defocus; the table's microscope over our defaults."""
    columns = {
        "voltage": "rlnVoltage",
        "spherical_aberration": "rlnSphericalAberration",
        "amplitude_contrast": "rlnAmplitudeContrast",
        "phase_shift": "rlnPhaseShift",
    }
    known = {name: value for name, column in columns.items() if (value := rows.number(column, row, table)) is not None}
    found = None if series is None else series.optics()
    if found is None:
        defocus = rows.number("rlnDefocus", row, table)
        # IsoNet writes 0 where nobody said.
        found = Optics((defocus,)) if defocus else None
    try:
        return None if found is None else replace(found, **known)  # type: ignore[arg-type]
    except InputError as error:
        raise InputError(f"{table} row {row + 1}: {error}") from error


def _check_names(entries: Sequence[Entry], table: Path) -> None:
    seen: dict[str, int] = {}
    for entry in entries:
        if not entry.name or entry.name in (".", "..") or "/" in entry.name:
            raise InputError(f"{table} row {entry.row} has the name '{entry.name}', expected one that a folder may have")
        if entry.name in seen:
            raise InputError(f"{table} rows {seen[entry.name]} and {entry.row} are both {entry.name}, expected different names")
        seen[entry.name] = entry.row


def results_columns(table: TomogramTable) -> dict[str, str]:
    """Which column takes which restored volume, by its kind.

    The mean goes where the table's own programs look for a restored tomogram: RELION's pickers at
    rlnTomoReconstructedTomogramDenoised, IsoNet's users at rlnCorrectedTomoName. What no other program makes has a name of ours.
    """
    relion = any(column in table.rows for column in ("rlnTomoTiltSeriesPixelSize", SERIES))
    mean = "rlnTomoReconstructedTomogramDenoised" if relion else "rlnCorrectedTomoName"
    return {"mean": mean, "std": "crvStandardDeviation", "mean_half1": "crvRestoredHalf1", "mean_half2": "crvRestoredHalf2"}


def write_results(path: Path, table: TomogramTable, results: Sequence[Mapping[str, Path]]) -> None:
    """The same table with a column for each kind of result, None where a row has none.

    results: the files of each row by kind. They are written relative to the new table; paths that would no longer be found from
    there are made absolute. InputError if ``path`` is the table that was read.
    """
    columns = results_columns(table)
    kinds = [kind for kind in columns if any(kind in files for files in results)]
    new = {columns[k]: [_relative(files[k], path) if k in files else "None" for files in results] for k in kinds}
    moved = {
        column: [_moved(table.path, path, table.rows.text(column, row)) for row in range(len(table.rows))]
        for column in (*HALVES, *FULL, TILTS, SERIES, "rlnMaskName")
        if column in table.rows
    }
    rows = table.rows.with_columns({**moved, **new})
    write_blocks(path, {**table.blocks, table.listing: rows}, source=table.path)


def _relative(file: Path, table: Path) -> str:
    return os.path.relpath(file.absolute(), table.absolute().parent)


def _moved(old: Path, new: Path, text: str | None) -> str:
    """The same text where it is no path, or still leads to the same file from the new table; else the file's absolute path."""
    if text is None:
        return "None"
    there = found(old, text)
    if not os.path.exists(there) or found(new, text).absolute() == there.absolute():
        return text
    return str(there.absolute())
