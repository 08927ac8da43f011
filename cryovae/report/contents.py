"""What a report is made of, and what its held-out record may hold."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cryovae.evaluate.fsc import resolution_at
from cryovae.evaluate.report import Assessment
from cryovae.tomogram import TiltGeometry
from cryovae.workflows.run_folder import read_metrics

FILLED, TOLD = 0.5, 0.1


@dataclass(frozen=True)
class HeldOut:
    """Figures on measured bins that were hidden from the input, from run.json; what is not there is None or empty.

    frequency, fsc, ceiling, chi2, spread_factor: (shells,), cycles per voxel; the ceiling is the highest that noisy data allow.
    correlation, chi2_band, factor_two, rms_over_std: over the band. coverage: by nominal share. highest: its ceiling.
    """

    frequency: np.ndarray
    fsc: np.ndarray
    ceiling: np.ndarray
    chi2: np.ndarray
    spread_factor: np.ndarray
    correlation: float | None
    chi2_band: float | None
    factor_two: float | None
    rms_over_std: float | None
    coverage: dict[float, float]
    highest: float | None
    bins: int | None
    patches: int | None
    trained_on: bool

    @property
    def possible(self) -> float | None:
        """Ceiling of the correlation; if the record has none, of all shells, their bins n as many as their radius squared.

        sqrt( sum n SNR / sum n (1 + SNR) )
        """
        if self.highest is not None:
            return self.highest
        if not len(self.ceiling) or len(self.ceiling) != len(self.frequency):
            return None
        square = np.clip(self.ceiling, 0, 1 - 1e-6) ** 2
        snr, count = square / (1 - square), self.frequency**2
        known = np.isfinite(snr)
        total = float((count * (1 + snr))[known].sum())
        return float(np.sqrt((count * snr)[known].sum() / total)) if total > 0 else None

    def filled_to(self, voxel_size: float) -> float | None:
        """Angstrom to which the hidden signal itself, without its noise, is foretold with correlation FILLED or better.

        Correlation with the signal is the correlation with the data over the ceiling; under a ceiling of TOLD nothing is told.
        """
        if not len(self.fsc) or len(self.fsc) != len(self.ceiling) or len(self.fsc) != len(self.frequency):
            return None
        signal = self.fsc / np.maximum(self.ceiling, TOLD)
        blind = np.flatnonzero(self.ceiling <= TOLD)
        last = int(blind[0]) if len(blind) else len(signal)
        if last == 0:
            return None
        reached = resolution_at(self.frequency[:last], signal[:last], voxel_size, FILLED)
        if not np.isfinite(reached):
            return None
        return max(reached, voxel_size / float(self.frequency[last - 1]))


def held_out(record: dict[str, Any]) -> HeldOut | None:
    """The held-out figures of a record, or None if there are none."""
    found = (record.get("restoration") or {}).get("held_out")
    if not found:
        return None
    return HeldOut(
        frequency=_array(found.get("frequency")),
        fsc=_array(found.get("fsc")),
        ceiling=_array(found.get("ceiling")),
        chi2=_array(found.get("chi2")),
        spread_factor=_array(found.get("spread_factor")),
        correlation=_number(found.get("correlation")),
        chi2_band=_number(found.get("chi2_band")),
        factor_two=_number(found.get("factor_two")),
        rms_over_std=_number(found.get("rms_over_std")),
        coverage={float(share): float(value) for share, value in (found.get("coverage") or {}).items() if value is not None},
        highest=_number(found.get("correlation_ceiling")),
        bins=found.get("bins"),
        patches=found.get("patches"),
        trained_on=bool(found.get("trained_on")),
    )


def _array(values: Any) -> np.ndarray:
    return np.array([np.nan if value is None else value for value in values or []], dtype=float)


def _number(value: Any) -> float | None:
    return None if value is None or not np.isfinite(value) else float(value)


def metrics_of(record: dict[str, Any], own: Path) -> list[dict[str, str]]:
    """metrics.csv of the run that trained the model: ``own``, or that of the folder of ``restore --model``."""
    if not record.get("model"):
        return read_metrics(own)
    model = Path(record["model"])
    return read_metrics((model if model.is_dir() else model.parent) / "metrics.csv")


@dataclass(frozen=True)
class Contents:
    """All that a report shows; densities are (z, y, x), voxel_size in angstrom.

    before: the input, None if it is not there any more. record: run.json. metrics: the rows of metrics.csv.
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

    @property
    def held_out(self) -> HeldOut | None:
        """The held-out figures of the record."""
        return held_out(self.record)
