"""Comparison of the detected wedge with the tilt geometry that the user gave, and the option that corrects a difference."""

from __future__ import annotations

import numpy as np

from cryovae.evaluation.power_by_direction import axis_of
from cryovae.evaluation.wedge_detection import DetectedAxis, DetectedWedge
from cryovae.tomogram import TiltGeometry

# Largest accepted difference between detected and given angles, in degrees.
TOLERANCE = 8.0
# Largest |lowest + highest tilt|, in degrees, at which a range cannot be distinguished from its mirror image.
ASYMMETRY = 6.0
AXES = ("z", "y", "x")


def described(axis: DetectedAxis) -> str:
    """One line that describes a detected axis."""
    name = AXES[int(np.argmax(np.abs(axis.vector)))]
    place = f"axis near {name}"
    if abs(axis.lift) < 45:
        place += f", {axis.axis_angle:.0f} degrees from +y towards +x"
        place += f", lifted by {axis.lift:.0f}" if abs(axis.lift) > 2.5 else ""
    beam = AXES[int(np.argmax(np.abs(axis.beam)))]
    return f"tilts from {axis.lowest:.0f} to {axis.highest:.0f} degrees, {place}, beam along {beam}"


def disagreements(seen: DetectedWedge, tilts: TiltGeometry | None) -> list[str]:
    """Differences between the spectrum and a geometry, one line for each.

    Args:
        seen: Detected wedge.
        tilts: Geometry that the user gave; None to check only whether the beam is along z.
    """
    if not seen.axes:
        return ["no wedge is seen: noise or grey levels hide it, or it was filled before"] if tilts and tilts.has_wedge else []
    rotated = _rotated(seen)
    if rotated:
        return rotated
    if tilts is None or tilts.conical:
        return []
    if not tilts.has_wedge:
        return [f"a wedge is seen, {seen.lowest:.0f} to {seen.highest:.0f} degrees, where the tilts given leave none"]
    axes = tilts.axes
    lines = [line for axis in axes for line in _about(axis, seen)]
    if len(seen.axes) > len(axes):
        lines.append("a second axis is seen, and none is given: pass --tilts2")
    elif len(axes) > len(seen.axes):
        lines.append("one axis is seen, and two are given: leave --tilts2 out unless the reconstruction holds both")
    return lines


def beam_axis(seen: DetectedWedge) -> int | None:
    """The axis of the grid nearest to the beam: 0 for z, 1 for y, 2 for x; None if no wedge is detected."""
    if not seen.axes:
        return None
    first, *rest = seen.axes
    beam = np.cross(first.vector, rest[0].vector) if rest else first.beam
    return int(np.argmax(np.abs(beam)))


def _rotated(seen: DetectedWedge) -> list[str]:
    """A line for a volume whose beam is not along z."""
    along = beam_axis(seen)
    if along == 1:
        return ["the beam is along the middle axis of the file, as in an unrotated IMOD .rec: pass --unrotated"]
    return ["the beam is along x, the fastest axis of the file: rotate the volume so that it is along z"] if along == 2 else []


def _between(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.degrees(np.arccos(np.clip(abs(first @ second), 0, 1))))


def _about(tilts: TiltGeometry, seen: DetectedWedge) -> list[str]:
    """Differences between one axis of a geometry and the nearest detected axis."""
    axis = axis_of(tilts.axis_angle, tilts.x_tilt)
    near = min(seen.axes, key=lambda a: _between(a.vector, axis))
    distance = _between(near.vector, axis)
    if distance > TOLERANCE:
        return [
            f"the tilt axis seen is {distance:.0f} degrees from the one given: pass --axis-angle {near.axis_angle:.0f}"
            + (f" --x-tilt {near.lift:.0f}" if abs(near.lift) > TOLERANCE else "")
        ]
    # Opposite vectors are the same axis, but the tilts about them have opposite signs.
    along = float(near.vector @ axis) > 0
    low, high = (near.lowest, near.highest) if along else (-near.highest, -near.lowest)
    if max(abs(low - tilts.lowest), abs(high - tilts.highest)) <= TOLERANCE:
        return []
    asymmetric = abs(tilts.lowest + tilts.highest) > ASYMMETRY
    if asymmetric and max(abs(low + tilts.highest), abs(high + tilts.lowest)) <= TOLERANCE:
        return ["the range seen is the mirror image of the one given: pass --handedness -1"]
    return [f"tilts from {low:.0f} to {high:.0f} are seen, and {tilts.lowest:g} to {tilts.highest:g} given: are these the tilts?"]
