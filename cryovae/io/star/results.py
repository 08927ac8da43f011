"""Writes a table of tomograms with columns for the results, all of its paths from one base.

RELION reads paths from the folder in which it runs, that of the project, so a table of RELION keeps them so; if the results lie
outside the project, all its paths are absolute. Paths of other tables begin at the folder of the new table.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from cryovae.io.names import is_volume
from cryovae.io.star.table import write_blocks
from cryovae.io.star.tomograms import PARENT_FOLDERS, SERIES, TILTS, TomogramTable, named_file, relative_path

# With what the model of a row began: base, the path of a model, or random.
START = "crvStart"
# Columns that only tables of RELION 5 have.
RELION = ("rlnTomoTiltSeriesPixelSize", "rlnTomoTomogramBinning", SERIES)
# Columns that hold a file whatever it is called.
FILES = (TILTS, SERIES, "rlnMaskName")


def results_columns(table: TomogramTable) -> dict[str, str]:
    """Column name of each kind of restored volume.

    The mean is in the column in which the program of the table expects a restored tomogram: for RELION that is
    rlnTomoReconstructedTomogramDenoised, for IsoNet rlnCorrectedTomoName. The other volumes are in columns of cryovae: the
    halves in the columns of RELION are the input.
    """
    return {
        "mean": "rlnTomoReconstructedTomogramDenoised" if _is_relion(table) else "rlnCorrectedTomoName",
        "std": "crvStandardDeviation",
        "measured": "crvMeasured",
        "mean_half1": "crvRestoredHalf1",
        "mean_half2": "crvRestoredHalf2",
    }


def write_results(path: Path, table: TomogramTable, results: Sequence[Mapping[str, Path]], start: str | None = None) -> None:
    """Write a copy of the table with a column for each kind of result; rows without a result get None.

    Args:
        path: the new table.
        table: the table that was read.
        results: for each row, its files by kind.
        start: with what the model began that restored the rows, for the column crvStart; None if it is not known.

    Raises:
        InputError: ``path`` is the table that was read.
    """
    columns = results_columns(table)
    kinds = [kind for kind in columns if any(kind in files for files in results)]
    named = list(_named(table))
    files: dict[tuple[str, int], Path] = {(column, row): file for column, row, _, file in named}
    files |= {(columns[kind], row): volumes[kind] for row, volumes in enumerate(results) for kind in kinds if kind in volumes}
    texts = _from_one_base(path, table, named, files)
    rows = table.rows
    new = {column: list(rows.columns[column]) for column in rows.columns} | {
        columns[kind]: ["None"] * len(results) for kind in kinds
    }
    for (column, row), text in texts.items():
        new[column][row] = text
    if start is not None:
        new[START] = [start if volumes else "None" for volumes in results]
    write_blocks(path, {**table.blocks, table.listing: rows.with_columns(new)}, source=table.path)


def _is_relion(table: TomogramTable) -> bool:
    return any(column in table.rows for column in RELION)


def _named(table: TomogramTable) -> Iterator[tuple[str, int, str, Path]]:
    """Column, row, text and file of each path in a table whose file exists."""
    for column, values in table.rows.columns.items():
        for row in range(len(values)):
            text = table.rows.text(column, row)
            if text is not None and (column in FILES or "/" in text or is_volume(text)):
                file = named_file(table.path, text).absolute()
                if os.path.exists(file):
                    yield column, row, text, file


def _from_one_base(
    path: Path, table: TomogramTable, named: Sequence[tuple[str, int, str, Path]], files: Mapping[tuple[str, int], Path]
) -> dict[tuple[str, int], str]:
    """The text of each file in the new table, by column and row; named: the files of the table that was read."""
    absolute = {at: os.path.abspath(file) for at, file in files.items()}
    if named and all(Path(text).is_absolute() for _, _, text, _ in named):
        return absolute
    if not _is_relion(table):
        return {at: relative_path(file, path) for at, file in files.items()}
    project = _project_of(path, named)
    if project is None or not all(Path(file).is_relative_to(project) for file in absolute.values()):
        return absolute
    texts = {at: os.path.relpath(file, project) for at, file in absolute.items()}
    # A file of the same path nearer to the table would be taken for it.
    return texts if all(os.path.abspath(named_file(path, texts[at])) == file for at, file in absolute.items()) else absolute


def _project_of(path: Path, named: Sequence[tuple[str, int, str, Path]]) -> Path | None:
    """The folder at which all relative paths of a table begin, if the new table lies in it; None if there is none."""
    relative = [(Path(text), file) for _, _, text, file in named if not Path(text).is_absolute()]
    roots = {file.parents[len(text.parts) - 1] for text, file in relative if ".." not in text.parts}
    folder = path.absolute().parent
    known = [folder, *list(folder.parents)[:PARENT_FOLDERS]]
    return roots.pop() if len(roots) == 1 and next(iter(roots)) in known else None
