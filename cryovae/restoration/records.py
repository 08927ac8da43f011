"""What was found out about errors and spectra as plain numbers, for the journal of a restoration by parts, and back."""

from __future__ import annotations

from typing import Any

import torch

from cryovae.calibration.variance import VarianceCalibration
from cryovae.physics.noise import SpectralTable
from cryovae.restoration.data_consistency import SpectrumStats

TABLES = ("hidden", "reference", "amplitude", "middle", "weight", "error")


def spread_record(spread: VarianceCalibration) -> dict[str, Any]:
    """Lists and numbers, for JSON."""
    tables = {name: getattr(spread, name).tolist() for name in TABLES}
    return tables | {"copied": spread.copied.table.tolist(), "slope": spread.slope}


def recorded_spread(record: dict[str, Any]) -> VarianceCalibration:
    """The spread that ``spread_record`` was made from."""
    tables = {name: torch.tensor(record[name]) for name in TABLES}
    return VarianceCalibration(**tables, slope=record["slope"], copied=SpectralTable(torch.tensor(record["copied"])))


def fitted_record(fitted: SpectrumStats) -> dict[str, Any]:
    """Lists and numbers, for JSON."""
    level = None if fitted.level is None else fitted.level.tolist()
    tables = {"amplitude": fitted.amplitude.table.tolist(), "spread": fitted.spread.table.tolist()}
    return tables | {"unseen": fitted.unseen.tolist(), "level": level}


def recorded_fitted(record: dict[str, Any]) -> SpectrumStats:
    """What ``fitted_record`` was made from."""
    level = None if record["level"] is None else torch.tensor(record["level"])
    amplitude, spread = (SpectralTable(torch.tensor(record[name])) for name in ("amplitude", "spread"))
    return SpectrumStats(amplitude, spread, torch.tensor(record["unseen"]), level)
