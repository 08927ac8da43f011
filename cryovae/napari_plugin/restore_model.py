"""A restoration as the arguments of ``cryovae restore``. Neither Qt nor napari is needed here.

The plugin starts the command itself: the same volumes as from a shell, a window that stays free, and a run that outlives it.
"""

from __future__ import annotations

import inspect
import json
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cryovae.config import RunConfig, override, parse_setting, preset
from cryovae.errors import InputError
from cryovae.evaluation.region import Box
from cryovae.io.files import write_volume
from cryovae.io.names import possible_name, stem
from cryovae.napari_plugin.layers import about
from cryovae.napari_plugin.regions import sides
from cryovae.workflows.run_inputs import voxel_size_in

# Settings of a run that the form shows, with their captions; all else about them comes from RunConfig.
SETTINGS = {
    "training.steps": "Training steps",
    "restoration.samples": "Samples",
    "restoration.samples_out": "Samples kept",
}
# Voxel sizes that differ by more than this, relative to the larger, do not match.
VOXEL_SIZE_TOLERANCE = 0.05
# Seconds between two lines of progress.
FREQUENT_PROGRESS = {"CRYOVAE_PROGRESS_SECONDS": "1"}


def setting_of(config: RunConfig, key: str) -> Any:
    """The value of a setting, e.g. of ``training.steps``."""
    section, _, name = key.partition(".")
    return getattr(getattr(config, section), name)


def describe(key: str) -> str:
    """A setting and its description, from the docstring of the dataclass that declares it."""
    section, _, name = key.partition(".")
    text = inspect.getdoc(type(getattr(RunConfig(), section))) or ""
    description = re.search(rf"\b{name}: (.+?)(?=\.?\s+\w+:\s|\n\s*\n|\Z)", text, re.DOTALL)
    return f"{key}: {' '.join(description[1].split())}" if description else key


@dataclass(frozen=True)
class Request:
    """A restoration that the form asks for.

    Attributes:
        volumes: The layer of a tomogram, or the layers of its two halves.
        output: Folder for the results.
        tilts: File of the tilt angles; None for ``limits``.
        limits: Lowest and highest tilt in degrees.
        model: Trained model, or the folder of its run; None trains one.
        preset: Name of a preset.
        settings: Settings by their keys, e.g. ``training.steps``.
        more: Further settings as for --set, separated by spaces.
        seed: Random seed.
        device: auto, cpu or cuda.
        box: Part of the volumes; None for all.
        force: Whether to go on although a check of the input refuses it.
    """

    volumes: tuple[Any, ...]
    output: Path
    tilts: Path | None = None
    limits: tuple[float, float] = (-60.0, 60.0)
    model: Path | None = None
    preset: str = "quick"
    settings: dict[str, Any] = field(default_factory=dict)
    more: str = ""
    seed: int = 0
    device: str = "auto"
    box: Box | None = None
    force: bool = False


def config_of(name: str, settings: dict[str, Any], more: str = "") -> RunConfig:
    """The resolved settings of a run: a preset, changed by the form and by further settings. InputError if one is wrong."""
    return override(preset(name), settings | dict(parse_setting(setting) for setting in shlex.split(more)))


def is_volume(layer: Any) -> bool:
    """Whether a layer can be restored: an image of three axes that is no result of a restoration."""
    image = type(layer).__name__ == "Image" and layer.ndim == 3 and not getattr(layer, "rgb", False)
    return image and about(layer).get("role", "input") in ("input", "half1", "half2")


def halves_among(layers: Sequence[Any]) -> tuple[Any, Any] | None:
    """The last pair of half layers by their roles; None if there is none."""
    first, second = ([layer for layer in layers if about(layer).get("role") == role] for role in ("half1", "half2"))
    return (first[-1], second[-1]) if first and second else None


def limits_of(layer: Any) -> tuple[float, float] | None:
    """Lowest and highest tilt of a layer in degrees; None if they are unknown."""
    tilts = about(layer).get("tilts")
    return (float(min(tilts)), float(max(tilts))) if tilts else None


def voxel_size(layer: Any) -> float:
    """Voxel size in angstrom of a layer that is scaled in it."""
    return float(about(layer).get("voxel_size") or layer.scale[-1])


def checked(request: Request) -> Request:
    """The request, if a run can begin with it; else InputError."""
    if not request.volumes or any(layer is None for layer in request.volumes):
        raise InputError("no layer chosen, expected a tomogram, or two halves: open one with File > Open")
    shapes = {tuple(layer.data.shape) for layer in request.volumes}
    if len(shapes) > 1:
        listed = " and ".join(map(sides, shapes))
        raise InputError(f"halves of {listed} voxels found, expected one shape: choose the two halves of one tomogram")
    if len(request.volumes) == 2 and request.volumes[0] is request.volumes[1]:
        raise InputError("the same layer was chosen for both halves, expected two: choose the other, or one tomogram")
    if request.tilts is not None and not request.tilts.is_file():
        raise InputError(f"{request.tilts} does not exist, expected a file of tilt angles: choose one, or give the range")
    if not request.limits[0] < request.limits[1]:
        raise InputError(f"tilts from {request.limits[0]:g} to {request.limits[1]:g} degrees found, expected the lower one first")
    config = config_of(request.preset, request.settings, request.more)
    if request.model is not None:
        _check_model(request.model, voxel_size(request.volumes[0]), config.restoration.other_scale)
    return request


def _check_model(model: Path, size: float, other_scale: bool) -> None:
    if not model.exists():
        raise InputError(f"{model} does not exist, expected a model or the folder of a run: choose another, or train")
    folder = model if model.is_dir() else model.parent
    if other_scale or not (folder / "run.json").is_file():
        return
    trained = voxel_size_in(folder)
    if abs(trained - size) > VOXEL_SIZE_TOLERANCE * max(trained, size):
        raise InputError(
            f"the model was trained at {trained:g} angstrom a voxel, the layer has {size:g}: train anew, or bin one of them"
        )


def arguments_of(request: Request, resume: bool = False) -> list[str]:
    """The arguments of ``cryovae``; layers without a file, and boxes, are first written into ``inputs`` of the output."""
    paths = [str(_file_of(layer, number, request)) for number, layer in enumerate(request.volumes)]
    words = ["restore", *paths] if len(paths) == 1 else ["restore", "--half1", paths[0], "--half2", paths[1]]
    words += ["--tilts", str(request.tilts)] if request.tilts else ["--tilt-range", *(f"{limit:g}" for limit in request.limits)]
    words += ["--model", str(request.model)] if request.model else ["--live"]
    words += [
        "--output",
        str(request.output),
        "--preset",
        request.preset,
        "--device",
        request.device,
        "--seed",
        str(request.seed),
    ]
    defaults = preset(request.preset)
    changed = {key: value for key, value in request.settings.items() if value != setting_of(defaults, key)}
    for setting in (*(f"{key}={json.dumps(value)}" for key, value in changed.items()), *shlex.split(request.more)):
        words += ["--set", setting]
    # Results of an earlier run in the folder are shown in the window, so replacing them was asked for.
    words += ["--force"] if request.force else []
    return [*words, "--resume" if resume else "--overwrite"]


def _file_of(layer: Any, number: int, request: Request) -> Path:
    path = about(layer).get("path")
    if request.box is None and path and Path(path).exists():
        return Path(path)
    folder = request.output / "inputs"
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{_name_of(layer)}{'' if len(request.volumes) == 1 else ('_half1', '_half2')[number]}.mrc"
    part, note = layer.data, "as shown in napari"
    if request.box is not None:
        part = layer.data[request.box.slices]
        note = "voxels " + ", ".join(f"{side.start}-{side.stop}" for side in request.box.slices)
    write_volume(file, np.asarray(part, dtype=np.float32), path, voxel_size(layer), note)
    return file


def _name_of(layer: Any) -> str:
    return possible_name(stem(layer.name).removesuffix("_half1").removesuffix("_half2"), "tomogram")
