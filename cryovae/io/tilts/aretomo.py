"""Reads AreTomo's alignments (.aln) with alnfile: refined angles, tilt axis, and dark frames, which are excluded."""

from __future__ import annotations

from pathlib import Path

from cryovae.errors import InputError
from cryovae.io.tilts.series import TiltSeries


def alignments_in(path: Path, text: str) -> TiltSeries:
    """Read the tilts of an .aln file; dark frames are excluded tilts with nominal angles."""
    from alnfile.data_model import AlnData

    try:
        alignment = AlnData.from_string(text)
    # alnfile raises errors of many kinds: IndexError for a short line, validation errors for a wrong one.
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0][:80] or type(error).__name__
        raise InputError(f"{path} cannot be read as AreTomo's .aln ({reason}): give another file of tilts, e.g. .tlt") from error
    rows = alignment.GlobalAlignments
    if not rows:
        raise InputError(f"{path} has no alignments after the line # SEC ROT ..., expected one a tilt: run AreTomo again")
    dark = [float(frame.angle) for frame in alignment.DarkFrames]
    angles = (*(float(row.tilt) for row in rows), *dark)
    excluded = (False,) * len(rows) + (True,) * len(dark)
    return TiltSeries(angles, excluded, axis_angle=sum(float(row.rot) for row in rows) / len(rows))
