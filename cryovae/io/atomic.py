"""Files and folders that appear whole or not at all: written beside their place, renamed at the end."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a path beside ``path`` to write to; on success it takes the place of ``path``, on any error it is removed."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part{path.suffix}")
    try:
        yield beside
        # Some writers make files that only their owner may read; results are for the group, as the umask says.
        umask = os.umask(0)
        os.umask(umask)
        beside.chmod(0o666 & ~umask)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Give a path beside ``path`` to make a folder at; on success it takes the place of ``path``, on any error it is removed."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside, before = (path.with_name(f".{path.name}.{os.getpid()}.{word}") for word in ("part", "before"))
    try:
        yield beside
        # A folder that is not empty cannot be replaced by one rename: what was there is put aside, and back if that fails.
        there = path.exists()
        if there:
            os.replace(path, before)
        try:
            os.replace(beside, path)
        except OSError:
            if there:
                os.replace(before, path)
            raise
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    if before.is_dir():
        shutil.rmtree(before, ignore_errors=True)
    else:
        before.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` to ``path``, whole or not at all."""
    with whole_file(path) as beside:
        beside.write_text(text)
