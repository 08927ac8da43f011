"""Checks of places for results, before the work that they would be the end of; nothing is made by a check."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

from cryovae.errors import InputError


def check_folder(folder: Path, needed: int = 0) -> None:
    """Check that files can be written into a folder, or that it can be made.

    Args:
        folder: the folder.
        needed: bytes that will be written.

    Raises:
        InputError: it is a file, or lies below one, or may not be written.
        OSError: the disk has no room for so much.
    """
    folder = Path(folder)
    there = _nearest(folder)
    if not there.is_dir():
        what = "is a file" if there == folder else f"lies below {there}, which is a file"
        raise InputError(f"{folder} {what}, expected a folder for the results: give another with -o")
    if not os.access(there, os.W_OK | os.X_OK):
        reason = f"{there} may not be written" if there != folder else "it may not be written"
        raise InputError(f"{folder} cannot take results ({reason}), expected a folder of yours: give another with -o")
    free = shutil.disk_usage(there).free
    if free < needed:
        raise OSError(errno.ENOSPC, f"{free / 1e9:.2f} GB free, {needed / 1e9:.2f} GB needed", str(folder))


def check_file(path: Path, needed: int = 0) -> None:
    """Check that a file can be written, as ``check_folder`` does; a folder in its place is an error, one of OME-Zarr is none."""
    path = Path(path)
    if path.is_dir() and path.suffix != ".zarr":
        raise InputError(f"{path} is a folder, expected the name of a file: give another name")
    check_folder(path.absolute().parent, needed)


def _nearest(folder: Path) -> Path:
    """The folder, or the nearest above it that exists; a link that leads nowhere exists as what it is."""
    folder = folder.absolute()
    while not (folder.exists() or folder.is_symlink()):
        folder = folder.parent
    return folder
