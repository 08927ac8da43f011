"""A claim on the files of one run: of two runs that would write the same files, the second is refused before any work.

The claim is a lock of the operating system on a hidden file. It ends when its process ends, even after a crash. The file says who
holds it. Some file systems of clusters have no locks: there the file itself is the claim, and is taken over if its process ran on
this host and has ended.
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

from cryovae.errors import InputError

# Seconds to wait for a run that has just locked its claim to write who it is.
PATIENCE = 2.0


class InUse(InputError):
    """Another run of the same name is writing the files; its record must not be changed."""


class HeldByOther(Exception):
    """The claim is held by a run of another tomogram."""


@contextmanager
def claimed(path: Path, name: str) -> Iterator[None]:
    """Hold a claim until the block ends.

    Args:
        path: the file that stands for what is claimed.
        name: of the tomogram or model of the run.

    Raises:
        InUse: another run of the same name holds it.
        HeldByOther: a run of another name holds it.
    """
    file = _locked(path, name)
    try:
        holder = {"name": name, "host": platform.node(), "pid": os.getpid(), "born": _born(os.getpid()), "since": _now()}
        os.ftruncate(file, 0)
        os.pwrite(file, json.dumps(holder).encode(), 0)
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(file)


def _locked(path: Path, name: str) -> int:
    """The open file of the claim, locked. Raises as ``claimed``."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _refuse(path, name, file)
        except OSError:
            # This file system has no locks.
            if _is_held(_holder(file)):
                _refuse(path, name, file)
            return file
        # Another run may have removed the file after it was opened here and before it was locked.
        if _is_file(path, file):
            return file
        os.close(file)


def _is_file(path: Path, file: int) -> bool:
    """Whether a path still names an open file."""
    try:
        return os.fstat(file).st_ino == path.stat().st_ino
    except FileNotFoundError:
        return False


def _holder(file: int) -> dict[str, Any]:
    """The content of the file of a claim; empty if its holder has not written it yet."""
    try:
        holder = json.loads(os.pread(file, 4096, 0))
    except (OSError, ValueError):
        return {}
    return holder if isinstance(holder, dict) else {}


def _refuse(path: Path, name: str, file: int) -> NoReturn:
    """Close the file of a claim that another run holds, and raise as ``claimed``."""
    end = time.monotonic() + PATIENCE
    while not (holder := _holder(file)) and time.monotonic() < end:
        time.sleep(0.02)
    os.close(file)
    if holder and holder.get("name") != name:
        raise HeldByOther
    who = "another run"
    if holder:
        who = f"another run (host {holder.get('host')}, process {holder.get('pid')}, since {holder.get('since')})"
    raise InUse(
        f"{path.parent} is written by {who}, expected a folder of its own for each run: pass another -o, or wait until it ends"
        f" (if it has ended, delete {path})"
    )


def _is_held(holder: dict[str, Any]) -> bool:
    """Whether the process that wrote a claim may still run; one of another host may."""
    if not holder or holder.get("host") != platform.node():
        return bool(holder)
    pid = holder.get("pid")
    return isinstance(pid, int) and _born(pid) is not None and _born(pid) == holder.get("born")


def _born(process: int) -> str | None:
    """When a process of this host began, in ticks of the system; None if it does not run."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        pass
    try:
        os.kill(process, 0)
    except (OSError, OverflowError):
        return None
    return "unknown"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
