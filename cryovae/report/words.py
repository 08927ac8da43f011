"""What the figures say, in sentences for somebody who looks at cells and not at spectra."""

from __future__ import annotations

import math
from dataclasses import dataclass

from cryovae.evaluate.calibration import Calibration
from cryovae.evaluate.fsc import LEVELS, Correlation, resolution_at
from cryovae.report.contents import Contents, HeldOut
from cryovae.report.search_words import search_words

HONEST = (0.9, 1.2)
ASTRAY = 0.1
AHEAD = 0.02


def verdict(contents: Contents) -> list[str]:
    """Sentences: how much of what was hidden is foretold, how far the wedge is filled, and whether the error bars can be read.

    Where tiles were searched for, what that gained.
    """
    posterior_tiles = search_words((contents.record.get("restoration") or {}).get("search"))
    return [*_filling(contents), *_error_bars(contents), *posterior_tiles]


def _filling(contents: Contents) -> list[str]:
    if not contents.tilts.has_wedge:
        return ["The tilts leave no wedge: this tomogram is denoised only."]
    found, held, size = contents.assessment, contents.held_out, contents.voxel_size
    said: list[str] = []
    if found.rows:
        said.append(_against_truth(contents))
    if held is not None and held.correlation is not None:
        said.append(_calibration_result(held, contents))
    elif not found.rows:
        said.append(
            "How well the wedge is filled is not known: nothing measured was hidden from the model, and no truth was given. "
            "Trust in the wedge only what posterior samples agree on (--samples-out)."
        )
    filled = None if held is None else held.filled_to(size)
    if filled is not None:
        end = "the end of what could be tested" if filled <= 2.02 * size else f"about {filled:.0f} Å"
        said.append(f"Hidden detail is recovered down to {end} (signal correlation of at least 0.5, the data's noise taken out).")
    if held is not None and held.trained_on:
        said.append("The tested patches were also trained on, so these figures are on the hopeful side.")
    return said


def _against_truth(contents: Contents) -> str:
    rows = contents.assessment.rows
    wedge = rows[0].score.wedge.band
    said = f"In the missing wedge the restored tomogram correlates {wedge:.2f} with the truth"
    clipped = [row.score.wedge.band for row in rows if row.name.startswith("low-pass")]
    if not clipped:
        return f"{said}, up to {detail(rows[0].score.wedge, contents.voxel_size, LEVELS[0])}."
    compared = f"low-pass and clipping of the input reach {clipped[0]:.2f}"
    if wedge < clipped[0] + AHEAD:
        return f"{said}; {compared}: it is not better than an answer that costs nothing."
    return f"{said}, up to {detail(rows[0].score.wedge, contents.voxel_size, LEVELS[0])} (FSC 0.5); {compared}."


def _calibration_result(held: HeldOut, contents: Contents) -> str:
    possible = held.possible
    of = "" if possible is None else f" of a possible {possible:.2f}"
    reached = f"correlation {held.correlation:.2f}{of}"
    said = f"Measured data that were hidden from the model, as the wedge is, are foretold with {reached}"
    clipped = contents.assessment.calibration_result
    return said + ("." if clipped is None else f"; low-pass and clipping reach {clipped.correlation:.2f}, the untouched input 0.")


def _error_bars(contents: Contents) -> list[str]:
    known = spread(contents)
    if contents.std is None:
        return ["There is no standard deviation beside this volume, so nothing says how sure it is."]
    if known is None:
        return [
            "Error bars: not checked here, as there were no hidden data and no truth. Read them as where the model is unsure."
        ]
    times = f"{known.against}, errors are {known.ratio:.2f} times the standard deviation"
    if known.ratio > HONEST[1]:
        return [f"Error bars are too small{known.part}: {times}. Multiply them by that."]
    if known.ratio < HONEST[0]:
        return [f"Error bars are too wide{known.part}: {times}."]
    shares = known.coverage
    worst = max(shares, key=lambda share: abs(shares[share] - share), default=0.0)
    if abs(shares.get(worst, worst) - worst) > ASTRAY:
        held = f"intervals that should hold {100 * worst:.0f} % of the values hold {100 * shares[worst]:.0f} %"
        return [f"Error bars are right on average alone{known.part}: {times}, but {held}."]
    return [f"Error bars are about right{known.part}: {times}."]


@dataclass(frozen=True)
class ErrorBars:
    """How the standard deviation fits: rms error over it, coverage by nominal share, against what, and of which part."""

    ratio: float
    coverage: dict[float, float]
    against: str
    part: str


def spread(contents: Contents) -> ErrorBars | None:
    """The fit of the standard deviation: of the worst part against the truth, else on hidden bins; None if not known."""
    known = {name: found for name, found in contents.assessment.calibration.items() if found is not None}
    if known:
        name = max(known, key=lambda part: abs(math.log(max(known[part].error_ratio, 1e-9))))
        where = {"whole": "", "wedge": " in the wedge", "measured": " in the measured part"}[name]
        return ErrorBars(known[name].error_ratio, known[name].coverage, "against the truth", where)
    held = contents.held_out
    if held is None or held.rms_over_std is None:
        return None
    return ErrorBars(held.rms_over_std, held.coverage, "on hidden data", "")


def detail(curve: Correlation, voxel_size: float, level: float) -> str:
    """The resolution of a curve at a level, e.g. '36.4 Å'."""
    return length(resolution_at(curve.frequency, curve.shells, voxel_size, level), voxel_size)


def length(reached: float | None, voxel_size: float) -> str:
    """Angstrom in words: finer than two voxels cannot be seen, nan is nothing at all."""
    if reached is None or reached != reached:
        return "never reached"
    shown = f"{reached:.1f} Å" if reached < 99.95 else f"{reached:.0f} Å"
    return f"≤ {shown} (Nyquist)" if reached <= 2 * voxel_size * (1 + 1e-6) else shown


def calibration_words(found: Calibration) -> list[str]:
    """The cells of a row of the calibration table: rms over std, coverage by nominal share, slope, offset, CRPS and its share."""
    line = found.reliability
    covered = [f"{100 * value:.0f} %" for value in found.coverage.values()]
    slope = ["–", "–"] if line.slope != line.slope else [f"{line.slope:.2f}", f"{line.offset:.2g}"]
    return [f"{found.error_ratio:.2f}", *covered, *slope, f"{found.crps:.3g}", f"{found.crps_share:.2f}"]


CONDITIONAL = """The standard deviation says how far the posterior samples of this one model differ. It is conditional on the
model: its architecture, and weights that were fitted once. It takes this tomogram's own statistics for granted: what fills
the wedge was learned from the measured directions of the same data. It takes the noise spectrum and the tilt angles to be
right, the alignment to be good, and the tilt axis to lie along y. It does not cover what no orientation in the data shows: a
rare object that lies one way only, or a structure that only ever faces the beam, may be filled in wrongly without a warning
here. It is a figure per voxel; neighbouring voxels err together, so a mean over a region is less sure than independent voxels
would make it. For a claim about one object, compare several posterior samples (--samples-out) and the two restored halves."""

HALVES = """The FSC of restored halves says how far the answer follows the data and not their noise. It is no proof of a
filled wedge: both halves went through the same model, and what the model makes up for both agrees as well. Clipping shows how
high such an agreement gets."""
