"""Reads MRC volumes as (z, y, x) for any order of axes in the file; plain files are memory-mapped.

Sections, rows and columns run along the axes (maps, mapr, mapc). The density is a transposed view, not a copy.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from cryovae.errors import InputError
from cryovae.io.mrc.grey_levels import is_unsigned
from cryovae.io.mrc.header import LENGTH, MODES, Header, read_header
from cryovae.io.mrc.layout import Layout, cut_short, layout_of, number_type
from cryovae.io.mrc.stream import compression_of, opened, skip, take
from cryovae.io.volume import Provenance, Volume

# A deflate stream expands at most 1032-fold.
MAX_EXPANSION = 1100
# Bytes beyond those that the header announces, which are read of a compressed file.
MOST_EXTRA = 1 << 24


def read_mrc(path: Path, number: int | None = None) -> Volume:
    """Open an MRC volume.

    Args:
        path: the file, plain or compressed.
        number: number of the volume in a stack of volumes, from 1; None if the file contains one volume.

    Raises:
        InputError: the file cannot be read, is an image, or does not contain the volume.
    """
    header = read_header(path)
    if min(header.size) < 2:
        x, y, z = header.size
        raise InputError(f"{path} is an image of {x} x {y} x {z} (x, y, z), expected a volume: give a tomogram")
    data, layout = _data(header)
    unsigned, note = is_unsigned(header, data) if header.mode == 0 else (header.mode == 101, None)
    if unsigned:
        data = data.view(np.uint8)
    data = _volume_of(header, data, number)
    size = header.voxel_size
    return Volume(
        path=path,
        density=_in_order(header, data),
        stored=f"mode {header.mode}, {MODES[header.mode]}{', unsigned' if header.mode == 0 and unsigned else ''}",
        voxel_size=(abs(size[0]), abs(size[1]), abs(size[2])),
        origin=header.origin,
        labels=header.labels,
        notes=(*header.notes, *([layout.note] if layout.note else []), *([note] if note else []), *_ambiguities(header)),
        mode=header.mode,
    )


def provenance_of_mrc(path: Path) -> Provenance:
    """Metadata that a restored volume keeps from an MRC file."""
    header = read_header(path)
    with opened(path) as stream:
        skip(stream, LENGTH)
        extended = bytes(take(stream, header.extended))
    layout = _layout(header) if compression_of(path) is None else _decompressed(header)[1]
    extended = extended if layout.extended == header.extended else b""
    return Provenance(
        origin=header.origin,
        start=header.start,
        labels=header.labels,
        extended=extended if len(extended) == header.extended else b"",
        extended_kind=bytes(header.fields.exttyp),
        extra=header.extra,
        order=header.order,
    )


def _data(header: Header) -> tuple[np.ndarray, Layout]:
    """Voxels (sections, rows, columns) in the order of the file, and where they lie. InputError if they are not all there."""
    dtype = number_type(header)
    columns, rows, sections = header.size
    stored = (sections, rows, header.row_bytes // dtype.itemsize)
    if compression_of(header.path) is None:
        layout = _layout(header)
        data: np.ndarray = np.memmap(header.path, dtype, "r", layout.offset, stored)
    else:
        body, layout = _decompressed(header)
        data = np.frombuffer(body, dtype, sections * rows * stored[2], layout.offset - LENGTH).reshape(stored)
    return (data if header.mode != 101 else _unpacked(data, columns)), layout


def _layout(header: Header) -> Layout:
    """Where the voxels of a plain file begin."""

    def read(first: int, count: int) -> np.ndarray:
        size = number_type(header).itemsize
        return np.fromfile(header.path, number_type(header), count // size, offset=first)

    return layout_of(header, os.stat(header.path).st_size, read)


def _decompressed(header: Header) -> tuple[bytearray, Layout]:
    """All bytes behind the header of a compressed file, and where its voxels begin."""
    path, needed = header.path, header.data_bytes
    if compression_of(path) == "gz" and needed > MAX_EXPANSION * os.stat(path).st_size:
        raise cut_short(header, 0, "not so many")
    with opened(path) as stream:
        skip(stream, LENGTH)
        body = take(stream, min(header.extended, MOST_EXTRA) + needed + MOST_EXTRA)

    def read(first: int, count: int) -> np.ndarray:
        size = number_type(header).itemsize
        return np.frombuffer(body, number_type(header), count // size, first - LENGTH)

    return body, layout_of(header, LENGTH + len(body), read)


def _unpacked(data: np.ndarray, columns: int) -> np.ndarray:
    """Unpack two 4-bit values per byte to uint8 (..., columns), low half first; each row starts at a new byte."""
    values = np.empty((*data.shape[:-1], columns), np.uint8)
    values[..., 0::2] = data & 15
    values[..., 1::2] = data[..., : columns // 2] >> 4
    return values


def _volume_of(header: Header, data: np.ndarray, number: int | None) -> np.ndarray:
    """The sections of one volume of the file."""
    count = header.volumes
    if number is None and count > 1:
        raise InputError(
            f"{header.path} is a stack of {count} volumes (space group {header.fields.ispg}), expected one: write it apart"
        )
    if number is not None and not 1 <= number <= count:
        raise InputError(f"volume {number} of {header.path} was asked for, which holds {count}: name one from 1 to {count}")
    sections = len(data) // count
    first = ((number or 1) - 1) * sections
    if min(sections, *data.shape[1:]) < 2:
        raise InputError(f"{header.path} is a stack of images, expected a volume: give a tomogram")
    return data[first : first + sections]


def _in_order(header: Header, data: np.ndarray) -> np.ndarray:
    """Transpose (sections, rows, columns) to (z, y, x)."""
    along = {axis: 2 - i for i, axis in enumerate(header.axes)}
    return data.transpose(along[3], along[2], along[1])


def _ambiguities(header: Header) -> list[str]:
    """One line for each property of the header that is ambiguous or unusual."""
    path, fields, size = header.path, header.fields, header.voxel_size
    sampling = np.array([fields.mx, fields.my, fields.mz])
    angles = np.array([float(fields.cellb[n]) for n in ("alpha", "beta", "gamma")])
    notes = []
    if min(size) < 0:
        notes.append(f"{path}: negative voxel size ({size[0]:g}, {size[1]:g}, {size[2]:g}) in the header, its sign is not used")
    if header.axes != (1, 2, 3):
        notes.append(f"{path}: axes {header.axes} (mapc, mapr, maps) put in order, z slowest")
    if angles.any() and not (np.abs(angles - 90) < 0.1).all():
        notes.append(f"{path}: cell angles {', '.join(f'{a:g}' for a in angles)} in the header, treated as right angles")
    if header.axes == (1, 2, 3) and (sampling == np.array(header.size) - 1).all():
        notes.append(
            f"{path}: the header divides the cell into one step less than there are voxels; with --voxel-size you decide"
        )
    if int(fields.ispg) == 0 and int(fields.mz) == 1:
        notes.append(f"{path}: the header calls it a stack of images (space group 0, mz 1), read as a volume")
    return notes
