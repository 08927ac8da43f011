"""The check of the tilt geometry against the power spectrum."""

from __future__ import annotations

from cryovae.evaluation.wedge_detection import DetectedWedge, detect_wedge
from cryovae.evaluation.wedge_judgement import CLEAR_ONE, judge
from cryovae.findings import Finding
from cryovae.io.stored import released
from cryovae.tomogram import Tomogram

CHECK = "geometry"


def check_geometry(tomogram: Tomogram) -> list[Finding]:
    """What of the spectrum of some blocks contradicts the tilts; nothing for a small volume, or an unclear spectrum."""
    if min(tomogram.shape) < CLEAR_ONE[0]:
        return []
    seen = detect_wedge(tomogram.density)
    released(tomogram.density)
    return findings_of(tomogram, seen)


def findings_of(tomogram: Tomogram, seen: DetectedWedge) -> list[Finding]:
    """The same of a wedge that was detected before."""
    return [
        Finding(CHECK, one.severity, f"{tomogram.name}: {one.seen}", one.expected, one.action)
        for one in judge(seen, tomogram.tilts, tomogram.shape, tomogram.unrotated)
    ]
