"""Names of tomograms from names of files: TS_01 of ts/TS_01_EVN.mrc.gz and TS_01_ODD.mrc.gz."""

from __future__ import annotations

import re
from pathlib import Path

VOLUMES = (".mrc", ".rec", ".map", ".ccp4", ".st", ".ali", ".zarr")
COMPRESSED = (".gz", ".bz2")
# EVN, even, ODD, half1 ... as a part of a name between its separators.
HALF = re.compile(r"(?:^|[_\-. ])(?:evn|even|odd|half[_-]?[12ab]?|h[12])(?=$|[_\-. ])", re.IGNORECASE)


def stem(path: Path | str) -> str:
    """The name of a file without its ending, nor that of its compression: ts_01 for ts_01.mrc.gz and ts_01.ome.zarr."""
    name = Path(path).name
    for suffix in COMPRESSED:
        name = name.removesuffix(suffix)
    return Path(name).stem.removesuffix(".ome")


def is_volume(path: str) -> bool:
    """Whether a text is the name of a volume's file, by its ending."""
    for suffix in COMPRESSED:
        path = path.removesuffix(suffix)
    return path.lower().endswith(VOLUMES)


def without_half(name: str) -> str:
    """A name without the part that says which half it is: equal for the two halves of one tomogram."""
    return HALF.sub("", name).strip("_-. ")


def common_name(halves: tuple[Path, Path]) -> str:
    """What the names of two halves begin with in common, TS_01 for TS_01_EVN and TS_01_ODD; the first half's if nothing."""
    first, second = stem(halves[0]), stem(halves[1])
    if first == second:
        return without_half(first) or first
    same = 0
    while same < min(len(first), len(second)) and first[same] == second[same]:
        same += 1
    name = first[:same].rstrip("_-. ")
    return (name.removesuffix("_half").removesuffix("half").rstrip("_-. ")) or first
