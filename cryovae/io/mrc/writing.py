"""Writes MRC volumes as 32-bit floats with axes x, y, z, statistics summed in double precision, and metadata of the input."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import mrcfile
import numpy as np

from cryovae import __version__
from cryovae.io.atomic import check_finite, whole_file
from cryovae.io.mrc.header import IMOD_STAMP, IMOD_STAMP_AT
from cryovae.io.volume import Provenance

LABELS, LABEL_LENGTH = 10, 80
EXTENDED_KINDS = (b"CCP4", b"MRCO", b"SERI", b"AGAR", b"FEI1", b"FEI2", b"HDF5")
# IMOD's flags for the sign of the origin and for an RMS that was not computed. The other flags describe the data of the input.
KEPT_FLAGS = 4 | 8
# Number of bytes of sections that are in memory at a time.
SLAB_BYTES = 1 << 24


class Sections(Protocol):
    """A volume (z, y, x) from which sections can be read."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of sections, rows and columns."""

    def __getitem__(self, key: slice, /) -> np.ndarray:
        """Read sections (z, y, x)."""


def write_mrc(path: Path, density: np.ndarray, carried: Provenance, voxel_size: float, note: str) -> None:
    """Write a density as 32-bit floats.

    The file has the byte order of the extended header that is kept from the input, because only programs that know the layout of
    an extended header can swap its bytes. Without one, or with lines of text (CCP4), it is little-endian.

    Args:
        path: the file, written atomically.
        density: volume (z, y, x).
        carried: metadata of the input.
        voxel_size: voxel size in angstrom.
        note: text of the label that is added; of ten labels the oldest by cryovae is dropped, or the last if there is none.
    """
    check_finite(path, sum(float(np.sum(section, dtype=np.float64)) for section in density))
    with whole_file(path) as beside:
        _write_held(beside, density, carried, voxel_size, note)


def write_mrc_by_slabs(path: Path, volume: Sections, carried: Provenance, voxel_size: float, note: str) -> None:
    """Write a volume that is not in memory, slab by slab; arguments and bytes are those of ``write_mrc``."""
    sections, rows, columns = volume.shape
    count = max(1, SLAB_BYTES // (4 * rows * columns))
    slabs = [slice(start, min(start + count, sections)) for start in range(0, sections, count)]
    lowest, highest, total, squares = np.inf, -np.inf, 0.0, 0.0
    for slab in slabs:
        values = volume[slab]
        lowest, highest = min(lowest, float(values.min())), max(highest, float(values.max()))
        total += sum(float(np.sum(section, dtype=np.float64)) for section in values)
    mean = total / (sections * rows * columns)
    check_finite(path, mean)
    for slab in slabs:
        squares += sum(float(np.sum(np.square(np.asarray(section, dtype=np.float64) - mean))) for section in volume[slab])
    with whole_file(path) as beside:
        # Write the header of a small volume first; its sizes and statistics are replaced below.
        order = _write_held(beside, np.zeros((2, 2, 2), np.float32), carried, voxel_size, note)
        header = np.fromfile(beside, mrcfile.dtypes.HEADER_DTYPE.newbyteorder(order), 1)
        for name, size, axis in (("x", columns, "nx"), ("y", rows, "ny"), ("z", sections, "nz")):
            header[axis] = header[f"m{name}"] = size
            header["cella"][name] = np.float32(voxel_size) * size
        header["dmin"], header["dmax"], header["dmean"] = lowest, highest, mean
        header["rms"] = np.sqrt(squares / (sections * rows * columns))
        with beside.open("r+b") as file:
            file.write(header.tobytes())
            file.seek(header.nbytes + len(carried.extended))
            for slab in slabs:
                file.write(np.ascontiguousarray(volume[slab], dtype=f"{order}f4").data)


def _write_held(path: Path, density: np.ndarray, carried: Provenance, voxel_size: float, note: str) -> str:
    """Write a density that is in memory, and return the byte order of the file."""
    kind = _extended_kind(carried)
    order = carried.order if kind not in (b"", b"CCP4") else "<"
    with mrcfile.new(path, overwrite=True) as mrc:
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
    return order


def mean_and_rms(density: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation of a density, summed section by section in double precision."""
    mean = sum(float(np.sum(section, dtype=np.float64)) for section in density) / density.size
    squares = sum(float(np.sum(np.square(np.asarray(section, dtype=np.float64) - mean))) for section in density)
    return mean, float(np.sqrt(squares / density.size))


def _extended_kind(carried: Provenance) -> bytes:
    """Code of the extended header; if it is missing, CCP4 for lines of text, else MRCO."""
    if not carried.extended or carried.extended_kind in EXTENDED_KINDS:
        return carried.extended_kind if carried.extended else b""
    text = len(carried.extended) % LABEL_LENGTH == 0 and all(byte == 0 or 32 <= byte < 127 for byte in carried.extended)
    return b"CCP4" if text else b"MRCO"


def _extra(carried: Provenance) -> np.void:
    """The free words of the header if there is an extended header or IMOD's stamp, else zeros."""
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
