"""Creates a table of tomograms from folders. Halves are matched by name, never by order."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from cryovae.errors import InputError
from cryovae.io.files import read_volume
from cryovae.io.names import checked_name, files_in, half_of, is_volume, stem, without_half
from cryovae.io.star.layouts import Layout
from cryovae.io.star.parsing import check_portable
from cryovae.io.star.table import Block
from cryovae.io.star.tilt_files import tilts_of
from cryovae.io.star.tomograms import FULL, HALVES, TILTS, relative_path
from cryovae.io.tilts import read_tilts
from cryovae.io.volume import voxel_size_of
from cryovae.tomogram import TiltGeometry


def paired_halves(even: Path, odd: Path) -> dict[str, tuple[Path, Path]]:
    """Match the half tomograms of two folders by name. In one folder, EVN and ODD or half1 and half2 tell the halves apart.

    Args:
        even: folder of the first halves.
        odd: folder of the second halves.

    Returns:
        The files (first half, second half) by their common name, sorted by name.

    Raises:
        InputError: a half has no other half or is paired with itself, two files of a folder have the same name, or a folder has
            no tomograms.
    """
    one_folder = os.path.realpath(even) == os.path.realpath(odd)
    evens, odds = _by_name(even, 1 if one_folder else None), _by_name(odd, 2 if one_folder else None)
    alone = [(name, odd) for name in evens if name not in odds] + [(name, even) for name in odds if name not in evens]
    if alone:
        name, folder = alone[0]
        file = (evens | odds)[name]
        more = f" ({len(alone)} files have none)" if len(alone) > 1 else ""
        raise InputError(
            f"{file} has no other half in {folder}, expected a name of {name} there{more}: rename it, or take it out"
        )
    for name in evens:
        half = half_of(stem(evens[name]))
        if half is not None and half == half_of(stem(odds[name])):
            raise InputError(
                f"{evens[name]} and {odds[name]} are both half {half}, expected different halves: correct the folders"
            )
    return {name: (evens[name], odds[name]) for name in sorted(evens)}


def _by_name(folder: Path, half: int | None) -> dict[str, Path]:
    """The volumes of a folder by their name without the marker of the half; only those of one half unless ``half`` is None."""
    volumes: dict[str, Path] = {}
    for file in files_in(folder):
        if not is_volume(file.name) or (half is not None and half_of(stem(file)) != half):
            continue
        name = without_half(stem(file))
        if name in volumes:
            raise InputError(f"{volumes[name]} and {file} are both {name}, expected one half of each tomogram in {folder}")
        volumes[name] = file
    if not volumes:
        raise InputError(f"{folder} holds no tomograms, expected files like TS_01_EVN.mrc: check the folder")
    return volumes


def tomogram_rows(
    files: Mapping[str, tuple[Path, ...]], tilts: Mapping[str, Path] | TiltGeometry, sizes: dict[str, float], table: Path
) -> Block:
    """Create a table with the columns of IsoNet2 and a column for the tilt file.

    Args:
        files: by name of the tomogram, its two halves or its single volume; all have halves, or none.
        tilts: tilt file by name, or one geometry for all tomograms.
        sizes: voxel size in angstrom by name.
        table: path of the table; paths in it are relative to its folder.

    Raises:
        InputError: tilts cannot be read, or a name or path would be read differently by other programs.
    """
    columns: dict[str, list[str]] = {}
    for index, (name, volumes) in enumerate(files.items(), 1):
        own = None if isinstance(tilts, TiltGeometry) else tilts[name]
        geometry = read_tilts(own) if own is not None else tilts
        assert isinstance(geometry, TiltGeometry)
        check_portable(name, "the tomogram")
        row = {
            "rlnIndex": str(index),
            "rlnTomoName": name,
            **{column: relative_path(path, table) for column, path in zip(_columns(volumes), volumes, strict=True)},
            "rlnPixelSize": f"{sizes[name]:.6f}",
            "rlnMaskName": "None",
            "rlnTiltMin": f"{geometry.lowest:g}",
            "rlnTiltMax": f"{geometry.highest:g}",
            TILTS: "None" if own is None else relative_path(own, table),
        }
        for path in (*(row[column] for column in _columns(volumes)), *([row[TILTS]] if own is not None else ())):
            check_portable(path, "the path")
        for column, value in row.items():
            columns.setdefault(column, []).append(value)
    return Block(columns)


def _columns(volumes: tuple[Path, ...]) -> tuple[str, ...]:
    return HALVES if len(volumes) == len(HALVES) else FULL[:1]


def checked_volumes(files: Mapping[str, tuple[Path, ...]], voxel_size: float | None) -> dict[str, float]:
    """Check the headers of tomograms that a table will name.

    Args:
        files: by name of the tomogram, its two halves or its single volume.
        voxel_size: in angstrom, instead of those of the headers, or None.

    Returns:
        Voxel size in angstrom by name.

    Raises:
        InputError: a volume cannot be opened or has no voxel size, halves have different shapes, or no file may have the name.
    """
    sizes = {}
    for name, volumes in files.items():
        checked_name(name, str(volumes[0]))
        opened = [read_volume(path) for path in volumes]
        shapes = [volume.density.shape for volume in opened]
        if shapes[0] != shapes[-1]:
            raise InputError(f"{volumes[0]} has shape {shapes[0]} and {volumes[-1]} {shapes[-1]}, expected halves of one shape")
        sizes[name] = voxel_size_of(opened[0], voxel_size)
    return sizes


def tilts_beside(layout: Layout, names: Sequence[str]) -> dict[str, Path]:
    """The tilt file of each tomogram of a folder, from the nearest folder that has those of all.

    Raises:
        InputError: a tomogram has none in any of the folders, or several that fit equally.
    """
    first: InputError | None = None
    for folder in layout.tilts:
        try:
            return tilts_of(names, folder)
        except InputError as error:
            first = first or error
    raise InputError(f"{first}; or pass --tilts, the folder of the tilt files, or --tilt-range, e.g. -60 60") from first
