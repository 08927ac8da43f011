"""The header of an MRC file, 1024 bytes: size, mode, axes, cell = sampling * voxel size, start, origin, labels.

The standard is MRC2014. CCP4 permutes the axes. IMOD adds a stamp and flags to the unused words. Older programs write no "MAP ",
no machine stamp, or no version. Sizes are checked before memory is allocated.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import mrcfile
import numpy as np

from cryovae.errors import InputError
from cryovae.io.mrc.stream import opened, take

LENGTH = 1024
MODES = {
    0: "8-bit integer", 1: "16-bit integer", 2: "32-bit float", 6: "unsigned 16-bit integer", 12: "16-bit float",
    101: "4-bit integer",
}  # fmt: skip
KINDS = {0: "i1", 1: "i2", 2: "f4", 6: "u2", 12: "f2", 101: "u1"}
COMPLEX, COLOUR = (3, 4), 16
LONGEST_AXIS = 1 << 20
IMOD_STAMP, IMOD_STAMP_AT = b"IMOD", 40
SIGNED_BYTES, PACKED_BYTES = 1, 16
LITTLE, BIG = (b"\x44\x44", b"\x44\x41"), (b"\x11\x11",)


@dataclass(frozen=True)
class Header:
    """The header of an MRC file.

    Attributes:
        path: the file.
        fields: fields of the header, named as in mrcfile.
        order: byte order of the file, '<' or '>'.
        notes: one line for each ambiguity that was resolved on reading.
    """

    path: Path
    fields: Any
    order: Literal["<", ">"]
    notes: tuple[str, ...] = ()

    @property
    def mode(self) -> int:
        """Number type of a voxel, a key of MODES."""
        return int(self.fields.mode)

    @property
    def size(self) -> tuple[int, int, int]:
        """Number of columns, rows and sections."""
        return int(self.fields.nx), int(self.fields.ny), int(self.fields.nz)

    @property
    def axes(self) -> tuple[int, int, int]:
        """Axes along columns, rows and sections, 1, 2, 3 for x, y, z; (1, 2, 3) if the file does not define them."""
        axes = int(self.fields.mapc), int(self.fields.mapr), int(self.fields.maps)
        return (1, 2, 3) if axes == (0, 0, 0) else axes

    @property
    def start(self) -> tuple[int, int, int]:
        """Index of the first voxel along x, y, z in the grid of the unit cell."""
        first = {self.axes[i]: int(self.fields[name]) for i, name in enumerate(("nxstart", "nystart", "nzstart"))}
        return first[1], first[2], first[3]

    @property
    def voxel_size(self) -> tuple[float, float, float]:
        """Cell length divided by sampling along x, y, z, in angstrom; signed as in the file, 0 if the file has none.

        Values are rounded to seven digits, the precision of the file.
        """
        counts = {self.axes[i]: n for i, n in enumerate(self.size)}
        sampling = int(self.fields.mx), int(self.fields.my), int(self.fields.mz)
        steps = [m if m > 0 else counts[i] for i, m in enumerate(sampling, 1)]
        x, y, z = (float(f"{float(self.fields.cella[name]) / n:.7g}") for name, n in zip("xyz", steps, strict=True))
        return x, y, z

    @property
    def origin(self) -> tuple[float, float, float]:
        """Origin along x, y, z in angstrom; 0 for values that are not finite."""
        x, y, z = (float(self.fields.origin[name]) for name in "xyz")
        return tuple(v if math.isfinite(v) else 0.0 for v in (x, y, z))  # type: ignore[return-value]

    @property
    def labels(self) -> tuple[str, ...]:
        """Lines of text, without empty lines and unprintable characters."""
        lines = (bytes(label).decode("ascii", "replace") for label in self.fields.label)
        printable = ("".join(c for c in line if c.isprintable() and c.isascii()).strip() for line in lines)
        return tuple(line for line in printable if line)

    @property
    def extended(self) -> int:
        """Number of bytes of the extended header."""
        return int(self.fields.nsymbt)

    @property
    def extra(self) -> bytes:
        """Free words after the version, which may contain IMOD's stamp or SerialEM's layout of the extended header."""
        return bytes(self.fields.extra2)

    @property
    def imod_flags(self) -> int | None:
        """IMOD's flags, or None if its stamp is missing."""
        stamp = self.extra[IMOD_STAMP_AT : IMOD_STAMP_AT + 4]
        if (stamp if self.order == "<" else stamp[::-1]) != IMOD_STAMP:
            return None
        return int(np.frombuffer(self.extra, f"{self.order}i4", 1, IMOD_STAMP_AT + 4)[0])

    @property
    def row_bytes(self) -> int:
        """Number of bytes of a row of voxels."""
        columns = self.size[0]
        return (columns + 1) // 2 if self.mode == 101 else columns * np.dtype(KINDS[self.mode]).itemsize

    @property
    def data_bytes(self) -> int:
        """Number of bytes of all voxels."""
        return self.row_bytes * self.size[1] * self.size[2]

    @property
    def volumes(self) -> int:
        """Number of volumes in the file; more than 1 only for stacks of volumes, space groups 401 to 630."""
        sections = int(self.fields.mz)
        if not 401 <= int(self.fields.ispg) <= 630 or sections < 1 or self.size[2] % sections:
            return 1
        return self.size[2] // sections


def read_header(path: Path) -> Header:
    """Read and check the header of an MRC file, plain or compressed.

    Raises:
        InputError: the file is missing, damaged, not an MRC file, or of an unsupported kind.
    """
    with opened(path) as stream:
        block = take(stream, LENGTH)
    if len(block) < LENGTH:
        raise InputError(
            f"{path} is {len(block)} bytes long, expected an MRC header of {LENGTH} and data: it is cut short or no MRC"
        )
    header = _ordered(path, bytes(block))
    _check(header)
    return header


def _ordered(path: Path, block: bytes) -> Header:
    """The header in the byte order of its machine stamp, or in the other order if only that is plausible."""
    stamp = block[212:214]
    orders: tuple[Literal["<", ">"], ...] = (">", "<") if stamp in BIG else ("<", ">")
    candidates = [Header(path, _fields(block, order), order) for order in orders]
    for number, header in enumerate(candidates):
        if _plausible(header):
            if number and stamp in LITTLE + BIG:
                name = "big" if header.order == ">" else "little"
                note = f"{path}: the machine stamp has the byte order wrong, read as {name}-endian"
                return Header(path, header.fields, header.order, (note,))
            return header
    if bytes(candidates[0].fields.map)[:3] != b"MAP":
        raise InputError(f"{path} is no MRC file, neither its size nor its mode makes sense: give a tomogram in MRC format")
    return candidates[0]


def _fields(block: bytes, order: Literal["<", ">"]) -> Any:
    dtype = mrcfile.dtypes.HEADER_DTYPE.newbyteorder(order)
    return cast(Any, np.frombuffer(block, dtype)).view(np.recarray)[0]


def _plausible(header: Header) -> bool:
    return header.mode in (*MODES, *COMPLEX, COLOUR) and all(0 < n <= LONGEST_AXIS for n in header.size)


def _check(header: Header) -> None:
    """InputError if the header describes data that cannot be read."""
    path, mode = header.path, header.mode
    x, y, z = header.size
    if mode in COMPLEX:
        raise InputError(
            f"{path} holds complex numbers (mode {mode}), a Fourier transform: transform it back, and give the densities"
        )
    if mode not in MODES:
        expected = ", ".join(f"{m} ({name})" for m, name in MODES.items())
        raise InputError(f"{path} has mode {mode}, expected one of {expected}: convert it, e.g. with newstack -mode 2")
    if mode == 0 and (header.imod_flags or 0) & PACKED_BYTES:
        raise InputError(f"{path} packs two 4-bit values into each byte of mode 0: convert it, e.g. with newstack -mode 2")
    if not all(0 < n <= LONGEST_AXIS for n in header.size):
        raise InputError(
            f"{path} has a size of {x} x {y} x {z} (x, y, z) in its header, expected a volume: the header is damaged"
        )
    if header.extended < 0:
        raise InputError(f"{path} has an extended header of {header.extended} bytes, expected 0 or more: the header is damaged")
    if sorted(header.axes) != [1, 2, 3]:
        raise InputError(
            f"{path} has axis order {header.axes} (mapc, mapr, maps), expected 1, 2, 3 in some order: mend the header"
        )
