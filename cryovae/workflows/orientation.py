"""Detects volumes as IMOD's tilt writes them, with the beam along the middle axis, by shape and spectrum."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cryovae.io.files import read_volume
from cryovae.io.orientation import middle_is_thin
from cryovae.io.stored import released

# Voxels along each axis that are used of a volume that stays on the disk.
LOOKED_AT = 256


def is_unrotated(path: Path, said: bool | None, most: int | None = None) -> bool:
    """Whether the beam is along the middle axis: it is clearly the thinnest, and the visible wedge has the beam along it.

    Args:
        path: an MRC file or OME-Zarr folder.
        said: what the user said, which is returned, or None.
        most: voxels along each axis that are used, from the middle; None for all.
    """
    if said is not None:
        return said
    density = read_volume(path).density
    if not middle_is_thin(density.shape):
        return False
    from cryovae.data.region import without_fill
    from cryovae.evaluation.wedge_comparison import beam_axis
    from cryovae.evaluation.wedge_detection import detect_wedge

    if most is not None:
        starts = [max((size - most) // 2, 0) for size in density.shape]
        z, y, x = (slice(start, start + most) for start in starts)
        middle = np.array(density[z, y, x])
        released(density)
        return beam_axis(detect_wedge(without_fill(middle))) == 1
    return beam_axis(detect_wedge(without_fill(np.asarray(density)))) == 1
