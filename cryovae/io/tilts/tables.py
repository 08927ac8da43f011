"""Reads tilts from STAR files: tilt series of RELION 5, projection matrices of RELION 4 and Warp, Gctf, STOPGAP wedge lists.

    angle = atan2(-P[2, 0], P[2, 2])

The rows of the projection matrix P are x of the image, y of the image, and the beam. The angle equals rlnTomoYTilt if a table has
both. An image shows R_z R_y R_x(rlnTomoXTilt) r, so the axis is lifted by -rlnTomoXTilt. Excluded tilts are not in
these tables.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cryovae.errors import InputError
from cryovae.io.star.table import Block, read_blocks
from cryovae.io.tilts.angles import angles_beside
from cryovae.io.tilts.series import TiltSeries

MICROMETRE = 1e4
NOMINAL, REFINED, AXIS = "rlnTomoNominalStageTiltAngle", "rlnTomoYTilt", "rlnTomoZRot"
# Columns of particle tables, which have defoci but no tilts.
PARTICLES = {"rlnImageName", "rlnCoordinateX", "rlnCenteredCoordinateXAngst"}


def star_tilts_in(path: Path) -> TiltSeries:
    """Read the tilts from the block of a STAR file that contains tilts. InputError if there is none, or more than one."""
    blocks = read_blocks(path)
    readers = {
        name: next(read for column, read in KINDS.items() if column in block)
        for name, block in blocks.items()
        if block.loop and len(block) and not PARTICLES & set(block.columns) and not KINDS.keys().isdisjoint(block.columns)
    }
    if readers:
        name = one_of(list(readers), path, "tilts")
        return readers[name](blocks[name], path)
    if any("rlnTomoName" in block or "rlnTomoReconstructedTomogramHalf1" in block for block in blocks.values()):
        raise InputError(f"{path} is a table of tomograms, expected the tilts of one: pass it in place of the tomogram")
    some = ", ".join([column for block in blocks.values() for column in block.columns][:3]) or "nothing"
    raise InputError(f"{path} has no tilts ({some} ...), expected e.g. {NOMINAL}: give the table of one tilt series")


def one_of(names: Sequence[str], path: Path, what: str) -> str:
    """The only one of the blocks that hold some kind of rows. InputError if there are several: none is chosen silently."""
    if len(names) > 1:
        listed = ", ".join(f"data_{name}" for name in names[:3]) + (" ..." if len(names) > 3 else "")
        raise InputError(f"{path} has {what} in {len(names)} blocks ({listed}), expected one block: give a file with one of them")
    return names[0]


def tilt_series_of(block: Block, path: Path) -> TiltSeries:
    """Read a tilt series of RELION 5: refined angles if present, else stage angles."""
    angles = block.numbers(REFINED, path) or block.numbers(NOMINAL, path)
    if angles is None:
        raise InputError(f"{path} has tilts without {NOMINAL}, expected degrees for each: align the tilt series again")
    axis = block.numbers(AXIS, path) or block.numbers("rlnTomoNominalTiltAxisAngle", path)
    x_tilts = block.numbers("rlnTomoXTilt", path) or (0.0,)
    names = block.columns.get("rlnMicrographName") or block.columns.get("rlnMicrographMovieName")
    return TiltSeries(
        angles,
        (False,) * len(angles),
        dose=block.numbers("rlnMicrographPreExposure", path),
        axis_angle=None if axis is None else sum(axis) / len(axis),
        axis_angles=axis,
        x_tilt=-sum(x_tilts) / len(x_tilts),
        phase_shift=_first(block, "rlnPhaseShift", path),
        names=None if names is None else tuple(names),
        **_defoci(block, path),
    )


def projections_of(block: Block, path: Path) -> TiltSeries:
    """Read angles and tilt axis from projection matrices of RELION 4 and Warp."""
    rows = [(_vector(block, "rlnTomoProjX", row, path), _vector(block, "rlnTomoProjZ", row, path)) for row in range(len(block))]
    angles = tuple(math.degrees(math.atan2(-beam[0], beam[2])) for _, beam in rows)
    # The x axis of the image is cos(axis) x' - sin(axis) y; only the second term is independent of the tilt.
    axis = [math.degrees(math.atan2(-x[1], math.hypot(x[0], x[2]))) for x, _ in rows]
    return TiltSeries(
        angles,
        (False,) * len(angles),
        dose=block.numbers("rlnMicrographPreExposure", path),
        axis_angle=sum(axis) / len(axis),
        axis_angles=tuple(axis),
        **_defoci(block, path),
    )


def gctf_of(block: Block, path: Path) -> TiltSeries:
    """Read defoci from Gctf, and angles from the .tlt file in the same folder."""
    endings = ("_gctf", "_ctf", "_defocus")
    series = angles_beside(path, lambda stem: tuple(dict.fromkeys([stem, *map(stem.removesuffix, endings)])), len(block))
    return TiltSeries(
        series.angles,
        series.excluded,
        voltage=_first(block, "rlnVoltage", path),
        spherical_aberration=_first(block, "rlnSphericalAberration", path),
        amplitude_contrast=_first(block, "rlnAmplitudeContrast", path),
        phase_shift=_first(block, "rlnPhaseShift", path),
        **_defoci(block, path),
    )


def wedge_list_of(block: Block, path: Path) -> TiltSeries:
    """Read a wedge list of STOPGAP for one tomogram; defoci in the file are in micrometres."""
    if len(set(block.columns.get("tomo_num", ()))) > 1:
        raise InputError(f"{path} lists the tilts of several tomograms, expected one: write a wedge list for each")
    angles, defocus = block.numbers("tilt_angle", path), block.numbers("defocus", path)
    if angles is None:
        raise InputError(f"{path} has tilts without tilt_angle, expected degrees for each: write it again")
    defoci = None if defocus is None else tuple(value * MICROMETRE for value in defocus)
    return TiltSeries(
        angles,
        (False,) * len(angles),
        defocus_u=defoci,
        defocus_v=defoci,
        voltage=_first(block, "voltage", path),
        spherical_aberration=_first(block, "cs", path),
        amplitude_contrast=_first(block, "amp_contrast", path),
        pixel_size=_first(block, "pixelsize", path),
    )


KINDS: dict[str, Callable[[Block, Path], TiltSeries]] = {
    REFINED: tilt_series_of,
    NOMINAL: tilt_series_of,
    "rlnTomoProjX": projections_of,
    "tilt_angle": wedge_list_of,
    "rlnDefocusU": gctf_of,
}


def _defoci(block: Block, path: Path) -> dict[str, Any]:
    columns = {"defocus_u": "rlnDefocusU", "defocus_v": "rlnDefocusV", "defocus_angle": "rlnDefocusAngle"}
    return {name: block.numbers(column, path) for name, column in columns.items()}


def _first(block: Block, column: str, path: Path) -> float | None:
    return block.number(column, 0, path) if column in block else None


def _vector(block: Block, column: str, row: int, path: Path) -> tuple[float, float, float]:
    """The first three of the four numbers of a value [a,b,c,d]."""
    text = block.text(column, row) or ""
    try:
        values = [float(v) for v in ast.literal_eval(text)] if len(text) < 1000 else []
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        values = []
    if len(values) != 4 or not all(map(math.isfinite, values)):
        raise InputError(f"{path} row {row + 1} has {column} '{text[:40]}', expected four numbers [a,b,c,d]: write it again")
    return values[0], values[1], values[2]
