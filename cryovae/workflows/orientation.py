"""Whether a volume lies in its file as IMOD's tilt writes it, the beam along the middle axis: by its shape and its spectrum."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cryovae.io.files import read_volume
from cryovae.io.orientation import middle_is_thin
from cryovae.io.stored import released

# Voxels along each axis, from the middle, by which a volume that is not held in memory is judged.
LOOKED_AT = 256


def is_unrotated(path: Path, said: bool | None, most: int | None = None) -> bool:
    """What the user said, else: the middle axis is clearly the thinnest, and the wedge that is seen has the beam along it.

    most: voxels along each axis that are looked at, or None for all.
    """
    if said is not None:
        return said
    density = read_volume(path).density
    if not middle_is_thin(density.shape):
        return False
    from cryovae.evaluate.wedge_comparison import beam_axis
    from cryovae.evaluate.wedge_detection import detect_wedge

    if most is not None:
        starts = [max((size - most) // 2, 0) for size in density.shape]
        z, y, x = (slice(start, start + most) for start in starts)
        found = np.array(density[z, y, x])
        released(density)
        return beam_axis(detect_wedge(found)) == 1
    return beam_axis(detect_wedge(np.asarray(density))) == 1
