"""Results in a copick tree, ExperimentRuns/RUN/VoxelSpacing10.000/cryovae-mean.zarr, with a copick.json that opens it.

copick 1.31 reads Zarr 2, so the volumes are OME-Zarr 0.4 in three levels. In the tree are hard links of the files of the results,
which take no room; copies where the file system has no links. To copick the tree is static, which it never writes: what is picked
goes into the folder copick_overlay.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
from glob import escape
from pathlib import Path
from typing import Any

from cryovae.errors import InputError
from cryovae.io.atomic import whole_folder, write_text
from cryovae.io.ome_zarr.reading import read_zarr
from cryovae.io.record_file import read_json

SUFFIX = ".copick.zarr"
TREE, CONFIG, OVERLAY = "ExperimentRuns", "copick.json", "copick_overlay"
# The kinds of volumes that a restoration writes, mean_10A at a second voxel size; and those of a tree that are ours.
KIND = re.compile(r"(mean|std|measured|mean_half[12]|sample_\d+)(?:_[\d.e+-]+A)?")
OURS = re.compile(r"cryovae-(?:mean|std|measured|mean-half[12]|sample-\d+)\.zarr")
# Characters in the name of a run that copick takes for a pattern.
PATTERN = "*?[]"
log = logging.getLogger("cryovae")


def check_run_name(name: str) -> None:
    """InputError if copick could not open a run of this name."""
    odd = next((character for character in PATTERN if character in name), None)
    if odd is not None:
        raise InputError(f"{name} found with --format copick, expected a name without {odd}, a pattern to copick: rename it")


def tomogram_path(root: Path, run: str, voxel_size: float, kind: str) -> Path:
    """The folder of a tomogram in a tree.

    Args:
        root: folder of the tree.
        run: name of the run.
        voxel_size: in angstrom.
        kind: of the volume, e.g. mean_half1, which copick then calls cryovae-mean-half1.
    """
    return root / TREE / run / f"VoxelSpacing{voxel_size:.3f}" / f"cryovae-{kind.replace('_', '-')}.zarr"


def add_results(root: Path, run: str, folder: Path) -> list[Path]:
    """Put the results of a run into a tree, and remove those of an earlier restoration that these do not replace.

    Args:
        root: folder of the tree.
        run: name of the tomogram, which begins the names of its results.
        folder: where the results are, ``RUN_KIND.copick.zarr``.

    Returns:
        The tomograms in the tree.
    """
    placed = []
    for source in sorted(folder.glob(f"{escape(run)}_*{SUFFIX}")):
        kind = source.name.removeprefix(f"{run}_").removesuffix(SUFFIX)
        if match := KIND.fullmatch(kind):
            target = tomogram_path(root, run, read_zarr(source).voxel_size[0], match[1])
            _link(source, target)
            placed.append(target)
    for old in (root / TREE / run).glob("VoxelSpacing*/cryovae-*.zarr"):
        if OURS.fullmatch(old.name) and old not in placed:
            shutil.rmtree(old)
    config = write_config(root)
    log.info("wrote %d tomograms of %s for copick, %s", len(placed), run, config)
    return placed


def write_config(root: Path) -> Path:
    """Write copick.json for a tree, unless a configuration in its folder names the tree already; returns the configuration.

    A configuration of the user's own stays as it is. One that is called copick.json and is of another tree stays as well, and the
    new one is called cryovae_copick.json.
    """
    root = root.resolve()
    for path in sorted(root.glob("*.json")):
        if _names_tree(path, root):
            return path
    target = root / CONFIG if not (root / CONFIG).exists() else root / f"cryovae_{CONFIG}"
    config = {
        "config_type": "filesystem",
        "name": root.name or "cryovae",
        "description": "Tomograms restored by cryovae",
        "pickable_objects": [],
        "static_root": f"local://{root}",
        "overlay_root": f"local://{root / OVERLAY}",
        "static_fs_args": {"auto_mkdir": True},
        "overlay_fs_args": {"auto_mkdir": True},
    }
    write_text(target, json.dumps(config, indent=2) + "\n")
    return target


def _names_tree(path: Path, root: Path) -> bool:
    """Whether a file is a configuration of copick that opens the tree in a folder."""
    try:
        content: Any = read_json(path)
    except InputError:
        return False
    if not isinstance(content, dict) or "overlay_root" not in content:
        return False
    roots = (content.get("static_root"), content["overlay_root"])
    paths = (text.removeprefix("local://").removeprefix("file://") for text in roots if isinstance(text, str))
    return any(os.path.isabs(text) and Path(text).resolve() == root for text in paths)


def _link(source: Path, target: Path) -> None:
    """Make a folder of links of the files of another, or of copies; nothing if it is one already."""
    if _is_linked(source, target):
        return
    with whole_folder(target) as beside:
        shutil.copytree(source, beside, copy_function=_link_or_copy)


def _is_linked(source: Path, target: Path) -> bool:
    first, second = source / ".zattrs", target / ".zattrs"
    if not second.exists():
        return False
    # A copy keeps the time of its original.
    return (os.path.getsize(first), os.stat(first).st_mtime_ns) == (os.path.getsize(second), os.stat(second).st_mtime_ns)


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
