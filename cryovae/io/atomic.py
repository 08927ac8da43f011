"""Atomic writes: files and folders are written under a temporary name in the same folder, and renamed at the end.

The temporary name contains the host name and the process number. A killed process leaves its temporary file; the next process
that writes to the same path on the same machine removes it.
"""

from __future__ import annotations

import glob
import math
import os
import platform
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cryovae.errors import BrokenResult


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path for a file; the file replaces ``path`` on success and is removed on any error."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path)
    beside = path.with_name(f".{path.name}.{_writer()}.part{path.suffix}")
    try:
        yield beside
        # Some writers create files that only their owner can read; results must follow the umask.
        umask = os.umask(0)
        os.umask(umask)
        beside.chmod(0o666 & ~umask)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary path for a folder; the folder replaces ``path`` on success and is removed on any error."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path)
    beside, before = (path.with_name(f".{path.name}.{_writer()}.{word}") for word in ("part", "before"))
    try:
        yield beside
        # A folder with content cannot be replaced by one rename: the old one is renamed first, and restored if that fails.
        existed = path.exists()
        if existed:
            os.replace(path, before)
        try:
            os.replace(beside, path)
        except OSError:
            if existed:
                os.replace(before, path)
            raise
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    if before.is_dir():
        shutil.rmtree(before, ignore_errors=True)
    else:
        before.unlink(missing_ok=True)


def check_finite(path: Path, total: float) -> None:
    """Check a volume before it is written.

    Args:
        path: of the volume.
        total: sum or mean of its voxels in double precision, which is finite only if all of them are.

    Raises:
        BrokenResult: a voxel is NaN or infinite.
    """
    if not math.isfinite(total):
        raise BrokenResult(
            f"{Path(path).name} would have voxels that are NaN or infinite, expected numbers: it was not written; check the "
            "model, its training (metrics.csv) and the input"
        )


def write_text(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` atomically, as UTF-8; bytes of a path that are not UTF-8 are written as escapes."""
    with whole_file(path) as beside:
        beside.write_text(text, encoding="utf-8", errors="backslashreplace")


def _writer(process: int | None = None) -> str:
    return f"{platform.node()}-{process or os.getpid()}"


def _sweep(path: Path) -> None:
    """Remove temporary files for ``path`` that were left by processes of this machine that no longer run."""
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
