"""The computations of the Compare widget, without a window: a pair of layers, a cut, a region, a voxel.

Densities are (z, y, x); places are in voxels unless stated otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from glob import escape
from pathlib import Path
from typing import Any

import numpy as np

from cryovae.errors import InputError
from cryovae.evaluation.assessment import Row
from cryovae.evaluation.plane_power import log_power_xz
from cryovae.evaluation.region import SMALLEST, Box, cut_out, faded
from cryovae.evaluation.region_fsc import region_score
from cryovae.io.files import read_volume
from cryovae.io.geometry_record import geometry_of
from cryovae.io.views import UprightOf
from cryovae.napari_plugin.layers import about, density_of, of_role, run_of
from cryovae.napari_plugin.lazy import LazyArray
from cryovae.napari_plugin.regions import box_within, sides
from cryovae.napari_plugin.temporary_layers import is_temporary
from cryovae.report.headline import Headline
from cryovae.tomogram import TiltGeometry
from cryovae.workflows.run_inputs import inputs_in, record_of

# Voxels along a side of a region, at most: its spectra then take seconds.
MAX_SIDE = 256
NO_WEDGE = TiltGeometry.from_range(-90, 90)


def comparable(layers: Iterable[Any]) -> list[Any]:
    """The layers of one density each."""
    return [
        layer
        for layer in layers
        if getattr(layer, "rgb", True) is False and density_of(layer).ndim == 3 and not is_temporary(layer)
    ]


def default_pair(layers: Iterable[Any]) -> tuple[Any, Any] | None:
    """Input and mean of a run by their roles, else the first two densities; None if there are no two."""
    candidates = comparable(layers)
    restored = of_role(candidates, "mean")
    run = None if restored is None else about(restored)["run"]
    source = of_role(candidates, "input", run) or of_role(candidates, "half1", run)
    if restored is not None and source is not None:
        return source, restored
    densities = [layer for layer in candidates if about(layer).get("role") != "std"]
    return (densities[0], densities[1]) if len(densities) > 1 else None


def slice_at(density: Any, axis: int, index: int) -> np.ndarray:
    """One slice of a density across an axis; nothing else is read from the disk."""
    place: list[Any] = [slice(None)] * 3
    place[axis] = int(np.clip(index, 0, density.shape[axis] - 1))
    return np.asarray(density[tuple(place)], dtype=np.float32)


class CutDensity(LazyArray):
    """A density whose voxels before a cut are NaN, which napari draws transparent.

    Attributes:
        density: The density.
        axis: Axis across which it is cut.
        cut: First voxel along it that is shown.
    """

    def __init__(self, density: Any, axis: int, cut: int) -> None:
        super().__init__(density.shape)
        self.density, self.axis, self.cut = density, axis, cut

    def read(self, index: tuple[Any, ...]) -> np.ndarray:
        """The part at ``index``."""
        values = np.array(self.density[index], dtype=np.float32)
        along = np.arange(self.shape[self.axis])[index[self.axis]]
        if np.ndim(along) == 0:
            return values if along >= self.cut else np.full_like(values, np.nan)
        kept = [axis for axis in range(self.ndim) if not isinstance(index[axis], (int, np.integer))]
        shape = [-1 if axis == self.axis else 1 for axis in kept]
        return np.where((along >= self.cut).reshape(shape), values, np.float32(np.nan))


def box_in_view(corners: np.ndarray, displayed: Sequence[int], point: Sequence[float], shape: Sequence[int]) -> Box:
    """The part of a volume that is in view, as deep as it is wide.

    Args:
        corners: First and last voxel (2, 3); used along the displayed axes.
        displayed: Two of the axes 0, 1, 2, or all three.
        point: Voxel (z, y, x) about which the box lies along the other axes.
        shape: Voxels of the volume along z, y, x.

    Raises:
        InputError: The volume is too small for a spectrum.
    """
    low, high = np.array(corners, dtype=float)
    depth = max(high[list(displayed)] - low[list(displayed)])
    for axis in set(range(3)) - set(displayed):
        low[axis], high[axis] = point[axis] - depth / 2, point[axis] + depth / 2
    return box_within(np.floor(low).tolist(), (np.ceil(high) + 1).tolist(), shape, SMALLEST, MAX_SIDE)


def tilts_of(*layers: Any) -> TiltGeometry | None:
    """The tilts of the first layer that has any, of its run or of its file; None if none has."""
    for layer in layers:
        run, angles = run_of(layer), about(layer).get("tilts")
        recorded = record_of(run).get("tilts") if run else None
        if recorded:
            return geometry_of(recorded)
        if angles:
            return TiltGeometry(tuple(angles))
    return None


def halves_of(run: Path) -> dict[str, tuple[Any, Any]]:
    """The halves of a run, ``input`` and ``restored``, those that exist; voxels stay on the disk."""
    record = record_of(run)
    inputs = inputs_in(record)
    files = {
        "input": [inputs.get(f"half{number}") for number in (1, 2)],
        "restored": [next(run.glob(f"{escape(record['name'])}_mean_half{number}.*"), None) for number in (1, 2)],
    }
    halves = {}
    for kind, pair in files.items():
        if all(path is not None and path.exists() for path in pair):
            first, second = (read_volume(path).density for path in pair if path is not None)
            # On the disk: only what is compared is read.
            halves[kind] = (UprightOf(first), UprightOf(second)) if record.get("unrotated") else (first, second)
    return halves


@dataclass(frozen=True)
class RegionComparison:
    """What was measured in a region of two layers.

    Attributes:
        box: The region.
        spectra: log10 power (k_z, k_x) by the name of the layer.
        rows: FSC curves.
        what: What they are the FSC of.
        tilts: Tilt geometry, None if it is unknown.
        voxel_size: In angstrom.
        caveat: What must be said with the FSC of restored halves; empty without them.
    """

    box: Box
    spectra: dict[str, np.ndarray]
    rows: list[Row]
    what: str
    tilts: TiltGeometry | None
    voxel_size: float
    caveat: str = ""

    def summary(self) -> str:
        """The region, and what was measured in it, in one line each."""
        lengths = " x ".join(f"{n} ({n * self.voxel_size / 10:.3g} nm)" for n in self.box.shape)
        lines = [f"Region z x y x x: {lengths}, first voxel {self.box.start}, edges faded"]
        for row in self.rows:
            parts = (("missing wedge", row.score.wedge), ("measured part", row.score.measured))
            known = [f"{name} {part.band:z.2f} ± {part.error:.2f}" for name, part in parts if np.isfinite(part.band)]
            lines.append(f"{row.name}, FSC {self.what}: {', '.join(known)}")
        low, high = self.rows[0].score.measured.limits
        lines.append(f"± one standard error; {low:g} to {high:g} cycles per voxel. An empty wedge has FSC 0.")
        return "\n".join([*lines, *filter(None, [self.caveat])])


def compare_region(pair: tuple[Any, Any], box: Box) -> RegionComparison:
    """Spectra of two layers in a box, and the FSC between the halves of their run; without halves, between the two layers.

    InputError if the layers differ in size.
    """
    one, other = pair
    if density_of(one).shape != density_of(other).shape:
        shapes = " and ".join(sides(density_of(layer).shape) for layer in pair)
        raise InputError(f"layers of {shapes} voxels found, expected two of one size: choose a tomogram and its own restoration")
    tilts = tilts_of(other, one)
    cuts = [faded(cut_out(density_of(layer), box)) for layer in pair]
    names = [_label(layer) for layer in pair]
    names = names if names[0] != names[1] else [layer.name for layer in pair]
    spectra = {name: log_power_xz(cut.numpy()) for name, cut in zip(names, cuts, strict=True)}
    run = run_of(other, one)
    halves = {kind: both for kind, both in (halves_of(run) if run else {}).items() if both[0].shape == density_of(one).shape}
    geometry, caveat = tilts or NO_WEDGE, ""
    if "restored" in halves:
        caveat = Headline.from_record(record_of(run)).of_halves() if run and geometry.has_wedge else ""
        names_of = {"restored": "restored", "input": "untouched input"}
        rows = [Row(name, region_score(*halves[kind], box, geometry)) for kind, name in names_of.items() if kind in halves]
        what = "between the halves"
    else:
        rows, what = (
            [Row("the two layers", region_score(density_of(one), density_of(other), box, geometry))],
            f"of {names[0]} with {names[1]}",
        )
    return RegionComparison(box, spectra, rows, what, tilts, float(other.scale[-1]), caveat)


@dataclass(frozen=True)
class Voxel:
    """One voxel.

    Attributes:
        index: (z, y, x).
        place: Its middle in angstrom from that of the first voxel.
        values: Grey level of each density by its name.
        samples: Grey levels of the posterior samples.
    """

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
    """The voxel of a pair of layers that is nearest to a place, with its values in the pair and in the layers of its run.

    Args:
        place: (z, y, x) of the viewer, in angstrom.
        pair: The two layers.
        layers: All layers of the viewer.

    Raises:
        InputError: The place is outside of the tomogram.
    """
    one, other = pair
    size = np.array(other.scale[-3:], dtype=float)
    index = np.round((np.array(place, dtype=float) - np.array(other.translate[-3:])) / size).astype(int)
    z, y, x = (int(i) for i in index)
    if not all(0 <= i < n for i, n in zip((z, y, x), density_of(other).shape[-3:], strict=True)):
        raise InputError("a place outside of the tomogram was clicked, expected one inside it: click on the tomogram")
    named = [(_label(layer), layer) for layer in pair]
    run, stack, listed = run_of(other, one), None, list(layers)
    if run is not None:
        named += [(role, of_role(listed, role, str(run))) for role in ("input", "mean", "std")]
        stack = of_role(listed, "samples", str(run))
    shown = {name: layer for name, layer in named if layer is not None and density_of(layer).shape == density_of(other).shape}
    values = {name: float(np.asarray(density_of(layer)[z, y, x])) for name, layer in shown.items()}
    samples = np.zeros(0) if stack is None else np.asarray(density_of(stack)[:, z, y, x], dtype=float)
    step = (index * size).tolist()
    return Voxel((z, y, x), (step[0], step[1], step[2]), values, samples)


def _label(layer: Any) -> str:
    return str(about(layer).get("role") or layer.name)
