"""What the window for comparing shows, without the window: a pair of layers, one range of grey, a cut, a region, a voxel.

Densities are (z, y, x); places are in voxels where nothing else is said.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cryovae.errors import InputError
from cryovae.evaluate.assessment import Row, compare_halves
from cryovae.evaluate.fsc import score
from cryovae.evaluate.plane_power import log_power_xz
from cryovae.evaluate.region import SMALLEST, Box, cut_out, faded
from cryovae.io.files import read_volume
from cryovae.io.orientation import upright
from cryovae.napari_plugin.layers import about, of_role
from cryovae.napari_plugin.stage import is_prop
from cryovae.tomogram import TiltGeometry
from cryovae.workflows.geometry_record import geometry_of
from cryovae.workflows.run_inputs import inputs_in, record_of

# Grey values outside these percentiles of the slice in view are shown black and white.
SHOWN = (0.5, 99.5)
# A region is at most so many voxels along a side: spectra of it then take seconds.
LARGEST = 256
WHOLE = TiltGeometry.from_range(-90, 90)


def comparable(layers: Iterable[Any]) -> list[Any]:
    """The layers of one density each, among all those of a viewer."""
    return [layer for layer in layers if getattr(layer, "rgb", True) is False and layer.data.ndim == 3 and not is_prop(layer)]


def default_pair(layers: Iterable[Any]) -> tuple[Any, Any] | None:
    """What was restored and its restoration by their roles, else the first two densities; None if there are no two."""
    found = comparable(layers)
    restored = of_role(found, "mean")
    run = None if restored is None else about(restored)["run"]  # type: ignore[index]
    given = of_role(found, "input", run) or of_role(found, "half1", run)
    if restored is not None and given is not None:
        return given, restored
    densities = [layer for layer in found if (known := about(layer)) is None or known["role"] != "std"]
    return (densities[0], densities[1]) if len(densities) > 1 else None


def shown_range(*slices: np.ndarray) -> tuple[float, float]:
    """The grey values between which most of some slices lie: the widest of their ranges, between robust percentiles."""
    ranges = [np.percentile(values[np.isfinite(values)], SHOWN) for values in slices if np.isfinite(values).any()]
    low, high = (min(r[0] for r in ranges), max(r[1] for r in ranges)) if ranges else (0.0, 1.0)
    return (float(low), float(high)) if high > low else (float(low) - 0.5, float(low) + 0.5)


def slice_at(density: Any, axis: int, index: int) -> np.ndarray:
    """One slice of a (z, y, x) density across an axis; of a density on the disk nothing else is read."""
    place: list[Any] = [slice(None)] * 3
    place[axis] = int(np.clip(index, 0, density.shape[axis] - 1))
    return np.asarray(density[tuple(place)], dtype=np.float32)


class Beyond:
    """A density of which only what lies beyond a cut is seen: voxels before it are not numbers, which are drawn transparent.

    Read slice by slice, so that moving the cut costs one slice. axis, cut: the voxels from ``cut`` on along ``axis`` are seen.
    """

    def __init__(self, density: Any, axis: int, cut: int) -> None:
        self.density, self.axis, self.cut = density, axis, cut
        self.shape, self.ndim, self.dtype = tuple(density.shape), density.ndim, np.dtype(np.float32)

    def __getitem__(self, index: Any) -> np.ndarray:
        full = index if isinstance(index, tuple) else (index,)
        if Ellipsis in full:
            full = (slice(None),) * self.ndim
        full = full + (slice(None),) * (self.ndim - len(full))
        values = np.array(self.density[full], dtype=np.float32)
        along = np.arange(self.shape[self.axis])[full[self.axis]]
        if np.ndim(along) == 0:
            return values if along >= self.cut else np.full_like(values, np.nan)
        kept = [axis for axis in range(self.ndim) if not isinstance(full[axis], (int, np.integer))]
        shape = [-1 if axis == self.axis else 1 for axis in kept]
        return np.where((along >= self.cut).reshape(shape), values, np.float32(np.nan))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[...], dtype=dtype)


def box_between(low: Sequence[float], high: Sequence[float], shape: Sequence[int]) -> Box:
    """The voxels from ``low`` to ``high``, at least SMALLEST along each side, at most LARGEST, and inside the grid.

    InputError if the grid itself is smaller.
    """
    if min(shape) < SMALLEST:
        raise InputError(f"a tomogram of {_sides(shape)} voxels found, expected at least {SMALLEST} along each side")
    start, stop = [], []
    for a, b, n in zip(low, high, shape, strict=True):
        first, last = max(int(np.floor(a)), 0), min(int(np.ceil(b)) + 1, n)
        side = int(np.clip(last - first, SMALLEST, min(LARGEST, n)))
        begin = int(np.clip((first + last - side) // 2, 0, n - side))
        start.append(begin)
        stop.append(begin + side)
    return Box((start[0], start[1], start[2]), (stop[0], stop[1], stop[2]))


def box_in_view(corners: np.ndarray, displayed: Sequence[int], point: Sequence[float], shape: Sequence[int]) -> Box:
    """The part of a grid that is in view: ``corners`` (2, 3) along the displayed axes, and as deep as it is wide about ``point``.

    displayed: two of the axes 0, 1, 2, or all three.
    """
    low, high = np.array(corners[0], dtype=float), np.array(corners[1], dtype=float)
    deep = max(high[list(displayed)] - low[list(displayed)])
    for axis in set(range(3)) - set(displayed):
        low[axis], high[axis] = point[axis] - deep / 2, point[axis] + deep / 2
    return box_between(low.tolist(), high.tolist(), shape)


def tilts_of(*layers: Any) -> TiltGeometry | None:
    """The tilts of the first of some layers that knows them: those of its run, or of its file; None if none does."""
    for layer in layers:
        known = about(layer)
        if known and known.get("run"):
            recorded = record_of(Path(known["run"])).get("tilts")
            if recorded:
                return geometry_of(recorded)
        if known and known.get("tilts"):
            return TiltGeometry(tuple(known["tilts"]))
    return None


def halves_of(run: Path) -> dict[str, tuple[Any, Any]]:
    """The two halves of a run, ``restored`` and ``given``, those that there are; voxels stay on the disk."""
    record = record_of(run)
    named = inputs_in(record)
    files = {"given": [named.get("half1"), named.get("half2")]}
    stem = f"{record['name']}_mean_half"
    files["restored"] = [next(run.glob(f"{stem}{number}.*"), None) for number in (1, 2)]
    found = {}
    for kind, pair in files.items():
        if all(path is not None and path.exists() for path in pair):
            first, second = (read_volume(path).density for path in pair if path is not None)
            found[kind] = (upright(first), upright(second)) if record.get("unrotated") else (first, second)
    return found


@dataclass(frozen=True)
class Measured:
    """What was measured in a region: log10 power (k_z, k_x) of each layer by its name, and FSC curves with what they are of."""

    box: Box
    spectra: dict[str, np.ndarray]
    rows: list[Row]
    what: str
    tilts: TiltGeometry | None
    voxel_size: float


def measured(pair: tuple[Any, Any], box: Box) -> Measured:
    """Spectra of two layers in a box, and the FSC between the halves of their run, or between the two where it has no halves.

    InputError if they are not on one grid.
    """
    one, other = pair
    if one.data.shape != other.data.shape:
        found = " and ".join(_sides(layer.data.shape) for layer in pair)
        raise InputError(f"layers of {found} voxels found, expected two of one size: choose a tomogram and its own restoration")
    tilts = tilts_of(other, one)
    cuts = [faded(cut_out(layer.data, box)) for layer in pair]
    names = [_label(layer) for layer in pair]
    names = names if names[0] != names[1] else [layer.name for layer in pair]
    spectra = {name: log_power_xz(cut.numpy()) for name, cut in zip(names, cuts, strict=True)}
    run = _run_of(other, one)
    halves = {kind: both for kind, both in (halves_of(run) if run else {}).items() if both[0].shape == one.data.shape}
    size = float(other.scale[-1])
    if "restored" in halves:
        restored, given = (_cut(halves.get(kind), box) for kind in ("restored", "given"))
        rows = compare_halves(restored, given, None, tilts or WHOLE)
        return Measured(box, spectra, rows, "between the halves", tilts, size)
    rows = [Row("the two layers", score(cuts[0], cuts[1], tilts or WHOLE))]
    return Measured(box, spectra, rows, f"of {names[0]} with {names[1]}", tilts, size)


def _sides(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


def _cut(pair: tuple[Any, Any] | None, box: Box) -> Any:
    return None if pair is None else tuple(faded(cut_out(density, box)) for density in pair)


def _run_of(*layers: Any) -> Path | None:
    for layer in layers:
        known = about(layer)
        if known and known.get("run"):
            return Path(known["run"])
    return None


@dataclass(frozen=True)
class Voxel:
    """One voxel (z, y, x): its middle in angstrom from the first voxel's, and the value of each density there, grey levels."""

    index: tuple[int, int, int]
    place: tuple[float, float, float]
    values: dict[str, float]
    samples: np.ndarray

    def text(self) -> str:
        """All of it in three lines."""
        z, y, x = self.index
        at = ", ".join(f"{value:.4g}" for value in self.place)
        listed = ", ".join(f"{name} {value:.4g}" for name, value in self.values.items())
        if len(self.samples):
            listed += f", {len(self.samples)} samples {self.samples.min():.4g} to {self.samples.max():.4g}"
        return f"voxel z {z}, y {y}, x {x}\n({at}) Å\n{listed} (grey levels)"


def voxel_at(place: Sequence[float], pair: tuple[Any, Any], layers: Iterable[Any]) -> Voxel:
    """What is known of the voxel of the pair nearest to a place (z, y, x) of the viewer, in angstrom.

    The layers of the pair by their roles, or names, and of their run input, mean, std and samples. InputError outside of it.
    """
    one, other = pair
    size = np.array(other.scale[-3:], dtype=float)
    index = np.round((np.array(place, dtype=float) - np.array(other.translate[-3:])) / size).astype(int)
    z, y, x = (int(i) for i in index)
    if not all(0 <= i < n for i, n in zip((z, y, x), other.data.shape[-3:], strict=True)):
        raise InputError("a place outside of the tomogram was clicked, expected one inside it")
    known = [(_label(layer), layer) for layer in (one, other)]
    run = _run_of(other, one)
    listed = list(layers)
    if run is not None:
        known += [(role, of_role(listed, role, str(run))) for role in ("input", "mean", "std")]
    seen = {name: layer for name, layer in known if layer is not None and layer.data.shape == other.data.shape}
    values = {name: float(np.asarray(layer.data[z, y, x])) for name, layer in seen.items()}
    stack = of_role(listed, "samples", str(run)) if run is not None else None
    samples = np.zeros(0) if stack is None else np.asarray(stack.data[:, z, y, x], dtype=float)
    step = (index * size).tolist()
    return Voxel((z, y, x), (step[0], step[1], step[2]), values, samples)


def _label(layer: Any) -> str:
    known = about(layer)
    return str(known["role"]) if known else str(layer.name)
