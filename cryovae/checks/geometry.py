"""The check of the tilt geometry against the power spectrum."""

from __future__ import annotations

import numpy as np
import torch

from cryovae.data.region import Region
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
    seen = detect_wedge(_density(tomogram))
    released(tomogram.density)
    return [
        Finding(CHECK, one.severity, f"{tomogram.name}: {one.seen}", one.expected, one.action)
        for one in judge(seen, tomogram.tilts, tomogram.shape, tomogram.unrotated)
    ]


def _density(tomogram: Tomogram) -> np.ndarray:
    """The density through a window that leaves fill out; one that stays on the disk has the mean of its data there."""
    if tomogram.fill is None or not isinstance(tomogram.density, np.ndarray):
        return tomogram.density
    region = Region(tomogram.shape, tomogram.fill, None)
    return region.seen(torch.from_numpy(np.array(tomogram.density, dtype=np.float32))).numpy()
