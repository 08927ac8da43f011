"""The computations of the Uncertainty widget, without a window: a mean that fades where it is uncertain, a loop of samples.

Densities are (z, y, x), standard deviations on the grey scale of the tomogram.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from cryovae.errors import InputError
from cryovae.napari_plugin.layers import SHOWN_PERCENTILES, about, density_of, of_role, run_of
from cryovae.napari_plugin.lazy import LazyArray
from cryovae.posterior.loop import loop_weights
from cryovae.workflows.run_inputs import record_of

# A voxel fades out between a level of the standard deviation and this many times it.
EDGE = 1.25
# Slices of a volume from which its statistics are taken, evenly spaced.
PROBED = 24
NO_SAMPLES = "This run wrote no samples to play. Restore once more with --samples-out 8, and open the run again."


def means_in(layers: Iterable[Any]) -> list[Any]:
    """The layers of restored means."""
    return [layer for layer in layers if about(layer).get("role") == "mean"]


def partner(layers: Iterable[Any], mean: Any, role: str) -> Any | None:
    """The layer of another role with the run and the size of a mean; None if there is none."""
    run, shape = about(mean)["run"], density_of(mean).shape
    return of_role([one for one in layers if about(one).get("run") == run and density_of(one).shape[-3:] == shape], role)


def std_of(layers: Iterable[Any], mean: Any) -> Any:
    """The layer of the standard deviation of a mean. InputError, with the reason, if there is none."""
    std = partner(layers, mean, "std")
    if std is None:
        run = run_of(mean)
        objective = record_of(run).get("config", {}).get("objective", {}).get("name") if run else None
        why = f"objective {objective} predicts no error bars" if objective not in (None, "vae") else "none is in the viewer"
        raise InputError(
            f"no standard deviation of {mean.name} found ({why}): open a run of the variational model, objective vae"
        )
    return std


@dataclass(frozen=True)
class StdStatistics:
    """How uncertain a restoration is, from some of its voxels.

    Attributes:
        std: Their standard deviations (n,), rising.
        contrast: Grey levels of the mean from its 0.5th to its 99.5th percentile.
        background: Median of the mean.
    """

    std: np.ndarray
    contrast: float
    background: float

    @property
    def shown(self) -> tuple[float, float]:
        """The standard deviations of the first and the last colour: 2nd and 98th percentile."""
        low, high = (float(v) for v in np.percentile(self.std, (2, 98)))
        return (low, high) if high > low else (0.5 * low, 1.5 * high + 1e-6)

    def level_keeping(self, share: float) -> float:
        """The level at which a share of the voxels, 0 to 1, is kept; at 0 all of them have faded out."""
        return float(np.quantile(self.std, share)) if share > 0 else float(self.std[0]) / EDGE

    def kept(self, level: float) -> float:
        """The share of voxels, 0 to 1, whose standard deviation is not above a level."""
        return float(np.searchsorted(self.std, level, side="right")) / len(self.std)

    def of_contrast(self, level: float) -> float:
        """A standard deviation as a share of the contrast, no unit; 1 is from black to white."""
        return level / self.contrast if self.contrast > 0 else float("inf")

    def summary(self) -> str:
        """The range of the standard deviation in one sentence."""
        low, high = self.shown
        return (
            f"Standard deviation {low:.3g} to {high:.3g} grey levels, {100 * self.of_contrast(low):.0f} to "
            f"{100 * self.of_contrast(high):.0f} % of the contrast of the mean, which is {self.contrast:.3g} from black to white"
        )

    def at(self, level: float) -> str:
        """A level in words."""
        return (
            f"std ≤ {level:.3g} grey levels, {100 * self.of_contrast(level):.0f} % of the contrast: "
            f"{100 * self.kept(level):.0f} % of the voxels kept"
        )


def std_statistics(mean: Any, std: Any) -> StdStatistics:
    """Statistics of a mean and its standard deviation (z, y, x), from at most PROBED slices. InputError if all std are 0."""
    slices = np.unique(np.linspace(0, mean.shape[0] - 1, min(PROBED, mean.shape[0])).round().astype(int))
    means = np.stack([np.asarray(mean[z], dtype=np.float32) for z in slices])
    values = np.sort(np.stack([np.asarray(std[z], dtype=np.float32) for z in slices]).ravel())
    values = values[np.isfinite(values)]
    if not len(values) or values[-1] <= 0:
        raise InputError("a standard deviation of 0 everywhere found, expected that of samples: restore with --samples 8")
    low, high = (float(v) for v in np.percentile(means, SHOWN_PERCENTILES))
    return StdStatistics(values, high - low, float(np.median(means)))


class FadedDensity(LazyArray):
    """A density (..., z, y, x) that fades to the background where its standard deviation (z, y, x) is above a level.

    background + w (density - background), w falling from 1 at the level to 0 at EDGE times it.

    Attributes:
        density: The density.
        std: Its standard deviation.
        background: A grey level.
        level: Of the standard deviation; infinity fades nothing.
    """

    def __init__(self, density: Any, std: Any, background: float, level: float = np.inf) -> None:
        super().__init__(density.shape)
        self.density, self.std, self.background, self.level = density, std, background, level

    def read(self, index: tuple[Any, ...]) -> np.ndarray:
        """The part at ``index``."""
        values = np.asarray(self.density[index], dtype=np.float32)
        if not np.isfinite(self.level):
            return values
        std = np.asarray(self.std[index[-3:]], dtype=np.float32)
        weight = np.clip((EDGE * self.level - std) / ((EDGE - 1) * self.level), 0, 1).astype(np.float32)
        return self.background + weight * (values - self.background)


class SampleLoop(LazyArray):
    """Samples (samples, z, y, x) as a loop (frames, z, y, x) about their mean (z, y, x); see ``posterior.loop``."""

    def __init__(self, samples: Any, mean: Any, between: int) -> None:
        self.samples, self.mean = samples, mean
        self.weights = loop_weights(samples.shape[0], between)
        super().__init__((len(self.weights), *samples.shape[1:]))

    def read(self, index: tuple[Any, ...]) -> np.ndarray:
        """The part at ``index``."""
        frames = np.arange(self.shape[0])[index[0]]
        if np.ndim(frames) == 0:
            return self._frame(int(frames), index[1:])
        return np.stack([self._frame(int(frame), index[1:]) for frame in frames])

    def _frame(self, frame: int, place: tuple[Any, ...]) -> np.ndarray:
        mean = np.asarray(self.mean[place], dtype=np.float32)
        density = mean.copy()
        for sample in np.flatnonzero(self.weights[frame]):
            drawn = np.asarray(self.samples[(int(sample), *place)], dtype=np.float32)
            density += np.float32(self.weights[frame, sample]) * (drawn - mean)
        return density


COLOURS = ("clear to red", "viridis", "magma")


def colours(name: str) -> np.ndarray:
    """RGBA (256, 4) from certain to uncertain; ``clear to red`` leaves the mean visible where it is certain."""
    share = np.linspace(0, 1, 256)
    if name == COLOURS[0]:
        return np.stack([0.98 - 0.1 * share, 0.8 * (1 - share), 0.1 * (1 - share), share], 1)
    from matplotlib import colormaps

    return np.asarray(colormaps[name](share))
