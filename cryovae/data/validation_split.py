"""Where the patches lie that training never sees.

They are to show what is restored, and to cost few of the others. In a corner a patch shares voxels with the fewest; but the
corners of a tomogram are often empty ice, or vacuum, where nothing is predicted and every restoration looks bad. So with v the
variance within a patch of the tomogram averaged over blocks of voxels, patches are taken from those with

    v > ENOUGH < v^2 > / < v >                    < > over a grid of patches: the power beside which a voxel of power lies

of which the one that costs least, and lies nearest to a corner, is held out first.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cryovae.tiling.grid import Position

# The first held-out patch may cost a larger share of the positions: without one nothing says when training has gone too far.
FIRST_HELD_OUT, MOST_HELD_OUT = 0.4, 0.25
# Of a part, all that is kept from it.
MOST_LOST = 0.6
# Patches that stand for the whole, where none can be held out.
SHOWN = 8
CORNERS = ((1, 1, 1), (0, 0, 0), (0, 1, 0), (1, 0, 1))
# Voxels to a block's side; noise is weak in the mean of so many, and what makes a specimen is not.
BLOCK = 4
ENOUGH = 0.5
# Patches that are looked at, along an axis.
MOST_LOOKED_AT = 9


def held_out_patches(density: Any, side: int, inside: Tensor | None = None) -> tuple[Position, ...]:
    """As many patches of 4, in opposite corners if they show anything there, as cost at most a quarter of the training positions;
    one, if that costs at most two fifths.

    density: (z, y, x), anything that slices of sections can be taken of. inside: positions (n, 3) with specimen, of which those
    nearest to the corners are taken.
    """
    last = [max(size - side, 0) for size in density.shape]
    candidates = informative_patches(density, side).numpy() if inside is None else inside.numpy()
    lost = np.array([_share_lost(last, [box], side) if inside is None else 0.0 for box in candidates])
    patches: list[Position] = []
    for corner in CORNERS:
        far = np.square(candidates - np.multiply(corner, last)).sum(1)
        taken = [(np.abs(candidates - box) < side).all(1) for box in patches] or [np.zeros(len(candidates), dtype=bool)]
        z, y, x = candidates[np.lexsort((far, lost, np.any(taken, 0)))[0]].tolist()
        limit = MOST_HELD_OUT if patches else FIRST_HELD_OUT
        if (z, y, x) not in patches and _share_lost(last, [*patches, (z, y, x)], side, inside) <= limit:
            patches.append((z, y, x))
    return tuple(patches)


def never_drawn(
    density: Any, side: int, inside: Tensor | None, validation_patches: Sequence[Position]
) -> tuple[tuple[Position, ...], tuple[Position, ...]]:
    """The patches to hold out, and others that training is to keep away from.

    Args:
        density: the part, (z, y, x).
        side: side of a patch, in voxels.
        inside: positions (n, 3) with specimen, or None for all.
        validation_patches: patches that the full tomogram holds out, relative to the part. Those within are held out here too;
            if there are none, patches of its own are. Those that reach into it are excluded, if that leaves anything to train on.
    """
    last = [max(size - side, 0) for size in density.shape]
    within = tuple(box for box in validation_patches if all(0 <= b <= end for b, end in zip(box, last, strict=True)))
    reaching = tuple(
        box for box in validation_patches
        if box not in within and all(-side < b < size for b, size in zip(box, density.shape, strict=True))
    )  # fmt: skip
    own = held_out_patches(density, side, inside)
    for held, excluded_patches in ((within or own, reaching), (within or own, ())):
        if not held + excluded_patches or _share_lost(last, held + excluded_patches, side, inside) < MOST_LOST:
            return held, excluded_patches
    return own, ()


def shown_patches(density: Any, side: int) -> tuple[Position, ...]:
    """SHOWN patches with specimen from all over a volume that has no room for held-out ones: training saw them, and no one corner
    stands for all of them.

    density: (z, y, x), anything that slices of sections can be taken of.
    """
    patches = informative_patches(density, side)
    return tuple((z, y, x) for z, y, x in patches[:: -(-len(patches) // SHOWN)].tolist())


def informative_patches(density: Any, side: int) -> Tensor:
    """Positions (n, 3) of the patches with specimen, of those every half a side, or less densely in a large volume.

    density: (z, y, x), anything that slices of sections can be taken of.
    """
    last = [max(size - side, 0) for size in density.shape]
    counts = [min(-(-2 * end // side) + 1, MOST_LOOKED_AT) for end in last]
    axes = [np.unique(np.linspace(0, end, count).round().astype(int)) for end, count in zip(last, counts, strict=True)]
    blocks = block_means(density)
    positions = [(z, y, x) for z in axes[0] for y in axes[1] for x in axes[2]]
    power = np.array([_variance(blocks, position, side) for position in positions])
    enough = power >= ENOUGH * np.square(power).sum() / max(power.sum(), 1e-30)
    return torch.from_numpy(np.array(positions)[enough])


def _variance(blocks: np.ndarray, position: Sequence[int], side: int) -> float:
    """Of the blocks that lie in a patch."""
    patch = blocks[tuple(slice(start // BLOCK, max((start + side) // BLOCK, start // BLOCK + 1)) for start in position)]
    return float(patch.var())


def block_means(density: Any) -> np.ndarray:
    """The means of blocks of BLOCK^3 voxels of a (z, y, x) density, read by slabs; of fewer at its ends."""
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
