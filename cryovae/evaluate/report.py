"""A restoration beside the baselines on the same input, as rows of a table."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cryovae.evaluate.baselines import best_clipping
from cryovae.evaluate.fsc import BAND, Score, score
from cryovae.tomogram import TiltGeometry


@dataclass(frozen=True)
class Row:
    """One line of the table: what it is, and its score."""

    name: str
    score: Score


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


def as_figures(rows: list[Row]) -> dict[str, dict[str, float]]:
    """The band figures of each row, for a record."""
    return {row.name.split(":")[0]: {"wedge": row.score.wedge.band, "measured": row.score.measured.band} for row in rows}


def resolution_at(frequency: np.ndarray, shells: np.ndarray, voxel_size: float, threshold: float) -> float:
    """Resolution in angstrom where a shell curve first falls under ``threshold``; nan if it starts under it."""
    under = np.flatnonzero(~(shells >= threshold))
    if len(under) == 0:
        return 2 * voxel_size
    return float("nan") if under[0] == 0 else float(voxel_size / frequency[under[0] - 1])


def as_tensor(density: np.ndarray) -> Tensor:
    """Float32 (z, y, x)."""
    return torch.from_numpy(np.array(density, dtype=np.float32))
