"""Draws of the posterior of one patch of a tomogram in the viewer, without a window.

The tomogram is that of a run, or is read again from the files of layers with their tilts: half tomograms, or one whose noise is
estimated from itself.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cryovae.checks.preflight import preflight
from cryovae.data.prepare import PreparedTomogram, prepare
from cryovae.errors import InputError
from cryovae.io.load import load_tomogram
from cryovae.napari_plugin.compare_model import tilts_of
from cryovae.napari_plugin.layers import about, run_of
from cryovae.napari_plugin.prior_model import Prior, Progress, prior_at
from cryovae.napari_plugin.regions import sides
from cryovae.napari_plugin.temporary_layers import camera_of
from cryovae.posterior.latent_walk import drawn
from cryovae.posterior.patch_sampler import observed_patches
from cryovae.tiling.grid import Position
from cryovae.tomogram import TiltGeometry, Tomogram
from cryovae.workflows.run_inputs import checked_tomogram_of


@dataclass(frozen=True)
class Measured:
    """Where a tomogram comes from.

    Attributes:
        run: Folder of its run, or None.
        files: Its file, or those of its two halves, if it is of no run.
        tilts: Its tilts, if it is of no run.
    """

    run: Path | None
    files: tuple[Path, ...] = ()
    tilts: TiltGeometry | None = None

    def tomogram(self) -> Tomogram:
        """The tomogram, checked. InputError if its files are gone, or a check refuses it."""
        if self.run is not None:
            return checked_tomogram_of(self.run)
        assert self.tilts is not None
        halves = (self.files[0], self.files[1]) if len(self.files) == 2 else None
        return preflight(load_tomogram(self.files[0], halves, self.tilts)).tomograms[0]


@dataclass(frozen=True)
class Ready:
    """A tomogram made ready for draws with a model.

    Attributes:
        measured: Where it comes from.
        side: Side of the patches of the model, in voxels.
        prepared: The tomogram.
    """

    measured: Measured
    side: int
    prepared: PreparedTomogram


@dataclass(frozen=True)
class PosteriorPatch:
    """Draws of the posterior of a patch, in grey values of its tomogram.

    Attributes:
        prior: The model.
        ready: The tomogram.
        position: First voxel of the patch (z, y, x).
        samples: (n, z, y, x).
    """

    prior: Prior
    ready: Ready
    position: Position
    samples: np.ndarray

    @property
    def mean(self) -> np.ndarray:
        """Mean of the samples, (z, y, x)."""
        return np.asarray(self.samples.mean(0))

    @property
    def std(self) -> np.ndarray:
        """Standard deviation of the samples, (z, y, x)."""
        return np.asarray(self.samples.std(0, ddof=1))


def measured_layer(layers: Sequence[Any], active: Any = None) -> tuple[Any, Measured]:
    """The layer of a tomogram with its tilts, the active one if it is such, else the last; and where the tomogram comes from.

    InputError if there is none.
    """
    candidates = [layer for layer in layers if type(layer).__name__ == "Image" and about(layer)]
    candidates.sort(key=lambda layer: layer is active)
    for layer in reversed(candidates):
        run = run_of(layer)
        if run is not None:
            return layer, Measured(run)
        measured = _of_files(layer, candidates)
        if measured is not None:
            return layer, measured
    raise InputError(
        "no tomogram with its tilts found in the viewer, expected one: open the folder of a run, or halves or a tomogram "
        "with a tilt file of the same name beside them"
    )


def _of_files(layer: Any, layers: Sequence[Any]) -> Measured | None:
    role = about(layer).get("role")
    parts: list[Any] = [layer]
    if role in ("half1", "half2"):
        parts = [next((one for one in reversed(layers) if about(one).get("role") == name), None) for name in ("half1", "half2")]
    elif role != "input":
        return None
    files = [path for part in parts if part is not None and (path := about(part).get("path"))]
    tilts = tilts_of(layer)
    if tilts is None or len(files) < len(parts):
        return None
    return Measured(None, tuple(Path(file) for file in files), tilts)


def voxel_in_middle(viewer: Any, layer: Any) -> list[int]:
    """The voxel (z, y, x) of a layer in the middle of the view, in the slice that is shown."""
    dims, camera = viewer.dims, camera_of(viewer)
    place = list(dims.point)
    shown = list(dims.displayed)
    for axis, at in zip(shown, camera.center[-len(shown) :], strict=True):
        place[axis] = at
    within = (np.array(place[-3:]) - np.array(layer.translate[-3:])) / np.array(layer.scale[-3:])
    return [round(float(at)) for at in within]


def posterior_here(
    path: Path | None,
    loaded: Prior | None,
    measured: Measured,
    ready: Ready | None,
    place: Sequence[int],
    count: int,
    seed: int,
) -> Generator[Progress, None, PosteriorPatch]:
    """Draw from the posterior of the patch about a place, yielding (done, count).

    Args:
        path: Of the model, None for the base of the package.
        loaded: The model that was used before, None if there is none.
        measured: The tomogram.
        ready: A tomogram that was made ready before, None if there is none.
        place: Voxel (z, y, x) in the middle of the patch.
        count: Number of draws, at least 2.
        seed: Random seed; the same seed gives the same draws.

    Raises:
        InputError: The model or the tomogram cannot be read, the tomogram is noise alone, or the place is outside of it.
    """
    if count < 2:
        raise InputError(f"{count} patch found, expected 2 or more for a standard deviation: draw more")
    prior = prior_at(path, loaded)
    if ready is None or (ready.measured, ready.side) != (measured, prior.side):
        ready = Ready(measured, prior.side, prepare(measured.tomogram(), prior.side, held_out=False))
    position = _position(place, tuple(ready.prepared.density.shape), prior.side)
    observed = observed_patches(ready.prepared, [position], prior.side)
    sampler = prior.sampler
    noise = sampler.noise(prior.side, count, seed)
    latents = yield from drawn(sampler, noise, sampler.context(observed.observation))
    return PosteriorPatch(prior, ready, position, observed.grey(sampler.decoded(latents)).numpy())


def _position(place: Sequence[int], shape: Sequence[int], side: int) -> Position:
    """First voxel of the patch inside a tomogram about a place. InputError if that is outside, or the tomogram too small."""
    if min(shape) < side:
        raise InputError(
            f"a tomogram of {sides(shape)} voxels found, expected at least {side} along each axis: take a larger one"
        )
    if not all(0 <= at < size for at, size in zip(place, shape, strict=True)):
        raise InputError("the middle of the view is outside of the tomogram, expected inside it: move the view onto the tomogram")
    z, y, x = (min(max(at - side // 2, 0), size - side) for at, size in zip(place, shape, strict=True))
    return z, y, x
