"""The check that two halves show the same volume, unshifted, with the same sign; and a correction of different scales."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import numpy as np

from cryovae.evaluation.halves import HalfComparison, compare_halves, middle_of
from cryovae.evaluation.region import cut_out
from cryovae.findings import Finding, Severity
from cryovae.io.stored import released
from cryovae.io.views import MeanOf, ScaledOf
from cryovae.tomogram import Tomogram

CHECK = "halves"
# All significances are in standard deviations of chance.
# Smallest side in voxels, and smallest number of independent bins, of halves that are checked.
SMALLEST, FEWEST_BINS = 16, 200
# Halves are unrelated if no band reaches this significance: (smallest number of bins, significance).
UNRELATED = ((5000, 4.0), (2000, 2.5), (800, 2.0))
# With fewer bins, only if low frequencies have so much more power than high ones that the halves must correlate:
# smallest number of bins, smallest ratio of the powers, significance.
SMALL_BINS, SMALL_EXCESS, SMALL_UNRELATED = 450, 2.0, 2.0
# A larger ratio of these powers means a volume without noise. Its errors are those of the reconstruction, e.g. streaks in vacuum.
SMOOTH = 80.0
# Significance, at any shift, that chance does not reach: such halves have something in common, e.g. streaks.
STRUCTURED = 5.8
# Smallest significance of inverted halves, and of shifted ones with many bins and with few; smallest gain in significance by the
# shift, and the same as a share of the significance.
INVERTED, SHIFTED, SHIFTED_SMALL, GAIN, GAIN_SHARE = 5.0, 7.0, 9.0, 4.0, 0.1
# Scales differ if their ratio is above SCALE, or the means differ by more than OFFSET standard deviations. SMALL_OFFSET is for
# volumes with a side below OFFSET_SIDE voxels, whose means vary more.
SCALE, OFFSET, SMALL_OFFSET, OFFSET_SIDE = 1.5, 0.5, 1.0, 32
# From this significance on, the shells that correlate give a ratio of the scales. It is used if it differs by this factor from
# the ratio of the standard deviations, which is more precise if the halves have equal noise.
SCALE_BY_SHELLS, NOISE_DIFFERS = 6.0, 1.15
# Halves of the significance SURE are not looked at mirrored; mirrored halves have MIRRORED times that of the halves as they are.
SURE, MIRRORED = 20.0, 2.0


def check_halves(tomogram: Tomogram) -> list[Finding]:
    """A refusal if the halves do not correlate, correlate negatively, or correlate much better after a shift."""
    if tomogram.halves is None or min(tomogram.shape) < SMALLEST:
        return []
    seen = compare_halves(*tomogram.halves)
    for half in tomogram.halves:
        released(half)
    refused = _refused(seen) or _mirrored(tomogram.halves, seen)
    if refused is None:
        return []
    fault, action = refused
    expected = "two halves of one tomogram, from even and odd tilts or frames"
    return [Finding(CHECK, Severity.REFUSAL, f"{tomogram.name}: its halves {fault}", expected, action)]


def _mirrored(halves: tuple[Any, Any], seen: HalfComparison) -> tuple[str, str] | None:
    """The same as ``_refused`` for halves that correlate much better when the second is mirrored along an axis."""
    if seen.bins < UNRELATED[-1][0] or seen.z[-1] >= SURE:
        return None
    first, second = (cut_out(half, middle_of(half.shape)) for half in halves)
    for axis, name in enumerate("zyx"):
        mirrored = compare_halves(first, np.flip(second, axis))
        if abs(mirrored.z_shifted) >= max(SHIFTED, MIRRORED * max(seen.z[-1], abs(seen.z_shifted))):
            fault = (
                f"correlate best when the second is mirrored along {name}, {abs(mirrored.z_shifted):.0f} sigma instead of "
                f"{seen.z[-1]:.0f}"
            )
            return fault, "reconstruct both with one handedness and one orientation"
    return None


def _refused(seen: HalfComparison) -> tuple[str, str] | None:
    """What is wrong with halves, and what to do; None if nothing is."""
    if seen.bins < FEWEST_BINS:
        return None
    widest, shifted, moved = seen.z[-1], seen.z_shifted, any(seen.shift)
    gain = abs(shifted) - (widest if shifted > 0 else -widest)
    least = SHIFTED if seen.bins >= UNRELATED[-1][0] else SHIFTED_SMALL
    small = seen.bins < UNRELATED[-1][0] and seen.excess > SMOOTH
    if moved and not small and abs(shifted) >= least and gain >= max(GAIN, GAIN_SHARE * abs(shifted)):
        z, y, x = seen.shift
        inverted = " with the sign inverted" if shifted < 0 else ""
        words = (
            f"correlate best{inverted} when the second is shifted by {-z}, {-y}, {-x} voxels (z, y, x), {abs(shifted):.0f} sigma"
        )
        return f"{words} instead of {widest:.0f} unshifted", "reconstruct both with one alignment and one place"
    if min(seen.z[1:]) <= -INVERTED and max(seen.z) < INVERTED:
        return f"correlate negatively ({seen.correlation:.2f}, {min(seen.z):.0f} sigma)", "invert the grey values of one of them"
    highest = max(seen.z)
    limit = next((most for bins, most in UNRELATED if seen.bins >= bins), None)
    unseen = highest
    if seen.bins < UNRELATED[0][0] and seen.excess > SMOOTH:
        return None
    if limit is None and seen.bins >= SMALL_BINS and seen.excess >= SMALL_EXCESS:
        limit, unseen = SMALL_UNRELATED, max(abs(one) for one in seen.z)
    if limit is not None and unseen < limit and abs(shifted) < STRUCTURED:
        return (
            f"do not correlate ({seen.correlation:.3f}, {highest:.1f} sigma at low frequencies)",
            "check that they belong together",
        )
    return None


def to_one_scale(tomogram: Tomogram) -> Tomogram:
    """The tomogram with its second half on the scale of the first, with a finding that says so.

    Nothing changes if the scales are equal, if the halves do not correlate, or for a crop, whose tomogram was
    brought to one scale before.
    """
    if tomogram.halves is None or tomogram.grey is not None or min(tomogram.shape) < SMALLEST:
        return tomogram
    first, second = tomogram.halves
    box = middle_of(tomogram.shape)
    (mean, std), (other_mean, other_std) = (_moments(cut_out(half, box)) for half in (first, second))
    if not std > 0 or not other_std > 0:
        return tomogram
    factor = other_std / std
    differ = not 1 / SCALE < factor < SCALE
    most = OFFSET if min(tomogram.shape) >= OFFSET_SIDE else SMALL_OFFSET
    if not differ and abs(other_mean - mean) <= most * std:
        return tomogram
    seen = compare_halves(first, second)
    if seen.z[-1] >= SCALE_BY_SHELLS:
        factor = factor if 1 / NOISE_DIFFERS < seen.scale / factor < NOISE_DIFFERS else seen.scale
    elif _refused(seen) is not None:
        return tomogram
    factor = factor if differ else 1.0
    offset = mean - other_mean / factor
    parts = ([f"{factor:.3g} times as strong as half 1"] if differ else []) + (
        [f"{other_mean - mean:+.3g} grey values from it in the mean"]
        if abs(other_mean - factor * mean) > most * other_std
        else []
    )
    finding = Finding(
        CHECK,
        Severity.WARNING,
        f"{tomogram.name}: half 2 is {' and '.join(parts or ['on another scale'])}",
        "both on one scale",
        "it was brought to the scale of half 1",
    )
    return _scaled(tomogram, 1 / factor, offset, finding)


def _moments(part: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation."""
    return float(part.mean(dtype=np.float64)), float(part.std(dtype=np.float64))


def _scaled(tomogram: Tomogram, factor: float, offset: float, finding: Finding) -> Tomogram:
    """The tomogram with half 2 times a factor plus an offset; a half on disk is scaled when it is read."""
    assert tomogram.halves is not None
    first, second = tomogram.halves
    scaled: Any = ScaledOf(second, factor, offset)
    mapped = not isinstance(tomogram.density, np.ndarray)
    if not mapped:
        scaled = scaled[:]
    density = cast(np.ndarray, MeanOf(first, scaled))
    return replace(
        tomogram,
        halves=(first, cast(np.ndarray, scaled)),
        density=density if mapped else density[:],
        findings=(*tomogram.findings, finding),
    )
