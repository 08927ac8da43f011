"""Finds the column of tilt angles in a text file of numbers: one column can be angles, or the file is refused.

A column can be angles if it lies within +-90 degrees, spans at least 10, and is not a count 0, 1, 2 ... or 1, 2, 3 ... in some
order. A header that names one column as angles decides. If one column has angles of both signs, another one that is 0, s, 2 s ...
or s, 2 s, 3 s ... for some s is a dose. A single column is taken, unless it counts 1, 2, 3 ... or is
plainly in radians.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

from cryovae.errors import InputError

MOST_COLUMNS = 12
SMALLEST_SPAN = 10.0
# Tilts from which a file of one column is judged: so many in radians, or counted from 1, are no angles in degrees.
FEWEST = 5
COMMENTS = ("#", "!", "%", "//")
# Words in headers, reduced to their letters: of the column of angles, and of other columns.
ANGLES = {"angle", "angles", "tilt", "tilts", "tiltangle", "tiltangles", "stageangle", "nominalangle", "alpha", "tlt", "angledeg"}
OTHERS = {
    "index", "idx", "i", "n", "no", "nr", "number", "image", "section", "sec", "slice", "view", "z", "zvalue", "order", "frame",
    "dose", "exposure", "cumulativedose", "accumulateddose", "priordose", "preexposure", "time", "defocus", "file", "acquisition",
    "acquisitionorder", "deg", "degree", "degrees", "x", "y", "shiftx", "shifty", "dx", "dy", "rot", "axis", "tiltaxis",
}  # fmt: skip
ONE_ANGLE = "expected one angle in degrees a line"


def angle_column(path: Path, text: str) -> tuple[float, ...]:
    """The tilt angles in degrees of a text with one row per tilt.

    Args:
        path: path of the file, for error messages.
        text: its text; empty lines, comments and one header line are skipped.

    Raises:
        InputError: a line has something else than numbers, lines differ in length, or none or several columns can be angles.
    """
    lines = [(number, _without_comment(line)) for number, line in enumerate(text.split("\n"), 1)]
    lines = [(number, line) for number, line in lines if line]
    header = _header(lines[0][1]) if lines else None
    lines = lines[1:] if header is not None else lines
    rows = _rows(path, lines, header is not None)
    if not rows:
        return ()
    columns = list(zip(*rows, strict=True))
    if len(columns) == 1:
        return _checked(path, columns[0])
    named = [i for i, word in enumerate(header or ()) if word in ANGLES] if len(header or ()) == len(columns) else []
    return columns[_index_of_angles(path, columns, named[0] if len(named) == 1 else None)]


def _checked(path: Path, angles: tuple[float, ...]) -> tuple[float, ...]:
    """The values of a file of one column. InputError if they are the numbers of images, or plainly angles in radians."""
    if len(angles) >= FEWEST and angles == tuple(range(1, len(angles) + 1)):
        raise InputError(
            f"{path} has the numbers from 1 to {len(angles)} in order, {ONE_ANGLE}: these seem to be numbers of images; "
            f"if they are angles, pass --tilt-range 1 {len(angles)}"
        )
    if len(angles) >= FEWEST and max(angles) - min(angles) <= math.pi and all(abs(angle) <= math.pi / 2 for angle in angles):
        first, last = (math.degrees(end) for end in (angles[0], angles[-1]))
        raise InputError(
            f"{path} has values from {min(angles):.3g} to {max(angles):.3g}, {ONE_ANGLE}: they seem to be in radians, "
            f"convert them to {first:.3g} ... {last:.3g}"
        )
    return angles


def _without_comment(line: str) -> str:
    for mark in COMMENTS:
        line = line.split(mark)[0]
    return line.strip()


def _header(line: str) -> list[str] | None:
    """The words of a header line in small letters. None if the line is no header: it has numbers, or no known word."""
    if len(line) > 200:
        return None
    plain = re.sub(r"\(.*?\)|\[.*?\]", " ", line.lower()).strip(",; \t")
    words = [re.sub(r"[^a-z]", "", word) for word in re.split(r"[\s,;]+", plain)]
    numbers = any(character.isdigit() for character in line)
    return None if numbers or not all(words) or not set(words) & (ANGLES | OTHERS) else words


def _rows(path: Path, lines: Sequence[tuple[int, str]], headed: bool) -> list[tuple[float, ...]]:
    """The numbers of all lines, the same count in each."""
    split = _separator(path, [line for _, line in lines], headed)
    rows: list[tuple[float, ...]] = []
    for number, line in lines:
        try:
            row = tuple(float(word) for word in split(line))
        except ValueError:
            row = ()
        if not 1 <= len(row) <= MOST_COLUMNS or (rows and len(row) != len(rows[0])):
            raise InputError(f"{path} line {number} is '{line[:40]}', {ONE_ANGLE}")
        rows.append(row)
    return rows


def _separator(path: Path, lines: Sequence[str], headed: bool) -> Callable[[str], list[str]]:
    """The function that splits a line: at spaces, or else at commas or semicolons.

    A comma may be a decimal sign as well; where it could be either, the file is refused.
    """
    text = "\n".join(lines)
    if ";" in text:
        return lambda line: [word.strip().replace(",", ".") for word in line.rstrip("; ").split(";")]
    if "," not in text:
        return str.split
    spaced = all(re.search(r",\s|,$", line) or "," not in line for line in lines)
    if spaced or "." in text or headed or any(line.count(",") > 1 for line in lines) or re.search(r",\s*[-+]", text):
        return lambda line: [word.strip() for word in line.rstrip(", ").split(",")]
    raise InputError(f"{path} has commas that may be decimal signs or separate columns, {ONE_ANGLE}: write points for decimals")


def _index_of_angles(path: Path, columns: Sequence[tuple[float, ...]], named: int | None) -> int:
    """The index of the only column that can be angles, or of the one that the header names unless its values contradict."""
    can = [i for i, column in enumerate(columns) if _can_be_angles(column)]
    possible = [i for i in can if not _is_count(columns[i], 1.0)]
    if named is not None and (named in possible or (named in can and not possible)):
        return named
    if len(possible) > 1:
        likely = [i for i in possible if not _is_count(columns[i], None)]
        both_signs = len(likely) == 1 and min(columns[likely[0]]) < 0 < max(columns[likely[0]])
        possible = likely if both_signs else possible
    if len(possible) == 1 and named is None and _is_even(columns[possible[0]]):
        return possible[0]
    doubtful = possible if len(possible) > 1 else can or range(len(columns))
    listed = " and ".join(f"column {i + 1} ({', '.join(f'{value:g}' for value in columns[i][:3])} ...)" for i in doubtful)
    count = "more than one" if len(possible) > 1 else "none"
    raise InputError(f"{path} has {len(columns)} columns, of which {count} is plainly of angles: {listed[:200]}; {ONE_ANGLE}")


def _can_be_angles(column: Sequence[float]) -> bool:
    """Whether the range of values is possible for angles."""
    within = all(math.isfinite(value) and -90 <= value <= 90 for value in column)
    return within and (len(column) < 2 or max(column) - min(column) >= SMALLEST_SPAN)


def _is_count(column: Sequence[float], step: float | None) -> bool:
    """Whether the values in some order are 0, s, 2 s ... or s, 2 s, 3 s ...; ``step`` is s, or None for any."""
    ordered = sorted(column)
    size = step if step is not None else (ordered[-1] - ordered[0]) / max(1, len(ordered) - 1)
    start = ordered[0]
    at = 0.0 if abs(start) <= 0.02 * size else size
    return size > 0 and all(abs(value - at - i * size) <= 0.02 * size for i, value in enumerate(ordered))


def _is_even(column: Sequence[float]) -> bool:
    """Whether the steps between sorted values are similar, as for tilts and unlike shifts."""
    ordered = sorted(column)
    steps = sorted(high - low for low, high in pairwise(ordered))
    if len(steps) < 3:
        return True
    usual = steps[len(steps) // 2]
    small = sum(step < 0.2 * usual for step in steps)
    return usual > 0 and steps[-1] <= 8 * usual and small <= max(1, len(steps) // 10)
