"""The check of the tilt geometry against the power spectrum."""

from __future__ import annotations

from cryovae.evaluation.wedge_detection import detect_wedge
from cryovae.evaluation.wedge_judgement import CLEAR_ONE, judge
from cryovae.findings import Finding
from cryovae.io.stored import released
from cryovae.tomogram import Tomogram

CHECK = "geometry"


def check_geometry(tomogram: Tomogram) -> list[Finding]:
    """Findings if the power spectrum of some blocks contradicts the tilts; none for a small volume or an unclear spectrum."""
    if min(tomogram.shape) < CLEAR_ONE[0]:
        return []
    seen = detect_wedge(tomogram.density)
    released(tomogram.density)
    return [
        Finding(CHECK, one.severity, f"{tomogram.name}: {one.seen}", one.expected, one.action)
        for one in judge(seen, tomogram.tilts, tomogram.shape, tomogram.unrotated)
    ]
