"""The site of a scene: which voxels are occupied, and where there is still room."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Progress = Callable[[str, int, int], None]
# Number of random positions that are tried before an object is left out.
TRIES = 12


def say(progress: Progress | None, what: str, done: int, total: int) -> None:
    """Report progress if a callback was passed."""
    if progress is not None:
        progress(what, done, total)


class Site:
    """The density of a scene and the voxels that are occupied.

    Args:
        shape: (z, y, x) of the tomogram in voxels; the density is wider by a margin on either side along x.
        slab: lowest and highest z of matter, in voxels.
    """

    def __init__(
        self, shape: tuple[int, int, int], voxel_size: float, slab: tuple[float, float], margin: int, rng: np.random.Generator
    ) -> None:
        nz, ny, nx = shape
        self.tomogram, self.voxel_size, self.margin, self.rng = shape, voxel_size, margin, rng
        self.shape = (nz, ny, nx + 2 * margin)
        self.density = np.zeros(self.shape, dtype=np.float32)
        self.taken = np.zeros(self.shape, dtype=bool)
        self.beads = np.zeros(self.shape, dtype=bool)
        self.low, self.high = slab

    def place(self, depth: float) -> np.ndarray:
        """A random point (z, y, x) at least ``depth`` voxels inside the slab, where the slab is thick enough."""
        room = min(depth, (self.high - self.low) / 2 - 0.5)
        z = self.rng.uniform(self.low + room, self.high - room)
        return np.array([z, *(self.rng.uniform(0, n - 1) for n in self.shape[1:])])

    def box(self, centre: np.ndarray, half: float) -> tuple[tuple[slice, ...], list[np.ndarray]]:
        """The voxels within ``half`` of a centre, and their offsets from it along each axis, ready to broadcast."""
        spans = [
            (max(int(np.floor(c - half)), 0), min(int(np.ceil(c + half)) + 1, n)) for c, n in zip(centre, self.shape, strict=True)
        ]
        offsets = np.ix_(*[np.arange(a, b, dtype=np.float32) - np.float32(c) for (a, b), c in zip(spans, centre, strict=True)])
        return tuple(slice(a, b) for a, b in spans), list(offsets)

    def count(self, number: int) -> int:
        """How many objects to add so that the tomogram itself contains about ``number`` of them."""
        return round(number * self.shape[2] / self.tomogram[2])


def random_frame(rng: np.random.Generator, flat: float = 1.0) -> np.ndarray:
    """A random frame (3, 3) with rows (z, y, x); with ``flat`` below 1 the first row is closer to the plane of the slab."""
    first = rng.normal(size=3) * (flat, 1, 1)
    first /= np.linalg.norm(first)
    second = np.cross(first, rng.normal(size=3))
    second /= np.linalg.norm(second)
    return np.array([first, second, np.cross(first, second)])
