"""The wedge that a spectrum shows beside the one given: where they disagree, and which option would mend it."""

from __future__ import annotations

import numpy as np

from cryovae.evaluate.power_by_direction import axis_of
from cryovae.evaluate.wedge_seen import AxisSeen, WedgeSeen
from cryovae.tomogram import TiltGeometry

# Degrees by which what is seen may differ from what is given.
APART = 8.0
# Ranges less lopsided than this are their own mirror image, as far as can be seen.
LOPSIDED = 6.0
AXES = ("z", "y", "x")


def described(axis: AxisSeen) -> str:
    """One line on an axis that is seen."""
    name = AXES[int(np.argmax(np.abs(axis.vector)))]
    place = f"axis near {name}"
    if abs(axis.lift) < 45:
        place += f", {axis.axis_angle:.0f} degrees from +y towards +x"
        place += f", lifted by {axis.lift:.0f}" if abs(axis.lift) > 2.5 else ""
    beam = AXES[int(np.argmax(np.abs(axis.beam)))]
    return f"tilts from {axis.lowest:.0f} to {axis.highest:.0f} degrees, {place}, beam along {beam}"


def disagreements(seen: WedgeSeen, tilts: TiltGeometry | None) -> list[str]:
    """What the spectrum shows that a geometry does not say, one line each; only what does not need one, if it is None."""
    if not seen.axes:
        return ["no wedge is seen: noise or grey levels hide it, or it was filled before"] if tilts and tilts.has_wedge else []
    rotated = _rotated(seen)
    if rotated:
        return rotated
    if tilts is None or tilts.conical:
        return []
    if not tilts.has_wedge:
        return [f"a wedge is seen, {seen.lowest:.0f} to {seen.highest:.0f} degrees, where the tilts given leave none"]
    given = tilts.axes
    lines = [line for axis in given for line in _about(axis, seen)]
    if len(seen.axes) > len(given):
        lines.append("a second axis is seen, and none is given: pass --tilts2")
    elif len(given) > len(seen.axes):
        lines.append("one axis is seen, and two are given: leave --tilts2 out unless the reconstruction holds both")
    return lines


def beam_axis(seen: WedgeSeen) -> int | None:
    """The axis of the grid nearest to the beam, 0 for z, 1 for y, 2 for x; None if no wedge is seen."""
    if not seen.axes:
        return None
    first, *rest = seen.axes
    beam = np.cross(first.vector, rest[0].vector) if rest else first.beam
    return int(np.argmax(np.abs(beam)))


def _rotated(seen: WedgeSeen) -> list[str]:
    """A line for a volume whose beam is not along z."""
    along = beam_axis(seen)
    if along == 1:
        return ["the beam is along the middle axis of the file, as in an unrotated IMOD .rec: pass --unrotated"]
    return ["the beam is along x, the fastest axis of the file: turn the volume so that it is along z"] if along == 2 else []


def _between(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.degrees(np.arccos(np.clip(abs(first @ second), 0, 1))))


def _about(given: TiltGeometry, seen: WedgeSeen) -> list[str]:
    """What is wrong with one axis given, by the axis seen that is nearest to it."""
    axis = axis_of(given.axis_angle, given.x_tilt)
    near = min(seen.axes, key=lambda a: _between(a.vector, axis))
    apart = _between(near.vector, axis)
    if apart > APART:
        return [
            f"the tilt axis seen is {apart:.0f} degrees from the one given: pass --axis-angle {near.axis_angle:.0f}"
            + (f" --x-tilt {near.lift:.0f}" if abs(near.lift) > APART else "")
        ]
    # One axis has two directions, and about the opposite one tilts have the opposite sign.
    along = float(near.vector @ axis) > 0
    low, high = (near.lowest, near.highest) if along else (-near.highest, -near.lowest)
    if max(abs(low - given.lowest), abs(high - given.highest)) <= APART:
        return []
    lopsided = abs(given.lowest + given.highest) > LOPSIDED
    if lopsided and max(abs(low + given.highest), abs(high + given.lowest)) <= APART:
        return ["the range seen is the mirror image of the one given: pass --handedness -1"]
    return [f"tilts from {low:.0f} to {high:.0f} are seen, and {given.lowest:g} to {given.highest:g} given: are these the tilts?"]
