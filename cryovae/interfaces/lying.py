"""Whether a volume lies in its file as IMOD's tilt writes it, the beam along the middle axis: by its shape and its spectrum."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cryovae.io.files import read_volume
from cryovae.io.orientation import middle_is_thin


def is_unrotated(path: Path, said: bool | None) -> bool:
    """What the user said, else: the middle axis is clearly the thinnest, and the wedge that is seen has the beam along it."""
    if said is not None:
        return said
    density = read_volume(path).density
    if not middle_is_thin(density.shape):
        return False
    from cryovae.evaluate.wedge_compared import beam_axis
    from cryovae.evaluate.wedge_seen import wedge_seen

    return beam_axis(wedge_seen(np.asarray(density))) == 1
