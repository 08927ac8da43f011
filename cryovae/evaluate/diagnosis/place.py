"""Where in a tomogram the nats lie: the rate of q, voxel by voxel, in the plane through its middle."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cryovae.data.prepare import PreparedTomogram
from cryovae.evaluate.diagnosis.information import by_place, nats_by_level
from cryovae.evaluate.diagnosis.patches import Chosen, measured
from cryovae.models.ladder import Ladder

# Tiles along each axis of the plane at most; of a larger tomogram its middle is shown.
MOST = 6


@dataclass(frozen=True)
class Plane:
    """(y, x) each: the tomogram; nats a voxel of all levels together; and of them what the means account for."""

    density: np.ndarray
    nats: np.ndarray
    of_mean: np.ndarray


def rate_in_plane(
    ladder: Ladder,
    prepared: PreparedTomogram,
    side: int,
    role: int,
    fills: bool,
    watch: Callable[[int, int], None] = lambda *_: None,
) -> Plane:
    """The xy plane through the middle of a tomogram. Of each tile the middle half is kept, free of what its edges add.

    Each is turned as a patch in training, and what is found turned back.
    """
    size_z, size_y, size_x = prepared.density.shape
    core = side // 2
    rows, columns = _starts(size_y, core), _starts(size_x, core)
    found = np.zeros((2, core * len(rows), core * len(columns)), dtype=np.float32)
    z = size_z // 2 - core
    corners = [(i, j) for i in range(len(rows)) for j in range(len(columns))]
    for number, (i, j) in enumerate(corners):
        start = (z, rows[i] - core // 2, columns[j] - core // 2)
        nats = _tile(ladder, prepared, start, side, role, fills)
        inner = slice(core // 2, core // 2 + core)
        found[:, i * core : (i + 1) * core, j * core : (j + 1) * core] = nats[:, core, inner, inner].numpy()
        watch(number + 1, len(corners))
    height, width = min(found.shape[1], size_y - rows[0]), min(found.shape[2], size_x - columns[0])
    density = prepared.density[size_z // 2, rows[0] : rows[0] + height, columns[0] : columns[0] + width].numpy()
    return Plane(density, found[0, :height, :width], found[1, :height, :width])


def _tile(ladder: Ladder, prepared: PreparedTomogram, start: tuple[int, int, int], side: int, role: int, fills: bool) -> Tensor:
    """(2, z, y, x): nats a voxel in all, and of the means."""
    m = measured(prepared, Chosen((start,), (0,), False), side, ladder if fills else None).to(ladder.top.device)
    levels = nats_by_level(ladder, m, role)
    inverse_rotation = prepared.orientations.rotations[0].inverse
    return inverse_rotation(torch.cat([by_place(levels, side, of_mean) for of_mean in (False, True)]))


def _starts(size: int, core: int) -> list[int]:
    """First voxels of the middles of tiles side by side, the last may reach past the end."""
    count = -(-size // core)
    if count <= MOST:
        return list(range(0, size, core))
    first = (size - MOST * core) // 2
    return [first + i * core for i in range(MOST)]
