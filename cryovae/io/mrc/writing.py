"""MRC volumes by the standard: 32-bit floats, axes x, y, z, statistics in double precision, and what the input's header held."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mrcfile
import numpy as np

from cryovae import __version__
from cryovae.io.atomic import whole_file
from cryovae.io.mrc.header import IMOD_STAMP, IMOD_STAMP_AT
from cryovae.io.volume import Provenance

LABELS, LABEL_LENGTH = 10, 80
EXTENDED_KINDS = (b"CCP4", b"MRCO", b"SERI", b"AGAR", b"FEI1", b"FEI2", b"HDF5")
# Of IMOD's flags: the sign of the origin, and of an RMS that was not computed. The others describe data that are no longer there.
KEPT_FLAGS = 4 | 8


def write_mrc(path: Path, density: np.ndarray, carried: Provenance, voxel_size: float, note: str) -> None:
    """Write a (z, y, x) density as 32-bit floats, cubes of ``voxel_size`` angstrom, with what is carried over from its input.

    ``note`` makes one label line more; of eleven labels, the oldest of ours goes, else the last. An extended header of big-endian
    numbers is kept as it is, and the file then written in that order, for only programs that know its layout can swap it.
    """
    kind = _extended_kind(carried)
    order = carried.order if kind not in (b"", b"CCP4") else "<"
    with whole_file(path) as beside, mrcfile.new(beside, overwrite=True) as mrc:
        mrc.set_data(np.ascontiguousarray(density, dtype=f"{order}f4"))
        mrc.set_volume()
        mrc.voxel_size = voxel_size
        mrc.header.origin = carried.origin
        mrc.header.nxstart, mrc.header.nystart, mrc.header.nzstart = carried.start
        if carried.extended:
            mrc.set_extended_header(np.frombuffer(carried.extended, "V1"))
            mrc.header.exttyp = kind
        if order == carried.order:
            mrc.header.extra2 = _extra(carried)
        mrc.header.dmean, mrc.header.rms = mean_and_rms(density)
        _set_labels(mrc, list(carried.labels), f"cryovae {__version__} {note}")


def mean_and_rms(density: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation, summed section by section in double precision."""
    mean = sum(float(np.sum(section, dtype=np.float64)) for section in density) / density.size
    squares = sum(float(np.sum(np.square(np.asarray(section, dtype=np.float64) - mean))) for section in density)
    return mean, float(np.sqrt(squares / density.size))


def _extended_kind(carried: Provenance) -> bytes:
    """The code of the extended header; for one that has none, CCP4 for lines of text, else that of any old MRC file."""
    if not carried.extended or carried.extended_kind in EXTENDED_KINDS:
        return carried.extended_kind if carried.extended else b""
    text = len(carried.extended) % LABEL_LENGTH == 0 and all(byte == 0 or 32 <= byte < 127 for byte in carried.extended)
    return b"CCP4" if text else b"MRCO"


def _extra(carried: Provenance) -> np.void:
    """The free words of the header, if they have a meaning: beside an extended header, or with IMOD's stamp."""
    extra = bytearray(carried.extra.ljust(84, b"\0"))
    at = slice(IMOD_STAMP_AT, IMOD_STAMP_AT + 4)
    stamped = bytes(extra[at] if carried.order == "<" else extra[at][::-1]) == IMOD_STAMP
    if stamped:
        flags = int(np.frombuffer(bytes(extra), f"{carried.order}i4", 1, IMOD_STAMP_AT + 4)[0]) & KEPT_FLAGS
        extra[IMOD_STAMP_AT + 4 : IMOD_STAMP_AT + 8] = np.array(flags, f"{carried.order}i4").tobytes()
    return np.void(bytes(extra) if stamped or carried.extended else bytes(84))


def _set_labels(mrc: Any, labels: list[str], ours: str) -> None:
    while len(labels) >= LABELS:
        labels.pop(next((i for i, label in enumerate(labels) if label.startswith("cryovae")), len(labels) - 1))
    mrc.header.label = b""
    mrc.header.nlabl = 0
    for label in [*labels, ours]:
        printable = "".join(c if c.isascii() and c.isprintable() else "?" for c in label)
        mrc.add_label(printable[:LABEL_LENGTH])
