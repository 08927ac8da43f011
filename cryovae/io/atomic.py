"""Files and folders that appear whole or not at all: written beside their place, renamed at the end.

What is beside is named after the machine and the process that writes it. A process that was killed leaves it there; whoever
writes to the same place next, on the same machine, takes it away.
"""

from __future__ import annotations

import glob
import os
import platform
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a path beside ``path`` to write to; on success it takes the place of ``path``, on any error it is removed."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path)
    beside = path.with_name(f".{path.name}.{_writer()}.part{path.suffix}")
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
    _sweep(path)
    beside, before = (path.with_name(f".{path.name}.{_writer()}.{word}") for word in ("part", "before"))
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


def _writer(process: int | None = None) -> str:
    return f"{platform.node()}-{process or os.getpid()}"


def _sweep(path: Path) -> None:
    """Take away what processes of this machine that are no more left beside ``path``."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.{glob.escape(platform.node())}-*.part*"):
        process = left.name[len(f".{path.name}.{platform.node()}-") :].split(".")[0]
        if not process.isdigit() or _runs(int(process)):
            continue
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
