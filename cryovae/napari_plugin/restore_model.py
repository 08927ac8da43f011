"""What is to be restored, as the words of ``cryovae restore``. Neither Qt nor napari is needed here.

The plugin starts the command itself: the same volumes as from a shell, a window that stays free, and a run that outlives it.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cryovae.errors import InputError
from cryovae.io.files import write_volume
from cryovae.napari_plugin.layers import about
from cryovae.workflows.run_inputs import voxel_size_in

Box = tuple[slice, slice, slice]

# Two voxel sizes this far apart, relative to the larger, are not the same.
APART = 0.05
# Seconds between two lines of progress.
OFTEN = {"CRYOVAE_PROGRESS_SECONDS": "1"}


@dataclass(frozen=True)
class Request:
    """What the form says. volumes: layers of one tomogram, or of its two halves. tilts: a file, or None for ``limits``, degrees.

    model: a file, or the folder of a run; None trains one. samples_out: how many samples are written. box: a part (z, y, x) in
    voxels, or None for all. settings: further settings as for --set, parted by blanks.
    """

    volumes: tuple[Any, ...]
    output: Path
    tilts: Path | None = None
    limits: tuple[float, float] = (-60.0, 60.0)
    model: Path | None = None
    preset: str = "quick"
    steps: int | None = None
    samples: int = 8
    samples_out: int = 8
    seed: int = 0
    device: str = "auto"
    box: Box | None = None
    settings: str = ""


def is_volume(layer: Any) -> bool:
    """Whether a layer can be restored: three axes of numbers, and no result of ours but a mean."""
    known = about(layer) or {}
    image = type(layer).__name__ == "Image" and layer.ndim == 3 and not getattr(layer, "rgb", False)
    return image and known.get("role", "input") in ("input", "half1", "half2")


def halves_among(layers: Sequence[Any]) -> tuple[Any, Any] | None:
    """The last pair of half layers, by what their files are called; None if there is none."""
    found = {role: [layer for layer in layers if (about(layer) or {}).get("role") == role] for role in ("half1", "half2")}
    return (found["half1"][-1], found["half2"][-1]) if found["half1"] and found["half2"] else None


def limits_of(layer: Any) -> tuple[float, float] | None:
    """Lowest and highest tilt in degrees that are known of a layer."""
    tilts = (about(layer) or {}).get("tilts")
    return (float(min(tilts)), float(max(tilts))) if tilts else None


def checked(request: Request) -> Request:
    """The request, if a run can be begun with it; else InputError: what was found, what was expected, what to do."""
    if not request.volumes or any(layer is None for layer in request.volumes):
        raise InputError("no layer chosen, expected a tomogram, or two halves: open one with File > Open")
    shapes = {tuple(layer.data.shape) for layer in request.volumes}
    if len(shapes) > 1:
        raise InputError(f"halves of {_listed(shapes)} voxels found, expected one shape: choose the two halves of one tomogram")
    if len(request.volumes) == 2 and request.volumes[0] is request.volumes[1]:
        raise InputError("the same layer was chosen for both halves, expected two: choose the other, or one tomogram")
    if request.tilts is not None and not request.tilts.is_file():
        raise InputError(f"{request.tilts} does not exist, expected a file of tilt angles: choose one, or give the range")
    if not request.limits[0] < request.limits[1]:
        raise InputError(f"tilts from {request.limits[0]:g} to {request.limits[1]:g} degrees found, expected the lower one first")
    if request.model is not None:
        _check_model(request.model, voxel_size(request.volumes[0]))
    return request


def _check_model(model: Path, size: float) -> None:
    if not model.exists():
        raise InputError(f"{model} does not exist, expected a model or the folder of a run: choose another, or train")
    folder = model if model.is_dir() else model.parent
    if not (folder / "run.json").is_file():
        return
    trained = voxel_size_in(folder)
    if abs(trained - size) > APART * max(trained, size):
        raise InputError(
            f"the model was trained at {trained:g} angstrom a voxel, the layer has {size:g}: train anew, or bin one of them"
        )


def voxel_size(layer: Any) -> float:
    """Angstrom, of a layer that is scaled in it."""
    return float((about(layer) or {}).get("voxel_size") or layer.scale[-1])


def arguments_of(request: Request, resume: bool = False) -> list[str]:
    """The words after ``cryovae``; layers without a file, and boxes, are written into ``inputs`` of the output first."""
    paths = [_file_of(layer, number, request) for number, layer in enumerate(request.volumes)]
    words = ["restore", *map(str, paths)] if len(paths) == 1 else ["restore", "--half1", str(paths[0]), "--half2", str(paths[1])]
    words += ["--tilts", str(request.tilts)] if request.tilts else ["--tilt-range", *(f"{limit:g}" for limit in request.limits)]
    words += ["--model", str(request.model)] if request.model else ["--live"]
    words += ["--output", str(request.output), "--preset", request.preset, "--device", request.device]
    words += ["--samples", str(request.samples), "--samples-out", str(request.samples_out), "--seed", str(request.seed)]
    words += [] if request.steps is None else ["--steps", str(request.steps)]
    for setting in shlex.split(request.settings):
        words += ["--set", setting]
    # What a run before this one left is shown in the window, and was asked for.
    return [*words, "--resume" if resume else "--overwrite"]


def _file_of(layer: Any, number: int, request: Request) -> Path:
    path = (about(layer) or {}).get("path")
    if request.box is None and path and Path(path).exists():
        return Path(path)
    folder = request.output / "inputs"
    folder.mkdir(parents=True, exist_ok=True)
    name = _name_of(layer) + ("" if len(request.volumes) == 1 else ("_half1", "_half2")[number])
    part = layer.data if request.box is None else layer.data[request.box]
    written = folder / f"{name}.mrc"
    note = "as shown in napari" if request.box is None else f"voxels {_said(request.box)}"
    write_volume(written, np.asarray(part, dtype=np.float32), path, voxel_size(layer), note)
    return written


def _name_of(layer: Any) -> str:
    stem = layer.name.split(".")[0].removesuffix("_half1").removesuffix("_half2").strip()
    return "".join(c if c.isalnum() or c in "-_" else "_" for c in stem) or "tomogram"


def box_between(corners: Any, shape: Sequence[int], middle: int, depth: int, least: int) -> Box:
    """The part of a volume (z, y, x) between two corners in y and x, ``depth`` voxels about the slice ``middle``.

    Each side is ``least`` voxels long at least. InputError if the volume is not.
    """
    if min(shape) < least:
        raise InputError(f"{_listed([tuple(shape)])} voxels found, expected {least} along each axis: choose a smaller patch")
    corners = np.sort(np.asarray(corners, dtype=float), axis=0)
    ends = [(middle - depth / 2, middle + depth / 2), *((float(a), float(b)) for a, b in corners.T[-2:])]
    found = []
    for (low, high), size in zip(ends, shape, strict=True):
        # A view shows more than the volume.
        low, high = min(max(low, 0), size), min(max(high, 0), size)
        extent = int(min(max(round(high - low), least), size))
        start = int(min(max(round((low + high - extent) / 2), 0), size - extent))
        found.append(slice(start, start + extent))
    return found[0], found[1], found[2]


def _said(box: Box) -> str:
    return ", ".join(f"{part.start}-{part.stop}" for part in box)


def _listed(shapes: Any) -> str:
    return " and ".join(" x ".join(map(str, shape)) for shape in shapes)
