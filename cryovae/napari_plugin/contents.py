"""Volumes and run folders as layers, for napari's readers. Voxels stay on the disk until they are shown."""

from __future__ import annotations

import re
from contextlib import suppress
from glob import escape
from pathlib import Path
from typing import Any

from cryovae.errors import InputError
from cryovae.io.files import FORMATS, read_volume
from cryovae.io.geometry_record import geometry_of
from cryovae.io.names import ending
from cryovae.io.ome_zarr.reading import is_zarr, pyramid_of
from cryovae.io.tilts import read_tilts
from cryovae.io.views import MeanOf, UprightOf
from cryovae.io.volume import Volume, voxel_size_of
from cryovae.napari_plugin.layers import KEY, LayerTuple, contrast_limits, layer_for
from cryovae.napari_plugin.lazy import OfView, Stacked
from cryovae.report.sampler_sentences import tempered_name
from cryovae.workflows.run_inputs import inputs_in, record_of

TILT_SUFFIXES = (".tlt", ".rawtlt")
# Letters of the name of a tomogram in the name of a layer.
SHORT = 14
HALVES = {"half1": r"(half_?1|even|evn)$", "half2": r"(half_?2|odd)$"}


def layer_of_file(path: Path) -> LayerTuple:
    """A volume as a layer. Without a usable voxel size it is shown with 1 angstrom, which its name says.

    InputError as for ``read_volume``.
    """
    volume = read_volume(path)
    name, size = path.name, 1.0
    try:
        size = voxel_size_of(volume, None)
    except InputError:
        name = f"{path.name} (no voxel size)"
    density = volume.density if not is_zarr(path) else levels_of(path)
    return layer_for(density, role_of(path), name, size, path=path, tilts=tilts_beside(path), header=header_of(volume))


def levels_of(path: Path) -> Any:
    """The levels of an OME-Zarr pyramid for a layer, the finest first; one volume if there is one level."""
    levels = pyramid_of(path)
    return levels if len(levels) > 1 else levels[0]


def role_of(path: Path) -> str:
    """half1 or half2 by the ending of the name, else input."""
    stem = path.name.split(".")[0].lower()
    return next((role for role, ending in HALVES.items() if re.search(ending, stem)), "input")


def tilts_beside(path: Path) -> tuple[float, ...] | None:
    """The tilt angles in the tilt file beside a volume; None if there is none."""
    file = tilt_file_beside(path)
    return read_tilts(file).angles if file else None


def tilt_file_beside(path: Path) -> Path | None:
    """A readable tilt file with the name of a volume, for halves also without their ending; None if there is none."""
    stem = path.name.split(".")[0]
    for name in (stem, without_half(stem)):
        for suffix in TILT_SUFFIXES:
            file = path.with_name(name + suffix)
            if file.is_file():
                with suppress(InputError):
                    read_tilts(file)
                    return file
    return None


def without_half(name: str) -> str:
    """The name of a half without the ending that tells which half it is."""
    return re.sub(r"_?(half_?[12]|even|evn|odd)$", "", name, flags=re.IGNORECASE)


def header_of(volume: Volume) -> dict[str, Any]:
    """The header of a volume as napari's metadata."""
    keys = ("stored", "voxel_size", "origin", "labels", "notes", "mode")
    return {"header": {key: getattr(volume, key) for key in keys}}


def layers_of_run(folder: Path) -> list[LayerTuple]:
    """Input and results of a run folder, those that exist, the beam along the first axis: mean, std, measured, samples.

    InputError if the folder holds no restored volume.
    """
    record = record_of(folder)
    if "name" not in record:
        raise InputError(f"run.json of {folder} names no tomogram: give the folder of a cryovae restore")
    name, results = record["name"], _results(folder, record["name"])
    if not results:
        status = record.get("status", "unknown")
        raise InputError(f"{folder} holds no restored volume of {name} (status: {status}): restore first, or --resume it")
    volumes = {kind: read_volume(path) for kind, path in results.items()}
    size = voxel_size_of(next(iter(volumes.values())), None)
    rotated = bool(record.get("unrotated"))
    density: dict[str, Any] = {kind: _placed(volume.density, rotated) for kind, volume in volumes.items()}
    pyramids = {kind: levels_of(path) for kind, path in results.items() if is_zarr(path) and not rotated}
    common: dict[str, Any] = {"run": folder, "tilts": geometry_of(record["tilts"]).angles if record.get("tilts") else None}
    settings = (record.get("config") or {}).get("restoration") or {}
    suffix = f", {tempered_name(settings)}" if tempered_name(settings) else ""
    layers = [
        layer_for(
            pyramids.get(kind, density[kind]),
            kind,
            f"{kind} {short(name)}{suffix}",
            size,
            path=results[kind],
            visible=kind == "mean",
            **common,
        )
        for kind in ("mean", "std", "measured")
        if kind in density
    ]
    samples = [density[kind] for kind in sorted(density, key=_number) if kind.startswith("sample_")]
    if samples:
        limits = contrast_limits(samples[0])
        stack = Stacked(samples)
        layers.append(layer_for(stack, "samples", f"samples {short(name)}{suffix}", size, limits=limits, visible=False, **common))
    for _, options, _ in layers:
        if suffix:
            options["metadata"][KEY]["tempered"] = float(settings["temperature"])
    with suppress(InputError):
        # Its files may be gone.
        density_in, source = input_of(record)
        layers.insert(0, layer_for(density_in, "input", f"input {short(name)}", size, path=source, **common))
        # What it shows is not what its file holds: the mean of two files, or one that was rotated.
        files = inputs_in(record)
        halves = [str(files[role]) for role in ("half1", "half2") if role in files]
        layers[0][1]["metadata"][KEY] |= {"halves": halves or None, "rotated": rotated}
    return layers


def input_of(record: dict[str, Any]) -> tuple[Any, Path | None]:
    """The input of a run with the beam along z, of halves their mean, read from the disk slice by slice; and its first file.

    InputError if its files are gone.
    """
    files = inputs_in(record)
    paths = [files[role] for role in ("half1", "half2") if role in files] or [files[r] for r in ("tomogram",) if r in files]
    if not paths:
        raise InputError("no input in the record found, expected a tomogram or two halves: open them with File > Open")
    volumes = [read_volume(path).density for path in paths]
    density: Any = volumes[0] if len(volumes) == 1 else OfView(MeanOf(*volumes))
    return _placed(density, bool(record.get("unrotated"))), paths[0]


def _placed(density: Any, rotated: bool) -> Any:
    """A density with the beam along z, read from the disk slice by slice."""
    return OfView(UprightOf(density)) if rotated else density


def short(name: str) -> str:
    """A name of at most SHORT letters: the last ones, which tell tomograms apart, after the first."""
    return name if len(name) <= SHORT else f"{name[:5]}…{name[-(SHORT - 6) :]}"


def _number(kind: str) -> tuple[str, int]:
    head, _, tail = kind.rpartition("_")
    return (head, int(tail)) if tail.isdigit() else (kind, 0)


def _results(folder: Path, name: str) -> dict[str, Path]:
    """The restored volumes of a run by their kind: mean, std, measured, sample_0, ..."""
    files = {
        path.name.removeprefix(f"{name}_").removesuffix(ending(path)): path for path in sorted(folder.glob(f"{escape(name)}_*"))
    }
    return {
        kind: path
        for kind, path in files.items()
        if ending(path) in FORMATS.values() and re.fullmatch(r"mean|std|measured|sample_\d+", kind)
    }
