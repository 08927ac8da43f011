"""What a report shows."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from cryovae.evaluation.assessment import Assessment
from cryovae.evaluation.held_out import HeldOut
from cryovae.tomogram import TiltGeometry


@dataclass(frozen=True)
class Contents:
    """The data behind one report.

    Attributes:
        name: of the tomogram.
        before: the input (z, y, x), or None if it is no longer there.
        after: the restored density (z, y, x).
        std: its standard deviation (z, y, x), or None.
        voxel_size: in angstrom.
        tilts: the tilts that were measured.
        assessment: statistics of the restoration.
        record: run.json, empty if there is none.
        metrics: the rows of metrics.csv of the model, by column.
    """

    name: str
    before: np.ndarray | None
    after: np.ndarray
    std: np.ndarray | None
    voxel_size: float
    tilts: TiltGeometry
    assessment: Assessment
    record: dict[str, Any] = field(default_factory=dict)
    metrics: list[dict[str, str]] = field(default_factory=list)

    @cached_property
    def held_out(self) -> HeldOut | None:
        """The statistics on held-out bins in the record."""
        return HeldOut.from_record(self.record)
