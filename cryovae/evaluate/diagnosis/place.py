"""Where in a tomogram the nats lie: the rate of q, voxel by voxel, in the plane through its middle."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from cryovae.evaluate.diagnosis.information import by_place, nats_by_level
from cryovae.evaluate.diagnosis.patches import Chosen, measured
from cryovae.models.ladder import Ladder
from cryovae.objectives.specimen import Specimen

# Tiles along each axis of the plane at most; of a larger tomogram its middle is shown.
MOST = 4


def rate_in_plane(
    ladder: Ladder, specimen: Specimen, side: int, role: int, fills: bool, watch: Callable[[int, int], None] = lambda *_: None
) -> tuple[np.ndarray, np.ndarray]:
    """The xy plane through the middle of a tomogram (y, x), as it is, and nats a voxel of it, of all levels together.

    Tiles stand side by side; each is turned as a patch in training, and what is found turned back.
    """
    size_z, size_y, size_x = specimen.density.shape
    z = max((size_z - side) // 2, 0)
    starts = [(z, y, x) for y in _starts(size_y, side) for x in _starts(size_x, side)]
    found = np.full((size_y, size_x), np.nan, dtype=np.float32)
    middle = min(size_z // 2 - z, side - 1)
    for number, start in enumerate(starts):
        m = measured(specimen, Chosen((start,), (0,), False), side, ladder if fills else None)
        m = m.to(ladder.top.device)
        nats = by_place(nats_by_level(ladder, m, role), side)
        upright = specimen.orientations.rotations[0].inverse(nats)[0]
        _, y, x = start
        part = found[y : y + side, x : x + side]
        part[:] = upright[middle, : part.shape[0], : part.shape[1]].numpy()
        watch(number + 1, len(starts))
    seen = ~np.isnan(found)
    rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
    window = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    return specimen.density[size_z // 2][window].numpy(), found[window]


def _starts(size: int, side: int) -> list[int]:
    """First voxels of tiles side by side; the last ends with the tomogram."""
    starts = list(range(0, max(size - side, 0) + 1, side))
    if size > starts[-1] + side:
        starts.append(size - side)
    if len(starts) <= MOST:
        return starts
    first = (size - MOST * side) // 2
    return [first + i * side for i in range(MOST)]
