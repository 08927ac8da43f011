"""All that is known of a restoration, with and without a truth, beside the baselines on the same input.

Against a truth    correlation in the wedge and in the measured part, by shell and by cone; calibration
Without one        the FSC of the restored halves, and the correlation with bins that were hidden from the input
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cryovae.evaluate.baselines import CalibrationResult, best_clipping, foretold_by_clipping
from cryovae.evaluate.calibration import Calibration, calibration_by_part
from cryovae.evaluate.fsc import BAND, LEVELS, Cone, Correlation, Score, cone_scores, resolution_at, score
from cryovae.tomogram import TiltGeometry

__all__ = ["Assessment", "Row", "as_figures", "as_plain", "as_tensor", "assess", "compare", "compare_halves", "resolution_at"]


@dataclass(frozen=True)
class Row:
    """One line of the table: what it is, and its score."""

    name: str
    score: Score


@dataclass(frozen=True)
class Assessment:
    """The figures of one restoration; what cannot be known is empty or None.

    rows: against the truth. cones: of the restored density against the truth. halves: first half against second half.
    calibration: against the truth, of the whole, the measured part and the wedge. calibration_result: of clipping on hidden bins.
    pairs: pairs of samples behind the standard deviation of the parts.
    """

    limits: tuple[float, float]
    rows: list[Row] = field(default_factory=list)
    cones: list[Cone] = field(default_factory=list)
    halves: list[Row] = field(default_factory=list)
    calibration: dict[str, Calibration | None] = field(default_factory=dict)
    calibration_result: CalibrationResult | None = None
    pairs: int = 0


def assess(
    restored: Tensor,
    tilts: TiltGeometry,
    truth: Tensor | None = None,
    given: Tensor | None = None,
    std: Tensor | None = None,
    samples: Sequence[Tensor] = (),
    halves: tuple[Tensor, Tensor] | None = None,
    given_halves: tuple[Tensor, Tensor] | None = None,
    limits: tuple[float, float] = BAND,
) -> Assessment:
    """All figures that these allow; densities are (z, y, x) of one shape and on one grey scale.

    restored, std, samples, halves: what was restored. given, given_halves: the input. limits: the band, cycles per voxel.
    """
    calibration_result = None if given is None else foretold_by_clipping(given, tilts, limits)
    return Assessment(
        limits=limits,
        rows=[] if truth is None else compare(restored, truth, given, tilts, limits),
        cones=[] if truth is None else cone_scores(restored, truth, tilts, limits),
        halves=compare_halves(halves, given_halves, calibration_result, tilts, limits),
        calibration={} if truth is None or std is None else calibration_by_part(restored, std, truth, tilts, samples),
        calibration_result=calibration_result,
        pairs=len(samples) // 2,
    )


def compare(
    restored: Tensor, truth: Tensor, given: Tensor | None, tilts: TiltGeometry, limits: tuple[float, float] = BAND
) -> list[Row]:
    """Score a restored (z, y, x) density, and the two baselines made from ``given``, the input, if there is one."""
    rows = [Row("restored", score(restored, truth, tilts, limits))]
    if given is not None:
        clipped = best_clipping(given, truth, tilts, limits)
        rows.append(Row("untouched input", score(given, truth, tilts, limits)))
        rows.append(Row(f"low-pass and clipping: {clipped.recipe}", clipped.score))
    return rows


def compare_halves(
    restored: tuple[Tensor, Tensor] | None,
    given: tuple[Tensor, Tensor] | None,
    calibration_result: CalibrationResult | None,
    tilts: TiltGeometry,
    limits: tuple[float, float] = BAND,
) -> list[Row]:
    """FSC of one half with the other, of the pairs that there are: restored, untouched, and clipped.

    Clipped with the recipe that foretells hidden bins best.
    """
    rows = [] if restored is None else [Row("restored", score(*restored, tilts, limits))]
    if given is not None:
        rows.append(Row("untouched input", score(*given, tilts, limits)))
    if given is not None and calibration_result is not None:
        first, second = (calibration_result.recipe(half) for half in given)
        rows.append(Row(f"low-pass and clipping: {calibration_result.recipe}", score(first, second, tilts, limits)))
    return rows


def as_figures(rows: list[Row]) -> dict[str, dict[str, float]]:
    """The band figures of each row, for a record."""
    return {row.name.split(":")[0]: {"wedge": row.score.wedge.band, "measured": row.score.measured.band} for row in rows}


def as_plain(found: Assessment, voxel_size: float) -> dict[str, Any]:
    """An assessment in lists and dictionaries, for JSON; resolutions in angstrom, frequencies per voxel, nan as None."""
    return {
        "band": list(found.limits),
        "against_truth": [_row(row, voxel_size) for row in found.rows],
        "cones": [
            {"degrees": [cone.low, cone.high]}
            | {name: _curve(getattr(cone, name), voxel_size) for name in ("whole", "wedge", "measured")}
            for cone in found.cones
        ],
        "halves": [_row(row, voxel_size) for row in found.halves],
        "calibration": {part: None if known is None else _calibration(known) for part, known in found.calibration.items()},
        "hidden_bins_by_clipping": None
        if found.calibration_result is None
        else {"correlation": found.calibration_result.correlation, "recipe": str(found.calibration_result.recipe)},
        "sample_pairs": found.pairs,
    }


def _row(row: Row, voxel_size: float) -> dict[str, Any]:
    name, _, recipe = row.name.partition(": ")
    parts = {"wedge": _curve(row.score.wedge, voxel_size), "measured": _curve(row.score.measured, voxel_size)}
    return {"name": name, "recipe": recipe or None} | parts


def _curve(found: Correlation, voxel_size: float) -> dict[str, Any]:
    reached = {f"{level:g}": _finite(resolution_at(found.frequency, found.shells, voxel_size, level)) for level in LEVELS}
    shells = [_finite(float(value)) for value in found.shells]
    return {"band": _finite(found.band), "resolution": reached, "frequency": found.frequency.tolist(), "fsc": shells}


def _calibration(found: Calibration) -> dict[str, Any]:
    line = found.reliability
    return {
        "rms_over_std": found.error_ratio,
        "coverage": {f"{share:g}": covered for share, covered in found.coverage.items()},
        "crps": found.crps,
        "crps_over_absolute_error": found.crps_share,
        "reliability": {
            "predicted": line.predicted.tolist(),
            "observed": line.observed.tolist(),
            "slope": _finite(line.slope),
            "offset": _finite(line.offset),
        },
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def as_tensor(density: np.ndarray) -> Tensor:
    """Float32 (z, y, x)."""
    return torch.from_numpy(np.array(density, dtype=np.float32))
