"""Volumes in raw files, read and written box by box, so that only the requested box takes memory.

A page of a memory-mapped file counts as memory of the process from its first access until the system reclaims it. Plain reads and
writes avoid this.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

Box = tuple[slice, ...]


class Stored:
    """An array (z, y, x) in a raw file, read by slices without steps.

    Args:
        path: the file.
        shape: shape (z, y, x).
        dtype: number type of a voxel.
        fresh: whether to create the file, filled with zeros; an existing file is overwritten.

    Raises:
        OSError: the file is missing or of another length, and ``fresh`` is False.
    """

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: Any = np.float32, fresh: bool = False) -> None:
        self.path, self.dtype = path, np.dtype(dtype)
        self.shape: tuple[int, int, int] = (shape[0], shape[1], shape[2])
        self.ndim, self.size = 3, int(np.prod(shape))
        self._file = os.open(path, os.O_RDWR | (os.O_CREAT | os.O_TRUNC if fresh else 0), 0o666)
        if fresh:
            os.ftruncate(self._file, self.size * self.dtype.itemsize)
        elif os.fstat(self._file).st_size != self.size * self.dtype.itemsize:
            raise OSError(f"{path} is not as long as its volume: begin anew, without --resume")

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            os.close(self._file)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: slice | Box) -> np.ndarray:
        """Read a box into memory."""
        (z0, z1), (y0, y1), (x0, x1) = self._limits(key)
        columns = self.shape[2]
        if (y0, y1) == (0, self.shape[1]):
            sections = np.empty((z1 - z0, y1 - y0, columns), self.dtype)
            self._read(sections, self._at(z0, 0))
            return sections if (x0, x1) == (0, columns) else np.ascontiguousarray(sections[:, :, x0:x1])
        box = np.empty((z1 - z0, y1 - y0, x1 - x0), self.dtype)
        rows = np.empty((y1 - y0, columns), self.dtype)
        for z in range(z0, z1):
            self._read(rows, self._at(z, y0))
            box[z - z0] = rows[:, x0:x1]
        return box

    def write(self, values: np.ndarray, z: int, y: int = 0) -> None:
        """Write a box that spans all columns.

        Args:
            values: voxels (depth, rows, all columns).
            z: first section.
            y: first row; 0 if ``values`` contains all rows.

        Raises:
            OSError: the disk is full.
        """
        values = np.ascontiguousarray(values, dtype=self.dtype)
        if values.shape[1] == self.shape[1]:
            self._write(values, self._at(z, 0))
            return
        for depth, rows in enumerate(values):
            self._write(rows, self._at(z + depth, y))

    def sync(self) -> None:
        """Flush all writes to the disk."""
        os.fdatasync(self._file)

    def remove(self) -> None:
        """Delete the file."""
        self.path.unlink(missing_ok=True)

    def _limits(self, key: slice | Box) -> list[tuple[int, int]]:
        slices = [*(key if isinstance(key, tuple) else (key,)), slice(None), slice(None)][:3]
        limits = [s.indices(size) for s, size in zip(slices, self.shape, strict=True)]
        if any(step != 1 for _, _, step in limits):
            raise ValueError(f"{key} found, expected slices without steps")
        return [(start, max(stop, start)) for start, stop, _ in limits]

    def _at(self, z: int, y: int) -> int:
        return (z * self.shape[1] + y) * self.shape[2] * self.dtype.itemsize

    def _read(self, into: np.ndarray, offset: int) -> None:
        view = memoryview(into.reshape(-1).view(np.uint8).data)
        done = 0
        while done < len(view):
            count = os.preadv(self._file, [view[done : done + (1 << 30)]], offset + done)
            if not count:
                raise OSError(f"{self.path} was cut short while it was read")
            done += count

    def _write(self, values: np.ndarray, offset: int) -> None:
        view = memoryview(values.reshape(-1).view(np.uint8).data)
        done = 0
        while done < len(view):
            done += os.pwrite(self._file, view[done : done + (1 << 30)], offset + done)


def released(density: Any) -> None:
    """Release the pages of a memory-mapped array, tensor or view; they are read again on access.

    Arrays in memory are not changed.
    """
    if isinstance(density, Tensor):
        _released_storage(density.untyped_storage())
        return
    for part in getattr(density, "parts", ()):
        released(part)
    mapping = mapping_of(density)
    if mapping is not None and hasattr(mmap, "MADV_DONTNEED"):
        mapping.madvise(mmap.MADV_DONTNEED)


def _released_storage(storage: torch.UntypedStorage) -> None:
    """Release the pages of a storage that is mapped to a file; other storages would lose their values and are skipped."""
    if storage.filename is not None and hasattr(mmap, "MADV_DONTNEED"):
        system = ctypes.CDLL(None)
        system.madvise(ctypes.c_void_p(storage.data_ptr()), ctypes.c_size_t(storage.nbytes()), mmap.MADV_DONTNEED)


def mapping_of(density: Any) -> mmap.mmap | None:
    """The memory mapping behind an array, or None if it is in memory."""
    while density is not None and not isinstance(density, mmap.mmap):
        density = getattr(density, "base", None)
    return density
