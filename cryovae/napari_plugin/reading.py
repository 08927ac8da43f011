"""napari's readers. A file that cannot be read gives one notification, and no layer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryovae.io.ome_zarr.reading import is_zarr
from cryovae.napari_plugin.contents import layer_of_file, layers_of_run
from cryovae.napari_plugin.layers import LayerTuple
from cryovae.napari_plugin.notices import reporting

SUFFIXES = (".mrc", ".rec", ".map", ".st", ".ali")
ZARR = ".zarr"
# Tells napari that a file was read and holds no layer.
NOTHING: list[Any] = [(None,)]

Reader = Callable[[Any], list[Any]]


def volume_reader(path: str | list[str]) -> Reader | None:
    """A reader of volumes, or None if one of the paths is no volume."""
    volumes = all(p.suffix.lower() in SUFFIXES and not p.is_dir() for p in _paths(path))
    volumes = volumes or all(p.suffix.lower() == ZARR and is_zarr(p) for p in _paths(path))
    return _reader(lambda file: [layer_of_file(file)]) if volumes else None


def run_reader(path: str | list[str]) -> Reader | None:
    """A reader of run folders of cryovae, or None if one of the paths is no run folder."""
    return _reader(layers_of_run) if all((p / "run.json").is_file() for p in _paths(path)) else None


def _paths(path: str | list[str]) -> list[Path]:
    return [Path(p) for p in ([path] if isinstance(path, (str, Path)) else path)]


def _reader(read: Callable[[Path], list[LayerTuple]]) -> Reader:
    def read_all(path: str | list[str]) -> list[Any]:
        layers: list[LayerTuple] = []
        with reporting():
            layers += [layer for p in _paths(path) for layer in read(p)]
        return layers or NOTHING

    return read_all
