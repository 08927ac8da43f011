"""Pictures that are not looked at need not be drawn."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import pytest


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


# One grey pixel.
PIXEL = (
    b"\x89PNG\r\n\x1a\n"
    + _chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0))
    + _chunk(b"IDAT", zlib.compress(b"\0\x80"))
    + _chunk(b"IEND", b"")
)


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures of this process are made in full and saved as one pixel: rendering is half the time of a small restoration."""
    save_one_pixel(monkeypatch)


def save_one_pixel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let figures be saved as one pixel."""
    from matplotlib.figure import Figure

    def savefig(figure: Figure, target: Any, **settings: Any) -> None:
        if hasattr(target, "write"):
            target.write(PIXEL)
        else:
            Path(target).write_bytes(PIXEL)

    monkeypatch.setattr(Figure, "savefig", savefig)
