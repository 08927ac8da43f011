"""A tilt series, independent of the program that described it."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

from cryovae.tomogram import Optics, TiltGeometry


@dataclass(frozen=True)
class TiltSeries:
    """A tilt series, with tilts in the order of the file. Fields are None if the file does not contain them.

    All programs rotate the tilt axis of the images onto y in the reconstruction, so the tilt geometry of the tomogram does not
    depend on ``axis_angle``.

    Attributes:
        angles: tilt angles in degrees about y of the tomogram; positive tilts measure where k_z and k_x have the same sign.
        excluded: whether each tilt was left out of the reconstruction.
        dose: dose before each tilt, in electrons per square angstrom.
        defocus_u: defocus U of each tilt in angstrom, underfocus positive.
        defocus_v: defocus V of each tilt in angstrom, underfocus positive.
        defocus_angle: angle of astigmatism of each tilt in degrees.
        axis_angle: angle of the tilt axis in the raw images, in degrees counterclockwise from +y; the mean over tilts.
        axis_angles: angle of the tilt axis in each raw image, in degrees.
        x_tilt: angle from +y to the tilt axis, towards +z of the tomogram, in degrees.
        voltage: acceleration voltage in kV.
        spherical_aberration: spherical aberration in millimetres.
        amplitude_contrast: amplitude contrast as a fraction.
        phase_shift: phase shift of a phase plate in degrees.
        pixel_size: pixel size of the raw images in angstrom.
        names: names of the images.
    """

    angles: tuple[float, ...]
    excluded: tuple[bool, ...]
    dose: tuple[float, ...] | None = None
    defocus_u: tuple[float, ...] | None = None
    defocus_v: tuple[float, ...] | None = None
    defocus_angle: tuple[float, ...] | None = None
    axis_angle: float | None = None
    axis_angles: tuple[float, ...] | None = None
    x_tilt: float = 0.0
    voltage: float | None = None
    spherical_aberration: float | None = None
    amplitude_contrast: float | None = None
    phase_shift: float | None = None
    pixel_size: float | None = None
    names: tuple[str, ...] | None = None

    @property
    def used(self) -> TiltSeries:
        """The tilt series without the excluded tilts."""
        kept: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, tuple):
                kept[field.name] = tuple(v for v, out in zip(value, self.excluded, strict=True) if not out)
        return replace(self, **kept)

    def geometry(self) -> TiltGeometry:
        """Tilt geometry of the tomogram from the used tilts. InputError if they are fewer than two or out of range."""
        return TiltGeometry(self.used.angles, x_tilt=self.x_tilt)

    def optics(self, **given: Any) -> Optics | None:
        """Parameters of the contrast transfer function of the used tilts, or None if no defocus is known.

        Args:
            given: fields of ``Optics`` that replace those of the series.

        Raises:
            InputError: a value is plainly in another unit.
        """
        series = self.used
        if not series.defocus_u:
            return None
        seconds = series.defocus_v or series.defocus_u
        mean = tuple((u + v) / 2 for u, v in zip(series.defocus_u, seconds, strict=True))
        known: dict[str, Any] = {
            "voltage": self.voltage,
            "spherical_aberration": self.spherical_aberration,
            "amplitude_contrast": self.amplitude_contrast,
            "phase_shift": self.phase_shift,
        }
        return Optics(mean, series.angles, **{name: value for name, value in known.items() if value is not None} | given)
