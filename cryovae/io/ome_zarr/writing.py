"""OME-Zarr 0.5: a pyramid of arrays, each voxel the mean of 2 x 2 x 2 of the level before.

The metadata are those of the specification of OME-NGFF 0.5, section "multiscales"; a level lies at scale * index + translation.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from cryovae import __version__
from cryovae.io.atomic import whole_folder
from cryovae.io.ome_zarr.library import AXES, KEY, library
from cryovae.io.volume import Provenance

VERSION = "0.5"
CHUNK, COARSEST = 128, 64


def write_zarr(path: Path, density: np.ndarray, carried: Provenance, voxel_size: float, note: str) -> None:
    """Write a (z, y, x) density as 32-bit floats, cubes of ``voxel_size`` angstrom, and its pyramid. The folder appears whole.

    The origin becomes the translation; labels and start are kept, ``note`` in one label line more; an extended header is not.
    """
    zarr = library(path)
    level, number = np.asarray(density, dtype=np.float32), 0
    with whole_folder(path) as beside:
        group = zarr.open_group(beside, mode="w", zarr_format=3)
        datasets: list[dict[str, Any]] = []
        while True:
            chunks = tuple(min(n, CHUNK) for n in level.shape)
            array = group.create_array(str(number), shape=level.shape, dtype="float32", chunks=chunks, dimension_names=AXES)
            array[...] = level
            datasets.append(_dataset(number, voxel_size, carried.origin))
            if max(level.shape) <= COARSEST:
                break
            level, number = halved(level), number + 1
        group.attrs["ome"] = {"version": VERSION, "multiscales": [_multiscale(path, datasets)]}
        labels = [*carried.labels, f"cryovae {__version__} {note}"]
        group.attrs[KEY] = {"labels": labels, "start": list(carried.start)}


def halved(density: np.ndarray) -> np.ndarray:
    """Means of 2 x 2 x 2 voxels of (z, y, x); a last plane without a partner stands for itself."""
    for axis in range(3):
        first = np.arange(0, density.shape[axis], 2)
        counts = np.minimum(2, density.shape[axis] - first).astype(density.dtype)
        density = np.add.reduceat(density, first, axis) / np.expand_dims(counts, [a for a in range(3) if a != axis])
    return density


def _dataset(number: int, voxel_size: float, origin: tuple[float, float, float]) -> dict[str, Any]:
    """The metadata of a level: its first voxel is the mean of a cube, so its middle lies (2^n - 1) / 2 voxels further in."""
    shift = (2**number - 1) / 2 * voxel_size
    return {
        "path": str(number),
        "coordinateTransformations": [
            {"type": "scale", "scale": [voxel_size * 2**number] * 3},
            {"type": "translation", "translation": [at + shift for at in reversed(origin)]},
        ],
    }


def _multiscale(path: Path, datasets: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "name": path.stem,
        "axes": [{"name": axis, "type": "space", "unit": "angstrom"} for axis in AXES],
        "datasets": datasets,
        "type": "mean",
    }
