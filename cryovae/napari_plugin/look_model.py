"""The computations of the View widget, without a window: dark protein in 3D, slices of interest, the std at particles."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np

from cryovae.io.files import provenance_of
from cryovae.io.picks import Picks
from cryovae.napari_plugin.layers import density_of
from cryovae.workflows.run_inputs import inputs_in, record_of

# Voxels of a volume that is drawn in 3D at most: a larger one is averaged over cubes.
MOST_VOXELS = 256**3
# A slice of interest is at least this many slices from another one, and there are at most so many.
APART, MOST_SLICES = 4, 25


@dataclass(frozen=True)
class Solid:
    """A density made ready for 3D.

    Attributes:
        density: (z, y, x), protein bright, 0 at the background, in standard deviations.
        step: Voxels of the layer along a side of one of its voxels.
        dark: Whether protein is dark in the layer.
    """

    density: np.ndarray
    step: int
    dark: bool

    def limits(self, level: float) -> tuple[float, float]:
        """Contrast limits that show what is brighter than ``level`` percent of the voxels."""
        low, high = np.percentile(self.density, (level, 99.9))
        return float(low), float(max(high, low + 1e-3))

    def threshold(self, level: float) -> float:
        """The density of the surface about what is brighter than ``level`` percent of the voxels."""
        return float(np.percentile(self.density, level))


def is_dark(density: np.ndarray) -> bool:
    """Whether what stands out of a density is darker than its background, as protein in cryo-electron tomograms is."""
    low, middle, high = np.percentile(density, (0.1, 50, 99.9))
    return bool(middle - low > high - middle)


def solid_of(density: Any, dark: bool | None = None) -> Solid:
    """A density (z, y, x) for 3D; dark: whether protein is dark, None to tell it from the density."""
    step = max(1, ceil((np.prod(density.shape) / MOST_VOXELS) ** (1 / 3)))
    values = averaged(density, step)
    dark = is_dark(values) if dark is None else dark
    sign = -1.0 if dark else 1.0
    middle, scale = float(np.median(values)), max(float(values.std()), 1e-12)
    return Solid((sign / scale * (values - middle)).astype(np.float32), step, dark)


def averaged(density: Any, step: int) -> np.ndarray:
    """A density (z, y, x) averaged over cubes of ``step`` voxels, read slab by slab; voxels that fill no cube are left out."""
    if step == 1:
        return np.asarray(density[:, :, :], dtype=np.float32)
    nz, ny, nx = (size // step for size in density.shape)
    slabs = []
    for z in range(nz):
        slab = np.asarray(density[z * step : (z + 1) * step, : ny * step, : nx * step], dtype=np.float32)
        slabs.append(slab.reshape(step, ny, step, nx, step).mean((0, 2, 4)))
    return np.stack(slabs)


def slices_of_interest(std: Any) -> list[int]:
    """Slices z of a standard deviation (z, y, x) in which it is largest, the largest first, at least APART from each other."""
    means = np.array([float(np.mean(np.asarray(std[z], dtype=np.float32))) for z in range(std.shape[0])])
    slices: list[int] = []
    for z in np.argsort(-means, kind="stable"):
        if len(slices) < MOST_SLICES and all(abs(int(z) - other) >= APART for other in slices):
            slices.append(int(z))
    return slices


@dataclass(frozen=True)
class Rated:
    """Picked particles with the standard deviation at each.

    Attributes:
        picks: The particles.
        std: At the nearest voxel (n,), in grey levels; nan outside of the tomogram, or without a standard deviation.
    """

    picks: Picks
    std: np.ndarray

    def summary(self) -> str:
        """How many there are, and how uncertain the restoration is at them."""
        count, outside = len(self.std), int(np.isnan(self.std).sum())
        if not count:
            return "No particles of this tomogram."
        text = f"{count} particles; {self.picks.how}."
        if outside == count:
            return f"{text} No standard deviation is known at them."
        low, middle, high = np.nanpercentile(self.std, (0, 50, 100))
        text += f" Std at them: median {middle:.3g}, {low:.3g} to {high:.3g} grey levels."
        return f"{text} {outside} lie outside of the tomogram." if outside else text


def is_of_a_part(run: Path) -> bool:
    """Whether a run restored a box that was cut out of a tomogram here, by the labels of its inputs."""
    files = (path for path in inputs_in(record_of(run)).values() if path.suffix in (".mrc", ".rec") and path.exists())
    return any(re.match(r"cryovae \S+ voxels \d", label) for path in files for label in provenance_of(path).labels)


def rated(picks: Picks, std: Any, voxel_size: float) -> Rated:
    """The standard deviation at picked particles; std: (z, y, x), or None."""
    values = np.full(len(picks.positions), np.nan)
    if std is not None:
        index = np.round(picks.positions / voxel_size).astype(int)
        for number, place in enumerate(index):
            if all(0 <= at < size for at, size in zip(place, std.shape, strict=True)):
                z, y, x = (int(at) for at in place)
                values[number] = float(np.asarray(std[z, y, x]))
    return Rated(picks, values)


def densities_of(layers: Iterable[Any]) -> list[Any]:
    """The visible layers of one density that can be shown in 3D."""
    return [
        layer
        for layer in layers
        if layer.visible and type(layer).__name__ == "Image" and not layer.rgb and density_of(layer).ndim == 3
    ]
