"""Imports the optional package zarr when needed, and translates its errors to InputError."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cryovae.errors import InputError

AXES = ("z", "y", "x")
# Attribute of a group for metadata that OME-Zarr does not define: labels and start.
KEY = "cryovae"


def library(path: Path) -> Any:
    """Import the package zarr for ``path``. InputError if it is not installed."""
    try:
        import zarr
    except ImportError as error:
        raise InputError(f"{path} asks for OME-Zarr, which needs the package zarr: pip install 'cryovae[zarr]'") from error
    return zarr


@contextmanager
def understood(path: Path) -> Iterator[None]:
    """Translate any error that a damaged group causes into an InputError."""
    try:
        yield
    except (InputError, MemoryError):
        raise
    except Exception as error:
        # zarr has no common base class of its errors: json, codecs, validation and missing keys raise different ones.
        reason = (str(error) or "?").splitlines()[0]
        raise InputError(
            f"{path} cannot be read as OME-Zarr ({type(error).__name__}: {reason[:120]}): expected metadata of version 0.4 or 0.5"
        ) from error
