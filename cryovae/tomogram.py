"""What is restored: a density on a (z, y, x) grid, its voxel size, and the tilts it was made from."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


class InputError(ValueError):
    """Something the user gave cannot be used; its text is one line that says what to do. The command line exits with 2."""


@dataclass(frozen=True)
class TiltGeometry:
    """Tilt angles in degrees about the y axis, the beam along z at zero tilt.

    Positive tilts measure the quadrants where k_z and k_x have the same sign.
    """

    angles: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.angles) < 2:
            raise InputError(f"{len(self.angles)} tilt angle found, expected at least 2: give the whole tilt series, or a range")
        if not all(np.isfinite(self.angles)) or min(self.angles) < -90 or max(self.angles) > 90:
            raise InputError(
                f"tilt angles from {min(self.angles):g} to {max(self.angles):g} found, expected degrees within -90 to 90"
            )
        if self.highest - self.lowest < 1e-6:
            raise InputError(f"all tilt angles are {self.lowest:g}, expected a tilt series: give the tilts of the reconstruction")

    @classmethod
    def from_range(cls, lowest: float, highest: float) -> TiltGeometry:
        """The geometry of a continuous range of tilts, in degrees."""
        if not lowest < highest:
            raise InputError(f"tilt range {lowest:g} {highest:g} found, expected the lower angle first, e.g. -60 60")
        return cls((float(lowest), float(highest)))

    @property
    def lowest(self) -> float:
        """Lowest tilt in degrees."""
        return float(min(self.angles))

    @property
    def highest(self) -> float:
        """Highest tilt in degrees."""
        return float(max(self.angles))

    @property
    def missing(self) -> float:
        """Opening of the missing wedge in degrees."""
        return 180.0 - (self.highest - self.lowest)

    @property
    def has_wedge(self) -> bool:
        """False for tilts that leave less than one degree unmeasured."""
        return self.missing > 1.0


@dataclass(frozen=True)
class Tomogram:
    """A tomogram as reconstructed. Values do not change: make another with ``dataclasses.replace``.

    density: (z, y, x), float or integer, may be memory-mapped; with halves, their mean.
    voxel_size: in angstrom.
    tilts: the tilt geometry.
    halves: two independent reconstructions of the same shape (even and odd tilts or frames), or None.
    source: the file whose header, grey scale and origin the restored volumes take over.
    """

    name: str
    density: np.ndarray
    voxel_size: float
    tilts: TiltGeometry
    halves: tuple[np.ndarray, np.ndarray] | None = None
    source: str | None = field(default=None, compare=False)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along z, y, x."""
        nz, ny, nx = self.density.shape
        return nz, ny, nx
