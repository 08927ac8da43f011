"""Volumes and run folders as layers: what napari's readers hand on. Voxels stay on the disk until they are shown."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from cryovae.errors import InputError
from cryovae.io.files import read_volume
from cryovae.io.orientation import upright
from cryovae.io.tilts import read_tilts
from cryovae.io.volume import Volume, voxel_size_of
from cryovae.napari_plugin.layers import KEY, LayerTuple, contrast_limits, layer_for
from cryovae.report.sampler_sentences import tempered_name
from cryovae.workflows.geometry_record import geometry_of
from cryovae.workflows.run_inputs import record_of, tomogram_of

TILT_SUFFIXES = (".tlt", ".rawtlt")
HALVES = {"half1": r"(half_?1|even|evn)$", "half2": r"(half_?2|odd)$"}
SAMPLE = re.compile(r"_sample_(\d+)$")


def layer_of_file(path: Path) -> LayerTuple:
    """A volume as a layer; a file without a usable voxel size is shown with voxels of 1 angstrom, and says so in its name.

    InputError as for ``read_volume``.
    """
    volume = read_volume(path)
    name, size = path.name, 1.0
    try:
        size = voxel_size_of(volume, None)
    except InputError:
        name = f"{path.name} (no voxel size)"
    return layer_for(volume.density, role_of(path), name, size, path=path, tilts=tilts_beside(path), header=header_of(volume))


def role_of(path: Path) -> str:
    """half1 or half2 by the ending of the name, else input."""
    stem = path.name.split(".")[0].lower()
    return next((role for role, ending in HALVES.items() if re.search(ending, stem)), "input")


def tilts_beside(path: Path) -> tuple[float, ...] | None:
    """The tilt angles in a file of the same name, of halves also without their ending; None if there is none to be read."""
    found = tilt_file_beside(path)
    return read_tilts(found).angles if found else None


def tilt_file_beside(path: Path) -> Path | None:
    """That file; None if there is none that can be read."""
    stem = path.name.split(".")[0]
    for name in (stem, re.sub(r"_?(half_?[12]|even|evn|odd)$", "", stem, flags=re.IGNORECASE)):
        for suffix in TILT_SUFFIXES:
            file = path.with_name(name + suffix)
            if file.is_file():
                try:
                    read_tilts(file)
                except InputError:
                    continue
                return file
    return None


def header_of(volume: Volume) -> dict[str, Any]:
    """What the header says, for napari's metadata."""
    keys = ("stored", "voxel_size", "origin", "labels", "notes", "mode")
    return {"header": {key: getattr(volume, key) for key in keys}}


def layers_of_run(folder: Path) -> list[LayerTuple]:
    """Input, mean, standard deviation and samples of a run folder, those that there are; the beam along the first axis.

    InputError if the folder holds no restored volume.
    """
    record = record_of(folder)
    results = _results(folder, record["name"])
    if not results:
        status = record.get("status", "unknown")
        raise InputError(
            f"{folder} holds no restored volume of {record['name']} (status: {status}): restore first, or --resume it"
        )
    volumes = {kind: read_volume(path) for kind, path in results.items()}
    size = voxel_size_of(next(iter(volumes.values())), None)
    rotated = bool(record.get("unrotated"))
    density = {kind: upright(volume.density) if rotated else volume.density for kind, volume in volumes.items()}
    tilts = geometry_of(record["tilts"]).angles if record.get("tilts") else None
    known: dict[str, Any] = {"run": folder, "tilts": tilts}
    settings = (record.get("config") or {}).get("restoration") or {}
    tempered = f", {tempered_name(settings)}" if tempered_name(settings) else ""
    found = []
    limits = None
    before = _input(folder, size)
    if before is not None:
        limits = contrast_limits(before)
        source = record["inputs"].get("tomogram") or record["inputs"].get("half1") or {}
        named = f"{record['name']} input"
        found.append(layer_for(before, "input", named, size, path=_path(source), limits=limits, **known))
    if "mean" in density:
        found.append(layer_for(density["mean"], "mean", f"{record['name']} mean{tempered}", size, path=results["mean"], **known))
    if "std" in density:
        name = f"{record['name']} std{tempered}"
        found.append(layer_for(density["std"], "std", name, size, path=results["std"], visible=False, **known))
    samples = [density[kind] for kind in sorted(density, key=_number) if kind.startswith("sample_")]
    if samples:
        stacked = _stacked(samples)
        name = f"{record['name']} samples{tempered}"
        own = contrast_limits(samples[0])
        found.append(layer_for(stacked, "samples", name, size, limits=own, visible=False, **known))
    for _, options, _ in found:
        if tempered and options["metadata"][KEY]["role"] != "input":
            options["metadata"][KEY]["tempered"] = float(settings["temperature"])
    return found


def _path(source: dict[str, Any]) -> Path | None:
    return Path(source["path"]) if source.get("path") else None


def _number(kind: str) -> tuple[str, int]:
    head, _, tail = kind.rpartition("_")
    return (head, int(tail)) if tail.isdigit() else (kind, 0)


def _results(folder: Path, name: str) -> dict[str, Path]:
    """The restored volumes of a run by their kind: mean, std, sample_0, ..."""
    found = {}
    for path in sorted(folder.glob(f"{name}_*")):
        kind = path.name.removeprefix(f"{name}_").removesuffix(path.suffix)
        if path.suffix in (".mrc", ".zarr") and (kind in ("mean", "std") or SAMPLE.search(f"_{kind}")):
            found[kind] = path
    return found


def _input(folder: Path, size: float) -> np.ndarray | None:
    """The tomogram that was restored, None if its files are gone."""
    try:
        return tomogram_of(folder, size).density
    except InputError:
        return None


def _stacked(samples: list[np.ndarray]) -> Any:
    """Samples (samples, z, y, x) of which only what is shown is read."""
    import dask.array as da

    chunks = (1, *samples[0].shape[1:])
    return da.stack([da.from_array(sample, chunks=chunks, asarray=False) for sample in samples])
