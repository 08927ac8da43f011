"""What a run folder was made from: its model, its tomogram with its tilts, and its voxel size, by run.json."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cryovae.checkpoint import MODEL, Checkpoint, load_model, objective_of
from cryovae.errors import InputError
from cryovae.io.files import read_volume
from cryovae.io.load import load_tomogram
from cryovae.io.volume import MAX_VOXEL, voxel_size_of
from cryovae.tomogram import Optics, Tomogram
from cryovae.workflows.geometry_record import geometry_of


def record_of(folder: Path) -> dict[str, Any]:
    """run.json of a folder, its paths as seen from here. InputError if there is none, or it was cut short."""
    path = folder / "run.json"
    if not path.is_file():
        raise InputError(f"{folder} has no run.json: give the folder of a run, as cryovae restore and train write it")
    try:
        found: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}): give the folder of another run") from error
    began_in = Path(found.get("directory", ""))
    for given in found.get("inputs", {}).values():
        given["path"] = str(began_in / given["path"])
    if found.get("model"):
        found["model"] = str(began_in / found["model"])
    return found


def inputs_in(record: dict[str, Any]) -> dict[str, Path]:
    """The input files of a run by their role; relative ones are those from where it was started, if they are still there."""
    where = Path(record.get("directory", ""))
    found = {role: Path(given["path"]) for role, given in record.get("inputs", {}).items()}
    return {role: where / path if (where / path).exists() else path for role, path in found.items()}


def variational_model_of(folder: Path) -> Checkpoint:
    """The model in a run folder, or that it was restored with. InputError if it has no latents, or is gone."""
    path = folder / MODEL
    if not path.is_file():
        named = record_of(folder).get("model")
        if not named:
            raise InputError(f"{folder} holds no {MODEL}: give the folder of a run that was finished")
        path = Path(record_of(folder).get("directory", "")) / named
        path = path if path.exists() else Path(named)
    objective = objective_of(path)
    if objective != "vae":
        raise InputError(f"{path} is of objective {objective}, which has no latents: give a run of the variational model")
    return load_model(path)


def tomogram_of(folder: Path, voxel_size: float | None = None) -> Tomogram:
    """The tomogram that a run restored, with the beam along z; voxel_size in angstrom overrides its header.

    InputError if run.json names none with its tilts, as that of ``cryovae train`` does, or its files are gone.
    """
    record = record_of(folder)
    named = inputs_in(record)
    if "angles" not in (record.get("tilts") or {}):
        raise InputError(f"run.json of {folder} names no tomogram and its tilts: give the folder of a cryovae restore")
    halves = (named["half1"], named["half2"]) if "half1" in named else None
    full = None if halves else named.get("tomogram")
    for path in halves or ([full] if full else []):
        if not path.exists():
            raise InputError(f"{path}, from which {folder} was made, is not there: go to the folder where that was run")
    found = load_tomogram(full, halves, geometry_of(record["tilts"]), voxel_size, bool(record.get("unrotated")))
    optics = record.get("optics")
    return found if not optics else replace(found, optics=_optics(optics))


def voxel_size_in(folder: Path, override: float | None = None) -> float:
    """Voxel size in angstrom of the tomograms of a run, by the first of its inputs that is still there; InputError if none is."""
    if override is not None:
        if not 0 < override < MAX_VOXEL:
            raise InputError(f"--voxel-size {override:g} found, expected angstrom above 0, e.g. 10.0")
        return override
    for path in inputs_in(record_of(folder)).values():
        if path.exists() and path.suffix not in (".tlt", ".star", ".rawtlt", ".mdoc", ".aln", ".xf", ".xml"):
            return voxel_size_of(read_volume(path), None)
    raise InputError(f"the tomograms of {folder} are not there, so its voxel size is unknown: pass --voxel-size in angstrom")


def place_upright(place: Sequence[float], tomogram: Tomogram) -> tuple[float, float, float]:
    """A place (z, y, x) in the files of a tomogram, in voxels, as one with the beam along z; see ``io.orientation``."""
    first, middle, last = place
    return (tomogram.shape[0] - 1 - middle, first, last) if tomogram.unrotated else (first, middle, last)


def _optics(record: dict[str, Any]) -> Optics:
    lists: dict[str, Any] = {name: tuple(record[name]) for name in ("defocus", "angles") if name in record}
    return Optics(**(record | lists))
