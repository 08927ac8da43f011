"""Volumes that are computed box by box on access: the mean of halves, a scaled, a rotated, and one with its fill replaced.

They have the attributes of an array that streamed readers need: shape, ndim, size, dtype, and slices.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np

from cryovae.io.orientation import upright
from cryovae.tomogram import Fill


class View(ABC):
    """A volume (z, y, x) that is computed from other volumes on access.

    Attributes:
        parts: the other volumes, in memory or on disk.
        shape: shape (z, y, x) of the computed volume.
    """

    def __init__(self, parts: tuple[Any, ...], shape: tuple[int, ...]) -> None:
        self.parts = parts
        self.shape: tuple[int, int, int] = (shape[0], shape[1], shape[2])
        self.ndim, self.size, self.dtype = 3, int(np.prod(shape)), np.dtype(np.float32)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> np.ndarray:
        """Compute a box, indexed by slices."""
        z, y, x = [*(key if isinstance(key, tuple) else (key,)), slice(None), slice(None)][:3]
        return self._box(z, y, x)

    @abstractmethod
    def _box(self, z: slice, y: slice, x: slice) -> np.ndarray:
        """Compute the voxels of a box."""


class MeanOf(View):
    """The mean of two half tomograms."""

    def __init__(self, first: Any, second: Any) -> None:
        super().__init__((first, second), first.shape)

    def _box(self, z: slice, y: slice, x: slice) -> np.ndarray:
        one, two = (np.array(part[z, y, x], dtype=np.float32) for part in self.parts)
        one += two
        one /= 2
        return one


class ScaledOf(View):
    """A volume times a factor, plus an offset."""

    def __init__(self, volume: Any, factor: float, offset: float) -> None:
        super().__init__((volume,), volume.shape)
        self.factor, self.offset = factor, offset

    def _box(self, z: slice, y: slice, x: slice) -> np.ndarray:
        box = np.array(self.parts[0][z, y, x], dtype=np.float32)
        box *= self.factor
        box += self.offset
        return box


class UprightOf(View):
    """A volume with axes (tilt axis, beam, x), rotated to (z, y, x) by ``upright``."""

    def __init__(self, unrotated: Any) -> None:
        rows, beam, columns = unrotated.shape
        super().__init__((unrotated,), (beam, rows, columns))

    def _box(self, z: slice, y: slice, x: slice) -> np.ndarray:
        start, stop, _ = z.indices(self.shape[0])
        count = self.shape[0]
        return upright(np.asarray(self.parts[0][y, slice(count - max(stop, start), count - start), x]))


class NeutralOf(View):
    """A volume with one value in place of its fill."""

    def __init__(self, volume: Any, fill: Fill, value: float) -> None:
        super().__init__((volume,), volume.shape)
        self._fill, self._value = fill, value

    def _box(self, z: slice, y: slice, x: slice) -> np.ndarray:
        box = np.array(self.parts[0][z, y, x], dtype=np.float32)
        box[self._fill[z, y, x]] = self._value
        return box
