"""napari's writer: a layer as MRC or OME-Zarr, with the origin, labels and extended header of its source file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from cryovae.errors import InputError
from cryovae.io.files import write_volume
from cryovae.napari_plugin.layers import KEY
from cryovae.napari_plugin.notices import reporting

ANGSTROM = {"angstrom": 1.0, "nanometer": 10.0}


def write_image(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Write one image layer (z, y, x); returns the paths that were written. An error gives one notification and no file."""
    written: list[str] = []
    with reporting():
        density = as_volume(data)
        info = attributes.get("metadata", {}).get(KEY) or {}
        source = info.get("path")
        note = f"{info.get('role', 'layer')} from napari: {attributes.get('name', '')}"
        write_volume(Path(path), density, source if source and Path(source).exists() else None, voxel_size(attributes), note)
        written.append(path)
    return written


def as_volume(data: Any) -> np.ndarray:
    """The voxels (z, y, x) of a layer. InputError if it is no volume."""
    full = data[0] if isinstance(data, (list, tuple)) else data
    if full.ndim != 3:
        raise InputError(f"a layer of {full.ndim} dimensions found, expected a volume of 3: split it along its first axis")
    return np.asarray(full, dtype=np.float32)


def voxel_size(attributes: dict[str, Any]) -> float:
    """Voxel size in angstrom from the scale of a layer and its units; InputError if its voxels are not cubic."""
    scale = [float(s) for s in attributes.get("scale", (1.0,) * 3)][-3:]
    if max(scale) > 1.01 * min(scale):
        raise InputError(
            f"voxels of {' x '.join(f'{s:g}' for s in scale)} found, expected cubic voxels: set the scale of the layer"
        )
    units = [str(unit) for unit in (attributes.get("units") or ())][-1:]
    return scale[-1] * ANGSTROM.get(units[0] if units else "angstrom", 1.0)
