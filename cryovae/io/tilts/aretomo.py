"""AreTomo's alignments, .aln, through alnfile: refined angles, the axis, and the dark frames that were left out."""

from __future__ import annotations

from pathlib import Path

from cryovae.errors import InputError
from cryovae.io.tilts.series import TiltSeries


def alignments_in(path: Path, text: str) -> TiltSeries:
    """The tilts of an .aln file. Dark frames, of which it keeps the nominal angles, are excluded."""
    from alnfile.data_model import AlnData

    try:
        found = AlnData.from_string(text)
    # alnfile raises whatever comes: IndexError for a short line, its checks' own errors for a wrong one.
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0][:80] or type(error).__name__
        raise InputError(f"{path} cannot be read as AreTomo's .aln ({reason}): give another file of tilts, e.g. .tlt") from error
    rows = found.GlobalAlignments
    if not rows:
        raise InputError(f"{path} has no alignments after the line # SEC ROT ..., expected one a tilt: run AreTomo again")
    dark = [float(frame.angle) for frame in found.DarkFrames]
    angles = (*(float(row.tilt) for row in rows), *dark)
    excluded = (False,) * len(rows) + (True,) * len(dark)
    return TiltSeries(angles, excluded, axis_angle=sum(float(row.rot) for row in rows) / len(rows))
