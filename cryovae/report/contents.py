"""The data of a report."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from cryovae.evaluation.assessment import Assessment
from cryovae.evaluation.held_out import HeldOut
from cryovae.findings import Finding
from cryovae.report.headline import Headline
from cryovae.tomogram import TiltGeometry


@dataclass(frozen=True)
class PatchesBeside:
    """Middle slices of patches and of draws, in standard deviations.

    Attributes:
        patches: Of the restored density, (n, y, x).
        draws: Of the generative model, (n, y, x).
    """

    patches: np.ndarray
    draws: np.ndarray


@dataclass(frozen=True)
class Contents:
    """The data behind one report.

    Attributes:
        name: Name of the tomogram.
        before: Input (z, y, x); None if it is no longer available.
        after: Restored density (z, y, x).
        std: Its standard deviation (z, y, x), or None.
        voxel_size: Voxel size, in angstrom.
        tilts: Measured tilts.
        assessment: Statistics of the restoration.
        record: Content of run.json; empty if there is none.
        metrics: Rows of metrics.csv of the model, each by column.
        beside: Draws of the generative model beside patches, or None.
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
    beside: PatchesBeside | None = None

    @cached_property
    def findings(self) -> list[Finding]:
        """The findings of the checks of the input, from the record."""
        return [Finding.from_plain(plain) for plain in self.record.get("findings") or []]

    @cached_property
    def headline(self) -> Headline:
        """The figures that are shown first: those of the record, with clipping as it is known here."""
        headline, clipping = Headline.from_record(self.record), self.assessment.clipping
        if headline.clipping is None and clipping is not None:
            headline = replace(headline, clipping=clipping.correlation)
        return replace(headline, has_wedge=self.tilts.has_wedge)

    @cached_property
    def held_out(self) -> HeldOut | None:
        """The statistics on held-out bins in the record."""
        return HeldOut.from_record(self.record)
