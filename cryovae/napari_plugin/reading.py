"""napari's readers. What cannot be read is one notification, and no layer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryovae.napari_plugin.contents import layer_of_file, layers_of_run
from cryovae.napari_plugin.layers import LayerTuple
from cryovae.napari_plugin.notices import reporting

SUFFIXES = (".mrc", ".rec", ".map", ".st", ".ali")
# By which napari knows that a file was read and holds no layer.
NOTHING: list[Any] = [(None,)]

Reader = Callable[[Any], list[Any]]


def volume_reader(path: str | list[str]) -> Reader | None:
    """A reader of volumes, or None if one of the paths is something else."""
    return _read_volumes if all(p.suffix.lower() in SUFFIXES and not p.is_dir() for p in _paths(path)) else None


def run_reader(path: str | list[str]) -> Reader | None:
    """A reader of run folders of cryovae, or None if one of the paths is something else."""
    return _read_runs if all((p / "run.json").is_file() for p in _paths(path)) else None


def _paths(path: str | list[str]) -> list[Path]:
    return [Path(p) for p in ([path] if isinstance(path, (str, Path)) else path)]


def _read_volumes(path: str | list[str]) -> list[Any]:
    found: list[LayerTuple] = []
    with reporting():
        found += [layer_of_file(p) for p in _paths(path)]
    return found or NOTHING


def _read_runs(path: str | list[str]) -> list[Any]:
    found: list[LayerTuple] = []
    with reporting():
        for folder in _paths(path):
            found += layers_of_run(folder)
    return found or NOTHING
