"""Rate of a posterior in the central xy plane of a tomogram, in nats per voxel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cryovae.data.prepare import PreparedTomogram
from cryovae.evaluation.diagnosis.information import by_position, nats_by_level
from cryovae.evaluation.diagnosis.patches import PatchSelection, measurement_of
from cryovae.models.ladder import Ladder

# Largest number of tiles along each axis of the plane; of a larger tomogram only the middle is used.
MAX_TILES = 6


@dataclass(frozen=True)
class Plane:
    """A plane of a tomogram, all fields (y, x).

    Attributes:
        density: The tomogram.
        nats: Rate of all levels, in nats per voxel.
        of_mean: Part of the rate due to the means, in nats per voxel.
    """

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
    """Compute the rate in the central xy plane of a tomogram.

    Only the central half of each tile is used, to avoid edge effects. Each tile is rotated as a training patch, and the result
    is rotated back.

    Args:
        ladder: The model.
        prepared: Tomogram.
        side: Side length of a tile in voxels.
        role: Q or R, the posterior.
        fills: Whether the model first fills the own wedge of each tile.
        watch: Called with the number of tiles done and their total.
    """
    size_z, size_y, size_x = prepared.density.shape
    core = side // 2
    rows, columns = _starts(size_y, core), _starts(size_x, core)
    nats = np.zeros((2, core * len(rows), core * len(columns)), dtype=np.float32)
    z = size_z // 2 - core
    corners = [(i, j) for i in range(len(rows)) for j in range(len(columns))]
    for number, (i, j) in enumerate(corners):
        start = (z, rows[i] - core // 2, columns[j] - core // 2)
        tile = _tile(ladder, prepared, start, side, role, fills)
        inner = slice(core // 2, core // 2 + core)
        nats[:, i * core : (i + 1) * core, j * core : (j + 1) * core] = tile[:, core, inner, inner].numpy()
        watch(number + 1, len(corners))
    height, width = min(nats.shape[1], size_y - rows[0]), min(nats.shape[2], size_x - columns[0])
    density = prepared.density[size_z // 2, rows[0] : rows[0] + height, columns[0] : columns[0] + width].numpy()
    return Plane(density, nats[0, :height, :width], nats[1, :height, :width])


def _tile(ladder: Ladder, prepared: PreparedTomogram, start: tuple[int, int, int], side: int, role: int, fills: bool) -> Tensor:
    """(2, z, y, x): nats per voxel, and the part due to the means."""
    selection = PatchSelection((start,), (0,), False)
    m = measurement_of(prepared, selection, side, ladder if fills else None).to(ladder.top.device)
    levels = nats_by_level(ladder, m, role)
    inverse_rotation = prepared.orientations.rotations[0].inverse
    return inverse_rotation(torch.cat([by_position(levels, side, of_mean) for of_mean in (False, True)]))


def _starts(size: int, core: int) -> list[int]:
    """First voxels of the cores of adjacent tiles; the last core may extend past the end."""
    count = -(-size // core)
    if count <= MAX_TILES:
        return list(range(0, size, core))
    first = (size - MAX_TILES * core) // 2
    return [first + i * core for i in range(MAX_TILES)]
