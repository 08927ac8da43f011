"""How far the standard deviation of a run can be trusted, from its record: for the Uncertainty widget, without a window.

The number is that of the report: rms error over standard deviation on measured bins that were hidden from the model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from cryovae.evaluation.held_out import HeldOut
from cryovae.napari_plugin.lazy import LazyArray

# Factor by which errors and standard deviation may differ before it is said in red, and a correction is offered.
MOST = 1.3


@dataclass(frozen=True)
class CalibrationNote:
    """What is said of a standard deviation.

    Attributes:
        text: In one or two sentences.
        ratio: Rms error over standard deviation on held-out data, no unit; None if it is not known.
        is_off: Whether it is farther from 1 than MOST, or not known.
    """

    text: str
    ratio: float | None
    is_off: bool


def calibration_note(record: Mapping[str, Any]) -> CalibrationNote:
    """What the record of a run says of its standard deviation."""
    held = HeldOut.from_record(record)
    if held is None or held.rms_over_std is None:
        return CalibrationNote("Error bars were not checked: the run held no data out. Read them only as a map.", None, True)
    ratio = held.rms_over_std
    off = not 1 / MOST <= ratio <= MOST
    what = "right within a factor of 1.3" if not off else "too small" if ratio > 1 else "too wide"
    on = f"{held.bins} measured bins" if held.bins else "measured bins"
    if held.patches:
        on += f" of {held.patches} {'patch' if held.patches == 1 else 'patches'}"
    kept = "which were used in training too: optimistic" if held.trained_on else "hidden from the model"
    text = f"Error bars are {what}: held-out rms error over std is {ratio:.2f}, fitted on {on}, {kept}."
    if off:
        text += f" Multiply the std by {ratio:.2f}."
    return CalibrationNote(text, ratio, off)


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
