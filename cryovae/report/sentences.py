"""The result of a restoration in sentences, for readers who are not used to spectra."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from cryovae.evaluation.fsc import LEVELS, Correlation, resolution_at
from cryovae.report.contents import Contents
from cryovae.report.headline import OF_HELD_OUT, error_bar_sentences
from cryovae.report.sampler_sentences import sampler_sentences

# Smallest difference by which a correlation counts as better than that of clipping.
MIN_GAIN_OVER_CLIPPING = 0.02


@dataclass(frozen=True)
class ErrorBars:
    """How well the standard deviation describes the errors.

    Attributes:
        ratio: Rms error divided by the standard deviation.
        coverage: Share of the values inside the interval, by nominal share.
        against: Reference of the errors, in words, e.g. 'against the truth'.
        part: Part of the volume, e.g. ' in the wedge'; "" for the whole volume.
    """

    ratio: float
    coverage: dict[float, float]
    against: str
    part: str


def verdict(contents: Contents) -> list[str]:
    """Sentences on the wedge, the error bars and, if one was used, the sampler."""
    sampler = sampler_sentences((contents.record.get("restoration") or {}).get("search"))
    return [*_wedge(contents), *_error_bars(contents), *sampler]


def _wedge(contents: Contents) -> list[str]:
    headline = contents.headline
    if not contents.tilts.has_wedge:
        return headline.prediction()
    held, size, known = contents.held_out, contents.voxel_size, headline.correlation is not None
    sentences = [_against_truth(contents)] if contents.assessment.rows else []
    if known or not sentences:
        sentences += headline.prediction()
    recovered = None if held is None else held.resolution(size)
    if recovered is not None:
        limit = "the finest detail that could be tested" if recovered <= 2.02 * size else f"about {recovered:.0f} Å"
        sentences.append(f"The held-out signal is recovered to {limit} (correlation of at least 0.5, corrected for noise).")
    return [*sentences, *headline.caveats()]


def _against_truth(contents: Contents) -> str:
    rows = contents.assessment.rows
    wedge = rows[0].score.wedge
    result = f"In the missing wedge the restored tomogram correlates {wedge.band:.2f} with the truth"
    finest = resolution_at(wedge.frequency, wedge.shells, contents.voxel_size, LEVELS[0])
    level = f"FSC {LEVELS[0]:g}"
    reached = f"to {length(finest, contents.voxel_size)} ({level})"
    if finest != finest:
        reached = f"but is below {level} in all coarse shells"
    coarse = np.flatnonzero(wedge.shells >= LEVELS[0])
    if finest == finest and np.nansum(wedge.shells[: coarse[0]] < LEVELS[0]):
        reached += f", and below it where waves are longer than {contents.voxel_size / wedge.frequency[coarse[0]]:.0f} Å"
    clipped = [row.score.wedge.band for row in rows if row.name == "low-pass and clipping"]
    if not clipped:
        return f"{result}, {reached}."
    baseline = f"low-pass and clipping of the input reach {clipped[0]:.2f}"
    if wedge.band < clipped[0] + MIN_GAIN_OVER_CLIPPING:
        return f"{result}; {baseline}: it is not better than a trivial baseline."
    return f"{result}, {reached}; {baseline}."


def _error_bars(contents: Contents) -> list[str]:
    if contents.std is None:
        return ["There is no standard deviation beside this volume, so its uncertainty is not known."]
    bars = error_bars(contents)
    if bars is None:
        return contents.headline.error_bars()
    return error_bar_sentences(bars.ratio, bars.coverage, bars.against, bars.part)


def error_bars(contents: Contents) -> ErrorBars | None:
    """Calibration of the standard deviation: for the worst part against the truth, else on held-out bins, else None."""
    fits = {part: fit for part, fit in contents.assessment.calibration.items() if fit is not None}
    if fits:
        part = max(fits, key=lambda part: abs(math.log(max(fits[part].error_ratio, 1e-9))))
        where = {"volume": "", "wedge": " in the wedge", "measured": " in the measured part"}[part]
        return ErrorBars(fits[part].error_ratio, fits[part].coverage, "against the truth", where)
    held = contents.held_out
    if held is None or held.rms_over_std_fitted is None:
        return None
    return ErrorBars(held.rms_over_std_fitted, held.coverage, OF_HELD_OUT, "")


def resolution(curve: Correlation, voxel_size: float, level: float) -> str:
    """The resolution at which a curve falls below a level, as text, e.g. '36.4 Å'."""
    return length(resolution_at(curve.frequency, curve.shells, voxel_size, level), voxel_size)


def length(resolution: float | None, voxel_size: float) -> str:
    """A resolution in angstrom as text. Two voxels are the Nyquist limit; None and nan mean that the level is never reached."""
    if resolution is None or resolution != resolution:
        return "never reached"
    shown = f"{resolution:.1f} Å" if resolution < 99.95 else f"{resolution:.0f} Å"
    return f"≤ {shown} (Nyquist)" if resolution <= 2 * voxel_size * (1 + 1e-6) else shown
