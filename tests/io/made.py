"""MRC files made word by word, as no writer of today would leave them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mrcfile
import numpy as np

MODES = {"i1": 0, "i2": 1, "f4": 2, "u2": 6, "f2": 12, "c8": 4}
STAMPS = {"<": (0x44, 0x44, 0, 0), ">": (0x11, 0x11, 0, 0)}


def mrc_bytes(data: np.ndarray, order: str = "<", extended: bytes = b"", **words: Any) -> bytes:
    """A whole file of (sections, rows, columns), 10 angstrom cubes; ``words`` replace words of the header, by mrcfile's names."""
    head = np.zeros((), mrcfile.dtypes.HEADER_DTYPE.newbyteorder(order)).view(np.recarray)
    kind = data.dtype.newbyteorder("=").str[1:]
    header_words = {
        "nx": data.shape[2], "ny": data.shape[1], "nz": data.shape[0], "mode": MODES.get(kind, 0),
        "mx": data.shape[2], "my": data.shape[1], "mz": data.shape[0], "cella": tuple(10.0 * n for n in data.shape[::-1]),
        "cellb": (90.0, 90.0, 90.0), "mapc": 1, "mapr": 2, "maps": 3, "ispg": 1, "nsymbt": len(extended), "nversion": 20141,
        "map": b"MAP ", "machst": STAMPS[order], "dmin": 0.0, "dmax": -1.0, "dmean": -2.0, "rms": -1.0,
    } | words  # fmt: skip
    for name, value in header_words.items():
        head[name] = value
    return head.tobytes() + extended + data.astype(data.dtype.newbyteorder(order)).tobytes()


def made(path: Path, data: np.ndarray, order: str = "<", extended: bytes = b"", **words: Any) -> Path:
    """The same, as a file."""
    path.write_bytes(mrc_bytes(data, order, extended, **words))
    return path
