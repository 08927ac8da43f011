"""What the window for doubt shows, without the window: a mean that fades where it is uncertain, a loop of samples, a legend.

Densities are (z, y, x), standard deviations on the grey scale of the tomogram.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cryovae.errors import InputError
from cryovae.napari_plugin.layers import SHOWN, about
from cryovae.posterior.loop import loop_weights
from cryovae.workflows.run_inputs import record_of

# From a level to this many times it what is uncertain fades out.
EDGE = 1.25
# Slices of a volume from which its statistics are taken, evenly spaced.
PROBED = 24
NO_SAMPLES = "This run wrote no samples to play. Restore once more with --samples-out 8, and open the run again."


def means_in(layers: Iterable[Any]) -> list[Any]:
    """The layers of restored means."""
    return [layer for layer in layers if (known := about(layer)) and known["role"] == "mean"]


def partner(layers: Iterable[Any], mean: Any, role: str) -> Any | None:
    """The layer of another role that belongs to a mean, of its run and its size; None if there is none."""
    run = about(mean)["run"]  # type: ignore[index]
    found = [layer for layer in layers if (known := about(layer)) and known["role"] == role and known["run"] == run]
    return next((layer for layer in reversed(found) if layer.data.shape[-3:] == mean.data.shape), None)


def std_of(layers: Iterable[Any], mean: Any) -> Any:
    """The layer of the standard deviation of a mean. InputError, with the reason, if it has none."""
    found = partner(layers, mean, "std")
    if found is None:
        name = _objective(about(mean)["run"])  # type: ignore[index]
        why = f"objective {name} gives one answer and no error bars" if name not in (None, "vae") else "none is in the viewer"
        raise InputError(
            f"no standard deviation of {mean.name} found ({why}): open a run of the variational model, objective vae"
        )
    return found


def _objective(run: str | None) -> str | None:
    if run is None:
        return None
    found = record_of(Path(run)).get("config", {}).get("objective", {}).get("name")
    return None if found is None else str(found)


@dataclass(frozen=True)
class VarianceCalibration:
    """How uncertain a restoration is. std: (n,) of some voxels, rising.

    contrast: of the mean there, the grey levels from its 0.5th to its 99.5th percentile; background: its median.
    """

    std: np.ndarray
    contrast: float
    background: float

    @property
    def shown(self) -> tuple[float, float]:
        """The standard deviations from the first to the last colour: 2nd to 98th percentile."""
        low, high = (float(v) for v in np.percentile(self.std, (2, 98)))
        return (low, high) if high > low else (0.5 * low, 1.5 * high + 1e-6)

    def level_keeping(self, share: float) -> float:
        """The level at which a share of the voxels, 0 to 1, is kept; with 0 there is nothing left to be seen."""
        return float(np.quantile(self.std, share)) if share > 0 else float(self.std[0]) / EDGE

    def kept(self, level: float) -> float:
        """The share of voxels, 0 to 1, that are at least as certain as a level."""
        return float(np.searchsorted(self.std, level, side="right")) / len(self.std)

    def of_contrast(self, level: float) -> float:
        """A standard deviation as a share of the contrast, no unit; 1 is from black to white."""
        return level / self.contrast if self.contrast > 0 else float("inf")

    def summary(self) -> str:
        """In one sentence."""
        low, high = self.shown
        return (
            f"Standard deviation {low:.3g} to {high:.3g} grey levels, {100 * self.of_contrast(low):.0f} to "
            f"{100 * self.of_contrast(high):.0f} % of the contrast of the mean, which is {self.contrast:.3g} from black to white"
        )

    def at(self, level: float) -> str:
        """What a level means."""
        return (
            f"std ≤ {level:.3g} grey levels, {100 * self.of_contrast(level):.0f} % of the contrast: "
            f"{100 * self.kept(level):.0f} % of the voxels kept"
        )


def spread_of(mean: Any, std: Any) -> VarianceCalibration:
    """The spread of a mean and its standard deviation (z, y, x), from at most PROBED slices. InputError if all std are 0."""
    chosen = np.unique(np.linspace(0, mean.shape[0] - 1, min(PROBED, mean.shape[0])).round().astype(int))
    means = np.stack([np.asarray(mean[z], dtype=np.float32) for z in chosen])
    values = np.sort(np.stack([np.asarray(std[z], dtype=np.float32) for z in chosen]).ravel())
    values = values[np.isfinite(values)]
    if not len(values) or values[-1] <= 0:
        raise InputError("a standard deviation of 0 everywhere found, expected that of samples: restore with --samples 8")
    low, high = (float(v) for v in np.percentile(means, SHOWN))
    return VarianceCalibration(values, high - low, float(np.median(means)))


class Faded:
    """A density (..., z, y, x) that goes to the background where its standard deviation (z, y, x) is over ``level``.

    background + w (density - background), w falling from 1 at the level to 0 at EDGE times it. Read slice by slice.
    """

    def __init__(self, density: Any, std: Any, background: float, level: float = np.inf) -> None:
        self.density, self.std, self.background, self.level = density, std, background, level
        self.shape, self.ndim, self.dtype = tuple(density.shape), density.ndim, np.dtype(np.float32)

    def __getitem__(self, index: Any) -> np.ndarray:
        full = index if isinstance(index, tuple) else (index,)
        if Ellipsis in full:
            full = (slice(None),) * self.ndim
        full = full + (slice(None),) * (self.ndim - len(full))
        values = np.asarray(self.density[full], dtype=np.float32)
        if not np.isfinite(self.level):
            return values
        std = np.asarray(self.std[full[-3:]], dtype=np.float32)
        return self.background + weight(std, self.level) * (values - self.background)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[...], dtype=dtype)


def weight(std: np.ndarray, level: float) -> np.ndarray:
    """What is kept of a voxel, 1 up to the level and 0 from EDGE times it."""
    return np.clip((EDGE * level - std) / ((EDGE - 1) * level), 0, 1).astype(np.float32)  # type: ignore[no-any-return]


class Loop:
    """Samples (samples, z, y, x) as a loop (frames, z, y, x) about their mean (z, y, x); see ``inference.loop``."""

    def __init__(self, samples: Any, mean: Any, between: int) -> None:
        self.samples, self.mean = samples, mean
        self.weights = loop_weights(samples.shape[0], between)
        self.shape, self.ndim = (len(self.weights), *samples.shape[1:]), 4
        self.dtype = np.dtype(np.float32)

    def __getitem__(self, index: Any) -> np.ndarray:
        full = index if isinstance(index, tuple) else (index,)
        if Ellipsis in full:
            full = (slice(None),) * 4
        place = full[1:]
        if isinstance(full[0], (int, np.integer)):
            return self._frame(int(full[0]), place)
        frames = np.arange(self.shape[0])[full[0]]
        return np.stack([self._frame(int(frame), place) for frame in frames])

    def _frame(self, frame: int, place: tuple[Any, ...]) -> np.ndarray:
        mean = np.asarray(self.mean[place], dtype=np.float32)
        moved = mean.copy()
        for sample in np.flatnonzero(self.weights[frame]):
            drawn = np.asarray(self.samples[(int(sample), *place)], dtype=np.float32)
            moved += np.float32(self.weights[frame, sample]) * (drawn - mean)
        return moved

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[...], dtype=dtype)


COLOURS = ("clear to red", "viridis", "magma")


def colours(name: str) -> np.ndarray:
    """RGBA (256, 4) from certain to uncertain; ``clear to red`` lets the mean be seen where it is certain."""
    share = np.linspace(0, 1, 256)
    if name == COLOURS[0]:
        return np.stack([0.98 - 0.1 * share, 0.8 * (1 - share), 0.1 * (1 - share), share], 1)
    from matplotlib import colormaps

    return np.asarray(colormaps[name](share))
