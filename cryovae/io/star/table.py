"""Reads and writes STAR files as blocks of text columns.

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
from cryovae.io.star.parsing import MISSING, parse, star_text
from cryovae.io.text import read_text

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
        InputError: the file is missing, too large, not text, not a STAR file, has no block, or two of one name.
    """
    path = Path(path)
    text = read_text(path, MAX_BYTES, "check the path", "a STAR file")
    blocks = {name: Block(columns, loop) for name, columns, loop in parse(path, text)}
    if not blocks:
        raise InputError(f"{path} has no data block, expected a STAR file: a line that begins with data_")
    return blocks


def write_blocks(path: Path | str, blocks: Mapping[str, Block], source: Path | str | None = None) -> None:
    """Write blocks as a STAR file.

    Args:
        path: the file, written atomically.
        blocks: blocks by name.
        source: file from which the blocks were read, or None.

    Raises:
        InputError: ``path`` is ``source``, or a value cannot be written.
    """
    path = Path(path)
    if source is not None and os.path.exists(path) and path.samefile(source):
        raise InputError(f"{path} is the table that was read, expected another name: it is never written in place")
    text = star_text({name: (block.columns, block.loop) for name, block in blocks.items() if block.columns})
    with whole_file(path) as beside:
        beside.write_text(text, encoding="utf-8", newline="\n")


def write_star(data: Mapping[str, Any], path: Path) -> None:
    """Write tables by block name; fractions have six decimals, and equal data give equal files.

    Args:
        data: tables of pandas by block name.
        path: the file.
    """
    columns = {
        name: {str(column): [f"{v:.6f}" if isinstance(v, float) else str(v) for v in table[column]] for column in table}
        for name, table in data.items()
    }
    path.write_text(star_text({name: (values, True) for name, values in columns.items()}), encoding="utf-8", newline="\n")
