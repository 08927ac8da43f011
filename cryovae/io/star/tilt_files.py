"""Finds the tilt file of each tomogram by its name. One file never serves two tomograms, and names are compared as a whole.

TS_1 is another series than TS_1_2 and TS_10. Before two names are compared, affixes that programs add to the name of a series are
removed from both; AFFIXES lists all of them. The longest name that both have in common decides.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryovae.errors import InputError
from cryovae.io.names import files_in, stem

# Endings of tilt files in order of preference: aligned angles before stage angles. AreTomo writes stage angles to _TLT.txt.
ENDINGS = (".tlt", ".aln", ".xml", ".star", ".rawtlt", "_tlt.txt", ".mdoc")
# What programs add to the name of a series, in either case, after one of _ - . and space.
AFFIXES = (
    "vol", "evn_vol", "odd_vol", "2nd_vol", "evn", "odd", "even", "half[12]", "tlt", "ctf", "imod", "st",  # AreTomo
    r"\d+(?:\.\d+)?apx",  # Warp
    "rec", "full", "full_rec", "ali", "aligned", "preali", "fid", "newst",  # IMOD
    "aln", "gctf", "defocus", r"bin\d+", "wbp", "sirt", "sart", "dw", "unbinned", "flipped",  # scripts around them
    "denoised", "deconv", "corrected",  # cryoCARE, IsoNet
)  # fmt: skip
SUFFIX = re.compile(rf"[_\-. ](?:{'|'.join(AFFIXES)})$", re.IGNORECASE)
# RELION: rec_TS_01.mrc.
PREFIX = re.compile(r"^rec_", re.IGNORECASE)
# AreTomo puts the files of IMOD, such as TS_01_st.tlt, into a folder TS_01_Imod.
FOLDER = re.compile(r".[_\-. ]imod$", re.IGNORECASE)


@dataclass(frozen=True)
class _File:
    """A tilt file, its names as of ``names_of``, and the place of its format in the order of preference."""

    path: Path
    names: tuple[str, ...]
    rank: int


# A file, the index of the name that it shares with tomograms among its names, and these tomograms.
_Owned = tuple[_File, int, list[str]]


def names_of(name: str) -> tuple[str, ...]:
    """A name, and what remains of it after each affix that is removed.

    Args:
        name: name of a tomogram or tilt file without the ending of its format, e.g. rec_TS_01_bin4.

    Returns:
        The names from the longest to the shortest, e.g. rec_TS_01_bin4, rec_TS_01, TS_01.
    """
    names = [name]
    while True:
        # Names of tomograms have no separators at their ends.
        shorter = (SUFFIX.sub("", names[-1]), PREFIX.sub("", names[-1]), names[-1].strip("_-. "))
        nearest = next((name for name in shorter if name and name != names[-1]), None)
        if nearest is None:
            return tuple(names)
        names.append(nearest)


def tilts_of(names: Sequence[str], folder: Path) -> dict[str, Path]:
    """Find the tilt file of each tomogram, e.g. TS_01.tlt for TS_01, TS_01_10.00Apx or rec_TS_01.

    Args:
        names: names of the tomograms.
        folder: folder of the tilt files.

    Returns:
        The tilt file by name of the tomogram.

    Raises:
        InputError: a tomogram has no file, or several, or one that may belong to another tomogram as well.
    """
    known = each_tilts_of(names, folder)
    for path in known.values():
        if isinstance(path, InputError):
            raise path
    return {name: path for name, path in known.items() if isinstance(path, Path)}


def each_tilts_of(names: Sequence[str], folder: Path) -> dict[str, Path | InputError]:
    """As ``tilts_of``, with the error in place of the file for each tomogram that has none."""
    inside = files_in(folder)
    deeper = [file for path in inside if path.is_dir() and FOLDER.search(path.name) for file in files_in(path)]
    files = [file for path in (*inside, *deeper) if (file := _as_tilts(path)) is not None]
    known = {name: names_of(name) for name in names}
    owned = [(file, *_owners(file, known)) for file in files]
    result: dict[str, Path | InputError] = {}
    for name in names:
        try:
            result[name] = _best(known[name], [each for each in owned if name in each[2]], files, folder)
        except InputError as error:
            result[name] = error
    return result


def _as_tilts(path: Path) -> _File | None:
    lower = path.name.lower()
    rank = next((i for i, ending in enumerate(ENDINGS) if lower.endswith(ending) and len(lower) > len(ending)), None)
    if rank is None or not path.is_file():
        return None
    # TS_01.mrc.mdoc and TS_01.st.aln also belong to TS_01.
    return _File(path, names_of(stem(path.name[: -len(ENDINGS[rank])])), rank)


def _owners(file: _File, known: dict[str, tuple[str, ...]]) -> tuple[int, list[str]]:
    """The tomograms that share the longest name of a file, of these the ones with fewest affixes removed; and its index."""
    for at, name in enumerate(file.names):
        depths = {tomogram: names.index(name) for tomogram, names in known.items() if name in names}
        if depths:
            return at, [tomogram for tomogram, depth in depths.items() if depth == min(depths.values())]
    return 0, []


def _best(names: tuple[str, ...], own: Sequence[_Owned], files: Sequence[_File], folder: Path) -> Path:
    """The tilt file of a tomogram: the longest name in common, then the preferred format, then fewest affixes removed.

    Args:
        names: names of the tomogram, as of ``names_of``.
        own: the files that may belong to it.
        files: all tilt files.
        folder: their folder.
    """
    alone = [(names.index(f.names[at]), f.rank, at, f.path) for f, at, owners in own if len(owners) == 1]
    best = [path for *order, path in alone if order == list(min(alone)[:3])]
    if len(best) == 1:
        return best[0]
    if best:
        why = f"both {best[0].relative_to(folder)} and {best[1].relative_to(folder)} may be it"
    elif own:
        other = next(owner for owner in own[0][2] if owner != names[0])
        why = f"{own[0][0].path.name} may be that of {other} as well, and a file of tilts belongs to one tomogram"
    else:
        near = next((f.path.name for f in files if f.path.name.startswith(names[-1])), None)
        why = "none is there" + (f"; {near} is of another name" if near is not None else "")
    raise InputError(
        f"{folder}: no file of tilts for {names[0]} ({why}), expected one of that name, e.g. {names[0]}.tlt: rename it"
    )
