"""The wedge that a tomogram's own power spectrum shows: about which axes it was tilted, how far, and with which sign.

For a tilt axis a and a range of tilts about it, bins are in the range or out of it, and the fit is that with the least

    sum over both of  sum_k ( v(k) - mean v )^2,        v: log power (``evaluate.power_by_direction``),

over all axes; then over pairs of axes at right angles, of which one range or the other holds a bin. The ends are where the power
by tilt, in bins far from the axis, has fallen to about a third of what it is before them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cryovae.evaluate.power_by_direction import SHELLS, Directions, angles_of, axis_of, power_by_direction, tilt_of

# Bins that are looked at, drawn without order, and degrees of a sector.
MOST = 30_000
STEP = 2.0
# Fewer bins than this, of a volume of some twenty voxels each way, show nothing.
FEWEST = 800
SECTORS = int(180 / STEP)
# Bins nearer to the axis than this share of |k| say little about the tilt.
APART = 0.4
# The step between in and out, in nats of power, and the share of the squares that it explains, below which no wedge is seen.
LEAST_STEP, LEAST_SHARE = 1.0, 0.25
# Nobody tilts over fewer degrees: what is brighter in so few is the specimen, or a face.
LEAST_RANGE = 40.0
# The step, in nats, that a shell counts for at least.
FAINT = 0.05
# A fit that explains less is tried again without the upper half of the band.
UNCLEAR = 0.5
# What is left of the power at an end: less than half, as reconstructions may give less weight to tilts near it.
FALLEN = 0.35
# By how much two axes must fit better than one.
BETTER = 0.85


@dataclass(frozen=True)
class AxisSeen:
    """A tilt axis and its range: degrees in plane from +y towards +x, lift towards +z, lowest and highest tilt in degrees."""

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
        """Unit vector (z, y, x) of the middle of what is missing: where the beam was at the middle of the range, roughly."""
        phi, chi = np.radians(self.axis_angle), np.radians(self.lift)
        up = np.array([np.cos(chi), -np.sin(chi) * np.cos(phi), -np.sin(chi) * np.sin(phi)])
        across = np.array([0.0, -np.sin(phi), np.cos(phi)])
        middle = np.radians((self.lowest + self.highest) / 2 + 90)
        return np.asarray(up * np.sin(middle) + across * np.cos(middle))


@dataclass(frozen=True)
class WedgeSeen:
    """What was found: one axis, two, or none where no wedge shows.

    step: by how many nats the power falls from what was measured to what was not. share: of the squares that the fit explains.
    """

    axes: tuple[AxisSeen, ...]
    step: float
    share: float

    @property
    def lowest(self) -> float:
        """Lowest tilt about the first axis, -90 if no wedge is seen."""
        return self.axes[0].lowest if self.axes else -90.0

    @property
    def highest(self) -> float:
        """Highest tilt about the first axis, 90 if no wedge is seen."""
        return self.axes[0].highest if self.axes else 90.0


@dataclass(frozen=True)
class _Fit:
    axis: np.ndarray
    first: float
    length: float
    error: float
    step: float

    def holds(self, k: np.ndarray) -> np.ndarray:
        tilt, _ = tilt_of(k, self.axis)
        return (tilt - self.first) % 180 < self.length


@dataclass(frozen=True)
class _Found:
    ranges: tuple[_Fit, ...]
    step: float
    share: float


def wedge_seen(density: np.ndarray) -> WedgeSeen:
    """Find the axes and ranges of tilts of a (z, y, x) density, to 3 degrees where signal or noise fills all measured bins."""
    everything = power_by_direction(density)
    if len(everything.k) < FEWEST or float(np.ptp(everything.value)) == 0:
        return WedgeSeen((), 0.0, 0.0)
    rng = np.random.default_rng(0)
    bins = everything.kept(np.sort(rng.choice(len(everything.k), min(MOST, len(everything.k)), replace=False)))
    found = _fitted(bins)
    # Faces and rounding of grey levels show at high frequency first.
    inner = bins.kept(bins.shell < SHELLS // 2)
    if found.share < UNCLEAR and len(inner.k) >= FEWEST:
        found = max(found, _fitted(inner), key=lambda f: f.share)
    axes = tuple(_seen(everything, f, [g for g in found.ranges if g is not f]) for f in found.ranges)
    narrowest = min(axis.highest - axis.lowest for axis in axes)
    if found.step < LEAST_STEP or found.share < LEAST_SHARE or narrowest < LEAST_RANGE:
        return WedgeSeen((), found.step, found.share)
    return WedgeSeen(axes, found.step, found.share)


def _fitted(bins: Directions) -> _Found:
    """One axis or two, whichever is called for; the shells are weighed anew once a first fit is known."""
    one, weight = np.ones(len(bins.k)), np.ones(len(bins.k))
    fit, pair = _best_axis(bins, one), _best_pair(bins, one)
    for _ in range(2):
        better = (
            pair if _error(bins.value, weight, _held(bins, pair)) < _error(bins.value, weight, _held(bins, (fit,))) else (fit,)
        )
        weight = _weights(bins, _held(bins, better))
        fit, pair = _refined(bins, weight, fit.axis), _settled(bins, weight, pair)
    single, double = (_error(bins.value, weight, _held(bins, f)) for f in ((fit,), pair))
    ranges = pair if double < BETTER * single else (fit,)
    inside = _held(bins, ranges)
    step = _level(bins.value, weight, inside) - _level(bins.value, weight, ~inside)
    return _Found(ranges, step, 1 - (double if len(ranges) > 1 else single) / _squares(bins.value, weight))


def _held(bins: Directions, ranges: tuple[_Fit, ...]) -> np.ndarray:
    return np.asarray(np.logical_or.reduce([f.holds(bins.k) for f in ranges]))


def _squares(value: np.ndarray, weight: np.ndarray) -> float:
    return float((weight * (value - np.average(value, weights=weight)) ** 2).sum())


def _level(value: np.ndarray, weight: np.ndarray, which: np.ndarray) -> float:
    return float((value[which] * weight[which]).sum() / max(weight[which].sum(), 1e-9))


def _error(value: np.ndarray, weight: np.ndarray, inside: np.ndarray) -> float:
    """Sum of squares about two levels."""
    return sum(_squares(value[s], weight[s]) for s in (inside, ~inside) if weight[s].sum() > 0)


def _weights(bins: Directions, inside: np.ndarray) -> np.ndarray:
    """Weight (bins,) by shell: the step there, so that shells in which noise fills the wedge say little."""
    one = np.ones(len(bins.k))
    steps = np.full(SHELLS, FAINT)
    for shell in range(SHELLS):
        here = bins.shell == shell
        if (here & inside).any() and (here & ~inside).any():
            steps[shell] = max(_level(bins.value, one, here & inside) - _level(bins.value, one, here & ~inside), FAINT)
    return np.asarray((steps / max(steps.max(), 1e-9))[bins.shell])


def _best_range(bins: Directions, weight: np.ndarray, axis: np.ndarray) -> _Fit:
    """The range of tilts about one axis with the least squared error; it may pass through 90 degrees."""
    tilt, apart = tilt_of(bins.k, axis)
    weight = weight * (apart > APART * np.sqrt((bins.k**2).sum(1)))
    sector = ((tilt + 90) / STEP).astype(int).clip(0, SECTORS - 1)
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
    # By weight, so that axes which use different bins compare.
    error = float(((weight * bins.value**2).sum() - gain[best]) / max(everything, 1e-9))
    return _Fit(axis, float(first[best] * STEP - 90), float(length[best] * STEP), error, float(inner[best] - outer[best]))


def _best_axis(bins: Directions, weight: np.ndarray) -> _Fit:
    """The best of the axes every 6 degrees in the planes of the grid."""
    few = np.arange(0, len(bins.k), 4)
    orientations = np.radians(np.arange(0, 180, 6))
    axes = [np.roll([0.0, np.cos(t), np.sin(t)], shift) for shift in range(3) for t in orientations]
    return min((_best_range(bins.kept(few), weight[few], axis) for axis in axes), key=lambda f: f.error)


def _refined(bins: Directions, weight: np.ndarray, axis: np.ndarray) -> _Fit:
    """The axis turned both ways across itself, by ever smaller angles, as long as the fit gets better."""
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


def _best_pair(bins: Directions, weight: np.ndarray) -> tuple[_Fit, ...]:
    """The best two axes at right angles, across the beam along any axis of the grid, every 6 degrees."""
    few = bins.kept(np.arange(0, len(bins.k), 4))
    scored: list[tuple[float, int, tuple[_Fit, ...]]] = []
    for shift in range(3):
        for rotation in np.radians(np.arange(0, 90, 6)):
            first, second = ([0.0, np.cos(t), np.sin(t)] for t in (rotation, rotation + np.pi / 2))
            pair = _alternated(few, weight[::4], np.roll(first, shift), np.roll(second, shift))
            scored.append((_error(few.value, weight[::4], _held(few, pair)), len(scored), pair))
    return min(scored)[2]


def _alternated(bins: Directions, weight: np.ndarray, first: np.ndarray, second: np.ndarray) -> tuple[_Fit, ...]:
    """The ranges about two axes, each fitted to the bins that the other does not hold, +-60 degrees about the second at first."""
    beam = np.cross(first, second)
    start = float(tilt_of(beam[None], second)[0][0]) + 30
    fits = (_Fit(first, 0, 0, 0, 0), _Fit(second, start, 120.0, 0, 0))
    for _ in range(2):
        out = ~fits[1].holds(bins.k)
        fits = (_best_range(bins.kept(out), weight[out], first), fits[1])
        out = ~fits[0].holds(bins.k)
        fits = (fits[0], _best_range(bins.kept(out), weight[out], second))
    return fits


def _settled(bins: Directions, weight: np.ndarray, pair: tuple[_Fit, ...]) -> tuple[_Fit, ...]:
    """Both axes turned in their plane, by ever smaller angles, as long as the fit gets better."""
    beam = np.cross(pair[0].axis, pair[1].axis)
    axes, best = [f.axis for f in pair], np.inf
    for angle in (0.0, 3.0, 1.5, 0.8):
        for rotation, sign in ((t, s) for t in ((1, 1), (1, 0), (0, 1)) for s in (1, -1)):
            by = np.radians(angle * sign)
            tried = [a * np.cos(by * t) + np.cross(beam, a) * np.sin(by * t) for a, t in zip(axes, rotation, strict=True)]
            found = _alternated(bins, weight, *tried)
            error = _error(bins.value, weight, _held(bins, found))
            if error < best:
                axes, pair, best = tried, found, error
            if angle == 0:
                break
    return pair


def _seen(bins: Directions, fit: _Fit, others: list[_Fit]) -> AxisSeen:
    """An axis with its ends where the power by tilt falls off, in bins far from the axis that no other axis holds."""
    tilt, apart = tilt_of(bins.k, fit.axis)
    used = apart > 0.8 * np.sqrt((bins.k**2).sum(1))
    for other in others:
        used &= ~other.holds(bins.k)
    inner = bins.kept(used)
    relative = (tilt[used] - fit.first) % 180
    return AxisSeen(
        *angles_of(fit.axis), *_wrapped(fit.first - _end(inner, -relative, 0), fit.first + _end(inner, relative, fit.length))
    )


def _end(bins: Directions, tilt: np.ndarray, edge: float) -> float:
    """Where the power by tilt falls off at ``edge``: the median of the outer half of the shells in which it falls at all."""
    found = []
    for shell in range(SHELLS):
        here = bins.shell == shell
        if here.sum() > 200:
            found += _half_way(tilt[here], np.log(bins.power[here] + 1e-300), edge)
    # A bin is wider in degrees the nearer it is to zero frequency.
    return float(np.median(found[len(found) // 2 :])) if found else edge


def _half_way(tilt: np.ndarray, log: np.ndarray, edge: float, reach: int = 8) -> list[float]:
    """The tilt at which exp <log power> has nearly fallen from its level before ``edge`` to that behind, if it does fall."""
    offset = (tilt - edge + 90) % 180 - 90
    at = np.arange(-reach - 6, reach + 7)
    near = [np.abs(offset - a) < 1.0 for a in at]
    if min(n.sum() for n in near) < 3:
        return []
    level = np.exp([log[n].mean() for n in near] - log.max())
    before, behind = level[at <= -reach].mean(), level[at >= reach].mean()
    if behind > 0.4 * before:
        return []
    half = FALLEN * before + (1 - FALLEN) * behind
    falls = [i for i in range(len(at) - 1) if level[i] >= half > level[i + 1]]
    if not falls:
        return []
    i = min(falls, key=lambda i: abs(at[i]))
    return [float(edge + at[i] + (level[i] - half) / (level[i] - level[i + 1]))]


def _wrapped(low: float, high: float) -> tuple[float, float]:
    """A range with its middle in -90 to 90."""
    middle = (low + high) / 2
    shift = (middle + 90) % 180 - 90 - middle
    return low + shift, high + shift
