"""STAR files as blocks of columns of text, through starfile.

Everything is kept as the text that stood in the file: a name such as 001 stays 001, and a number is written as it was read.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryovae.errors import InputError
from cryovae.io.atomic import whole_file

# What stands for a value that is not there, in IsoNet's tables and in others.
MISSING = ("", "None", "none", "nan", "NaN", "<NA>", "null")
LARGEST = 512 * 2**20


@dataclass(frozen=True)
class Block:
    """One data block: columns by name without the leading underscore, of equal length; loop: written with ``loop_``."""

    columns: Mapping[str, Sequence[str]]
    loop: bool = True

    def __len__(self) -> int:
        return max((len(values) for values in self.columns.values()), default=0)

    def __contains__(self, column: object) -> bool:
        return column in self.columns

    def text(self, column: str, row: int) -> str | None:
        """A value, or None if there is no such column or it says None, nan or nothing."""
        value = self.columns[column][row].strip() if column in self.columns else ""
        return None if value in MISSING else value

    def number(self, column: str, row: int, path: Path) -> float | None:
        """A value as a finite number; None as for ``text``; InputError if it is no number. ``path`` is named in the error."""
        value = self.text(column, row)
        if value is None:
            return None
        try:
            found = float(value)
        except ValueError:
            found = math.nan
        if not math.isfinite(found):
            raise InputError(f"{path} row {row + 1} has {column} '{value[:40]}', expected a number: correct it")
        return found

    def numbers(self, column: str, path: Path) -> tuple[float, ...] | None:
        """A whole column as numbers, or None if it is not there or any value is missing."""
        found = [self.number(column, row, path) for row in range(len(self))] if column in self.columns else []
        kept = tuple(value for value in found if value is not None)
        return kept if found and len(kept) == len(found) else None

    def with_columns(self, more: Mapping[str, Sequence[str]]) -> Block:
        """The same block with columns added, or replaced."""
        return Block({**self.columns, **more}, self.loop)


def read_blocks(path: Path | str) -> dict[str, Block]:
    """The blocks of a STAR file by name, in order. InputError if it is missing, no text, no STAR file, or has no block."""
    path = Path(path)
    if not os.path.isfile(path):
        raise InputError(f"{path} does not exist: check the path")
    if path.stat().st_size > LARGEST:
        raise InputError(f"{path} is {path.stat().st_size / 2**20:.0f} MB, expected a STAR file of {LARGEST / 2**20:.0f} at most")
    _check_text(path)
    found = _parsed(path)
    if not found:
        raise InputError(f"{path} has no data block, expected a STAR file: a line that begins with data_")
    return found


def _check_text(path: Path) -> None:
    head = path.read_bytes()
    try:
        text = head.decode()
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is no text file, expected a STAR file") from error
    if "\0" in text:
        raise InputError(f"{path} is no text file, expected a STAR file")


def _parsed(path: Path) -> dict[str, Block]:
    import starfile

    try:
        names = {name: list(block) for name, block in starfile.read(path, always_dict=True).items()}
        columns = sorted({column for each in names.values() for column in each})
        raw = starfile.read(path, always_dict=True, parse_as_string=columns)
        return {name: _block(block) for name, block in raw.items()}
    # starfile and pandas raise whatever comes: KeyError, ParserError, TypeError for a block that ends too early.
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0][:120] or type(error).__name__
        raise InputError(f"{path} cannot be read as STAR ({reason}): write it again, or correct it") from error


def _block(found: object) -> Block:
    if isinstance(found, dict):
        return Block({key: (str(value),) for key, value in found.items()}, loop=False)
    names = list(found.columns)  # type: ignore[attr-defined]
    if len(set(names)) < len(names):
        raise ValueError("a column appears twice")
    return Block({str(name): tuple("nan" if v != v else str(v) for v in found[name]) for name in names})  # type: ignore[index]


def write_blocks(path: Path | str, blocks: Mapping[str, Block], source: Path | str | None = None) -> None:
    """Write blocks as a STAR file, whole or not at all.

    InputError if ``path`` is the file that they came from, ``source``: tables of others are never written in place.
    """
    import pandas
    import starfile

    path = Path(path)
    if source is not None and os.path.exists(path) and path.samefile(source):
        raise InputError(f"{path} is the table that was read, expected another name: it is never written in place")
    data = {
        name: pandas.DataFrame({k: list(v) for k, v in block.columns.items()}, dtype=str)
        if block.loop
        else {k: v[0] for k, v in block.columns.items()}
        for name, block in blocks.items()
    }
    with whole_file(path) as beside:
        starfile.write(data, beside, overwrite=True)
        # The first line is the time of day; the same run makes the same files.
        lines = beside.read_text().splitlines(keepends=True)
        beside.write_text("".join(line for line in lines if not line.startswith("#")).lstrip())
