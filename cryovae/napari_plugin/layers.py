"""Layers as plain tuples (data, options, "image"), and how to find those of a run again. Neither Qt nor napari is needed here.

Each carries metadata["cryovae"]: role (one of ROLES), run (folder or None), path, voxel_size in angstrom, tilts in degrees.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

ROLES = ("input", "half1", "half2", "mean", "std", "samples", "preview")
KEY = "cryovae"
# Grey values outside these percentiles of a slice are shown black and white.
SHOWN = (0.5, 99.5)

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
    """A layer of a density (z, y, x), or (samples, z, y, x): scaled in angstrom, its contrast taken from one slice.

    limits: contrast limits, if another layer's are to be kept. header: more metadata, what else is known of its file.
    """
    if role not in ROLES:
        raise ValueError(f"role {role} found, expected one of {', '.join(ROLES)}")
    about = {
        "role": role,
        "run": None if run is None else str(run),
        "path": None if path is None else str(path),
        "voxel_size": float(voxel_size),
        "tilts": None if tilts is None else [float(angle) for angle in tilts],
    }
    leading = density.ndim - 3
    return (
        density,
        {
            "name": name,
            "scale": (1.0,) * leading + (float(voxel_size),) * 3,
            "units": ("pixel",) * leading + ("angstrom",) * 3,
            "contrast_limits": contrast_limits(density) if limits is None else limits,
            "colormap": "gray",
            "metadata": {KEY: about, **(header or {})},
            **options,
        },
        "image",
    )


def contrast_limits(density: Any) -> tuple[float, float]:
    """Two different grey values between which the middle slice of a (..., z, y, x) density lies; only that slice is read."""
    middle = tuple(size // 2 for size in density.shape[:-2])
    values = np.asarray(density[middle], dtype=np.float32)
    values = values[np.isfinite(values)]
    low, high = (float(v) for v in np.percentile(values, SHOWN)) if values.size else (0.0, 1.0)
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def about(layer: Any) -> dict[str, Any] | None:
    """What cryovae knows of a layer, None if it did not make it."""
    found = layer.metadata.get(KEY)
    return found if isinstance(found, dict) else None


def of_role(layers: Iterable[Any], role: str, run: str | None = None) -> Any | None:
    """The last layer of a role, of one run if it is given; None if there is none."""
    found = [layer for layer in layers if (known := about(layer)) and known["role"] == role and run in (None, known["run"])]
    return found[-1] if found else None
