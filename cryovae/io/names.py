"""Names of tomograms: from file names, e.g. TS_01 for the halves TS_01_EVN.mrc.gz and TS_01_ODD.mrc.gz; and which are allowed."""

from __future__ import annotations

import os
import re
import unicodedata
from pathlib import Path

from cryovae.errors import InputError

VOLUMES = (".mrc", ".rec", ".map", ".ccp4", ".st", ".ali", ".zarr")
COMPRESSED = (".gz", ".bz2")
# Endings that are no part of a name. Others are: TS_1_10.00Apx and TS.01 without an ending keep their whole name.
ENDINGS = (*VOLUMES, ".mrcs", ".preali", ".em", ".vol", ".hdf", ".h5", ".tif", ".tiff", ".eer", ".bak")
# EVN, even, ODD, half1 ... between separators.
HALF = re.compile(r"(?:^|[_\-. ])(?:evn|even|odd|half[_-]?[12ab]?|h[12])(?=$|[_\-. ])", re.IGNORECASE)

# Largest number of bytes of a name. File systems allow 255; our longest ending and the mark of an unfinished file take some.
MAX_BYTES = 150
# Unicode categories: control characters, surrogates (bytes that are not UTF-8), separators of lines and of paragraphs.
UNPRINTABLE = ("Cc", "Cs", "Zl", "Zp")
WINDOWS = os.name == "nt"
WINDOWS_CHARACTERS = '<>:"|?*'
WINDOWS_DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)


def stem(path: Path | str) -> str:
    """File name without folder and without suffixes of format and compression: ts_01 for ts_01.mrc.gz and ts_01.ome.zarr."""
    name = _without(Path(path).name, COMPRESSED)
    return _without(_without(name, ENDINGS), (".ome", ".copick"))


def ending(path: Path | str) -> str:
    """What ``stem`` removes from a file name: .mrc.gz of ts_01.mrc.gz, and .ome.zarr of ts_01.ome.zarr."""
    return Path(path).name.removeprefix(stem(path))


def tomogram_name(path: Path | str) -> str:
    """Name of the tomogram of a file: ``stem``, or in a copick tree the run, ExperimentRuns/TS_01/VoxelSpacing10.000/wbp.zarr."""
    spacing = Path(path).absolute().parent
    is_run = spacing.name.startswith("VoxelSpacing") and spacing.parent.parent.name == "ExperimentRuns"
    return spacing.parent.name if is_run else stem(path)


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


def fault_of(name: str, most: int | None = None) -> str | None:
    """Why a text cannot be the name of a tomogram, a file or a job, in a few words; None if it can.

    Spaces, quotes, brackets, braces, $, # and letters of any script are allowed.

    Args:
        name: the text.
        most: largest number of bytes, or None for that of a new name.
    """
    most = MAX_BYTES if most is None else most
    separators = {"/", os.sep, os.altsep or os.sep}
    if not name.strip():
        return "it is empty"
    if name in (".", ".."):
        return "it stands for a folder"
    if separators & set(name):
        return "it has the separator of a path"
    if odd := next((c for c in name if unicodedata.category(c) in UNPRINTABLE), None):
        return f"it has the character U+{ord(odd):04X}, which cannot be printed"
    if len(name.encode()) > most:
        return f"it is {len(name.encode())} bytes long, more than {most}"
    if WINDOWS and (set(WINDOWS_CHARACTERS) & set(name) or WINDOWS_DEVICES.fullmatch(name) or name[-1] in ". "):
        return "Windows takes no such file"
    return None


def possible_name(text: str, default: str) -> str:
    """A text, such as the name of a layer, as the name of a file: each character that is not allowed becomes ``_``."""
    name = "".join("_" if fault_of(f"a{c}a") else c for c in text).strip()
    while len(name.encode()) > MAX_BYTES:
        name = name[:-1]
    return default if fault_of(name) else name


def in_one_line(text: str) -> str:
    """A text with escapes of Python for characters that would break the line, control the terminal, or cannot be printed."""
    return "".join(ascii(c)[1:-1] if unicodedata.category(c) in UNPRINTABLE else c for c in text)


def checked_name(name: str, where: str) -> str:
    """A name from which names of files will be made. InputError if it is not allowed; ``where`` says what has this name."""
    fault = fault_of(name)
    if fault is not None:
        shown = in_one_line(name if len(name) <= 60 else f"{name[:60]}...")
        raise InputError(f"{where} has the name '{shown}', expected one that a file may have ({fault}): rename it")
    return name
