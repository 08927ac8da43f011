"""Reads the bytes of a plain or compressed file without trusting the sizes in its header."""

from __future__ import annotations

import bz2
import gzip
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from cryovae.errors import InputError

CHUNK = 1 << 22
MAGIC = {b"\x1f\x8b\x08": "gz", b"BZh": "bz2"}


def compression_of(path: Path) -> str | None:
    """Compression of a file by its first bytes: 'gz', 'bz2' or None. InputError if it is missing, a folder, or not readable."""
    if not os.path.exists(path):
        raise InputError(f"{path} does not exist: check the path")
    if os.path.isdir(path):
        raise InputError(f"{path} is a folder, expected one file, or a folder of OME-Zarr: check the path")
    if not os.path.isfile(path):
        raise InputError(f"{path} is no regular file: give a tomogram in MRC format")
    with _as_input(path), path.open("rb") as file:
        return MAGIC.get(file.read(3))


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """Open a file for reading, decompressed if needed. InputError if it is missing or damaged."""
    kind = compression_of(path)
    with _as_input(path):
        if kind == "gz":
            with gzip.open(path, "rb") as stream:
                yield cast(BinaryIO, stream)
        elif kind == "bz2":
            with bz2.open(path, "rb") as stream:
                yield cast(BinaryIO, stream)
        else:
            with path.open("rb") as file:
                yield file


@contextmanager
def _as_input(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, EOFError, zlib.error) as error:
        reason = (getattr(error, "strerror", None) or str(error) or type(error).__name__).splitlines()[0]
        raise InputError(f"{path} cannot be read ({reason}): copy it again, or check its permissions") from error


def take(stream: BinaryIO, count: int) -> bytearray:
    """Read up to ``count`` bytes. The buffer grows while reading, so a damaged header cannot cause a large allocation."""
    buffer = bytearray()
    while len(buffer) < count and (more := stream.read(min(CHUNK, count - len(buffer)))):
        buffer += more
    return buffer


def skip(stream: BinaryIO, count: int) -> int:
    """Skip up to ``count`` bytes and return the number of bytes skipped."""
    passed = 0
    while passed < count and (more := stream.read(min(CHUNK, count - passed))):
        passed += len(more)
    return passed
