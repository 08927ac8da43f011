"""Judges whether the detected wedge contradicts the tilt geometry that was given, and how clearly.

A wedge is clear if noise or signal fills all measured bins and no others, as in a plain reconstruction: the step at its edge is
high and explains most of the variance. Only a clear wedge can contradict. Limits are from all crops of all reference tomograms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cryovae.evaluation.power_by_direction import axis_of
from cryovae.evaluation.wedge_comparison import beam_axis
from cryovae.evaluation.wedge_detection import DetectedAxis, DetectedWedge
from cryovae.findings import Severity
from cryovae.tomogram import TiltGeometry

# Smallest side in voxels, step in nats and explained share of one clear axis, and of two.
CLEAR_ONE, CLEAR_TWO = (24, 2.6, 0.68), (64, 2.2, 0.55)
# Smallest side of a volume, in voxels, in which a wedge that is not seen is worth a line; largest step and share of none at all.
SIDE_FOR_NONE, NONE_STEP, NONE_SHARE = 64, 0.9, 0.45
# Largest accepted difference of an angle in degrees: TOLERANCE, or TOLERANCE_BY_SIDE over the side of a small volume, whose few
# bins show the ends of the range less sharply.
TOLERANCE, TOLERANCE_BY_SIDE = 8.0, 320.0
# Error of the middle of the range in degrees: in large volumes, and in those with a side below MIDDLE_SIDE voxels.
MIDDLE_ERROR, SMALL_MIDDLE_ERROR, MIDDLE_SIDE = 1.5, 3.5, 48


@dataclass(frozen=True)
class Judgement:
    """A contradiction between spectrum and geometry.

    Attributes:
        severity: Refusal if it is clear, else warning or note.
        seen: What the spectrum shows.
        expected: What the geometry says.
        action: The option that corrects it.
    """

    severity: Severity
    seen: str
    expected: str
    action: str


def is_clear(seen: DetectedWedge, shape: Sequence[int]) -> bool:
    """Whether a detected wedge is clear enough to contradict a geometry."""
    side, step, share = CLEAR_ONE if len(seen.axes) == 1 else CLEAR_TWO
    return bool(seen.axes) and min(shape) >= side and seen.step >= step and seen.share >= share


def judge(seen: DetectedWedge, tilts: TiltGeometry, shape: Sequence[int], unrotated: bool = False) -> list[Judgement]:
    """The contradictions between a spectrum and a geometry.

    Args:
        seen: Detected wedge of a volume with the beam along z.
        tilts: The geometry that was given.
        shape: Shape (z, y, x) of the volume.
        unrotated: Whether the volume was rotated on reading, so that the beam lies along z.
    """
    if not seen.axes:
        return _unseen(seen, tilts, shape)
    if not is_clear(seen, shape):
        return []
    rotated = _other_beam(seen, unrotated)
    if rotated or tilts.conical:
        return rotated
    words = _range_words(seen.axes[0].lowest, seen.axes[0].highest)
    if not tilts.has_wedge:
        expected = f"no missing wedge, as the tilts from {tilts.lowest:g} to {tilts.highest:g} leave none"
        return [Judgement(Severity.REFUSAL, f"the spectrum shows {words}", expected, "give the tilts of the reconstruction")]
    axes = tilts.axes
    if len(seen.axes) > len(axes):
        return [Judgement(Severity.WARNING, "the spectrum shows a second tilt axis", "one, as given", "pass --tilts2")]
    if len(axes) > len(seen.axes):
        text = "leave --tilts2 out unless the reconstruction holds both"
        return [Judgement(Severity.WARNING, "the spectrum shows one tilt axis", "two, as given", text)]
    # Two axes hide parts of each other's ranges.
    most = Severity.REFUSAL if len(axes) == 1 else Severity.WARNING
    return [judgement for axis in axes for judgement in _about(axis, seen, min(shape), most)]


def _unseen(seen: DetectedWedge, tilts: TiltGeometry, shape: Sequence[int]) -> list[Judgement]:
    """A volume whose spectrum shows no wedge."""
    if min(shape) < SIDE_FOR_NONE or tilts.missing < 20:
        return []
    none = seen.step < NONE_STEP and seen.share < NONE_SHARE
    return [
        Judgement(
            Severity.WARNING if none else Severity.NOTE,
            "the spectrum shows no missing wedge" if none else "the missing wedge does not stand out in the spectrum",
            f"one of {tilts.missing:.0f} degrees",
            "noise or grey levels hide it, or it was filled before; give the tomogram as it was reconstructed",
        )
    ]


def _other_beam(seen: DetectedWedge, unrotated: bool) -> list[Judgement]:
    """A volume whose beam is not along z."""
    along = beam_axis(seen)
    if along == 0:
        return []
    action = "rotate the volume so that the beam is along z"
    if along == 1:
        action = "pass --upright" if unrotated else "pass --unrotated, as for a .rec of IMOD that was not rotated"
    axis = "middle axis" if along == 1 else "fastest axis, x,"
    where = "of the volume after its rotation" if unrotated else "of the file"
    return [Judgement(Severity.REFUSAL, f"the spectrum shows the beam along the {axis} {where}", "the beam along z", action)]


def _between(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.degrees(np.arccos(np.clip(abs(first @ second), 0, 1))))


def _range_words(low: float, high: float) -> str:
    return f"tilts from {low:.0f} to {high:.0f} degrees"


def _about(tilts: TiltGeometry, seen: DetectedWedge, side: int, most: Severity) -> list[Judgement]:
    """Contradictions of one axis of a geometry with the nearest axis seen."""
    tolerance = max(TOLERANCE, TOLERANCE_BY_SIDE / side)
    axis = axis_of(tilts.axis_angle, tilts.x_tilt)
    near = min(seen.axes, key=lambda a: _between(a.vector, axis))
    distance = _between(near.vector, axis)
    if distance > tolerance:
        severity = most if distance > 2 * tolerance else Severity.WARNING
        action = f"pass --axis-angle {near.axis_angle:.0f}" + (f" --x-tilt {near.lift:.0f}" if abs(near.lift) > TOLERANCE else "")
        expected = f"it at {tilts.axis_angle:g} degrees from +y towards +x, as given"
        return [Judgement(severity, f"the spectrum shows the tilt axis {distance:.0f} degrees from there", expected, action)]
    # Opposite vectors are the same axis, but the tilts about them have opposite signs.
    along = float(near.vector @ axis) > 0
    return _of_range(tilts, near, along, side, tolerance, most)


def _of_range(
    tilts: TiltGeometry, near: DetectedAxis, along: bool, side: int, tolerance: float, most: Severity
) -> list[Judgement]:
    """Contradictions of the range of tilts of one axis; ``along`` is whether the detected axis has the same direction."""
    low, high = (near.lowest, near.highest) if along else (-near.highest, -near.lowest)
    runs = tilts.ranges
    lowest, highest = runs[0][0], runs[-1][1]
    off = max(abs(low - lowest), abs(high - highest))
    mirrored = max(abs(low + highest), abs(high + lowest))
    middle, middle_given = (low + high) / 2, (lowest + highest) / 2
    error = MIDDLE_ERROR if side >= MIDDLE_SIDE else SMALL_MIDDLE_ERROR
    words = f"the spectrum shows {_range_words(low, high)}"
    expected = f"{lowest:g} to {highest:g}, as given"
    opposite = middle * middle_given < 0 and abs(middle) > error and abs(middle_given) > error + 1
    if opposite and mirrored <= tolerance and mirrored < off:
        words += ", the mirror image of the range given"
        return [Judgement(most, words, expected, "pass --handedness -1, or leave it out if it is there")]
    if off <= tolerance or len(runs) > 1 or (most is not Severity.REFUSAL and off <= 2 * tolerance):
        return []
    severity = most if off > 2 * tolerance else Severity.WARNING
    return [Judgement(severity, words, expected, f"give the tilts of the reconstruction, e.g. --tilt-range {low:.0f} {high:.0f}")]
