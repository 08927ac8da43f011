"""A place for matter: what has been put where, and where there is still room."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Progress = Callable[[str, int, int], None]
# How often a place is looked for before something is left out.
TRIES = 12


def say(progress: Progress | None, what: str, done: int, total: int) -> None:
    """Report progress to whoever asked for it."""
    if progress is not None:
        progress(what, done, total)


class Site:
    """What has been put where: density (z, y, x + 2 margin), the voxels that are taken, those of gold.

    shape: (z, y, x) of the tomogram. slab: lowest and highest z of matter, in voxels of voxel_size angstrom.
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
        """A random point (z, y, x) at least ``depth`` voxels inside the slab, where it is that thick."""
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
        """How many to put in so that the tomogram itself holds about ``number``."""
        return round(number * self.shape[2] / self.tomogram[2])


def random_frame(rng: np.random.Generator, flat: float = 1.0) -> np.ndarray:
    """A random frame (3, 3), rows (z, y, x); with ``flat`` below 1 the first row lies nearer to the plane of the slab."""
    first = rng.normal(size=3) * (flat, 1, 1)
    first /= np.linalg.norm(first)
    second = np.cross(first, rng.normal(size=3))
    second /= np.linalg.norm(second)
    return np.array([first, second, np.cross(first, second)])
