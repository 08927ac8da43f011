"""Names of tomograms from file names: TS_01 for the halves TS_01_EVN.mrc.gz and TS_01_ODD.mrc.gz."""

from __future__ import annotations

import re
from pathlib import Path

VOLUMES = (".mrc", ".rec", ".map", ".ccp4", ".st", ".ali", ".zarr")
COMPRESSED = (".gz", ".bz2")
# EVN, even, ODD, half1 ... between separators.
HALF = re.compile(r"(?:^|[_\-. ])(?:evn|even|odd|half[_-]?[12ab]?|h[12])(?=$|[_\-. ])", re.IGNORECASE)


def stem(path: Path | str) -> str:
    """File name without folder and without suffixes of format and compression: ts_01 for ts_01.mrc.gz and ts_01.ome.zarr."""
    name = Path(path).name
    for suffix in COMPRESSED:
        name = name.removesuffix(suffix)
    return Path(name).stem.removesuffix(".ome")


def is_volume(path: str) -> bool:
    """Whether the suffix of a file name is that of a volume."""
    for suffix in COMPRESSED:
        path = path.removesuffix(suffix)
    return path.lower().endswith(VOLUMES)


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
