"""All statistics of one restoration, with and without a truth, together with those of the baselines.

Against a truth    correlation in the wedge and in the measured part, by shell and by cone; calibration of the standard deviation
Without one        FSC of the restored halves, and correlation with held-out measured bins
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cryovae.data.region import Region, region_of
from cryovae.evaluation.baselines import ClippingPrediction, best_clipping, predict_by_clipping
from cryovae.evaluation.calibration import Calibration, calibration_by_part
from cryovae.evaluation.fsc import BAND, LEVELS, Cone, Correlation, Score, cone_scores, resolution_at, score
from cryovae.tomogram import TiltGeometry, Tomogram


@dataclass(frozen=True)
class Row:
    """The score of one density.

    Attributes:
        name: Kind of density: 'restored', 'untouched input' or 'low-pass and clipping'.
        score: Correlation in the wedge and in the measured part.
        recipe: Recipe of the clipping, in words; "" for other densities.
    """

    name: str
    score: Score
    recipe: str = ""


@dataclass(frozen=True)
class Assessment:
    """The statistics of one restoration; those that cannot be computed are empty or None.

    Attributes:
        limits: Band of the correlations, in cycles per voxel.
        rows: Scores of the restored density and of the baselines against the truth.
        cones: Scores of the restored density against the truth, by direction.
        halves: Scores of the first half against the second, for the restored density and the baselines.
        calibration: Calibration against the truth, by part: 'volume', 'measured', 'wedge'.
        clipping: Prediction of held-out bins by clipping.
        pairs: Number of sample pairs from which the standard deviation of the parts is computed.
    """

    limits: tuple[float, float]
    rows: list[Row] = field(default_factory=list)
    cones: list[Cone] = field(default_factory=list)
    halves: list[Row] = field(default_factory=list)
    calibration: dict[str, Calibration | None] = field(default_factory=dict)
    clipping: ClippingPrediction | None = None
    pairs: int = 0


def assess(
    restored: Tensor,
    tilts: TiltGeometry,
    truth: Tensor | None = None,
    input_density: Tensor | None = None,
    std: Tensor | None = None,
    samples: Sequence[Tensor] = (),
    halves: tuple[Tensor, Tensor] | None = None,
    input_halves: tuple[Tensor, Tensor] | None = None,
    limits: tuple[float, float] = BAND,
    region: Region | None = None,
) -> Assessment:
    """Compute all statistics that these densities allow. All are (z, y, x), of the same shape and on the same grey scale.

    Args:
        restored: Restored density.
        tilts: Measured tilts.
        truth: True density.
        input_density: Density before restoration.
        std: Standard deviation of the restored density.
        samples: Samples of the posterior, in pairs of opposite noise.
        halves: The two restored halves.
        input_halves: The two halves before restoration.
        limits: Band of the correlations, in cycles per voxel.
        region: The voxels that count, or None for all.
    """
    calibration: dict[str, Calibration | None] = {}
    if truth is not None and std is not None:
        voxels = None if region is None else torch.from_numpy(region.valid())
        calibration = calibration_by_part(restored, std, truth, tilts, samples, voxels)
    if region is not None:
        restored = region.seen(restored)
        truth, input_density = (None if volume is None else region.seen(volume) for volume in (truth, input_density))
        halves, input_halves = (
            None if pair is None else (region.seen(pair[0]), region.seen(pair[1])) for pair in (halves, input_halves)
        )
    clipping = None if input_density is None else predict_by_clipping(input_density, tilts, limits)
    return Assessment(
        limits=limits,
        rows=[] if truth is None else compare(restored, truth, input_density, tilts, limits),
        cones=[] if truth is None else cone_scores(restored, truth, tilts, limits),
        halves=compare_halves(halves, input_halves, clipping, tilts, limits),
        calibration=calibration,
        clipping=clipping,
        pairs=len(samples) // 2,
    )


def assess_region(
    tomogram: Tomogram,
    restored: Tensor,
    input_density: Tensor,
    halves: tuple[Tensor, Tensor] | None,
    input_halves: tuple[Tensor, Tensor] | None,
) -> Assessment:
    """The statistics of a restored tomogram without a truth, over the voxels that are no fill and inside its mask.

    Args:
        tomogram: The tomogram.
        restored: Restored density (z, y, x).
        input_density: Density before restoration.
        halves: The two restored halves.
        input_halves: The two halves before restoration.
    """
    region = region_of(tomogram)
    return assess(restored, tomogram.tilts, input_density=input_density, halves=halves, input_halves=input_halves, region=region)


def in_neutral(tomogram: Tomogram, density: Tensor) -> Tensor:
    """A density (z, y, x) of a tomogram with its mean in place of the fill, for pictures; slabs of fill would set their scale."""
    region = region_of(tomogram)
    return density if region is None else region.neutral(density)


def compare(
    restored: Tensor, truth: Tensor, input_density: Tensor | None, tilts: TiltGeometry, limits: tuple[float, float] = BAND
) -> list[Row]:
    """Score a restored (z, y, x) density against the truth, and both baselines if ``input_density`` is given."""
    rows = [Row("restored", score(restored, truth, tilts, limits))]
    if input_density is not None:
        clipped = best_clipping(input_density, truth, tilts, limits)
        rows.append(Row("untouched input", score(input_density, truth, tilts, limits)))
        rows.append(Row("low-pass and clipping", clipped.score, clipped.recipe))
    return rows


def compare_halves(
    restored: tuple[Tensor, Tensor] | None,
    inputs: tuple[Tensor, Tensor] | None,
    clipping: ClippingPrediction | None,
    tilts: TiltGeometry,
    limits: tuple[float, float] = BAND,
) -> list[Row]:
    """FSC between the two halves: restored, input, and input clipped with the recipe of ``clipping``."""
    rows = [] if restored is None else [Row("restored", score(*restored, tilts, limits))]
    if inputs is not None:
        rows.append(Row("untouched input", score(*inputs, tilts, limits)))
    if inputs is not None and clipping is not None:
        first, second = (clipping.recipe(half) for half in inputs)
        rows.append(Row("low-pass and clipping", score(first, second, tilts, limits), str(clipping.recipe)))
    return rows


def as_plain(assessment: Assessment, voxel_size: float) -> dict[str, Any]:
    """An assessment as lists and dictionaries. Resolutions are in angstrom, frequencies in cycles per voxel; nan becomes None."""
    clipping = assessment.clipping
    return {
        "band": list(assessment.limits),
        "against_truth": [_row(row, voxel_size) for row in assessment.rows],
        "cones": [
            {"degrees": [cone.low, cone.high]}
            | {name: _curve(getattr(cone, name), voxel_size) for name in ("all_bins", "wedge", "measured")}
            for cone in assessment.cones
        ],
        "halves": [_row(row, voxel_size) for row in assessment.halves],
        "calibration": {part: None if fit is None else _calibration(fit) for part, fit in assessment.calibration.items()},
        "hidden_bins_by_clipping": clipping and {"correlation": clipping.correlation, "recipe": str(clipping.recipe)},
        "sample_pairs": assessment.pairs,
    }


def _row(row: Row, voxel_size: float) -> dict[str, Any]:
    parts = {"wedge": _curve(row.score.wedge, voxel_size), "measured": _curve(row.score.measured, voxel_size)}
    return {"name": row.name, "recipe": row.recipe or None} | parts


def _curve(curve: Correlation, voxel_size: float) -> dict[str, Any]:
    reached = {f"{level:g}": _finite(resolution_at(curve.frequency, curve.shells, voxel_size, level)) for level in LEVELS}
    shells = [_finite(float(value)) for value in curve.shells]
    return {"band": _finite(curve.band), "resolution": reached, "frequency": curve.frequency.tolist(), "fsc": shells}


def _calibration(fit: Calibration) -> dict[str, Any]:
    line = fit.reliability
    return {
        "rms_over_std": fit.error_ratio,
        "coverage": {f"{share:g}": covered for share, covered in fit.coverage.items()},
        "crps": fit.crps,
        "crps_over_absolute_error": fit.crps_share,
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
    """A float32 copy (z, y, x) of a density."""
    return torch.from_numpy(np.array(density, dtype=np.float32))
