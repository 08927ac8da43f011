"""The tomogram: a density on a (z, y, x) grid, its voxel size, its tilt geometry and its optics."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np

from cryovae import units
from cryovae.errors import InputError
from cryovae.findings import Finding

# Neighbouring tilts farther apart than this many usual steps have missing tilts between them.
GAP_STEPS = 2.5


@dataclass(frozen=True)
class TiltGeometry:
    """The directions of Fourier space that a tilt series measured.

    The beam is along z at zero tilt. For a tilt axis along y, positive tilts measure where k_z and k_x have the same sign.

    Attributes:
        angles: tilts in degrees, -90 to 90, with the pre-tilt of the specimen added; two are the ends of a continuous range.
        axis_angle: angle of the tilt axis in the xy plane in degrees, from +y towards +x, -360 to 360.
        x_tilt: degrees about x by which the tilt axis is lifted from +y towards +z, -90 to 90.
        weights: relative weight of each tilt (dose, cosine), at least 0; None for equal weights.
        thickness: of the specimen in voxels, at least 1, so that each tilt measures a slab of 1/thickness; None for a plane.
        second: geometry of the second axis of a dual-axis series, or None.
        conical: whether the axis went round the beam, so that a cone is missing instead of a wedge.
        transfer: contrast transfer that was divided out, whose zeroes were not measured, or None.

    Raises:
        InputError: fewer than two angles, equal angles, or a value out of its range.
    """

    angles: tuple[float, ...]
    axis_angle: float = 0.0
    x_tilt: float = 0.0
    weights: tuple[float, ...] | None = None
    thickness: float | None = None
    second: TiltGeometry | None = None
    conical: bool = False
    transfer: Transfer | None = None

    def __post_init__(self) -> None:
        if len(self.angles) < 2:
            raise InputError(f"{len(self.angles)} tilt angle found, expected at least 2: give the whole tilt series, or a range")
        if not all(np.isfinite(self.angles)) or min(self.angles) < -90 or max(self.angles) > 90:
            raise InputError(
                f"tilt angles from {min(self.angles):g} to {max(self.angles):g} found, expected degrees within -90 to 90"
            )
        if self.highest - self.lowest < 1e-6:
            raise InputError(f"all tilt angles are {self.lowest:g}, expected a tilt series: give the tilts of the reconstruction")
        if not np.isfinite(self.axis_angle) or not abs(self.axis_angle) <= 360:
            raise InputError(f"axis angle {self.axis_angle:g} found, expected degrees from +y towards +x within -360 to 360")
        if not abs(self.x_tilt) <= 90:
            raise InputError(f"x tilt {self.x_tilt:g} found, expected degrees about x within -90 to 90")
        if self.thickness is not None and not (np.isfinite(self.thickness) and self.thickness >= 1):
            raise InputError(f"thickness {self.thickness:g} found, expected that of the specimen in voxels, e.g. 150")
        self._check_weights()

    def _check_weights(self) -> None:
        if self.weights is None:
            return
        if len(self.weights) != len(self.angles):
            raise InputError(f"{len(self.weights)} weights found for {len(self.angles)} tilts, expected one for each")
        if not all(np.isfinite(self.weights)) or min(self.weights) < 0 or not max(self.weights) > 0:
            raise InputError(
                f"tilt weights from {min(self.weights):g} to {max(self.weights):g} found, expected numbers not below 0, one above"
            )

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
    def ranges(self) -> tuple[tuple[float, float], ...]:
        """Lowest and highest tilt in degrees of each run of tilts of this axis; one run unless there are gaps.

        A gap is wider than 2.5 times the usual step. A single tilt counts for half a step on either side.
        """
        used = self.angles if self.weights is None else [a for a, w in zip(self.angles, self.weights, strict=True) if w > 0]
        angles = sorted(set(used))
        steps = np.diff(angles)
        real = steps[steps > 0.1]
        if len(real) < 2:
            return ((angles[0], angles[-1]),)
        usual = float(np.median(real))
        cuts = [0, *(int(i) + 1 for i in np.flatnonzero(steps > GAP_STEPS * usual)), len(angles)]
        runs = [(angles[first], angles[last - 1]) for first, last in pairwise(cuts)]
        return tuple((max(a - usual / 2, -90.0), min(b + usual / 2, 90.0)) if b - a < 1e-6 else (a, b) for a, b in runs)

    @property
    def missing(self) -> float:
        """Degrees of tilt that were not measured, gaps included; the smaller value of two axes."""
        own = 180.0 - sum(high - low for low, high in self.ranges)
        return own if self.second is None else min(own, self.second.missing)

    @property
    def axes(self) -> tuple[TiltGeometry, ...]:
        """This axis, and the second if it exists."""
        return (self,) if self.second is None else (self, *self.second.axes)

    @property
    def words(self) -> str:
        """A description of this axis in one line."""
        text = "tilts " + " and ".join(f"from {low:g} to {high:g}" for low, high in self.ranges) + " degrees"
        if self.conical:
            text += " about every axis across the beam"
        text += f", axis {self.axis_angle:g} degrees from +y towards +x" if self.axis_angle else ""
        text += f", lifted by {self.x_tilt:g} degrees" if self.x_tilt else ""
        text += f", specimen {self.thickness:g} voxels thick" if self.thickness else ""
        return text + f", {180.0 - sum(high - low for low, high in self.ranges):g} degrees missing"

    def mirrored(self) -> TiltGeometry:
        """The geometry of the other handedness: the sign of every tilt of both axes changed."""
        second = None if self.second is None else self.second.mirrored()
        return replace(self, angles=tuple(-a for a in self.angles), second=second)

    @property
    def has_wedge(self) -> bool:
        """Whether more than one degree of tilt was not measured."""
        return self.missing > 1.0


@dataclass(frozen=True)
class Optics:
    """Parameters of the contrast transfer function of a tomogram.

    Attributes:
        defocus: mean of U and V for each tilt in angstrom, underfocus positive; or one value for all tilts.
        angles: tilt of each defocus in degrees; empty for one value.
        voltage: in kV, 20 to 2000.
        spherical_aberration: in millimetres, 0 to 20.
        amplitude_contrast: a fraction, 0 to 1.
        phase_shift: of a phase plate, in degrees.
        b_factor: in square angstrom, at least 0.
        flipped: whether the phases have been flipped already.

    Raises:
        InputError: a value is out of its range or plainly in another unit, or angles and defoci differ in number.
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
        units.check_voltage(self.voltage)
        units.check_aberration(self.spherical_aberration)
        units.check_amplitude(self.amplitude_contrast)
        units.check_phase_shift(self.phase_shift)
        units.check_b_factor(self.b_factor)
        units.check_defocus(self.defocus, self.phase_shift)


@dataclass(frozen=True)
class Transfer:
    """The contrast transfer on a grid: its optics, and the voxel size in angstrom."""

    optics: Optics
    voxel_size: float


def _few(values: tuple[float, ...]) -> str:
    return "none" if not values else ", ".join(f"{v:g}" for v in values[:3]) + (" ..." if len(values) > 3 else "")


@dataclass(frozen=True, eq=False)
class Fill:
    """Voxels of a tomogram that hold a constant instead of data, e.g. borders that alignment and reconstruction left empty.

    The mask is packed, eight voxels in a byte, because it is in memory even when the tomogram is not.

    Attributes:
        shape: voxels along z, y, x.
        bits: (z, y, x / 8) uint8, 1 where a voxel is fill, packed along x.
        sources: the density, then the halves if there are any, with the values that their files hold; empty for a crop.
    """

    shape: tuple[int, int, int]
    bits: np.ndarray
    sources: tuple[Any, ...] = ()

    @classmethod
    def of(cls, mask: np.ndarray, sources: tuple[Any, ...] = ()) -> Fill:
        """The fill of a mask (z, y, x), True where a voxel is fill."""
        nz, ny, nx = mask.shape
        return cls((nz, ny, nx), np.packbits(mask, axis=-1), sources)

    def __getitem__(self, key: slice | tuple[slice, ...]) -> np.ndarray:
        """The mask in a box, boolean (z, y, x)."""
        z, y, x = [*(key if isinstance(key, tuple) else (key,)), slice(None), slice(None)][:3]
        return np.unpackbits(self.bits[z, y], axis=-1, count=self.shape[2]).astype(bool)[..., x]

    def kept(self, values: np.ndarray, source: int = 0, z: slice = slice(None)) -> np.ndarray:
        """Restored sections with the original values in the fill.

        Args:
            values: (z, y, x), of all sections or of those of ``z``.
            source: index of the volume that has the values: 0 for the density, 1 and 2 for the halves.
            z: the sections.
        """
        fill = self[z]
        original = np.asarray(self.sources[source][z, :, :] if self.sources else np.zeros(values.shape), dtype=values.dtype)
        return np.where(fill, original, values)


@dataclass(frozen=True)
class Tomogram:
    """A reconstructed tomogram. It is immutable: change it with ``dataclasses.replace``.

    Attributes:
        name: used in file names and messages.
        density: (z, y, x), float or integer, may be memory-mapped; with halves, their mean.
        voxel_size: in angstrom.
        tilts: the tilt geometry.
        halves: two independent reconstructions of the same shape (even and odd tilts or frames), or None.
        source: file whose header, grey scale and origin the restored volumes carry over, or None.
        optics: parameters of its contrast transfer, or None if unknown.
        notes: one line for each ambiguity of its files and how it was resolved.
        unrotated: the files have the beam along their middle axis, as IMOD's tilt writes them; so will the restored volumes.
        mask: (z, y, x) boolean, True where the specimen is and training patches come from; None for everywhere.
        fill: voxels that hold a constant and no data, or None; in ``density`` and ``halves`` they have the mean of the others.
        grey: mean and standard deviation that standardise it, those of the full tomogram if this is a crop; None for its own.
        validation_patches: corners of the held-out patches of the full tomogram if this is a crop; None to choose its own.
        validation_boxes: held-out boxes of the full tomogram, (first voxel, one after the last) along z, y and x, if this is a
            crop; None to choose its own.
        findings: what the readers of its files found, to be reported or refused before it is used.
    """

    name: str
    density: np.ndarray
    voxel_size: float
    tilts: TiltGeometry
    halves: tuple[np.ndarray, np.ndarray] | None = None
    source: str | None = field(default=None, compare=False)
    optics: Optics | None = None
    notes: tuple[str, ...] = field(default=(), compare=False)
    unrotated: bool = False
    mask: np.ndarray | None = None
    fill: Fill | None = field(default=None, compare=False)
    grey: tuple[float, float] | None = None
    validation_patches: tuple[tuple[int, int, int], ...] | None = None
    validation_boxes: tuple[tuple[tuple[int, int], tuple[int, int], tuple[int, int]], ...] | None = None
    findings: tuple[Finding, ...] = field(default=(), compare=False)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along z, y, x."""
        nz, ny, nx = self.density.shape
        return nz, ny, nx
