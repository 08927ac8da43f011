"""Recognises the tomograms in the folder of a program: AreTomo3, Warp, folders even and odd, or halves by their names.

    AreTomo3   NAME_EVN_Vol.mrc, NAME_ODD_Vol.mrc beside NAME_Vol.mrc; tilts in NAME.aln or NAME_Imod
    Warp       reconstruction/even, reconstruction/odd, reconstruction, NAME_10.00Apx.mrc; tilts in NAME.xml
    others     folders even and odd, or evn, half1 ...; halves with EVN and ODD, or half1 and half2, in their names

What is not complete, such as a half without its partner, is named with the reason and never guessed.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cryovae.errors import InputError
from cryovae.io.names import files_in, half_of, is_volume, stem, without_half
from cryovae.io.star.tilt_files import names_of

ARETOMO, WARP, FOLDERS, NAMES = "AreTomo3", "Warp", "folders of halves", "names"
RECONSTRUCTION = "reconstruction"
# AreTomo3's volumes; its second reconstruction, NAME_2ND_Vol, is of another bin size.
VOLUME = re.compile(r"(?<![_\-. ]2nd)[_\-. ]vol$", re.IGNORECASE)
# AreTomo3: NAME_EVN_Vol.
HALF_VOLUME = re.compile(r".+[_\-. ](?:evn|odd)[_\-. ]vol$", re.IGNORECASE)
# Warp: NAME_10.00Apx.
PIXEL = re.compile(r"_\d+(?:\.\d+)?apx$", re.IGNORECASE)
# Names of the folders of first and of second halves.
HALF_FOLDERS = ({"even", "evn", "half1", "half_1"}, {"odd", "half2", "half_2"})


# Names of folders of tilt files beside them.
TILT_FOLDERS = {"tlt", "tlts", "tilt", "tilts", "aln", "rawtlt"}


@dataclass(frozen=True)
class Layout:
    """The tomograms in a folder.

    Attributes:
        program: which layout it is.
        folder: the folder.
        rows: files of each tomogram by its name, sorted: two halves, or a single volume.
        incomplete: why a tomogram cannot be used as it is, by its name.
        tilts: the folders in which tilt files may lie, nearest first.
    """

    program: str
    folder: Path
    rows: Mapping[str, tuple[Path, ...]] = field(default_factory=dict)
    incomplete: Mapping[str, str] = field(default_factory=dict)
    tilts: tuple[Path, ...] = ()


def layout_of(folder: Path) -> Layout:
    """The tomograms of a folder, which may have none yet.

    Raises:
        InputError: there is no such folder, two layouts are in it, or two files are of one half of a tomogram.
    """
    inside = files_in(folder)
    warp = folder if folder.name.lower() == RECONSTRUCTION else folder / RECONSTRUCTION
    if os.path.isdir(warp):
        return _warp(warp)
    pair = _half_folders(inside)
    volumes = [path for path in inside if is_volume(path.name)]
    marked = [path for path in volumes if half_of(stem(path)) is not None]
    if pair is not None:
        if marked:
            raise InputError(
                f"{folder} has the folders {pair[0].name} and {pair[1].name} and also {marked[0].name}, expected one layout: "
                "pass the folders with --even and --odd"
            )
        rows, incomplete = _paired(_single(pair[0]), _single(pair[1]), pair)
        return Layout(FOLDERS, folder, rows, incomplete, (folder, *pair, *_tilt_folders(inside)))
    if any(HALF_VOLUME.fullmatch(stem(path)) for path in marked):
        # The others are tilt series: NAME.mrc, NAME_EVN.mrc.
        volumes = [path for path in volumes if VOLUME.search(stem(path))]
        return _flat(ARETOMO, folder, volumes)
    if volumes and not marked and any(VOLUME.search(stem(path)) for path in volumes):
        return _flat(ARETOMO, folder, [path for path in volumes if VOLUME.search(stem(path))])
    return _flat(NAMES, folder, volumes)


def complete(layout: Layout) -> Mapping[str, tuple[Path, ...]]:
    """The files of all tomograms of a layout. InputError if one is incomplete, or there is none."""
    if layout.incomplete:
        reasons = list(layout.incomplete.values())
        more = f" ({len(reasons)} tomograms are incomplete)" if len(reasons) > 1 else ""
        raise InputError(f"{reasons[0]}{more}")
    if not layout.rows:
        raise InputError(
            f"{layout.folder} holds no tomograms, expected files like TS_01_EVN_Vol.mrc, folders even and odd, or Warp's "
            "reconstruction: check the folder, or pass --even and --odd"
        )
    return layout.rows


def _warp(folder: Path) -> Layout:
    """Warp's folder of reconstructions: halves below it if there are any, else the volumes in it."""
    full = _single(folder)
    pair = _half_folders(files_in(folder))
    rows: dict[str, tuple[Path, ...]] = {name: (path,) for name, path in full.items()}
    incomplete: dict[str, str] = {}
    if pair is not None:
        rows, incomplete = _paired(_single(pair[0]), _single(pair[1]), pair)
        for name in full.keys() - rows.keys() - incomplete.keys():
            incomplete[name] = f"{full[name]} has no halves in {pair[0]}, expected them as other tomograms have: take it out"
    counts = Counter(PIXEL.sub("", name) for name in rows)
    for series in (name for name, count in counts.items() if count > 1):
        sizes = sorted(name for name in rows if PIXEL.sub("", name) == series)
        raise InputError(f"{folder} holds {' and '.join(sizes)}, expected one voxel size of {series}: move the other away")
    above = folder.parent
    return Layout(WARP, folder, dict(sorted(rows.items())), incomplete, (above, folder))


def _flat(program: str, folder: Path, volumes: list[Path]) -> Layout:
    """Volumes of one folder: halves by their names, else single volumes."""
    halves: tuple[dict[str, Path], dict[str, Path]] = ({}, {})
    full: dict[str, Path] = {}
    for path in volumes:
        half = half_of(stem(path))
        name = stem(path) if half is None else without_half(stem(path))
        _enter(full if half is None else halves[half - 1], _without_volume(name) if program == ARETOMO else name, path)
    if not halves[0] and not halves[1]:
        return Layout(program, folder, dict(sorted((name, (path,)) for name, path in full.items())), {}, (folder,))
    rows, incomplete = _paired(*halves, (folder, folder))
    known = {shorter for name in (*rows, *incomplete) for shorter in names_of(name)}
    for name, path in full.items():
        if not known & set(names_of(name)):
            incomplete[name] = f"{path} has no halves, expected them as other tomograms in {folder} have: take it out"
    return Layout(program, folder, rows, incomplete, (folder,))


def _paired(
    first: Mapping[str, Path], second: Mapping[str, Path], folders: tuple[Path, Path]
) -> tuple[dict[str, tuple[Path, ...]], dict[str, str]]:
    """The pairs of halves by name, and why others have no partner."""
    incomplete = {}
    for own, other, where in ((first, second, folders[1]), (second, first, folders[0])):
        for name in own.keys() - other.keys():
            incomplete[name] = (
                f"{own[name]} has no other half in {where}, expected a name of {name} there: rename it, or take it out"
            )
    rows = {name: (first[name], second[name]) for name in sorted(first.keys() & second.keys())}
    for pair in rows.values():
        half = half_of(stem(pair[0]))
        if half is not None and half == half_of(stem(pair[1])):
            raise InputError(f"{pair[0]} and {pair[1]} are both half {half}, expected different halves: correct the folders")
    return dict(rows), incomplete


def _single(folder: Path) -> dict[str, Path]:
    """The volumes of a folder by name, without the marker of a half."""
    volumes: dict[str, Path] = {}
    for path in files_in(folder):
        if is_volume(path.name):
            _enter(volumes, without_half(stem(path)) or stem(path), path)
    return volumes


def _enter(volumes: dict[str, Path], name: str, path: Path) -> None:
    if name in volumes:
        raise InputError(
            f"{volumes[name]} and {path} are both {name}, expected one file of each half of a tomogram: take one out"
        )
    volumes[name] = path


def _without_volume(name: str) -> str:
    return VOLUME.sub("", name) or name


def _tilt_folders(inside: list[Path]) -> list[Path]:
    """The folders of tilt files."""
    return [path for path in inside if path.name.lower() in TILT_FOLDERS and os.path.isdir(path)]


def _half_folders(inside: list[Path]) -> tuple[Path, Path] | None:
    """The folders of first and second halves, or None. InputError if there is only one of them, or several."""
    pair = []
    for names in HALF_FOLDERS:
        named = [
            path for path in inside if path.name.lower() in names and os.path.isdir(path) and not path.name.endswith(".zarr")
        ]
        if len(named) > 1:
            raise InputError(f"{named[0]} and {named[1]} are folders of the same half, expected one: pass --even and --odd")
        pair += named
    if len(pair) == 1:
        raise InputError(f"{pair[0]} has no folder of the other half beside it, expected even and odd: pass --even and --odd")
    return (pair[0], pair[1]) if pair else None
