"""A restoration as the arguments of ``cryovae restore``. Neither Qt nor napari is needed here.

The plugin starts the command itself: the same volumes as from a shell, a window that stays free, and a run that outlives it.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from cryovae.checkpoint import STATE
from cryovae.config import RunConfig
from cryovae.errors import InputError
from cryovae.evaluation.region import Box
from cryovae.io.files import read_volume, write_volume
from cryovae.io.names import possible_name, stem
from cryovae.io.views import UprightOf
from cryovae.napari_plugin.contents import without_half
from cryovae.napari_plugin.layers import about, density_of
from cryovae.napari_plugin.regions import sides
from cryovae.napari_plugin.restore_fields import words_of
from cryovae.workflows.compute import checked_device
from cryovae.workflows.memory import budget_of
from cryovae.workflows.options import from_options
from cryovae.workflows.requests import RestoreRequest
from cryovae.workflows.run_folder import read_record
from cryovae.workflows.run_inputs import voxel_size_in

# Voxel sizes that differ by more than this, relative to the larger, do not match.
VOXEL_SIZE_TOLERANCE = 0.05
# Seconds between two lines of progress.
FREQUENT_PROGRESS = {"CRYOVAE_PROGRESS_SECONDS": "1"}
# Samples that are written, unless the form says otherwise: the Uncertainty widget plays them.
SAMPLES_OUT = 8
# What the window itself writes into a folder; a folder of nothing else holds no results.
INPUTS, LOG = "inputs", "window.log"


@dataclass(frozen=True)
class Request:
    """A restoration that the form asks for.

    Attributes:
        volumes: The layer of a tomogram, or the layers of its two halves; none with a table.
        output: Folder for the results.
        options: Values of the options of ``cryovae restore`` by their names; those that are not there have their default.
        box: Part of the volumes; None for all.
        table: STAR table of tomograms; None for the volumes.
    """

    volumes: tuple[Any, ...]
    output: Path
    options: dict[str, Any] = field(default_factory=dict)
    box: Box | None = None
    table: Path | None = None

    @property
    def name(self) -> str:
        """The tomogram or table in a few words."""
        if self.table is not None:
            return self.table.name
        return _name_of(self.volumes[0]) if self.volumes and self.volumes[0] is not None else "nothing"

    def parsed(self) -> RestoreRequest:
        """The request as the command line would parse it, apart from the files of its volumes."""
        return from_options(RestoreRequest, self.options | {"output": self.output})

    def config(self, preset: str = "quick") -> RunConfig:
        """The resolved settings of the run. InputError if one is wrong."""
        return self.parsed().settings.resolved(preset)


def is_volume(layer: Any) -> bool:
    """Whether a layer can be restored: an image of three axes that is no result of a restoration."""
    image = type(layer).__name__ == "Image" and layer.ndim == 3 and not getattr(layer, "rgb", False)
    return image and about(layer).get("role", "input") in ("input", "half1", "half2")


def halves_among(layers: Sequence[Any]) -> tuple[Any, Any] | None:
    """The last pair of half layers by their roles; None if there is none."""
    first, second = ([layer for layer in layers if about(layer).get("role") == role] for role in ("half1", "half2"))
    return (first[-1], second[-1]) if first and second else None


def tomograms_among(layers: Iterable[Any]) -> list[tuple[Any, ...]]:
    """All tomograms among volumes: pairs of halves of one name, and single volumes."""
    tomograms: list[tuple[Any, ...]] = []
    listed = list(layers)
    second = {_name_of(layer): layer for layer in listed if about(layer).get("role") == "half2"}
    for layer in listed:
        role, name = about(layer).get("role", "input"), _name_of(layer)
        if role == "half1" and name in second:
            tomograms.append((layer, second.pop(name)))
        elif role != "half2":
            tomograms.append((layer,))
    return [*tomograms, *((layer,) for layer in second.values())]


def limits_of(layer: Any) -> tuple[float, float] | None:
    """Lowest and highest tilt of a layer in degrees; None if they are unknown."""
    tilts = about(layer).get("tilts")
    return (float(min(tilts)), float(max(tilts))) if tilts else None


def voxel_size(layer: Any) -> float:
    """Voxel size in angstrom of a layer that is scaled in it."""
    return float(about(layer).get("voxel_size") or layer.scale[-1])


def checked(request: Request) -> Request:
    """The request, if a run can begin with it; else InputError."""
    _check_volumes(request)
    parsed = request.parsed()
    files = [path for name in ("tilts", "tilts2", "mask", "ctf") for path in request.options.get(name) or []]
    for path in (*files, *(request.options[name] for name in ("config",) if request.options.get(name))):
        if not path.exists():
            raise InputError(f"{path} does not exist, expected a file: choose another in the form, or empty the line")
    config = request.config()
    if request.table is not None:
        if not request.table.is_file():
            raise InputError(f"{request.table} does not exist, expected a STAR table of tomograms: choose another, or none")
        _ = parsed.geometry.default_tilts
    else:
        parsed.geometry.geometries(1)
        parsed.optics.for_files(1)
    checked_device(parsed.compute.device, "--device")
    budget_of(parsed.compute.memory)
    if parsed.model is not None and parsed.start is not None:
        raise InputError("a trained model and 'Begin with' found, expected one of them: the first restores as it is")
    if parsed.model is not None and request.volumes:
        _check_model(parsed.model, voxel_size(request.volumes[0]), config.restoration.other_scale)
    return request


def _check_volumes(request: Request) -> None:
    if request.table is not None:
        return
    if not request.volumes or any(layer is None for layer in request.volumes):
        raise InputError("no layer chosen, expected a tomogram, or two halves: open one with File > Open")
    shapes = {tuple(density_of(layer).shape) for layer in request.volumes}
    if len(shapes) > 1:
        listed = " and ".join(map(sides, shapes))
        raise InputError(f"halves of {listed} voxels found, expected one shape: choose the two halves of one tomogram")
    if len(request.volumes) == 2 and request.volumes[0] is request.volumes[1]:
        raise InputError("the same layer was chosen for both halves, expected two: choose the other, or one tomogram")


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


def arguments_of(request: Request, resume: bool = False, overwrite: bool = False) -> list[str]:
    """The arguments of ``cryovae``; layers without a file, and boxes, are first written into ``inputs`` of the output."""
    options = dict(request.options) | {"output": request.output, "resume": resume, "overwrite": overwrite}
    if request.table is not None:
        options["tomogram"] = request.table
    else:
        paths = _halves_of(request) or [_file_of(layer, number, request) for number, layer in enumerate(request.volumes)]
        options |= dict(zip(("tomogram",) if len(paths) == 1 else ("half1", "half2"), paths, strict=True))
        if request.box is not None and options.get("mask"):
            options["mask"] = [_part_of_mask(options["mask"][0], request)]
    options["live"] = options.get("model") is None
    if options.get("samples_out") is None:
        config = request.config()
        has_samples = config.objective.variational and "samples" in config.restoration.outputs
        kept = min(SAMPLES_OUT, config.restoration.samples) if has_samples else 0
        options["samples_out"] = kept if kept != config.restoration.samples_out else None
    return ["restore", *words_of(options)]


def command_of(words: Sequence[str]) -> str:
    """The same run as a line for a shell."""
    return shlex.join(["cryovae", *words])


# Folders


def holds_results(folder: Path) -> bool:
    """Whether a folder holds more than what the window writes before a run."""
    if not folder.exists():
        return False
    return not folder.is_dir() or any(path.name not in (INPUTS, LOG) for path in folder.iterdir())


def next_folder(folder: Path, taken: Iterable[Path] = ()) -> Path:
    """The first folder without results among ``folder``, folder_2, folder_3 ...; of folder_2 among folder_2, folder_3 ..."""
    in_use = set(taken)
    match = re.fullmatch(r"(.*?)_(\d+)", folder.name)
    base, number = (match[1], int(match[2])) if match else (folder.name, 1)
    candidate = folder
    while candidate in in_use or holds_results(candidate):
        number += 1
        candidate = folder.with_name(f"{base}_{number}")
    return candidate


def is_resumable(folder: Path) -> bool:
    """Whether a folder holds the saved state of a run that was stopped."""
    if not (folder / STATE).exists():
        return False
    try:
        return read_record(folder / "run.json").get("status") != "done"
    except InputError:
        return True


def in_folder(request: Request, folder: Path) -> Request:
    """The request with another folder for its results."""
    return replace(request, output=folder)


def _halves_of(request: Request) -> list[Path]:
    """The files of both halves whose mean the only layer of a request shows; none if there are no such files, or for a box."""
    paths = [Path(path) for path in about(request.volumes[0]).get("halves") or []] if len(request.volumes) == 1 else []
    return paths if request.box is None and paths and all(path.exists() for path in paths) else []


def _file_of(layer: Any, number: int, request: Request) -> Path:
    path = about(layer).get("path")
    if request.box is None and path and Path(path).exists() and not about(layer).get("halves"):
        return Path(path)
    folder = request.output / INPUTS
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{_name_of(layer)}{'' if len(request.volumes) == 1 else ('_half1', '_half2')[number]}.mrc"
    part, note = density_of(layer), "as shown in napari"
    if request.box is not None:
        part = density_of(layer)[request.box.slices]
        note = "voxels " + ", ".join(f"{side.start}-{side.stop}" for side in request.box.slices)
    write_volume(file, np.asarray(part, dtype=np.float32), path, voxel_size(layer), note)
    return file


def _part_of_mask(path: Path, request: Request) -> Path:
    """The mask in the box of a request, written beside its volumes."""
    assert request.box is not None
    mask: Any = read_volume(path).density
    shape = tuple(density_of(request.volumes[0]).shape)
    if about(request.volumes[0]).get("rotated"):
        mask = UprightOf(mask)
    if tuple(mask.shape) != shape:
        raise InputError(f"{path} has {sides(mask.shape)} voxels, expected {sides(shape)}: choose the tomogram's own mask")
    file = request.output / INPUTS / "mask.mrc"
    size = voxel_size(request.volumes[0])
    write_volume(file, np.asarray(mask[request.box.slices], dtype=np.float32), None, size, "part of a mask")
    return file


def _name_of(layer: Any) -> str:
    return possible_name(without_half(stem(layer.name)), "tomogram")
