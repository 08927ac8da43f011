"""Reads and writes STAR files as blocks of text columns, with starfile.

All values are kept as text: a name such as 001 stays 001, and a number is written as it was read.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryovae.errors import InputError
from cryovae.io.atomic import whole_file

# Texts that denote a missing value in tables of IsoNet and other programs.
MISSING = ("", "None", "none", "nan", "NaN", "<NA>", "null")
MAX_BYTES = 512 * 2**20


@dataclass(frozen=True)
class Block:
    """One data block.

    Attributes:
        columns: values of each column, of equal length, by column name without the leading underscore.
        loop: whether the block is a table, written with ``loop_``.
    """

    columns: Mapping[str, Sequence[str]]
    loop: bool = True

    def __len__(self) -> int:
        return max((len(values) for values in self.columns.values()), default=0)

    def __contains__(self, column: object) -> bool:
        return column in self.columns

    def text(self, column: str, row: int) -> str | None:
        """Value in a row, counted from 0; None if the column or the value is missing."""
        value = self.columns[column][row].strip() if column in self.columns else ""
        return None if value in MISSING else value

    def number(self, column: str, row: int, path: Path) -> float | None:
        """Value in a row as a finite number.

        Args:
            column: name of the column.
            row: row, from 0.
            path: path of the table, for error messages.

        Returns:
            The number, or None if the column or the value is missing.

        Raises:
            InputError: the value is not a finite number.
        """
        value = self.text(column, row)
        if value is None:
            return None
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise InputError(f"{path} row {row + 1} has {column} '{value[:40]}', expected a number: correct it")
        return number

    def numbers(self, column: str, path: Path) -> tuple[float, ...] | None:
        """A column as numbers; None if the column or any of its values is missing. InputError as for ``number``."""
        values = [self.number(column, row, path) for row in range(len(self))] if column in self.columns else []
        present = tuple(value for value in values if value is not None)
        return present if values and len(present) == len(values) else None

    def with_columns(self, more: Mapping[str, Sequence[str]]) -> Block:
        """A copy of the block with columns added or replaced."""
        return Block({**self.columns, **more}, self.loop)


def read_blocks(path: Path | str) -> dict[str, Block]:
    """Read the blocks of a STAR file by name, in the order of the file.

    Raises:
        InputError: the file is missing, too large, not text, not a STAR file, or has no block.
    """
    path = Path(path)
    if not os.path.isfile(path):
        raise InputError(f"{path} does not exist: check the path")
    if path.stat().st_size > MAX_BYTES:
        raise InputError(
            f"{path} is {path.stat().st_size / 2**20:.0f} MB, expected a STAR file of {MAX_BYTES / 2**20:.0f} at most"
        )
    _check_text(path)
    blocks = _parsed(path)
    if not blocks:
        raise InputError(f"{path} has no data block, expected a STAR file: a line that begins with data_")
    return blocks


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
    # starfile and pandas raise errors of many kinds: KeyError, ParserError, TypeError for a block that ends too early.
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0][:120] or type(error).__name__
        raise InputError(f"{path} cannot be read as STAR ({reason}): write it again, or correct it") from error


def _block(parsed: object) -> Block:
    """Convert a dictionary of values or a table, as starfile returns them, to a block."""
    if isinstance(parsed, dict):
        return Block({key: (str(value),) for key, value in parsed.items()}, loop=False)
    names = list(parsed.columns)  # type: ignore[attr-defined]
    if len(set(names)) < len(names):
        raise ValueError("a column appears twice")
    return Block({str(name): tuple("nan" if v != v else str(v) for v in parsed[name]) for name in names})  # type: ignore[index]


def write_blocks(path: Path | str, blocks: Mapping[str, Block], source: Path | str | None = None) -> None:
    """Write blocks as a STAR file.

    Args:
        path: the file, written atomically.
        blocks: blocks by name.
        source: file from which the blocks were read, or None.

    Raises:
        InputError: ``path`` is ``source``.
    """
    import pandas

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
        write_star(data, beside)


def write_star(data: Mapping[str, Any], path: Path) -> None:
    """Write tables and dictionaries by block name with starfile.

    Its time stamp is removed, so that equal data give equal files.
    """
    import starfile

    starfile.write(dict(data), path, overwrite=True)
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(line for line in lines if not line.startswith("#")).lstrip())
