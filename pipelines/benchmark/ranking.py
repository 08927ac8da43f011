"""How good a ranked list is: picks against known positions, precision at a recall, average precision, area under the curve."""

from __future__ import annotations

import numpy as np
from scipy.stats import rankdata


def right_picks(picks: np.ndarray, truth: np.ndarray, tolerance: float) -> np.ndarray:
    """Which picks are right: the nearest known position that no better pick has taken is within the tolerance.

    Args:
        picks: (n, 3), best first.
        truth: (m, 3), the known positions.
        tolerance: largest distance.

    Returns:
        (n,), the index of the known position of each pick, -1 for a false one; a second pick of one molecule is false.
    """
    taken = np.zeros(len(truth), dtype=bool)
    owners = np.full(len(picks), -1)
    for i, pick in enumerate(picks):
        distances = np.where(taken, np.inf, np.sqrt(((truth - pick) ** 2).sum(1)))
        if len(truth) and distances.min() <= tolerance:
            owners[i] = int(distances.argmin())
            taken[owners[i]] = True
    return owners


def curve(right: np.ndarray, total: int) -> tuple[np.ndarray, np.ndarray]:
    """Recall and precision (n,) after each pick of a list, best first; ``total`` molecules are there to be picked."""
    hits = np.cumsum(right)
    return hits / max(total, 1), hits / np.arange(1, len(right) + 1)


def rank_at_recall(right: np.ndarray, total: int, recall: float) -> int | None:
    """How many picks it takes to reach a recall; None if the list never does."""
    reached = np.flatnonzero(curve(right, total)[0] >= recall - 1e-9)
    return int(reached[0]) + 1 if len(reached) else None


def precision_at(right: np.ndarray, total: int, recall: float) -> float:
    """Precision of the shortest list that has a recall; 0 if none has."""
    rank = rank_at_recall(right, total, recall)
    return 0.0 if rank is None else float(curve(right, total)[1][rank - 1])


def average_precision(right: np.ndarray, total: int) -> float:
    """Mean over all molecules of the precision when each is picked, 0 for those that are not."""
    return float(curve(right, total)[1][right.astype(bool)].sum() / max(total, 1))


def area_under_curve(positive: np.ndarray, negative: np.ndarray) -> float:
    """Chance that a positive value is larger than a negative one, ties count half; nan if there are none of either."""
    n, m = len(positive), len(negative)
    if not n or not m:
        return float("nan")
    places = rankdata(np.concatenate([positive, negative]))
    return float((places[:n].sum() - n * (n + 1) / 2) / (n * m))
