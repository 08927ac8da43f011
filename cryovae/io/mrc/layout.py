"""Where the voxels of an MRC file begin, by its header and by the length of the file.

Some programs announce an extended header and write none, or write one and do not announce it; others pad the file at its end.
Extra bytes may thus lie before or behind the voxels. They lie where the bytes cannot be voxels: the bytes there are constant, or
outside the range that the header gives, or the mean with them is not that of the header.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cryovae.errors import InputError
from cryovae.io.mrc.header import KINDS, LENGTH, MODES, Header

# The mean of the header decides if one place has it within this share of the standard deviation, and is this many times nearer.
MEAN_ERROR, NEARER = 1e-3, 20.0
# Number of bytes that are read at either end, and number whose values are summed at a time.
SHOWN, BLOCK = 1 << 20, 1 << 22

# Reads bytes of the file as numbers: (first byte, number of bytes).
Reader = Callable[[int, int], np.ndarray]


@dataclass(frozen=True)
class Layout:
    """Where the voxels are.

    Attributes:
        offset: first byte of the voxels.
        extended: bytes of the extended header that are there.
        note: what the header has wrong, or None.
    """

    offset: int
    extended: int
    note: str | None = None


def layout_of(header: Header, length: int, read: Reader) -> Layout:
    """Where the voxels begin in a file of ``length`` bytes.

    Args:
        header: header of the file.
        length: of the file, uncompressed.
        read: reads bytes as numbers of the type of the voxels.

    Raises:
        InputError: the file is too short, or too long and the extra bytes might be voxels at either end.
    """
    announced, data = header.extended, header.data_bytes
    if length == LENGTH + announced + data:
        return Layout(LENGTH + announced, announced)
    if length < LENGTH + data:
        raise cut_short(header, length - LENGTH - announced)
    begin = LENGTH + announced if length > LENGTH + announced + data else LENGTH
    extra = length - begin - data
    said = f"{header.path}: its header announces an extended header of {announced} bytes, the file"
    if extra == 0:
        # The file has just enough bytes for its voxels: without an extended header, or with one and without its last voxels.
        if _cannot_be_voxels(read(begin, min(announced, data, SHOWN)), header):
            raise cut_short(header, length - LENGTH - announced)
        return Layout(begin, 0, f"{said} has none: read by its length")
    before, behind = _judged(header, length, begin, extra, read)
    if before == behind:
        raise InputError(
            f"{header.path} is {length} bytes long, expected {LENGTH + announced + data} by its header, and {extra} bytes "
            "may lie before or behind its voxels: write it again, e.g. with newstack or mrcfile"
        )
    if before:
        # The extra bytes are an extended header, or the rest of one.
        return Layout(begin + extra, begin + extra - LENGTH, f"{said} has one of {begin + extra - LENGTH}: read by its length")
    note = f"{said} has {begin - LENGTH}, and {extra} bytes behind its voxels, which are left out"
    return Layout(begin, begin - LENGTH, note)


def cut_short(header: Header, length: int, words: str | None = None) -> InputError:
    """The error for ``length`` bytes of data where more are expected; negative if the extended header is truncated."""
    x, y, z = header.size
    present = f"{length}" if length > 0 else "none" if length == 0 else f"an extended header that lacks {-length}, and none"
    return InputError(
        f"{header.path} is cut short: {header.data_bytes} bytes of data expected for {x} x {y} x {z} voxels of "
        f"{MODES[header.mode]}, {words or present} found: copy it again"
    )


def _judged(header: Header, length: int, begin: int, extra: int, read: Reader) -> tuple[bool, bool]:
    """Whether the extra bytes lie before the voxels, and whether behind them; both True or both False if it is unknown."""
    shown = min(extra, SHOWN)
    head, tail = read(begin, shown), read(length - shown, shown)
    for judge in (_is_constant, lambda part: _cannot_be_voxels(part, header)):
        before, behind = judge(head), judge(tail)
        if before != behind:
            return before, behind
    by_mean = _by_mean(header, length, begin, extra, read)
    return (False, False) if by_mean is None else (by_mean, not by_mean)


def _is_constant(part: np.ndarray) -> bool:
    return len(part) > 0 and bool((part == part[0]).all())


def _cannot_be_voxels(part: np.ndarray, header: Header) -> bool:
    """Whether numbers are not finite, or outside the range of the header. Bytes may be signed or unsigned."""
    if len(part) == 0:
        return False
    if part.dtype.kind == "f" and not np.isfinite(part).all():
        return True
    low, high = float(header.fields.dmin), float(header.fields.dmax)
    if header.mode == 101 or not (np.isfinite(low) and np.isfinite(high) and low < high):
        return False
    slack = 1e-4 * (high - low) + (1 if part.dtype.kind in "iu" else 0)
    views = [part, part.view(np.uint8)] if header.mode == 0 else [part]
    return all(float(v.min()) < low - slack or float(v.max()) > high + slack for v in views)


def _by_mean(header: Header, length: int, begin: int, extra: int, read: Reader) -> bool | None:
    """Whether the mean in the header is that of voxels behind the extra bytes; None if the mean cannot decide."""
    mean = float(header.fields.dmean)
    if header.mode in (0, 101) or not np.isfinite(mean):
        return None
    places = {True: begin + extra, False: begin}
    errors = {}
    for before, offset in places.items():
        total, squares, count = 0.0, 0.0, 0
        for start in range(offset, offset + header.data_bytes, BLOCK):
            part = read(start, min(BLOCK, offset + header.data_bytes - start)).astype(np.float64)
            total, squares, count = total + float(part.sum()), squares + float(np.square(part - mean).sum()), count + len(part)
        std = max(squares / count, 1e-300) ** 0.5
        errors[before] = abs(total / count - mean) / std
    best, other = sorted(errors, key=lambda before: errors[before])
    if not errors[best] < MEAN_ERROR or not errors[other] > NEARER * max(errors[best], 1e-7):
        return None
    return best


def number_type(header: Header) -> np.dtype[np.generic]:
    """The type of the stored numbers."""
    return np.dtype(KINDS[header.mode]).newbyteorder(header.order)
