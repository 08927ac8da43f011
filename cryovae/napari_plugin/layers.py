"""Layers as plain tuples (data, options, "image"), and how to find those of a run. Neither Qt nor napari is needed here.

Each carries metadata["cryovae"]: role (one of ROLES), run (folder or None), path, voxel_size in angstrom, tilts in degrees.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

ROLES = ("input", "half1", "half2", "mean", "std", "measured", "samples", "preview")
KEY = "cryovae"
# Grey values outside these percentiles are shown black and white.
SHOWN_PERCENTILES = (0.5, 99.5)

LayerTuple = tuple[Any, dict[str, Any], str]


def layer_for(
    density: Any,
    role: str,
    name: str,
    voxel_size: float,
    *,
    run: Path | None = None,
    path: Path | None = None,
    tilts: Sequence[float] | None = None,
    header: dict[str, Any] | None = None,
    limits: tuple[float, float] | None = None,
    **options: Any,
) -> LayerTuple:
    """A layer of a density, scaled in angstrom.

    Args:
        density: Grey values (z, y, x) or (samples, z, y, x), or a list of them, the levels of a pyramid.
        role: One of ROLES.
        name: Name of the layer.
        voxel_size: In angstrom.
        run: Folder of the run that it belongs to.
        path: File that it was read from.
        tilts: Tilt angles in degrees.
        header: More metadata of the file.
        limits: Contrast limits; None takes them from the middle slice.
        options: Further options of the layer.
    """
    if role not in ROLES:
        raise ValueError(f"role {role} found, expected one of {', '.join(ROLES)}")
    info = {
        "role": role,
        "run": None if run is None else str(run),
        "path": None if path is None else str(path),
        "voxel_size": float(voxel_size),
        "tilts": None if tilts is None else [float(angle) for angle in tilts],
    }
    finest = density[0] if isinstance(density, list) else density
    leading = finest.ndim - 3
    layer_options = {
        "name": name,
        "scale": (1.0,) * leading + (float(voxel_size),) * 3,
        "units": ("pixel",) * leading + ("angstrom",) * 3,
        "contrast_limits": contrast_limits(finest) if limits is None else limits,
        "colormap": "gray",
        "metadata": {KEY: info, **(header or {})},
    }
    return density, layer_options | options, "image"


def contrast_limits(density: Any) -> tuple[float, float]:
    """Two different grey values between which the middle slice of a (..., z, y, x) density lies; only that slice is read."""
    middle = tuple(size // 2 for size in density.shape[:-2])
    return grey_range(np.asarray(density[middle], dtype=np.float32))


def grey_range(*arrays: np.ndarray) -> tuple[float, float]:
    """Two different grey values between which arrays lie: the widest of their ranges, between robust percentiles."""
    finite = [values[np.isfinite(values)] for values in arrays]
    ranges = [np.percentile(values, SHOWN_PERCENTILES) for values in finite if values.size] or [(0.0, 1.0)]
    low, high = float(min(r[0] for r in ranges)), float(max(r[1] for r in ranges))
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def density_of(layer: Any) -> Any:
    """The density of a layer, (z, y, x) or (samples, z, y, x); of a pyramid its finest level."""
    return layer.data[0] if getattr(layer, "multiscale", False) else layer.data


def about(layer: Any) -> dict[str, Any]:
    """The metadata that cryovae gave a layer, empty for other layers."""
    info = layer.metadata.get(KEY)
    return info if isinstance(info, dict) else {}


def of_role(layers: Iterable[Any], role: str, run: str | None = None) -> Any | None:
    """The last layer of a role, of one run or of any; None if there is none."""
    matching = [layer for layer in layers if about(layer).get("role") == role and run in (None, about(layer)["run"])]
    return matching[-1] if matching else None


def run_of(*layers: Any) -> Path | None:
    """The folder of the run of the first layer that has one."""
    return next((Path(about(layer)["run"]) for layer in layers if about(layer).get("run")), None)
