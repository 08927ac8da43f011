"""Checks, before a long computation, that its results can be written. A check creates no file and no folder."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

from cryovae.errors import InputError


def check_folder(folder: Path, needed: int = 0) -> None:
    """Check that files can be written into a folder, which may not exist yet.

    Args:
        folder: the folder.
        needed: bytes that will be written.

    Raises:
        InputError: it is a file, or lies below one, or the user may not write into it.
        OSError: the disk has too little space.
    """
    folder = Path(folder)
    nearest = _nearest(folder)
    if not nearest.is_dir():
        what = "is a file" if nearest == folder else f"lies below {nearest}, which is a file"
        raise InputError(f"{folder} {what}, expected a folder for the results: give another with -o")
    if not os.access(nearest, os.W_OK | os.X_OK):
        reason = f"{nearest} may not be written" if nearest != folder else "it may not be written"
        raise InputError(f"{folder} cannot take results ({reason}), expected a folder of yours: give another with -o")
    free = shutil.disk_usage(nearest).free
    if free < needed:
        raise OSError(errno.ENOSPC, f"{free / 1e9:.2f} GB free, {needed / 1e9:.2f} GB needed", str(folder))


def check_file(path: Path, needed: int = 0) -> None:
    """Check that a file, or a folder of OME-Zarr, can be written. Raises as ``check_folder``, and if another folder is there."""
    path = Path(path)
    if path.is_dir() and path.suffix != ".zarr":
        raise InputError(f"{path} is a folder, expected the name of a file: give another name")
    check_folder(path.absolute().parent, needed)


def _nearest(folder: Path) -> Path:
    """The folder, or the nearest folder above it that exists. A broken link counts as existing."""
    folder = folder.absolute()
    while not (folder.exists() or folder.is_symlink()):
        folder = folder.parent
    return folder
