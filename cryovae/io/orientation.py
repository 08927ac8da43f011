"""Rotates unrotated volumes, which IMOD's tilt writes with the beam along the middle axis, so that the beam is along z, and back.

    out(z, y, x) = in(y, n - 1 - z, x)        in: axes (tilt axis, beam, x), n voxels along the beam

This is the rotation by -90 degrees about x of ``trimvol -rx`` and ``clip rotx``. Positive angles are counterclockwise seen from
the end of the axis. The rotation preserves the handedness; exchanging y and z alone (``-yz``) would mirror the specimen.
"""

from __future__ import annotations

from typing import Any

import numpy as np

# The middle axis is thin if it is shorter than this fraction of both others.
THIN_SHARE = 0.7


def upright(density: np.ndarray) -> np.ndarray:
    """Rotate a density from axes (tilt axis, beam, x) to (z, y, x), with the beam along z; a contiguous copy."""
    return np.ascontiguousarray(density.transpose(1, 0, 2)[::-1])


def as_stored(density: np.ndarray) -> np.ndarray:
    """Rotate a density (z, y, x) to the axes of IMOD's tilt, the inverse of ``upright``; a contiguous copy."""
    return np.ascontiguousarray(density[::-1].transpose(1, 0, 2))


class UnrotatedSections:
    """Applies ``as_stored`` to the requested sections of a volume (z, y, x) on disk."""

    def __init__(self, upright: Any) -> None:
        self.upright = upright
        nz, ny, nx = upright.shape
        self.shape: tuple[int, int, int] = (ny, nz, nx)

    def __getitem__(self, key: slice) -> np.ndarray:
        return as_stored(self.upright[:, key])


def middle_is_thin(shape: tuple[int, ...]) -> bool:
    """Whether the shape suggests an unrotated volume: the middle axis is clearly the shortest."""
    first, middle, last = shape
    return middle < THIN_SHARE * min(first, last)
