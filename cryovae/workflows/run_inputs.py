"""The inputs of a finished run by its run.json: its model, its tomogram with tilts, and its voxel size."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from cryovae.checkpoint import MODEL, Checkpoint, load_model, objective_of
from cryovae.checks.preflight import preflight
from cryovae.errors import InputError
from cryovae.findings import Severity
from cryovae.io.files import read_volume
from cryovae.io.geometry_record import geometry_of
from cryovae.io.load import load_tomogram
from cryovae.io.volume import voxel_size_of
from cryovae.tomogram import Optics, Tomogram
from cryovae.units import check_voxel_size
from cryovae.workflows.run_folder import read_record


def record_of(folder: Path) -> dict[str, Any]:
    """run.json of a folder, with paths relative to where the run was started. InputError if there is none, or it is damaged."""
    path = folder / "run.json"
    if not path.is_file():
        raise InputError(f"{folder} has no run.json: give the folder of a run, as cryovae restore and train write it")
    record = read_record(path)
    directory = Path(record.get("directory", ""))
    for about in record.get("inputs", {}).values():
        about["path"] = str(directory / about["path"])
    if record.get("model"):
        record["model"] = str(directory / record["model"])
    return record


def inputs_in(record: dict[str, Any]) -> dict[str, Path]:
    """The input files of a run by their role; relative paths are those from where the run was started, if they exist."""
    directory = Path(record.get("directory", ""))
    files = {role: Path(about["path"]) for role, about in record.get("inputs", {}).items()}
    return {role: directory / path if (directory / path).exists() else path for role, path in files.items()}


def variational_model_of(folder: Path) -> Checkpoint:
    """The model in a run folder, or the model that restored it. InputError if it has no latents, or is gone."""
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
    """The tomogram that a run restored, with the beam along z.

    Args:
        folder: of the run.
        voxel_size: in angstrom, over the header.

    Raises:
        InputError: run.json names no tomogram with its tilts, as that of ``cryovae train``, or the files are gone.
    """
    record = record_of(folder)
    files = inputs_in(record)
    if "angles" not in (record.get("tilts") or {}):
        raise InputError(f"run.json of {folder} names no tomogram and its tilts: give the folder of a cryovae restore")
    halves = (files["half1"], files["half2"]) if "half1" in files else None
    full = None if halves else files.get("tomogram")
    for path in halves or ([full] if full else []):
        if not path.exists():
            raise InputError(f"{path}, from which {folder} was made, is not there: go to the folder where that was run")
    mask = files.get("mask")
    mask = mask if mask is not None and mask.exists() else None
    tomogram = load_tomogram(full, halves, geometry_of(record["tilts"]), voxel_size, bool(record.get("unrotated")), mask)
    optics = record.get("optics")
    return tomogram if not optics else replace(tomogram, optics=_optics(optics))


def checked_tomogram_of(folder: Path, voxel_size: float | None = None, force: bool = False) -> Tomogram:
    """The tomogram that a run restored, after the checks of the input; warnings go to stderr.

    Args:
        folder: of the run.
        voxel_size: in angstrom, over the header.
        force: whether refusals pass, as they do if the run itself was forced.

    Raises:
        InputError: as for ``tomogram_of``, or a check refuses the tomogram.
    """
    forced = force or bool(record_of(folder).get("force"))
    return checked_tomogram(tomogram_of(folder, voxel_size), forced)


def checked_tomogram(tomogram: Tomogram, force: bool = False) -> Tomogram:
    """A tomogram after the checks of the input; warnings go to stderr. InputError if one refuses it and ``force`` is False."""
    checked = preflight(tomogram, force)
    for finding in checked.findings:
        if finding.severity is not Severity.NOTE:
            print(finding.line, file=sys.stderr)
    return checked.tomograms[0]


def voxel_size_in(folder: Path, override: float | None = None) -> float:
    """Voxel size in angstrom of the tomograms of a run, by its first input that still exists; InputError if none does."""
    if override is not None:
        check_voxel_size(override, "--voxel-size")
        return override
    for path in inputs_in(record_of(folder)).values():
        if path.exists() and path.suffix not in (".tlt", ".star", ".rawtlt", ".mdoc", ".aln", ".xf", ".xml"):
            return voxel_size_of(read_volume(path), None)
    raise InputError(f"the tomograms of {folder} are not there, so its voxel size is unknown: pass --voxel-size in angstrom")


def place_upright(place: Sequence[float], tomogram: Tomogram) -> tuple[float, float, float]:
    """Convert a position (z, y, x) in the files of a tomogram, in voxels, to one with the beam along z."""
    first, middle, last = place
    return (tomogram.shape[0] - 1 - middle, first, last) if tomogram.unrotated else (first, middle, last)


def place_inside(place: Sequence[float], tomogram: Tomogram) -> tuple[float, float, float]:
    """A position as by ``place_upright``. InputError if it is outside the tomogram."""
    upright = place_upright(place, tomogram)
    if not all(0 <= at < size for at, size in zip(upright, tomogram.shape, strict=True)):
        nz, ny, nx = tomogram.shape
        stored = (ny, nz, nx) if tomogram.unrotated else tomogram.shape
        raise InputError(f"place {','.join(f'{v:g}' for v in place)} found, expected z,y,x in voxels inside {stored}")
    return upright


def _optics(record: dict[str, Any]) -> Optics:
    lists: dict[str, Any] = {name: tuple(record[name]) for name in ("defocus", "angles") if name in record}
    known = {f.name: record[f.name] for f in fields(Optics) if f.name in record}
    return Optics(**(known | lists))
