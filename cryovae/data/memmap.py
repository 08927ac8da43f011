"""Memory-maps the large tensors of tomograms, so that training is not limited by main memory.

Per tomogram these are the density, the refilled density, and the rotated masks and noise spectra.
"""

from __future__ import annotations

import copy
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from cryovae.data.prepare import PreparedHalves, PreparedTomogram

LARGE = ("masks", "variances")


def to_memmap(tensor: Tensor, path: Path) -> Tensor:
    """Memory-map a float32 tensor to a file, which must outlive it. OSError if the disk is full."""
    values = tensor.detach().cpu().contiguous()
    path.parent.mkdir(parents=True, exist_ok=True)
    # Written, not only mapped: a full disk is then an error here and not a crash when a page is first touched.
    values.numpy().tofile(path)
    return torch.from_file(str(path), shared=True, size=values.numel(), dtype=values.dtype).view(values.shape)


def offloaded(prepared: PreparedTomogram, folder: Path) -> PreparedTomogram:
    """The same tomogram with its large tensors in files of ``folder``."""
    density = to_memmap(prepared.density, folder / "density.f32")
    filled = density if prepared.filled is prepared.density else to_memmap(prepared.filled, folder / "filled.f32")
    orientations = copy.copy(prepared.orientations)
    for name in LARGE:
        setattr(orientations, name, to_memmap(getattr(orientations, name), folder / f"{name}.f32"))
    return replace(prepared, density=density, filled=filled, orientations=orientations)


def offloaded_halves(data: PreparedHalves, folder: Path) -> PreparedHalves:
    """The same halves with their large tensors in files of ``folder``."""
    prepared = offloaded(data.prepared, folder)
    halves = prepared.density, prepared.density
    if not data.single:
        halves = to_memmap(data.halves[0], folder / "half1.f32"), to_memmap(data.halves[1], folder / "half2.f32")
    return PreparedHalves(prepared, halves, halves)


@contextmanager
def offload_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder for training: emptied at the start, removed at the end."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
