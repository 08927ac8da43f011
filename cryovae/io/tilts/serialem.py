"""Reads SerialEM's .mdoc files with mdocfile: stage angles, dose and tilt axis.

The angles are not refined, and include the pre-tilt of the specimen.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

from cryovae.errors import InputError
from cryovae.io.tilts.series import TiltSeries

AXIS = re.compile(r"tilt axis angle\s*=\s*(-?\d+(?:\.\d+)?)", re.IGNORECASE)


def sections_in(path: Path, text: str) -> TiltSeries:
    """Read the tilts of an .mdoc file, one per [ZValue] section."""
    from mdocfile.data_models import Mdoc

    # mdocfile warns of unknown fields in every section; these do not affect the tilts.
    logging.getLogger("mdocfile").setLevel(logging.ERROR)
    try:
        document = Mdoc.from_string(text)
    # mdocfile raises errors of many kinds: IndexError without sections, validation errors for a wrong value.
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0][:80] or type(error).__name__
        raise InputError(f"{path} cannot be read as .mdoc ({reason}): give another file of tilts, e.g. .tlt") from error
    sections = document.section_data
    angles = [s.TiltAngle for s in sections]
    if not angles:
        raise InputError(f"{path} has no section [ZValue = 0], expected one a tilt: give another file of tilts, e.g. .tlt")
    if None in angles:
        missing = angles.index(None)
        raise InputError(f"{path} has no TiltAngle in section {missing}, expected one in each: give a .tlt file")
    axis = next((float(match[1]) for title in document.titles if (match := AXIS.search(title))), None)
    return TiltSeries(
        tuple(float(angle) for angle in angles if angle is not None),
        (False,) * len(angles),
        dose=_dose(sections),
        axis_angle=axis,
        voltage=document.global_data.Voltage,
        pixel_size=document.global_data.PixelSpacing,
        names=tuple(str(s.SubFramePath or s.ZValue) for s in sections),
    )


def _dose(sections: list[Any]) -> tuple[float, ...] | None:
    """Dose before each tilt in electrons per square angstrom, or None if any tilt lacks it."""
    prior = [s.PriorRecordDose for s in sections]
    return None if None in prior else tuple(float(dose) for dose in prior)
