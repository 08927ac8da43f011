"""Creates a table of tomograms from folders. Halves and tilt files are matched by name, never by order."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from cryovae.errors import InputError
from cryovae.io.names import is_volume, stem, without_half
from cryovae.io.star.table import Block
from cryovae.io.star.tomograms import HALVES, TILTS, relative_path
from cryovae.io.tilts import read_tilts
from cryovae.tomogram import TiltGeometry

# Suffixes of tilt files in order of preference: aligned angles before stage angles.
SUFFIXES = (".tlt", ".aln", ".xml", ".star", ".rawtlt", ".mdoc")
SEPARATORS = tuple("_-. ")


def paired_halves(even: Path, odd: Path) -> dict[str, tuple[Path, Path]]:
    """Match the half tomograms of two folders by name.

    Args:
        even: folder of the first halves.
        odd: folder of the second halves.

    Returns:
        The files (first half, second half) by their common name, sorted by name.

    Raises:
        InputError: a half has no other half, two files of a folder have the same name, or a folder has no tomograms.
    """
    evens, odds = _by_name(even), _by_name(odd)
    alone = [(name, odd) for name in evens if name not in odds] + [(name, even) for name in odds if name not in evens]
    if alone:
        name, folder = alone[0]
        file = (evens | odds)[name]
        more = f" ({len(alone)} files have none)" if len(alone) > 1 else ""
        raise InputError(
            f"{file} has no other half in {folder}, expected a name of {name} there{more}: rename it, or take it out"
        )
    return {name: (evens[name], odds[name]) for name in sorted(evens)}


def _by_name(folder: Path) -> dict[str, Path]:
    """The volumes of a folder by name, without the marker of the half."""
    volumes: dict[str, Path] = {}
    for file in _files(folder):
        if not is_volume(file.name):
            continue
        name = without_half(stem(file))
        if name in volumes:
            raise InputError(f"{volumes[name]} and {file} are both {name}, expected one half of each tomogram in {folder}")
        volumes[name] = file
    if not volumes:
        raise InputError(f"{folder} holds no tomograms, expected files like TS_01_EVN.mrc: check the folder")
    return volumes


def _files(folder: Path) -> list[Path]:
    if not os.path.isdir(folder):
        raise InputError(f"{folder} is no folder, expected one: check the path")
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def tilts_of(names: Sequence[str], folder: Path) -> dict[str, Path]:
    """Find the tilt file of each tomogram, e.g. TS_01.tlt for TS_01 or TS_01_10.00Apx.

    Args:
        names: names of the tomograms.
        folder: folder of the tilt files.

    Returns:
        The tilt file by name of the tomogram.

    Raises:
        InputError: no file or several files match a name.
    """
    files: dict[str, dict[str, Path]] = {}
    for file in _files(folder):
        if file.suffix.lower() in SUFFIXES:
            # TS_01.mrc.mdoc and TS_01.st.aln also belong to TS_01.
            name = file.with_suffix("").name
            files.setdefault(stem(name) if is_volume(name) else name, {})[file.suffix.lower()] = file
    return {name: _best(files, name, folder) for name in names}


def _best(files: dict[str, dict[str, Path]], name: str, folder: Path) -> Path:
    """The preferred tilt file of a tomogram; ``files`` are indexed by name and suffix."""
    exact = [name] if name in files else []
    near = exact or [other for other in files if _begins(name, other) or _begins(other, name)]
    if len(near) != 1:
        seen = f"both {near[0]} and {near[1]} may be it" if near else "none is there"
        raise InputError(f"{folder}: no file of tilts for {name} ({seen}), expected one of that name, e.g. {name}.tlt: rename it")
    kinds = files[near[0]]
    return kinds[next(suffix for suffix in SUFFIXES if suffix in kinds)]


def _begins(longer: str, shorter: str) -> bool:
    return longer.startswith(shorter) and longer[len(shorter) :].startswith(SEPARATORS)


def tomogram_rows(
    halves: dict[str, tuple[Path, Path]], tilts: dict[str, Path] | TiltGeometry, sizes: dict[str, float], table: Path
) -> Block:
    """Create a table with the columns of IsoNet2 and a column for the tilt file.

    Args:
        halves: files of the two halves by name of the tomogram.
        tilts: tilt file by name, or one geometry for all tomograms.
        sizes: voxel size in angstrom by name.
        table: path of the table; paths in it are relative to its folder.
    """
    columns: dict[str, list[str]] = {}
    for index, (name, pair) in enumerate(halves.items(), 1):
        own = tilts[name] if isinstance(tilts, dict) else None
        geometry = read_tilts(own) if own is not None else tilts
        assert isinstance(geometry, TiltGeometry)
        row = {
            "rlnIndex": str(index),
            "rlnTomoName": name,
            HALVES[0]: relative_path(pair[0], table),
            HALVES[1]: relative_path(pair[1], table),
            "rlnPixelSize": f"{sizes[name]:.6f}",
            "rlnMaskName": "None",
            "rlnTiltMin": f"{geometry.lowest:g}",
            "rlnTiltMax": f"{geometry.highest:g}",
            TILTS: "None" if own is None else relative_path(own, table),
        }
        for column, value in row.items():
            columns.setdefault(column, []).append(value)
    return Block(columns)
