"""Writes OME-Zarr 0.5 or 0.4: a pyramid of arrays in which each voxel is the mean of 2 x 2 x 2 voxels of the previous level.

    position = scale * index + translation

The metadata follow section "multiscales" of the OME-NGFF specification. Version 0.4 (Zarr 2) is what copick and the CryoET Data
Portal read and write: three levels, compressed by Blosc.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from cryovae import __version__
from cryovae.io.atomic import check_finite, whole_folder
from cryovae.io.names import stem
from cryovae.io.ome_zarr.library import AXES, KEY, library
from cryovae.io.volume import Provenance

VERSION, ZARR_2_VERSION = "0.5", "0.4"
# Side of a chunk, and largest side of the coarsest level, in voxels.
CHUNK_SIDE, COARSEST_SIDE = 128, 64
# Number of levels of version 0.4.
ZARR_2_LEVELS = 3


def write_zarr(
    path: Path, density: np.ndarray, carried: Provenance, voxel_size: float, note: str, version: str = VERSION
) -> None:
    """Write a density and its pyramid as 32-bit floats.

    Args:
        path: the folder, written atomically.
        density: volume (z, y, x).
        carried: metadata of the input; the origin becomes the translation, and the extended header is dropped.
        voxel_size: voxel size in angstrom.
        note: text of the label that is added.
        version: of OME-Zarr, '0.5' or '0.4'.
    """
    zarr, is_zarr_2 = library(path), version == ZARR_2_VERSION
    level, number = np.asarray(density, dtype=np.float32), 0
    check_finite(path, float(np.sum(level, dtype=np.float64)))
    how = _zarr_2_arrays() if is_zarr_2 else {"dimension_names": AXES}
    with whole_folder(path) as beside:
        group = zarr.open_group(beside, mode="w", zarr_format=2 if is_zarr_2 else 3)
        datasets: list[dict[str, Any]] = []
        while True:
            chunks = tuple(min(n, CHUNK_SIDE) for n in level.shape)
            array = group.create_array(str(number), shape=level.shape, dtype="float32", chunks=chunks, **how)
            array[...] = level
            datasets.append(_dataset(number, voxel_size, carried.origin))
            if number + 1 == ZARR_2_LEVELS if is_zarr_2 else max(level.shape) <= COARSEST_SIDE:
                break
            level, number = halved(level), number + 1
        image = _multiscale(path, datasets)
        if is_zarr_2:
            group.attrs["multiscales"] = [{"version": version, **image}]
        else:
            group.attrs["ome"] = {"version": version, "multiscales": [image]}
        labels = [*carried.labels, f"cryovae {__version__} {note}"]
        group.attrs[KEY] = {"labels": labels, "start": list(carried.start)}


def _zarr_2_arrays() -> dict[str, Any]:
    """How arrays of Zarr 2 are stored: chunks in nested folders, as OME-Zarr 0.4 recommends, and Blosc."""
    from numcodecs import Blosc

    return {
        "compressors": Blosc(cname="lz4", clevel=5, shuffle=Blosc.SHUFFLE),
        "chunk_key_encoding": {"name": "v2", "separator": "/"},
    }


def halved(density: np.ndarray) -> np.ndarray:
    """Average a volume (z, y, x) over blocks of 2 x 2 x 2 voxels; the last block of an odd axis is one voxel thick."""
    for axis in range(3):
        first = np.arange(0, density.shape[axis], 2)
        counts = np.minimum(2, density.shape[axis] - first).astype(density.dtype)
        density = np.add.reduceat(density, first, axis) / np.expand_dims(counts, [a for a in range(3) if a != axis])
    return density


def _dataset(number: int, voxel_size: float, origin: tuple[float, float, float]) -> dict[str, Any]:
    """Metadata of level n, whose first voxel is centred (2^n - 1) / 2 voxels from the first voxel of level 0."""
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
        "name": stem(path),
        "axes": [{"name": axis, "type": "space", "unit": "angstrom"} for axis in AXES],
        "datasets": datasets,
        "type": "mean",
    }
