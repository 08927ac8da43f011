"""Choice of the held-out validation patches.

A validation patch should show specimen and overlap few training patches. A patch in a corner overlaps the fewest, but corners
often hold empty ice or vacuum, where nothing can be predicted. Let v be the variance, within a patch, of the tomogram averaged
over blocks of voxels. Candidates are the patches with

    v > ENOUGH < v^2 > / < v >                    < > mean over a grid of patches

The candidate that excludes the fewest training positions, then the one nearest to a corner, is held out first.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cryovae.data.region import Region
from cryovae.tiling.grid import Position

# The first held-out patch may exclude a larger share of the positions: without it overfitting cannot be detected.
FIRST_HELD_OUT, MOST_HELD_OUT = 0.4, 0.25
# Largest share of the positions of a crop that may be excluded.
MOST_LOST = 0.6
# Patches that represent the volume where none can be held out.
SHOWN = 8
CORNERS = ((1, 1, 1), (0, 0, 0), (0, 1, 0), (1, 0, 1))
# Side of a block in voxels: averaging suppresses the noise and keeps the specimen.
BLOCK = 4
ENOUGH = 0.5
# Largest number of candidate patches along an axis.
MOST_LOOKED_AT = 9


def held_out_patches(density: Any, side: int, region: Region | None = None) -> tuple[Position, ...]:
    """Choose up to 4 held-out patches near opposite corners.

    Together they exclude at most MOST_HELD_OUT of the training positions; the first alone may exclude FIRST_HELD_OUT.

    Args:
        density: (z, y, x), an array that can be sliced along z.
        side: side of a patch, in voxels.
        region: of the tomogram, or None if all of its voxels count; patches lie in it. A mask says where specimen is.

    Returns:
        Corners (z, y, x) of the patches.
    """
    first, last = _corners(density.shape, side, region)
    room = [b - a for a, b in zip(first, last, strict=True)]
    inside = None if region is None or region.is_box else region.positions(side)
    is_masked = region is not None and region.mask is not None
    candidates = (inside if inside is not None and is_masked else informative_patches(density, side, region)).numpy()
    lost = np.array([0.0 if is_masked else _share_lost(room, [np.subtract(box, first)], side) for box in candidates])
    patches: list[Position] = []
    for corner in CORNERS:
        far = np.square(candidates - first - np.multiply(corner, room)).sum(1)
        taken = [(np.abs(candidates - box) < side).all(1) for box in patches] or [np.zeros(len(candidates), dtype=bool)]
        z, y, x = candidates[np.lexsort((far, lost, np.any(taken, 0)))[0]].tolist()
        limit = MOST_HELD_OUT if patches else FIRST_HELD_OUT
        shift = first if inside is None else [0, 0, 0]
        boxes = [[int(p - s) for p, s in zip(box, shift, strict=True)] for box in (*patches, (z, y, x))]
        if (z, y, x) not in patches and _share_lost(room, boxes, side, inside) <= limit:
            patches.append((z, y, x))
    return tuple(patches)


def never_drawn(
    density: Any, side: int, region: Region | None, validation_patches: Sequence[Position]
) -> tuple[tuple[Position, ...], tuple[Position, ...]]:
    """Choose the held-out patches of a crop, and further patches excluded from training.

    Args:
        density: the crop, (z, y, x).
        side: side of a patch, in voxels.
        region: of the crop, or None if all of its voxels count.
        validation_patches: patches that the full tomogram holds out, relative to the crop. Those inside the crop are held out; if
            there are none, the crop gets its own. Those that overlap it in part are excluded, if enough positions remain.

    Returns:
        Held-out patches and excluded patches.
    """
    last = [max(size - side, 0) for size in density.shape]
    within = tuple(box for box in validation_patches if all(0 <= b <= end for b, end in zip(box, last, strict=True)))
    reaching = tuple(
        box for box in validation_patches
        if box not in within and all(-side < b < size for b, size in zip(box, density.shape, strict=True))
    )  # fmt: skip
    own = held_out_patches(density, side, region)
    inside = None if region is None else region.positions(side)
    for held, excluded_patches in ((within or own, reaching), (within or own, ())):
        if not held + excluded_patches or _share_lost(last, held + excluded_patches, side, inside) < MOST_LOST:
            return held, excluded_patches
    return own, ()


def shown_patches(density: Any, side: int, region: Region | None = None) -> tuple[Position, ...]:
    """About SHOWN informative patches from all over a volume too small for held-out ones; training has seen them."""
    patches = informative_patches(density, side, region)
    return tuple((z, y, x) for z, y, x in patches[:: -(-len(patches) // SHOWN)].tolist())


def informative_patches(density: Any, side: int, region: Region | None = None) -> Tensor:
    """Positions (n, 3) of the patches with specimen, on a grid of half a side, or coarser in a large volume.

    Patches with fill are left out, as training does.
    """
    first, last = _corners(density.shape, side, region)
    counts = [min(-(-2 * (end - start) // side) + 1, MOST_LOOKED_AT) for start, end in zip(first, last, strict=True)]
    ends = zip(first, last, counts, strict=True)
    axes = [start + np.unique(np.linspace(0, end - start, count).round().astype(int)) for start, end, count in ends]
    blocks = block_means(density)
    positions = np.array([(z, y, x) for z in axes[0] for y in axes[1] for x in axes[2]])
    if region is not None:
        allowed = region.only_allowed(positions, side)
        positions = allowed if len(allowed) else region.positions(side).numpy()
    return torch.from_numpy(positions[is_informative(variances(blocks, positions, side))])


def variances(blocks: np.ndarray, positions: np.ndarray, side: int) -> np.ndarray:
    """Variance v (n,) of the blocks in each patch of ``side`` voxels at positions (n, 3)."""
    return np.array([_variance(blocks, position, side) for position in positions])


def is_informative(variance: np.ndarray) -> np.ndarray:
    """Whether patches with the variances v (n,) show specimen."""
    return np.asarray(variance >= ENOUGH * np.square(variance).sum() / max(float(variance.sum()), 1e-30))


def _corners(shape: Sequence[int], side: int, region: Region | None) -> tuple[list[int], list[int]]:
    """First and last position (z, y, x) of patches in a volume, or in the box of its region."""
    return ([0, 0, 0], [max(size - side, 0) for size in shape]) if region is None else region.corners(side)


def _variance(blocks: np.ndarray, position: Sequence[int], side: int) -> float:
    """Variance of the blocks in a patch."""
    patch = blocks[tuple(slice(start // BLOCK, max((start + side) // BLOCK, start // BLOCK + 1)) for start in position)]
    return float(patch.var())


def block_means(density: Any) -> np.ndarray:
    """Means over blocks of BLOCK^3 voxels of a density (z, y, x), read by slabs; blocks at the ends may be smaller."""
    starts = [np.arange(0, size, BLOCK) for size in density.shape]
    counts = [np.diff(np.append(start, size)) for start, size in zip(starts, density.shape, strict=True)]
    slabs = []
    for z in starts[0]:
        slab = np.asarray(density[int(z) : int(z) + BLOCK], dtype=np.float32).mean(0)
        slabs.append(np.add.reduceat(np.add.reduceat(slab, starts[1], 0), starts[2], 1))
    return np.stack(slabs) / (counts[1][:, None] * counts[2])


def _share_lost(last: Sequence[int], boxes: Sequence[Sequence[int]], side: int, inside: Tensor | None = None) -> float:
    """The share of all patch positions, or of those ``inside``, that overlap one of ``boxes``."""
    if inside is not None:
        overlapping = torch.stack([((inside - torch.as_tensor(box)).abs() < side).all(1) for box in boxes])
        return float(overlapping.any(0).float().mean())
    near = np.array([[(max(b - side + 1, 0), min(b + side, end + 1)) for b, end in zip(box, last, strict=True)] for box in boxes])
    # Between the faces of all boxes a position is near to the same of them throughout.
    edges = [np.unique(near[:, axis]) for axis in range(3)]
    covered = np.zeros([max(len(e) - 1, 0) for e in edges], dtype=bool)
    for box in near:
        covered[tuple(slice(*np.searchsorted(e, ends)) for e, ends in zip(edges, box, strict=True))] = True
    z, y, x = (np.diff(e) for e in edges)
    lost = float(np.einsum("abc,a,b,c->", covered.astype(float), z, y, x))
    return lost / prod(end + 1 for end in last)
