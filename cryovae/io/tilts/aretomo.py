"""Reads AreTomo's alignments (.aln): refined angles, tilt axis, and dark frames, which are excluded.

The columns are named in the line ``# SEC ROT GMAG TX TY SMEAN SFIT SCALE BASE TILT``. All versions write it; AreTomo 1 and 2
write no AlphaOffset and BetaOffset, which are not needed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from cryovae.errors import InputError
from cryovae.io.tilts.series import TiltSeries


def alignments_in(path: Path, text: str) -> TiltSeries:
    """Read the tilts of an .aln file; dark frames are excluded tilts with nominal angles."""
    names: list[str] = []
    rows: list[dict[str, float]] = []
    dark = []
    for number, line in enumerate(text.split("\n"), 1):
        words = line.replace("#", " ").replace("=", " ").split()
        if not words:
            continue
        if line.lstrip().startswith("#"):
            if words[0].upper() == "SEC":
                names = [word.upper() for word in words]
            elif words[0] == "DarkFrame":
                dark.append(_numbers(path, number, line, words[1:], 3)[-1])
            elif words[:2] == ["Local", "Alignment"]:
                break
        elif names:
            rows.append(dict(zip(names, _numbers(path, number, line, words, len(names)), strict=True)))
        else:
            raise _refusal(path, f"line {number} is before the names of the columns")
    if not {"ROT", "TILT"} <= set(names):
        raise _refusal(path, "it has no line # SEC ROT ... TILT")
    if not rows:
        raise InputError(f"{path} has no alignments after the line # SEC ROT ..., expected one a tilt: run AreTomo again")
    angles = (*(row["TILT"] for row in rows), *dark)
    excluded = (False,) * len(rows) + (True,) * len(dark)
    return TiltSeries(angles, excluded, axis_angle=sum(row["ROT"] for row in rows) / len(rows))


def _numbers(path: Path, number: int, line: str, words: Sequence[str], count: int) -> list[float]:
    try:
        values = [float(word) for word in words]
    except ValueError:
        values = []
    if len(values) != count or not all(map(math.isfinite, values)):
        raise _refusal(path, f"line {number} is '{line.strip()[:40]}', expected {count} numbers")
    return values


def _refusal(path: Path, reason: str) -> InputError:
    return InputError(f"{path} cannot be read as AreTomo's .aln ({reason}): give another file of tilts, e.g. .tlt")
