"""Statistics of the prediction of held-out measured bins, as recorded in run.json.

    correlation with the noise-free signal = f / c,        c = sqrt( SNR / (1 + SNR) )

f is the FSC of prediction and data. c is the highest FSC that the noise of the data allows, called the ceiling.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from cryovae.evaluation.fsc import resolution_at

# Correlation with the signal that counts as recovered, and the ceiling below which the data are too noisy to decide.
RECOVERED, MIN_CEILING = 0.5, 0.1
CURVES = ("frequency", "fsc", "ceiling", "chi2", "spread_factor")
NUMBERS = ("correlation", "correlation_ceiling", "chi2_band", "factor_two", "rms_over_std", "rms_over_std_fitted")


@dataclass(frozen=True)
class HeldOut:
    """Statistics on held-out measured bins. Curves missing in the record are empty, missing numbers are None.

    Attributes:
        frequency: Centres of the shells (shells,), in cycles per voxel.
        fsc: Correlation of prediction and data (shells,).
        ceiling: Highest correlation that the noise of the data allows (shells,).
        chi2: Predictive chi squared (shells,), 1 if calibrated.
        spread_factor: Fitted factor on the standard deviation of the samples (shells,).
        correlation: Correlation of prediction and data over the band.
        correlation_ceiling: Highest correlation over the band that the noise of the data allows.
        chi2_band: Predictive chi squared over the band.
        factor_two: Squared error of a sample divided by that of the mean, 2 if calibrated.
        rms_over_std: Rms error divided by the standard deviation of the samples, before both are fitted to these bins.
        rms_over_std_fitted: The same after the fit, as the written standard deviation has it.
        coverage: Share of the data inside the interval, by nominal share.
        bins: Number of bins.
        patches: Number of patches.
        trained_on: Whether the patches were also used in training.
    """

    frequency: np.ndarray
    fsc: np.ndarray
    ceiling: np.ndarray
    chi2: np.ndarray
    spread_factor: np.ndarray
    correlation: float | None
    correlation_ceiling: float | None
    chi2_band: float | None
    factor_two: float | None
    rms_over_std: float | None
    rms_over_std_fitted: float | None
    coverage: dict[float, float]
    bins: int | None
    patches: int | None
    trained_on: bool

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> HeldOut | None:
        """The statistics in a run.json; None if it has none."""
        known = (record.get("restoration") or {}).get("held_out")
        if not known:
            return None
        values: dict[str, Any] = {name: _array(known.get(name)) for name in CURVES}
        values |= {name: _number(known.get(name)) for name in NUMBERS}
        coverage = {float(share): float(value) for share, value in (known.get("coverage") or {}).items() if value is not None}
        trained_on = bool(known.get("trained_on"))
        return cls(**values, coverage=coverage, bins=known.get("bins"), patches=known.get("patches"), trained_on=trained_on)

    def has(self, curve: str) -> bool:
        """Whether the record has a curve, with a value for each shell."""
        return 0 < len(getattr(self, curve)) == len(self.frequency)

    @property
    def highest_correlation(self) -> float | None:
        """Ceiling of the correlation: as recorded, else sqrt( sum n SNR / sum n (1 + SNR) ) over shells of n ~ k^2 bins."""
        if self.correlation_ceiling is not None:
            return self.correlation_ceiling
        if not self.has("ceiling"):
            return None
        square = np.clip(self.ceiling, 0, 1 - 1e-6) ** 2
        snr, count = square / (1 - square), self.frequency**2
        known = np.isfinite(snr)
        total = float((count * (1 + snr))[known].sum())
        return float(np.sqrt((count * snr)[known].sum() / total)) if total > 0 else None

    def resolution(self, voxel_size: float) -> float | None:
        """Resolution in angstrom up to which the noise-free signal is predicted with a correlation of RECOVERED; None if none.

        Only shells before the first whose ceiling is at most MIN_CEILING are used.
        """
        if not (self.has("fsc") and self.has("ceiling")):
            return None
        signal = self.fsc / np.maximum(self.ceiling, MIN_CEILING)
        noisy = np.flatnonzero(self.ceiling <= MIN_CEILING)
        last = int(noisy[0]) if len(noisy) else len(signal)
        if last == 0:
            return None
        reached = resolution_at(self.frequency[:last], signal[:last], voxel_size, RECOVERED)
        return max(reached, voxel_size / float(self.frequency[last - 1])) if np.isfinite(reached) else None


def _array(values: Any) -> np.ndarray:
    return np.array([np.nan if value is None else value for value in values or []], dtype=float)


def _number(value: Any) -> float | None:
    return None if value is None or not np.isfinite(value) else float(value)
