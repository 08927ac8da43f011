"""The figures of a restoration that are shown first, and what must be said with them, from its run.json.

The terminal, the report, the summary of a batch and napari take them from here, so that all show the same figure with the same
words. The figures are those of held-out measured data: the only ones that a tomogram without a truth has.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cryovae.evaluation.held_out import HeldOut
from cryovae.io.geometry_record import geometry_of

# Range of rms error over standard deviation that counts as calibrated, and largest accepted error of a coverage.
CALIBRATED_RATIO, COVERAGE_TOLERANCE = (0.9, 1.2), 0.1
# Ratio from which, or its inverse from which on down, error bars are shown in red.
FAR_OFF = 1.3
# The reference of errors on held-out data.
OF_HELD_OUT = "on held-out data, to which they were scaled"
# What to say of restored halves wherever their agreement in the wedge is shown.
SHARED_MODEL = (
    "Both halves went through one model: in the wedge they agree on what it adds, so this is no evidence that the wedge is right"
)
WHAT_TO_DO = (
    "train longer (--steps), give both halves (--half1, --half2), restrict training to the specimen (--mask), or check the voxel "
    "size (--voxel-size)"
)


@dataclass(frozen=True)
class Headline:
    """The figures shown first.

    Attributes:
        held: statistics on held-out measured bins, or None.
        clipping: correlation of low-pass and clipping with held-out bins, or None.
        has_wedge: whether a wedge is missing.
    """

    held: HeldOut | None
    clipping: float | None = None
    has_wedge: bool = True

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Headline:
        """The figures in a run.json."""
        known = (record.get("restoration") or {}).get("clipping") or {}
        tilts = record.get("tilts") or {}
        has_wedge = geometry_of(tilts).has_wedge if "angles" in tilts else True
        return cls(HeldOut.from_record(record), known.get("correlation"), has_wedge)

    @property
    def correlation(self) -> float | None:
        """Correlation of the prediction with held-out data."""
        return None if self.held is None else self.held.correlation

    @property
    def ratio(self) -> float | None:
        """Rms error over the written standard deviation on held-out data, to which it was scaled."""
        return None if self.held is None else self.held.rms_over_std_fitted

    @property
    def is_trivial(self) -> bool:
        """Whether held-out data are predicted no better than by low-pass and clipping."""
        return self.correlation is not None and self.clipping is not None and self.correlation <= self.clipping

    @property
    def is_far_off(self) -> bool:
        """Whether error bars are off by more than the factor FAR_OFF."""
        return self.ratio is not None and not 1 / FAR_OFF <= self.ratio <= FAR_OFF

    @property
    def figure(self) -> str:
        """The correlation and the highest one that the noise allows, as in '0.42 of 0.63'; empty if it is not known."""
        if self.held is None or self.correlation is None:
            return ""
        highest = self.held.highest_correlation
        return f"{self.correlation:.2f}" if highest is None else f"{self.correlation:.2f} of {highest:.2f}"

    def prediction(self) -> list[str]:
        """How well held-out data are predicted, or that it is not known."""
        if not self.has_wedge:
            return ["The tilts leave no wedge: this tomogram is denoised only."]
        if self.held is None or self.correlation is None:
            return [
                "How well the wedge is filled is not known: no measured data were held out from the model. Trust only those "
                "structures in the wedge on which posterior samples agree (--samples-out)."
            ]
        highest = self.held.highest_correlation
        at_most = "" if highest is None else f" of at most {highest:.2f}"
        baseline = "" if self.clipping is None else f"; low-pass and clipping reach {self.clipping:.2f}, the untouched input 0"
        return [
            f"Held-out measured data, removed from the input as the wedge is, are predicted with correlation "
            f"{self.correlation:.2f}{at_most}{baseline}."
        ]

    def caveats(self) -> list[str]:
        """What must be said with the figure."""
        lines = []
        if self.is_trivial:
            lines.append(
                "The wedge is not to be trusted: low-pass and clipping predict held-out data as well or better. To mend it, "
                f"{WHAT_TO_DO}."
            )
        if self.held is not None and self.held.trained_on:
            lines.append("The tested patches were also used in training, so these numbers are optimistic.")
        return lines

    def error_bars(self) -> list[str]:
        """What held-out data say of the standard deviation."""
        if self.held is None or self.ratio is None:
            return [
                "Error bars were not checked: there are no held-out data. Read them only as a map of where the model is "
                "uncertain."
            ]
        return error_bar_sentences(self.ratio, self.held.coverage, OF_HELD_OUT, "")

    def of_halves(self) -> str:
        """What to say wherever the agreement of restored halves in the wedge is shown."""
        beside = f"; held-out data are predicted with {self.figure}" if self.figure else ""
        return f"{SHARED_MODEL}{beside}."

    def tested_on(self) -> list[str]:
        """On how many held-out bins and patches the figures were measured; nothing if that is not known."""
        if self.held is None or self.ratio is None or not self.held.bins:
            return []
        patches = "" if not self.held.patches else f" of {self.held.patches} {'patch' if self.held.patches == 1 else 'patches'}"
        return [f"They were scaled to {self.held.bins:,} held-out bins{patches}."]

    def sentences(self) -> list[str]:
        """All of it."""
        return [*self.prediction(), *self.caveats(), *self.error_bars()]


def error_bar_sentences(ratio: float, coverage: Mapping[float, float], against: str, part: str) -> list[str]:
    """What is said of error bars.

    Args:
        ratio: rms error over the standard deviation.
        coverage: share of the values inside an interval, by nominal share.
        against: reference of the errors, as in 'against the truth'.
        part: part of the volume, as in ' in the wedge'; '' for all of it.
    """
    times = f"{against}, errors are {ratio:.2f} times the standard deviation"
    if ratio > CALIBRATED_RATIO[1]:
        return [f"Error bars are too small{part}: {times}. Multiply them by that."]
    if ratio < CALIBRATED_RATIO[0]:
        return [f"Error bars are too wide{part}: {times}."]
    nominal, covered = max(coverage.items(), key=lambda pair: abs(pair[1] - pair[0]), default=(0.0, 0.0))
    if abs(covered - nominal) > COVERAGE_TOLERANCE:
        wrong = f"intervals that should hold {100 * nominal:.0f} % of the values hold {100 * covered:.0f} %"
        return [f"Error bars are right only on average{part}: {times}, but {wrong}."]
    return [f"Error bars are about right{part}: {times}."]
