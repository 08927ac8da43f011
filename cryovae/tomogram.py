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
class Optics:
    """What the contrast transfer of a tomogram follows from.

    defocus: per tilt in angstrom, underfocus positive, the mean of U and V; one value alone holds for all tilts.
    angles: the tilts in degrees that the defoci belong to; empty for one value.
    voltage: kV. spherical_aberration: mm. amplitude_contrast: a fraction. phase_shift: degrees, of a phase plate.
    b_factor: square angstrom. flipped: the phases have been flipped already.
    """

    defocus: tuple[float, ...]
    angles: tuple[float, ...] = ()
    voltage: float = 300.0
    spherical_aberration: float = 2.7
    amplitude_contrast: float = 0.1
    phase_shift: float = 0.0
    b_factor: float = 0.0
    flipped: bool = False

    def __post_init__(self) -> None:
        if not self.defocus or not all(np.isfinite(self.defocus)):
            raise InputError(f"defocus {_few(self.defocus)} found, expected angstrom for each tilt, or one value for all")
        if len(self.angles) != (len(self.defocus) if len(self.defocus) > 1 or self.angles else 0):
            raise InputError(
                f"{len(self.defocus)} defoci found for {len(self.angles)} tilts, expected one for each, or one for all"
            )
        if not self.voltage > 0 or not self.spherical_aberration >= 0 or not 0 <= self.amplitude_contrast <= 1:
            raise InputError(
                f"voltage {self.voltage:g} kV, spherical aberration {self.spherical_aberration:g} mm, amplitude contrast "
                f"{self.amplitude_contrast:g} found, expected values like 300, 2.7, 0.1"
            )
        if not np.isfinite(self.phase_shift) or not np.isfinite(self.b_factor):
            raise InputError(f"phase shift {self.phase_shift:g}, B-factor {self.b_factor:g} found, expected finite numbers")


def _few(values: tuple[float, ...]) -> str:
    return "none" if not values else ", ".join(f"{v:g}" for v in values[:3]) + (" ..." if len(values) > 3 else "")


@dataclass(frozen=True)
class Tomogram:
    """A tomogram as reconstructed. Values do not change: make another with ``dataclasses.replace``.

    density: (z, y, x), float or integer, may be memory-mapped; with halves, their mean.
    voxel_size: in angstrom.
    tilts: the tilt geometry.
    halves: two independent reconstructions of the same shape (even and odd tilts or frames), or None.
    source: the file whose header, grey scale and origin the restored volumes take over.
    optics: what its contrast transfer follows from, or None if unknown.
    """

    name: str
    density: np.ndarray
    voxel_size: float
    tilts: TiltGeometry
    halves: tuple[np.ndarray, np.ndarray] | None = None
    source: str | None = field(default=None, compare=False)
    optics: Optics | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along z, y, x."""
        nz, ny, nx = self.density.shape
        return nz, ny, nx
