"""Names of tomograms from file names: TS_01 for the halves TS_01_EVN.mrc.gz and TS_01_ODD.mrc.gz."""

from __future__ import annotations

import os
import re
from pathlib import Path

from cryovae.errors import InputError

VOLUMES = (".mrc", ".rec", ".map", ".ccp4", ".st", ".ali", ".zarr")
COMPRESSED = (".gz", ".bz2")
# Endings that are no part of a name. Others are: TS_1_10.00Apx and TS.01 without an ending keep their whole name.
ENDINGS = (*VOLUMES, ".mrcs", ".preali", ".em", ".vol", ".hdf", ".h5", ".tif", ".tiff", ".eer", ".bak")
# EVN, even, ODD, half1 ... between separators.
HALF = re.compile(r"(?:^|[_\-. ])(?:evn|even|odd|half[_-]?[12ab]?|h[12])(?=$|[_\-. ])", re.IGNORECASE)


def stem(path: Path | str) -> str:
    """File name without folder and without suffixes of format and compression: ts_01 for ts_01.mrc.gz and ts_01.ome.zarr."""
    name = _without(Path(path).name, COMPRESSED)
    return _without(_without(name, ENDINGS), (".ome",))


def is_volume(path: str) -> bool:
    """Whether the suffix of a file name is that of a volume."""
    return _without(path, COMPRESSED).lower().endswith(VOLUMES)


def _without(name: str, endings: tuple[str, ...]) -> str:
    """Remove the first of some endings that a name has, in upper or lower case, unless nothing would be left."""
    return next((name[: -len(e)] for e in endings if name.lower().endswith(e) and len(name) > len(e)), name)


def files_in(folder: Path) -> list[Path]:
    """What is in a folder, by name, without hidden files. InputError if it is no folder."""
    if not os.path.isdir(folder):
        raise InputError(f"{folder} is no folder, expected one: check the path")
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def half_of(name: str) -> int | None:
    """Which half a name marks: 1 for EVN, even, half1, half_a, h1, and 2 for the others; None without a marker, or with both."""
    marks = {mark.group().lower().strip("_-. ") for mark in HALF.finditer(name)}
    halves = {1 if mark.startswith("ev") or mark[-1] in "1a" else 2 for mark in marks if mark != "half"}
    return halves.pop() if len(halves) == 1 else None


def without_half(name: str) -> str:
    """Remove the marker of the half from a name; the result is equal for both halves of a tomogram."""
    return HALF.sub("", name).strip("_-. ")


def common_name(halves: tuple[Path, Path]) -> str:
    """Common prefix of the names of two halves: TS_01 for TS_01_EVN and TS_01_ODD; without one, the name of the first half."""
    first, second = stem(halves[0]), stem(halves[1])
    if first == second:
        return without_half(first) or first
    same = 0
    while same < min(len(first), len(second)) and first[same] == second[same]:
        same += 1
    name = first[:same].rstrip("_-. ")
    return (name.removesuffix("_half").removesuffix("half").rstrip("_-. ")) or first
