"""Reads plain angles (.tlt and .rawtlt, one angle per line) and IMOD's transforms (.xf, one 2 x 2 matrix and shift per line).

    axis_angle = -atan2(A21, A11)

A line A11 A12 A21 A22 DX DY of an .xf file rotates an image so that its tilt axis is along y.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path

from cryovae.errors import InputError
from cryovae.io.text import read_text
from cryovae.io.tilts.columns import angle_column
from cryovae.io.tilts.series import TiltSeries

SUFFIXES = (".tlt", ".rawtlt")


def angles_in(path: Path, text: str) -> TiltSeries:
    """Read one angle in degrees per line; of several columns, the only one that can be angles."""
    angles = angle_column(path, text)
    return TiltSeries(angles, (False,) * len(angles))


def transforms_in(path: Path, text: str) -> TiltSeries:
    """Read the axis angle from an .xf file, and the angles from the .tlt or .rawtlt file in the same folder."""
    rows = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.split():
            continue
        try:
            values = [float(word) for word in line.split()]
        except ValueError:
            values = []
        if len(values) != 6 or not all(map(math.isfinite, values)):
            raise InputError(f"{path} line {number} is '{line.strip()[:40]}', expected six numbers, A11 A12 A21 A22 DX DY")
        rows.append(values)
    if not rows:
        raise InputError(f"{path} is empty, expected a transform a line: A11 A12 A21 A22 DX DY")
    series = angles_beside(path, lambda stem: (stem,), len(rows))
    axis_angles = [math.degrees(-math.atan2(a21, a11)) for a11, _, a21, *_ in rows]
    # Angles near 180 and -180 degrees are neighbours and must not cancel.
    first = axis_angles[0]
    mean = first + sum((angle - first + 180) % 360 - 180 for angle in axis_angles) / len(axis_angles)
    return TiltSeries(series.angles, series.excluded, axis_angle=mean)


def angles_beside(path: Path, stems: Callable[[str], tuple[str, ...]], count: int) -> TiltSeries:
    """Read the angles for a file that contains none, from a .tlt or .rawtlt file in the same folder.

    Args:
        path: the file without angles; if it is a link, the folder of its target is searched first.
        stems: function from the name of the file to those of the angle file, without suffix, in order of preference.
        count: expected number of tilts.

    Raises:
        InputError: there is no angle file, or its number of angles is not ``count``.
    """
    for file in dict.fromkeys([Path(os.path.realpath(path)), path]):
        for beside in [file.with_name(stem + suffix) for stem in stems(file.stem) for suffix in SUFFIXES]:
            if os.path.isfile(beside):
                series = angles_in(beside, text_of(beside))
                if len(series.angles) != count:
                    raise InputError(
                        f"{path} has {count} tilts and {beside} {len(series.angles)}, expected as many: give files of one series"
                    )
                return series
    missing = path.with_name(stems(path.stem)[-1] + ".tlt")
    raise InputError(f"{path} holds no tilt angles, and {missing} is not there: put it there")


def text_of(path: Path) -> str:
    """Read a file of tilts in any encoding. InputError if it is missing, too large, or not text."""
    return read_text(
        path, 64 * 2**20, "give a file of tilts, or --tilt-range -60 60", "a file of tilts, e.g. a .tlt, one angle a line,"
    )
