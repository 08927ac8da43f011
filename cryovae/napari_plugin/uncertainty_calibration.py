"""How far the standard deviation of a run can be trusted, from its record: for the Uncertainty widget, without a window.

Words and numbers are those of the report: rms error over standard deviation on held-out measured bins.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from cryovae.napari_plugin.lazy import LazyArray
from cryovae.report.headline import CALIBRATED_RATIO, FAR_OFF, Headline


@dataclass(frozen=True)
class CalibrationNote:
    """What is said of a standard deviation.

    Attributes:
        text: In some sentences, those that the report begins with.
        ratio: Rms error over standard deviation on held-out data, no unit; None if it is not known.
        is_off: Whether it is far from 1 or not known, or the wedge is filled no better than by clipping.
    """

    text: str
    ratio: float | None
    is_off: bool

    @property
    def factor(self) -> float | None:
        """What the standard deviation should be multiplied by; None if the words do not ask for it, or it is not known."""
        is_right = self.ratio is None or 1 / FAR_OFF <= self.ratio <= CALIBRATED_RATIO[1]
        return None if is_right else self.ratio


def calibration_note(record: Mapping[str, Any]) -> CalibrationNote:
    """What the record of a run says of its result and its standard deviation, in the words of the report."""
    headline = Headline.from_record(record)
    said = [*headline.prediction(), *headline.caveats(), *headline.error_bars(), *headline.tested_on()]
    return CalibrationNote(" ".join(said), headline.ratio, headline.ratio is None or headline.is_far_off or headline.is_trivial)


class Multiplied(LazyArray):
    """A standard deviation (z, y, x) times a number.

    Attributes:
        std: The standard deviation.
        factor: The number.
    """

    def __init__(self, std: Any, factor: float) -> None:
        super().__init__(std.shape)
        self.std, self.factor = std, factor

    def read(self, index: tuple[Any, ...]) -> np.ndarray:
        """The part at ``index``."""
        return np.asarray(self.std[index], dtype=np.float32) * np.float32(self.factor)
