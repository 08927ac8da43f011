"""How much memory a run may take: what --memory says, else a share of what is free; and what a restoration needs."""

from __future__ import annotations

import os
import re
from math import prod
from pathlib import Path

from cryovae.errors import InputError

UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}
# Share of the free memory that is taken without --memory.
SHARE = 0.8
# Resident bytes of the program with all that it imports, pictures and report included (measured, Linux, CPU build of torch).
PROGRAM = 0.55e9
# Volumes of 32 bits that are held at the most while a tomogram is restored in memory, and assessed: without halves, and with.
IN_MEMORY, IN_MEMORY_HALVES = 21, 25


def parsed(text: str) -> int:
    """Bytes of '4GB', '2GiB' or '500MB'. InputError for anything else, and for nothing."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]i?)B?\s*", text, re.IGNORECASE)
    size = int(float(match[1]) * UNITS[f"{match[2].upper()}B"]) if match else 0
    if not size:
        raise InputError(f"--memory {text} found, expected a size with its unit, e.g. 4GB, 2GiB or 500MB")
    return size


def budget_of(text: str | None) -> int:
    """Bytes that the whole process may take: as asked for, else a share of what is free."""
    return parsed(text) if text is not None else int(SHARE * free() + resident())


def free() -> float:
    """Bytes of memory that could be taken now: by the system, and by the limit of a container or a cluster's job."""
    limits = [float(limit) for limit in (_available(), *_limits()) if limit is not None]
    return max(min(limits), 0.0) if limits else 4e9


def resident(what: str = "VmRSS") -> float:
    """Bytes that this process takes; VmHWM: that it took at the most. 0 where the system does not tell."""
    return _kilobytes(Path("/proc/self/status"), what) or 0.0


def in_memory(shape: tuple[int, ...], halves: bool, samples_out: int, passes: float) -> float:
    """Bytes that restoring a (z, y, x) tomogram takes when held in memory; passes: bytes that the networks hold at once."""
    volumes = (IN_MEMORY_HALVES if halves else IN_MEMORY) + samples_out
    return PROGRAM + passes + 4.0 * volumes * prod(shape)


def _available() -> float | None:
    available = _kilobytes(Path("/proc/meminfo"), "MemAvailable")
    if available is not None or not hasattr(os, "sysconf") or "SC_PHYS_PAGES" not in os.sysconf_names:
        return available
    return 0.5 * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _limits() -> list[float]:
    """Bytes that are left within the memory limits of the control groups of this process."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    limits = []
    for line in lines:
        _, controllers, where = line.split(":", 2)
        root = Path("/sys/fs/cgroup/memory" if controllers == "memory" else "/sys/fs/cgroup")
        if controllers not in ("", "memory"):
            continue
        names = ("memory.limit_in_bytes", "memory.usage_in_bytes") if controllers else ("memory.max", "memory.current")
        here = root / where.lstrip("/")
        for folder in (here, *here.parents):
            most, now = (_number(folder / name) for name in names)
            if most is not None and now is not None:
                limits.append(most - now)
            if folder == root:
                break
    return limits


def _number(path: Path) -> float | None:
    try:
        return float(path.read_text())
    except (OSError, ValueError):
        return None


def _kilobytes(path: Path, key: str) -> float | None:
    try:
        for line in path.read_text().splitlines():
            if line.startswith(f"{key}:"):
                return 1024.0 * float(line.split()[1])
    except (OSError, ValueError):
        return None
    return None
