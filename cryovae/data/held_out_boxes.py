"""Choice of the held-out boxes: small boxes all over the specimen that training sees but never scores.

Errors there show whether the model has learned its training voxels by heart (calibration/). A held-out patch is never drawn,
which costs all patches that overlap it, so few can be held out. A box costs its own voxels alone. Boxes lie on a grid, so that
no two overlap. Those that show specimen, as in validation_split.py, are taken in random order.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, prod
from typing import Any

import numpy as np

from cryovae.data.region import Region
from cryovae.data.validation_split import block_means, is_informative, variances
from cryovae.tiling.grid import Position

# First voxel and the one after the last, along z, y, x.
Box = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
# Share of the voxels that the boxes hold, or as many boxes as LEAST if they hold more; and the largest share.
SHARE, LEAST, LARGEST_SHARE = 0.05, 8, 0.12
# Sides are multiples of this, which is the stride of the latents of the flow; smallest side in voxels.
UNIT, SMALLEST = 4, 8


def held_out_boxes(density: Any, patch: int, region: Region | None, held_out: Sequence[Position]) -> tuple[Box, ...]:
    """Choose the held-out boxes.

    Args:
        density: (z, y, x), an array that can be sliced along z.
        patch: side of a patch, in voxels; that of a box is half of it, or less in a small volume.
        region: of the tomogram, or None if all of its voxels count; boxes lie in it.
        held_out: first voxels of the held-out patches, which boxes do not overlap.

    Returns:
        The boxes; none if the volume is too small for LEAST of them.
    """
    shape = density.shape
    voxels = prod(shape) * (1.0 if region is None else region.share)
    side = min(patch // 2, int((LARGEST_SHARE * voxels / LEAST) ** (1 / 3)), *shape) // UNIT * UNIT
    if side < SMALLEST:
        return ()
    begins, ends = ([0, 0, 0], [size - side for size in shape]) if region is None else region.corners(side)
    starts = [np.arange(first, last + 1, side) for first, last in zip(begins, ends, strict=True)]
    cells = np.stack(np.meshgrid(*starts, indexing="ij"), -1).reshape(-1, 3)
    for patch_start in held_out:
        first = np.array(patch_start)
        cells = cells[((cells + side <= first) | (cells >= first + patch)).any(1)]
    if region is not None:
        cells = cells[region.holds(cells, side)]
    if len(cells) < LEAST:
        return ()
    power = variances(block_means(density), cells, side)
    informative = is_informative(power)
    # Boxes with specimen first, in random order, then the others by their power.
    first = np.random.default_rng(0).permutation(np.flatnonzero(informative))
    others = np.flatnonzero(~informative)
    order = np.concatenate((first, others[np.argsort(-power[others], kind="stable")]))
    count = max(LEAST, ceil(SHARE * voxels / side**3))
    return tuple(box_of(cell, side) for cell in cells[np.sort(order[:count])].tolist())


def box_of(position: Sequence[int], side: int) -> Box:
    """The box of a patch or cell of ``side`` voxels at its first voxel (z, y, x)."""
    z, y, x = position
    return (z, z + side), (y, y + side), (x, x + side)


def moved(box: Box, start: Sequence[int]) -> Box:
    """A box in a crop that begins at ``start`` (z, y, x); it may reach beyond the crop."""
    z, y, x = ((first - a, last - a) for (first, last), a in zip(box, start, strict=True))
    return z, y, x


def overlapping(boxes: Sequence[Box], first: Sequence[int], last: Sequence[int]) -> tuple[Box, ...]:
    """The boxes that share a voxel with the box from ``first`` to before ``last`` (z, y, x)."""
    if not boxes:
        return ()
    ends = np.array(boxes)
    near = ((ends[:, :, 0] < np.array(last)) & (ends[:, :, 1] > np.array(first))).all(1)
    return tuple(boxes[i] for i in np.flatnonzero(near).tolist())


def mark(volume: Any, boxes: Sequence[Box], value: float) -> None:
    """Write ``value`` into the voxels of boxes that lie in a volume (z, y, x)."""
    for box in boxes:
        volume[tuple(slice(max(a, 0), max(b, 0)) for a, b in box)] = value
