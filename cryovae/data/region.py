"""The region of a tomogram: the voxels inside its mask that are no fill. All measurements are made on these voxels.

mean, std      over the voxels of the region
spectra        |F(w (y - mean))|^2 / < w^2 >, with a window w that falls to 0 a few voxels before the fill, and fades at the mask
patches        without fill; if there are too few of them, with as little fill as possible
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor
from torch.nn.functional import interpolate

from cryovae.errors import InputError
from cryovae.io.fill import find_fill
from cryovae.io.stored import released
from cryovae.tiling.grid import Position
from cryovae.tomogram import Fill, Tomogram

# Side in voxels of the blocks in which fill is counted and windows are smoothed; number of sections that are read at a time.
BLOCK, SECTIONS = 4, 32
# Largest share of fill in a patch: the first value that leaves enough positions is taken.
MOST_FILL = (0.0, 0.1, 0.25, 0.5)
# Smallest number of positions of patches that is enough.
FEWEST = 8
# A window whose mean is below this, relative to the share of the region, is too narrow: the region without smoothing replaces it.
LEAST_WINDOW = 0.05


class Region:
    """The region of one tomogram.

    Args:
        shape: of the tomogram (z, y, x).
        fill: its fill, or None.
        mask: its mask (z, y, x), boolean, or None.
    """

    def __init__(self, shape: tuple[int, int, int], fill: Fill | None, mask: np.ndarray | None) -> None:
        self.shape, self.fill, self.mask = shape, fill, mask
        self._limits: dict[int, float] = {}

    def valid(self, sections: slice = slice(None)) -> np.ndarray:
        """Whether voxels belong to the region: boolean, of some sections along z."""
        first, last, _ = sections.indices(self.shape[0])
        valid = np.ones((last - first, *self.shape[1:]), bool) if self.fill is None else ~self.fill[first:last]
        return valid if self.mask is None else valid & self.mask[first:last]

    @cached_property
    def share(self) -> float:
        """Share of the voxels that belong to the region."""
        return sum(int(self.valid(part).sum()) for part in self._parts()) / float(np.prod(self.shape))

    @cached_property
    def box(self) -> tuple[slice, slice, slice]:
        """The smallest box (z, y, x) that holds all voxels that are no fill."""
        if self.fill is None:
            return slice(0, self.shape[0]), slice(0, self.shape[1]), slice(0, self.shape[2])
        used = [np.zeros(n, bool) for n in self.shape]
        for part in self._parts():
            data = ~self.fill[part]
            used[0][part] = data.any((1, 2))
            used[1] |= data.any((0, 2))
            used[2] |= data.any((0, 1))
        z, y, x = (slice(int(line.argmax()), len(line) - int(line[::-1].argmax())) for line in used)
        return z, y, x

    @cached_property
    def is_box(self) -> bool:
        """Whether the region is a box: fill lies around it alone, and there is no mask."""
        voxels = np.prod([s.stop - s.start for s in self.box])
        return self.mask is None and round(self.share * float(np.prod(self.shape))) == voxels

    def statistics(self, density: Any) -> tuple[float, float]:
        """Mean and standard deviation of a density (z, y, x) over the region, in double precision, some sections at a time."""
        count, total, squares, middle = 0, 0.0, 0.0, None
        for part in self._parts():
            values = np.asarray(density[part], dtype=np.float64)[self.valid(part)]
            released(density)
            if len(values):
                middle = float(values.mean()) if middle is None else middle
                values = values - middle
                count, total, squares = count + len(values), total + float(values.sum()), squares + float((values**2).sum())
        mean = total / count
        return mean + (middle or 0.0), (max(squares - count * mean**2, 0.0) / max(count - 1, 1)) ** 0.5

    # Spectra.

    def window(self, sections: slice = slice(None)) -> Tensor:
        """The window of some sections along z, divided by its root mean square over the volume: (sections, y, x) float32."""
        return self._raw_window(sections) / self._window_rms

    @cached_property
    def _window_rms(self) -> float:
        total = sum(float(self._raw_window(part).square().sum(dtype=torch.float64)) for part in self._parts())
        return (total / float(np.prod(self.shape))) ** 0.5

    def _raw_window(self, sections: slice) -> Tensor:
        first, last, _ = sections.indices(self.shape[0])
        blocks = self._window_blocks
        if blocks is None:
            return torch.from_numpy(self.valid(sections).astype(np.float32))
        low, high = max(first // BLOCK - 1, 0), min((last - 1) // BLOCK + 2, len(blocks))
        near = blocks[low:high]
        fine = interpolate(near[None, None], size=[BLOCK * n for n in near.shape], mode="trilinear")[0, 0]
        window = fine[first - BLOCK * low : last - BLOCK * low, : self.shape[1], : self.shape[2]]
        return window if self.fill is None else window * torch.from_numpy(~self.fill[first:last])

    @cached_property
    def _window_blocks(self) -> Tensor | None:
        """The window on blocks; None if it is too narrow."""
        window = np.ones([-(-n // BLOCK) for n in self.shape], np.float32)
        if self.fill is not None:
            # The straight edge of a smoothed step is one half.
            window *= np.clip(2 * gaussian_filter(1 - self._shares_of(self.fill), 1.0, mode="nearest") - 1, 0, 1)
        if self.mask is not None:
            window *= gaussian_filter(self._shares_of(self.mask), 1.0, mode="nearest")
        return torch.from_numpy(window) if window.mean() >= LEAST_WINDOW * self.share else None

    def seen(self, density: Tensor) -> Tensor:
        """The density from which spectra are computed: w (y - m) + m for a density y with mean m over the region."""
        mean, _ = self.statistics(density.numpy())
        return (density - mean) * self.window() + mean

    def neutral(self, density: Tensor) -> Tensor:
        """A density (z, y, x) with its fill replaced by its mean over the region, for pictures."""
        if self.fill is None:
            return density
        mean, _ = self.statistics(density.numpy())
        return density.masked_fill(torch.from_numpy(self.fill[:]), mean)

    # Patches.

    @cached_property
    def _filled(self) -> np.ndarray:
        """Cumulative sums of the fill over the blocks, (blocks + 1) along each axis."""
        counts = np.zeros([-(-n // BLOCK) for n in self.shape]) if self.fill is None else self._counts_of(self.fill)
        return np.pad(counts, [(1, 0)] * 3).cumsum(0).cumsum(1).cumsum(2).astype(np.int64)

    def filled_share(self, positions: np.ndarray, side: int) -> np.ndarray:
        """Largest share (n,) of fill that patches at positions (n, 3) can have, by the blocks that they touch."""
        positions = np.asarray(positions).reshape(-1, 3)
        last = np.array(self._filled.shape) - 1
        low = np.clip(positions // BLOCK, 0, last)
        high = np.clip(-(-(positions + side) // BLOCK), 0, last)
        total = np.zeros(len(positions), np.int64)
        for corner in np.ndindex(2, 2, 2):
            at = np.where(corner, high, low)
            total += (-1) ** (3 - sum(corner)) * self._filled[at[:, 0], at[:, 1], at[:, 2]]
        volume = np.prod([min(side, n) for n in self.shape])
        return np.minimum(total / volume, 1.0)

    def allows(self, position: Sequence[int], side: int) -> bool:
        """Whether a patch has no more fill than the ``limit``."""
        return self.fill is None or bool(self.filled_share(np.array(position), side)[0] <= self.limit(side))

    def only_allowed(self, positions: np.ndarray, side: int) -> np.ndarray:
        """Those of some positions (n, 3) of patches that are allowed."""
        return positions if self.fill is None else positions[self.filled_share(positions, side) <= self.limit(side)]

    def holds(self, positions: np.ndarray, side: int) -> np.ndarray:
        """Whether patches at positions (n, 3) have no fill, and their middle lies in the mask: (n,)."""
        inside = np.ones(len(positions), bool) if self.fill is None else self.filled_share(positions, side) == 0
        if self.mask is not None:
            z, y, x = (positions + side // 2).T
            inside &= np.asarray(self.mask)[z, y, x]
        return inside

    def limit(self, side: int) -> float:
        """Largest share of fill in a patch that is allowed."""
        if side not in self._limits:
            self._find_positions(side)
        return self._limits[side]

    def positions(self, side: int) -> Tensor:
        """Positions (n, 3) of patches, every eighth of a side, that are allowed, and whose middle lies in the mask.

        Raises:
            InputError: there is none.
        """
        return torch.from_numpy(self._find_positions(side))

    def corners(self, side: int) -> tuple[list[int], list[int]]:
        """First and last position (z, y, x) of patches in the box of the region."""
        first = [min(s.start, max(n - side, 0)) for s, n in zip(self.box, self.shape, strict=True)]
        return first, [max(s.stop - side, a) for s, a in zip(self.box, first, strict=True)]

    def _find_positions(self, side: int) -> np.ndarray:
        """The ``positions``; sets the ``limit`` as well."""
        step = spacing(side)
        first, last = self.corners(side)
        z, y, x = (np.unique(np.append(np.arange(a, b + 1, step), b)) for a, b in zip(first, last, strict=True))
        if self.mask is None:
            grid = np.stack(np.meshgrid(z, y, x, indexing="ij"), -1).reshape(-1, 3)
        else:
            # A patch contains the full length of an axis shorter than itself.
            sizes = zip((z, y, x), self.shape, strict=True)
            middle = [np.minimum(starts + min(side, size) // 2, size - 1) for starts, size in sizes]
            places = np.argwhere(self.mask[np.ix_(*middle)])
            grid = np.stack([starts[places[:, i]] for i, starts in enumerate((z, y, x))], 1)
        if not len(grid):
            raise InputError(
                f"the mask leaves no patch of {side} voxels whose middle is specimen: make it larger, or --patch smaller"
            )
        shares = np.zeros(len(grid)) if self.fill is None else self.filled_share(grid, side)
        for most in MOST_FILL:
            if (shares <= most).sum() >= min(FEWEST, len(grid)):
                self._limits[side] = most
                return np.asarray(grid[shares <= most])
        raise InputError(
            f"constant regions leave no patch of {side} voxels with enough data, {100 * self.share:.0f} % of the voxels "
            "are data: cut the tomogram to its data, or pass a smaller --patch"
        )

    def random_positions(self, patch: Sequence[int], most: int, rng: np.random.Generator) -> set[tuple[int, ...]]:
        """Up to ``most`` random positions (z, y, x) of patches of these sides, without fill and inside the mask."""
        if self.is_box:
            # The random numbers are those of a tomogram without the fill around it.
            room = [max(s.stop - s.start - side, 0) for s, side in zip(self.box, patch, strict=True)]
            drawn = [[int(rng.integers(0, r + 1)) for r in room] for _ in range(most)]
            ends = [n - side for n, side in zip(self.shape, patch, strict=True)]
            return {tuple(min(s.start + d, e) for s, d, e in zip(self.box, at, ends, strict=True)) for at in drawn}
        places = self.positions(max(patch))
        at = rng.choice(len(places), min(most, len(places)), replace=False)
        return {tuple(int(p) for p in place) for place in places[at].tolist()}

    def has_partial_patches(self, side: int) -> bool:
        """Whether patches that are allowed may hold fill."""
        return self.fill is not None and self.limit(side) > 0

    def inside(self, position: Position, side: int) -> Tensor:
        """1 for the voxels of a patch that lie in the volume and are no fill, else 0: (side, side, side)."""
        mask = torch.zeros(side, side, side)
        box = tuple(slice(max(p, 0), max(min(p + side, n), 0)) for p, n in zip(position, self.shape, strict=True))
        part = np.ones([s.stop - s.start for s in box], bool) if self.fill is None else ~self.fill[box]
        at = tuple(slice(s.start - p, s.stop - p) for s, p in zip(box, position, strict=True))
        mask[at] = torch.from_numpy(part.astype(np.float32))
        return mask

    # Blocks.

    def _parts(self) -> Iterator[slice]:
        return (slice(z, min(z + SECTIONS, self.shape[0])) for z in range(0, self.shape[0], SECTIONS))

    def _counts_of(self, volume: Any) -> np.ndarray:
        """How many voxels of a mask are True in each block."""
        counts = []
        for z in range(0, self.shape[0], BLOCK):
            section = np.asarray(volume[z : z + BLOCK]).sum(0, dtype=np.int32)
            rows, columns = (np.arange(0, n, BLOCK) for n in self.shape[1:])
            counts.append(np.add.reduceat(np.add.reduceat(section, rows, 0), columns, 1))
        return np.stack(counts)

    def _shares_of(self, volume: Any) -> np.ndarray:
        """Share of the voxels of each block that are True in a mask, float32."""
        sizes = [np.diff(np.append(np.arange(0, n, BLOCK), n)) for n in self.shape]
        voxels = sizes[0][:, None, None] * sizes[1][:, None] * sizes[2]
        return np.asarray(self._counts_of(volume) / voxels, dtype=np.float32)


def spacing(side: int) -> int:
    """Distance in voxels between the positions of patches of ``side`` voxels on their grid."""
    return max(1, side // 8)


def region_of(tomogram: Tomogram) -> Region | None:
    """The region of a tomogram; None if all of its voxels count."""
    if tomogram.fill is None and tomogram.mask is None:
        return None
    return Region(tomogram.shape, tomogram.fill, tomogram.mask)


def without_fill(density: np.ndarray) -> np.ndarray:
    """A density (z, y, x) through a window that leaves its fill out, for its spectrum; unchanged if it has none."""
    fill = find_fill(density)
    if fill is None:
        return density
    return Region(fill.shape, fill, None).seen(torch.from_numpy(np.array(density, dtype=np.float32))).numpy()
