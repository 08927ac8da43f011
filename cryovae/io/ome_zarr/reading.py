"""Reads the finest level of OME-Zarr 0.4 (Zarr 2) and 0.5 (Zarr 3).

position = scale * index + translation
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any, cast

import numpy as np

from cryovae.errors import InputError
from cryovae.io.ome_zarr.library import AXES, KEY, library, understood
from cryovae.io.volume import Provenance, Volume

UNITS = {
    "angstrom": 1.0, "å": 1.0, "a": 1.0, "nanometer": 10.0, "nm": 10.0, "micrometer": 1e4, "um": 1e4, "µm": 1e4,
    "picometer": 0.01, "millimeter": 1e7, "meter": 1e10,
}  # fmt: skip
# Largest number of voxels along an axis, and largest ratio of all chunks to stored chunks.
LONGEST_AXIS, MAX_SPARSITY = 1 << 20, 1000
METADATA = ("zarr.json", ".zarray", ".zattrs", ".zgroup")


class OnDemand:
    """An array of a Zarr group as (z, y, x); only the requested slices are read.

    It has the attributes of an array that readers need: shape, ndim, size, dtype, slices along all axes, and np.asarray.

    Args:
        path: folder of the group, for error messages.
        array: the Zarr array, of any number of axes.
        order: axes of the array that are z, y, x; the other axes have length 1.
    """

    def __init__(self, path: Path, array: Any, order: tuple[int, int, int]) -> None:
        self._path, self._array, self._order = path, array, order
        self.shape: tuple[int, int, int] = tuple(int(array.shape[axis]) for axis in order)  # type: ignore[assignment]
        self.dtype = np.dtype(array.dtype)
        self.ndim, self.size = 3, int(np.prod(self.shape))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> np.ndarray:
        asked = index if isinstance(index, tuple) else (index,)
        slices = [i if isinstance(i, slice) else slice(i, i + 1) for i in asked] + [slice(None)] * (3 - len(asked))
        where = [slice(0, 1)] * len(self._array.shape)
        for axis, part in zip(self._order, slices, strict=True):
            where[axis] = part
        others = tuple(axis for axis in range(len(where)) if axis not in self._order)
        with understood(self._path):
            box = np.asarray(self._array[tuple(where)]).transpose(*others, *self._order)
        return box.reshape(box.shape[len(others) :])[tuple(slice(None) if isinstance(i, slice) else 0 for i in asked)]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self[:].astype(dtype or self.dtype, copy=False)


def is_zarr(path: Path) -> bool:
    """Whether a path is a Zarr folder."""
    return os.path.isdir(path) and any(os.path.exists(path / name) for name in ("zarr.json", ".zgroup", ".zattrs", ".zarray"))


def read_zarr(path: Path) -> Volume:
    """Open the finest level of an OME-Zarr group; lengths are converted to angstrom.

    Raises:
        InputError: the folder is not an OME-Zarr group, is damaged, or does not contain a single volume.
    """
    with understood(path):
        group, attributes, image = _image(path)
        axes, order = _axes(path, image)
        level = image["datasets"][0]
        array = group[level["path"]]
        scale, shift = _placed([*level["coordinateTransformations"], *image.get("coordinateTransformations", [])], len(axes))
        version = str(attributes.get("version", image.get("version", "")))
    _check(path, array, axes, order)
    units = [UNITS.get(str(axes[axis].get("unit", "")).lower()) for axis in order]
    notes = () if None not in units else (f"{path}: no unit of length that is known, so the voxel size is not known either",)
    sizes, places = ([float(v[axis]) * (unit or 0.0) for axis, unit in zip(order, units, strict=True)] for v in (scale, shift))
    return Volume(
        path=path,
        density=cast(np.ndarray, OnDemand(path, array, order)),
        stored=f"OME-Zarr {version}, {np.dtype(array.dtype).name}",
        voxel_size=(abs(sizes[2]), abs(sizes[1]), abs(sizes[0])),
        origin=(places[2], places[1], places[0]),
        labels=_ours(group)[0],
        notes=notes,
    )


def pyramid_of(path: Path) -> list[OnDemand]:
    """All levels of an OME-Zarr group as (z, y, x), the finest first. InputError as for ``read_zarr``."""
    with understood(path):
        group, _, image = _image(path)
        _, order = _axes(path, image)
        return [OnDemand(path, group[level["path"]], order) for level in image["datasets"]]


def provenance_of_zarr(path: Path) -> Provenance:
    """Metadata that a restored volume keeps from an OME-Zarr group."""
    volume = read_zarr(path)
    with understood(path):
        labels, start = _ours(_image(path)[0])
    return Provenance(origin=volume.origin, start=start, labels=labels)


def _image(path: Path) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """The group of the multiscale image, its OME attributes, and the metadata of the image."""
    zarr = library(path)
    group = zarr.open(path, mode="r")
    if not isinstance(group, zarr.Group):
        raise InputError(f"{path} is a Zarr array without the metadata of OME-Zarr, expected the group around it")
    if "bioformats2raw.layout" in group.attrs.get("ome", group.attrs):
        group = group["0"]
    attributes = dict(group.attrs.get("ome", group.attrs))
    if not attributes.get("multiscales"):
        raise InputError(f"{path} is a Zarr group without multiscales, expected OME-Zarr of version 0.4 or 0.5")
    return group, attributes, dict(attributes["multiscales"][0])


def _axes(path: Path, image: dict[str, Any]) -> tuple[list[dict[str, Any]], tuple[int, int, int]]:
    """The axes of the arrays, and the indices of z, y, x among them."""
    axes = [dict(axis) for axis in image["axes"]]
    names = [str(axis["name"]).lower() for axis in axes]
    if any(names.count(axis) != 1 for axis in AXES):
        raise InputError(f"{path} has axes {', '.join(names)}, expected z, y and x: give a volume")
    return axes, (names.index("z"), names.index("y"), names.index("x"))


def _placed(transformations: list[dict[str, Any]], axes: int) -> tuple[np.ndarray, np.ndarray]:
    """Total scale and translation of a sequence of transformations."""
    scale, shift = np.ones(axes), np.zeros(axes)
    for one in transformations:
        if one["type"] == "scale":
            factor = np.array(one["scale"], dtype=float)
            scale, shift = scale * factor, shift * factor
        elif one["type"] == "translation":
            shift = shift + np.array(one["translation"], dtype=float)
    return scale, shift


def _check(path: Path, array: Any, axes: list[dict[str, Any]], order: tuple[int, int, int]) -> None:
    """InputError if the finest level is not a single volume of numbers."""
    shape, kind = tuple(getattr(array, "shape", ())), np.dtype(getattr(array, "dtype", "O"))
    if len(shape) != len(axes):
        raise InputError(f"{path} has {len(axes)} axes and an array of shape {shape}, expected as many: its metadata are damaged")
    for axis, size in enumerate(shape):
        if axis not in order and size != 1:
            raise InputError(f"{path} has {size} volumes along {axes[axis]['name']}, expected one: write one apart")
    if not all(size <= LONGEST_AXIS for size in shape):
        raise InputError(f"{path} has shape {shape}, expected a volume: its metadata are damaged")
    if min(shape[axis] for axis in order) < 2:
        raise InputError(f"{path} has shape {shape}, expected a volume: give a tomogram, not an image")
    if kind.kind not in "iufb":
        raise InputError(f"{path} holds {kind.name}, expected integers or floats: convert it")
    held, expected = _stored(path, array)
    # Constant chunks need not be stored, but a volume with almost no other chunks is damaged.
    if not held or expected > MAX_SPARSITY * held:
        raise InputError(f"{path} holds {held} of the {expected} pieces of its voxels: copy it again")


def _stored(path: Path, array: Any) -> tuple[int, int]:
    """Number of chunks or shards of an array on disk, and the number expected from its shape.

    Files are counted, because zarr would try the names of all possible chunks, which does not end for a damaged shape.
    """
    with understood(path):
        pieces = array.shards or array.chunks
        expected = math.prod(-(-size // piece) for size, piece in zip(array.shape, pieces, strict=True))
        files = (file for file in (path / array.path).rglob("*") if os.path.isfile(file))
        return sum(file.name not in METADATA for file in files), expected


def _ours(group: Any) -> tuple[tuple[str, ...], tuple[int, int, int]]:
    """Labels and start that cryovae stored in a group."""
    kept = group.attrs.get(KEY) or {}
    x, y, z = (int(n) for n in kept.get("start", (0, 0, 0)))
    return tuple(str(label) for label in kept.get("labels", ())), (x, y, z)
