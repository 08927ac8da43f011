"""Detection of the missing wedge in the power spectrum of a tomogram: tilt axes, and the range of tilts about each.

A tilt axis and a range of tilts about it divide the bins into those inside the range and those outside. The fit minimises

    sum over inside and outside of  sum_k ( v(k) - mean v )^2,        v: log power (``evaluate.power_by_direction``),

over all axes, then over pairs of perpendicular axes, where a bin is inside if either range contains it. A range ends at the tilt
where the power of bins far from the axis falls to about a third.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cryovae.evaluation.power_by_direction import DIRECTION_SHELLS, Directions, angles_of, axis_of, power_by_direction, tilt_of

# A fit uses at least MIN_BINS and at most MAX_BINS random bins, in sectors of SECTOR degrees.
MAX_BINS, MIN_BINS, SECTOR = 30_000, 800, 2.0
SECTORS = int(180 / SECTOR)
# Bins closer to the axis than this share of |k| have no well-defined tilt.
MIN_DISTANCE = 0.4
# A wedge is detected only if the step of v at the edge, in nats, and the explained share of the squares reach these values.
MIN_STEP, MIN_SHARE = 1.0, 0.25
# A bright range of fewer degrees is caused by the specimen or by a face of the volume.
MIN_RANGE = 40.0
# Smallest step of a shell, in nats, from which its weight is computed.
MIN_SHELL_STEP = 0.05
# A fit that explains a smaller share of the squares is repeated without the upper half of the band.
CLEAR_SHARE = 0.5
# Relative power that defines the end of a range; less than half, because some reconstructions weight down the outer tilts.
END_POWER = 0.35
# Two axes are reported if their error is below this share of the error of one axis.
PAIR_ERROR = 0.85


@dataclass(frozen=True)
class DetectedAxis:
    """A tilt axis and its range of tilts.

    Attributes:
        axis_angle: Angle from +y towards +x, in degrees.
        lift: Angle towards +z, in degrees.
        lowest: Lowest tilt, in degrees.
        highest: Highest tilt, in degrees.
    """

    axis_angle: float
    lift: float
    lowest: float
    highest: float

    @property
    def vector(self) -> np.ndarray:
        """Unit vector (z, y, x) of the axis."""
        return axis_of(self.axis_angle, self.lift)

    @property
    def beam(self) -> np.ndarray:
        """Unit vector (z, y, x) of the beam: the direction of the middle of the wedge."""
        phi, chi = np.radians(self.axis_angle), np.radians(self.lift)
        up = np.array([np.cos(chi), -np.sin(chi) * np.cos(phi), -np.sin(chi) * np.sin(phi)])
        across = np.array([0.0, -np.sin(phi), np.cos(phi)])
        middle = np.radians((self.lowest + self.highest) / 2 + 90)
        return np.asarray(up * np.sin(middle) + across * np.cos(middle))


@dataclass(frozen=True)
class DetectedWedge:
    """Result of the detection.

    Attributes:
        axes: One or two axes; empty if no wedge is detected.
        step: Mean log power inside the ranges minus that outside, in nats.
        share: Share of the squares of v that the fit explains.
    """

    axes: tuple[DetectedAxis, ...]
    step: float
    share: float

    @property
    def lowest(self) -> float:
        """Lowest tilt about the first axis, -90 without a wedge."""
        return self.axes[0].lowest if self.axes else -90.0

    @property
    def highest(self) -> float:
        """Highest tilt about the first axis, 90 without a wedge."""
        return self.axes[0].highest if self.axes else 90.0


@dataclass(frozen=True)
class _Range:
    axis: np.ndarray
    first: float
    length: float
    error: float
    step: float

    def holds(self, k: np.ndarray) -> np.ndarray:
        tilt, _ = tilt_of(k, self.axis)
        return (tilt - self.first) % 180 < self.length


@dataclass(frozen=True)
class _Fit:
    ranges: tuple[_Range, ...]
    step: float
    share: float


def detect_wedge(density: np.ndarray) -> DetectedWedge:
    """Detect the tilt axes of a (z, y, x) density and the range of tilts about each.

    The error is about 3 degrees if signal or noise fills all measured bins.
    """
    everything = power_by_direction(density)
    if len(everything.k) < MIN_BINS or float(np.ptp(everything.value)) == 0:
        return DetectedWedge((), 0.0, 0.0)
    rng = np.random.default_rng(0)
    bins = everything.kept(np.sort(rng.choice(len(everything.k), min(MAX_BINS, len(everything.k)), replace=False)))
    fit = _fitted(bins)
    # Faces and rounded grey values disturb high frequencies first.
    inner = bins.kept(bins.shell < DIRECTION_SHELLS // 2)
    if fit.share < CLEAR_SHARE and len(inner.k) >= MIN_BINS:
        fit = max(fit, _fitted(inner), key=lambda f: f.share)
    axes = tuple(_with_ends(everything, r, [other for other in fit.ranges if other is not r]) for r in fit.ranges)
    narrowest = min(axis.highest - axis.lowest for axis in axes)
    detected = fit.step >= MIN_STEP and fit.share >= MIN_SHARE and narrowest >= MIN_RANGE
    return DetectedWedge(axes if detected else (), fit.step, fit.share)


def _fitted(bins: Directions) -> _Fit:
    """Fit one axis and two, and keep two if they are clearly better. Shells are weighted by the step of the previous fit."""
    one, weight = np.ones(len(bins.k)), np.ones(len(bins.k))
    fit, pair = _best_axis(bins, one), _best_pair(bins, one)
    for _ in range(2):
        better = min(((fit,), pair), key=lambda ranges: _error(bins.value, weight, _inside(bins, ranges)))
        weight = _weights(bins, _inside(bins, better))
        fit, pair = _refined(bins, weight, fit.axis), _settled(bins, weight, pair)
    single, double = (_error(bins.value, weight, _inside(bins, f)) for f in ((fit,), pair))
    ranges = pair if double < PAIR_ERROR * single else (fit,)
    inside = _inside(bins, ranges)
    step = _level(bins.value, weight, inside) - _level(bins.value, weight, ~inside)
    return _Fit(ranges, step, 1 - (double if len(ranges) > 1 else single) / _squares(bins.value, weight))


def _inside(bins: Directions, ranges: tuple[_Range, ...]) -> np.ndarray:
    return np.asarray(np.logical_or.reduce([f.holds(bins.k) for f in ranges]))


def _squares(value: np.ndarray, weight: np.ndarray) -> float:
    return float((weight * (value - np.average(value, weights=weight)) ** 2).sum())


def _level(value: np.ndarray, weight: np.ndarray, which: np.ndarray) -> float:
    return float((value[which] * weight[which]).sum() / max(weight[which].sum(), 1e-9))


def _error(value: np.ndarray, weight: np.ndarray, inside: np.ndarray) -> float:
    """Weighted sum of squares about the means inside and outside."""
    return sum(_squares(value[s], weight[s]) for s in (inside, ~inside) if weight[s].sum() > 0)


def _weights(bins: Directions, inside: np.ndarray) -> np.ndarray:
    """Weight (bins,) proportional to the step of the shell, which is small if noise fills the wedge."""
    one = np.ones(len(bins.k))
    steps = np.full(DIRECTION_SHELLS, MIN_SHELL_STEP)
    for shell in range(DIRECTION_SHELLS):
        here = bins.shell == shell
        if (here & inside).any() and (here & ~inside).any():
            steps[shell] = max(_level(bins.value, one, here & inside) - _level(bins.value, one, here & ~inside), MIN_SHELL_STEP)
    return np.asarray((steps / max(steps.max(), 1e-9))[bins.shell])


def _best_range(bins: Directions, weight: np.ndarray, axis: np.ndarray) -> _Range:
    """The range of tilts about one axis with the least squared error; it may pass through 90 degrees."""
    tilt, distance = tilt_of(bins.k, axis)
    weight = weight * (distance > MIN_DISTANCE * np.sqrt((bins.k**2).sum(1)))
    sector = ((tilt + 90) / SECTOR).astype(int).clip(0, SECTORS - 1)
    count = np.bincount(sector, weight, SECTORS)
    total = np.bincount(sector, weight * bins.value, SECTORS)
    everything, sums = count.sum(), total.sum()
    counts, totals = (np.concatenate(([0], np.tile(a, 2).cumsum())) for a in (count, total))
    first, length = np.meshgrid(np.arange(SECTORS), np.arange(3, SECTORS - 2), indexing="ij")
    n_in, s_in = counts[first + length] - counts[first], totals[first + length] - totals[first]
    n_out, s_out = everything - n_in, sums - s_in
    inner, outer = s_in / np.maximum(n_in, 1e-9), s_out / np.maximum(n_out, 1e-9)
    gain = np.where(inner > outer, n_in * inner**2 + n_out * outer**2, -np.inf)
    best = np.unravel_index(int(np.argmax(gain)), gain.shape)
    # Divided by the total weight, because each axis uses different bins.
    error = float(((weight * bins.value**2).sum() - gain[best]) / max(everything, 1e-9))
    return _Range(axis, float(first[best] * SECTOR - 90), float(length[best] * SECTOR), error, float(inner[best] - outer[best]))


def _best_axis(bins: Directions, weight: np.ndarray) -> _Range:
    """The best range among axes every 6 degrees in the planes of the grid."""
    few = np.arange(0, len(bins.k), 4)
    orientations = np.radians(np.arange(0, 180, 6))
    axes = [np.roll([0.0, np.cos(t), np.sin(t)], shift) for shift in range(3) for t in orientations]
    return min((_best_range(bins.kept(few), weight[few], axis) for axis in axes), key=lambda f: f.error)


def _refined(bins: Directions, weight: np.ndarray, axis: np.ndarray) -> _Range:
    """Rotate the axis about both perpendicular directions by decreasing angles, as long as the fit improves."""
    fit = _best_range(bins, weight, axis)
    for angle in (6.0, 3.0, 1.5, 0.8):
        for _ in range(4):
            side = np.linalg.svd(fit.axis[None])[2][1:]
            rotated = [fit.axis + np.tan(np.radians(angle)) * sign * s for s in side for sign in (1, -1)]
            best = min((_best_range(bins, weight, t / np.linalg.norm(t)) for t in rotated), key=lambda f: f.error)
            if best.error >= fit.error:
                break
            fit = best
    return fit


def _best_pair(bins: Directions, weight: np.ndarray) -> tuple[_Range, ...]:
    """The best pair of perpendicular axes, every 6 degrees in the planes of the grid."""
    few = bins.kept(np.arange(0, len(bins.k), 4))
    scored: list[tuple[float, int, tuple[_Range, ...]]] = []
    for shift in range(3):
        for rotation in np.radians(np.arange(0, 90, 6)):
            first, second = ([0.0, np.cos(t), np.sin(t)] for t in (rotation, rotation + np.pi / 2))
            pair = _alternated(few, weight[::4], np.roll(first, shift), np.roll(second, shift))
            scored.append((_error(few.value, weight[::4], _inside(few, pair)), len(scored), pair))
    return min(scored)[2]


def _alternated(bins: Directions, weight: np.ndarray, first: np.ndarray, second: np.ndarray) -> tuple[_Range, ...]:
    """The ranges about two axes, each fitted to the bins outside the other; the second is initialised to +-60 degrees."""
    beam = np.cross(first, second)
    start = float(tilt_of(beam[None], second)[0][0]) + 30
    fits = (_Range(first, 0, 0, 0, 0), _Range(second, start, 120.0, 0, 0))
    for _ in range(2):
        out = ~fits[1].holds(bins.k)
        fits = (_best_range(bins.kept(out), weight[out], first), fits[1])
        out = ~fits[0].holds(bins.k)
        fits = (fits[0], _best_range(bins.kept(out), weight[out], second))
    return fits


def _settled(bins: Directions, weight: np.ndarray, pair: tuple[_Range, ...]) -> tuple[_Range, ...]:
    """Rotate both axes in their plane by decreasing angles, and keep rotations that improve the fit."""
    beam = np.cross(pair[0].axis, pair[1].axis)
    axes, best = [f.axis for f in pair], np.inf
    for angle in (0.0, 3.0, 1.5, 0.8):
        for rotation, sign in ((t, s) for t in ((1, 1), (1, 0), (0, 1)) for s in (1, -1)):
            by = np.radians(angle * sign)
            tried = [a * np.cos(by * t) + np.cross(beam, a) * np.sin(by * t) for a, t in zip(axes, rotation, strict=True)]
            ranges = _alternated(bins, weight, *tried)
            error = _error(bins.value, weight, _inside(bins, ranges))
            if error < best:
                axes, pair, best = tried, ranges, error
            if angle == 0:
                break
    return pair


def _with_ends(bins: Directions, fit: _Range, others: list[_Range]) -> DetectedAxis:
    """An axis whose range ends where the power falls with tilt, in bins far from the axis and outside other ranges."""
    tilt, distance = tilt_of(bins.k, fit.axis)
    used = distance > 0.8 * np.sqrt((bins.k**2).sum(1))
    for other in others:
        used &= ~other.holds(bins.k)
    inner = bins.kept(used)
    relative = (tilt[used] - fit.first) % 180
    return DetectedAxis(
        *angles_of(fit.axis), *_wrapped(fit.first - _end(inner, -relative, 0), fit.first + _end(inner, relative, fit.length))
    )


def _end(bins: Directions, tilt: np.ndarray, edge: float) -> float:
    """The tilt near ``edge`` at which the power falls: the median over the outer half of the shells in which it falls."""
    ends: list[float] = []
    for shell in range(DIRECTION_SHELLS):
        here = bins.shell == shell
        if here.sum() > 200:
            ends += _half_way(tilt[here], np.log(bins.power[here] + 1e-300), edge)
    # Bins closer to zero frequency span more degrees.
    return float(np.median(ends[len(ends) // 2 :])) if ends else edge


def _half_way(tilt: np.ndarray, log: np.ndarray, edge: float, reach: int = 8) -> list[float]:
    """The tilt at which exp <log power> falls from its level before ``edge`` to that after it; empty if it does not fall."""
    offset = (tilt - edge + 90) % 180 - 90
    at = np.arange(-reach - 6, reach + 7)
    near = [np.abs(offset - a) < 1.0 for a in at]
    if min(n.sum() for n in near) < 3:
        return []
    level = np.exp([log[n].mean() for n in near] - log.max())
    before, behind = level[at <= -reach].mean(), level[at >= reach].mean()
    if behind > 0.4 * before:
        return []
    half = END_POWER * before + (1 - END_POWER) * behind
    falls = [i for i in range(len(at) - 1) if level[i] >= half > level[i + 1]]
    if not falls:
        return []
    i = min(falls, key=lambda i: abs(at[i]))
    return [float(edge + at[i] + (level[i] - half) / (level[i] - level[i + 1]))]


def _wrapped(low: float, high: float) -> tuple[float, float]:
    """A range shifted by multiples of 180 degrees so that its middle lies between -90 and 90 degrees."""
    middle = (low + high) / 2
    shift = (middle + 90) % 180 - 90 - middle
    return low + shift, high + shift
