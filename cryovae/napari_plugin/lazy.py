"""Arrays that are computed for the slice that is asked for, so that moving a slider costs one slice and no copy."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np


def as_slices(index: tuple[Any, ...], shape: Sequence[int]) -> tuple[slice, ...]:
    """An index with a slice of one in place of each integer."""
    return tuple(
        part if isinstance(part, slice) else slice(int(part) % size, int(part) % size + 1)
        for part, size in zip(index, shape, strict=True)
    )


class LazyArray(ABC):
    """An array of float32 of which ``read`` computes the part that is indexed.

    Attributes:
        shape: Sizes of the axes.
        ndim: Number of axes.
        dtype: float32.
    """

    def __init__(self, shape: Sequence[int]) -> None:
        self.shape, self.ndim, self.dtype = tuple(shape), len(shape), np.dtype(np.float32)

    @abstractmethod
    def read(self, index: tuple[Any, ...]) -> np.ndarray:
        """The part at ``index``, which has an integer or a slice for each axis."""

    def __getitem__(self, index: Any) -> np.ndarray:
        full = index if isinstance(index, tuple) else (index,)
        if any(part is Ellipsis for part in full):
            at = next(i for i, part in enumerate(full) if part is Ellipsis)
            full = full[:at] + (slice(None),) * (self.ndim - len(full) + 1) + full[at + 1 :]
        return self.read(full + (slice(None),) * (self.ndim - len(full)))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[...], dtype=dtype)


class OfView(LazyArray):
    """A volume that is computed box by box (``io.views``), for which any index may be asked.

    Attributes:
        view: The volume, read by slices.
    """

    def __init__(self, view: Any) -> None:
        super().__init__(view.shape)
        self.view = view

    def read(self, index: tuple[Any, ...]) -> np.ndarray:
        """The part at ``index``."""
        box = np.asarray(self.view[as_slices(index, self.shape)], dtype=np.float32)
        return box[tuple(slice(None) if isinstance(part, slice) else 0 for part in index)]


class Stacked(LazyArray):
    """Volumes (z, y, x) one behind the other, (n, z, y, x), each read where it is shown.

    Attributes:
        volumes: The volumes.
    """

    def __init__(self, volumes: Sequence[Any]) -> None:
        super().__init__((len(volumes), *volumes[0].shape))
        self.volumes = list(volumes)

    def read(self, index: tuple[Any, ...]) -> np.ndarray:
        """The part at ``index``."""
        first, place = index[0], index[1:]
        if isinstance(first, (int, np.integer)):
            return np.asarray(self.volumes[int(first)][place], dtype=np.float32)
        numbers = range(len(self.volumes))[first]
        if not len(numbers):
            return np.zeros(self.shape, dtype=np.float32)[index]
        return np.stack([np.asarray(self.volumes[number][place], dtype=np.float32) for number in numbers])
