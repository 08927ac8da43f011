"""Unrotated volumes, as IMOD's tilt writes them, with the beam along the middle axis: rotation to beam along z, and back.

    out(z, y, x) = in(y, n - 1 - z, x)        in: axes (tilt axis, beam, x), n voxels along the beam

This is the rotation by -90 degrees about x of ``trimvol -rx`` and ``clip rotx``; positive angles are counterclockwise seen from
the end of the axis. It keeps the handedness. Exchanging y and z alone (``-yz``) would mirror the specimen.
"""

from __future__ import annotations

from typing import Any

import numpy as np

# The middle axis is thin if it is shorter than this share of both others.
THIN_SHARE = 0.7


def upright(density: np.ndarray) -> np.ndarray:
    """A density with axes (tilt axis, beam, x) rotated to (z, y, x), the beam along z; a contiguous copy."""
    return np.ascontiguousarray(density.transpose(1, 0, 2)[::-1])


def as_stored(density: np.ndarray) -> np.ndarray:
    """The inverse of ``upright``: a density (z, y, x) with axes as IMOD's tilt writes them; a contiguous copy."""
    return np.ascontiguousarray(density[::-1].transpose(1, 0, 2))


class UnrotatedSections:
    """``as_stored`` of a volume (z, y, x) on disk, some sections at a time."""

    def __init__(self, upright: Any) -> None:
        self.upright = upright
        nz, ny, nx = upright.shape
        self.shape: tuple[int, int, int] = (ny, nz, nx)

    def __getitem__(self, key: slice) -> np.ndarray:
        return as_stored(self.upright[:, key])


def middle_is_thin(shape: tuple[int, ...]) -> bool:
    """Whether a volume may be unrotated by its shape alone: the middle axis is clearly the shortest."""
    first, middle, last = shape
    return middle < THIN_SHARE * min(first, last)
