"""A volume on another voxel size, by cosine transforms: band-limited, without wrapping round at the faces.

    X_k = sum_j x_j cos(pi k (j + 1/2) / n)        x(r) = (X_0 + 2 sum_k X_k cos(pi k (r + 1/2) / n)) / n

k belongs to k / (2 n) cycles per voxel. Waves that the new voxels cannot hold, k > n / s for new voxels of s old ones, are left
out. Voxel i of the result is at r = s i: the first voxel stays where it is, and with it the origin of the header. Along each axis
this is a product with a matrix, so that a volume in a file is rescaled some sections, then some rows at a time.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cryovae.errors import InputError
from cryovae.io.files import provenance_of
from cryovae.io.orientation import UnrotatedSections
from cryovae.io.stored import Stored
from cryovae.io.views import NeutralOf
from cryovae.io.volume import Provenance
from cryovae.tomogram import Fill

# Smallest and largest voxel size of a result over that of its tomogram.
LEAST, MOST = 0.5, 20.0
# The kinds of volumes that are rescaled, beside samples.
RESCALED = ("mean", "measured", "mean_half1", "mean_half2")
# Fewest voxels along an axis of a result.
FEWEST = 4
# Bytes of sections or rows that are in memory at a time.
PART_BYTES = 1 << 26


def check_ratio(voxel_size: float, new: float, shape: tuple[int, ...]) -> None:
    """InputError if a tomogram (z, y, x) of ``voxel_size`` angstrom cannot be written at ``new`` angstrom."""
    ratio = new / voxel_size
    if not LEAST <= ratio <= MOST:
        raise InputError(
            f"--output-voxel-size {new:g} found for voxels of {voxel_size:g} angstrom, expected {LEAST * voxel_size:g} to "
            f"{MOST * voxel_size:g}"
        )
    if min(rescaled_shape(shape, ratio)) < FEWEST:
        sizes = " x ".join(map(str, rescaled_shape(shape, ratio)))
        raise InputError(
            f"--output-voxel-size {new:g} would leave {sizes} voxels (z, y, x), expected {FEWEST} or more along each"
        )


def rescaled_kind(kind: str, new: float) -> str:
    """The name of a volume of ``kind`` with voxels of ``new`` angstrom, as in mean_10A."""
    return f"{kind}_{new:g}A"


def is_rescaled(kind: str) -> bool:
    """Whether the name of a volume is that of a rescaled one."""
    return re.fullmatch(rf"({'|'.join(RESCALED)}|sample_\d+)_[\d.e+-]+A", kind) is not None


def is_linear(kind: str) -> bool:
    """Whether volumes of this kind may be rescaled: a standard deviation depends on the voxels that it is of."""
    return kind != "std"


def rescaled_shape(shape: tuple[int, ...], ratio: float) -> tuple[int, int, int]:
    """Shape (z, y, x) of a volume whose voxels become ``ratio`` times as large."""
    nz, ny, nx = (max(round(size / ratio), 1) for size in shape)
    return nz, ny, nx


def axis_matrix(size: int, ratio: float) -> np.ndarray:
    """The matrix (new size, size), float32, that rescales an axis of ``size`` voxels to voxels ``ratio`` times as large."""
    new = rescaled_shape((size, size, size), ratio)[0]
    k = np.arange(size, dtype=np.float64)
    k = k[k <= size / ratio]
    weights = np.where(k == 0, 1.0, 2.0) / size
    at = ratio * np.arange(new, dtype=np.float64)
    from_axis = np.cos(np.pi / size * np.outer(k, np.arange(size) + 0.5))
    return ((np.cos(np.pi / size * np.outer(at + 0.5, k)) * weights) @ from_axis).astype(np.float32)


def rescaled(volume: Any, ratio: float, folder: Path | None = None) -> Any:
    """A volume (z, y, x) with voxels ``ratio`` times as large, float32.

    Args:
        volume: an array, or a ``Stored`` volume.
        ratio: new voxel size over the old one, 0.5 to 20.
        folder: where the result lies as a ``Stored`` volume, to be removed by who asked for it; None to hold it in memory.
    """
    shape = (volume.shape[0], volume.shape[1], volume.shape[2])
    nz, ny, nx = rescaled_shape(shape, ratio)
    along_z, along_y, along_x = (axis_matrix(size, ratio) for size in shape)
    planes, result = (_empty(folder, name, new) for name, new in (("planes", (shape[0], ny, nx)), ("rescaled", (nz, ny, nx))))
    for part in _parts(shape[0], 4 * shape[1] * shape[2]):
        _put(planes, along_y @ (np.asarray(volume[part], dtype=np.float32) @ along_x.T), part.start)
    for part in _parts(ny, 4 * max(shape[0], nz) * nx):
        rows = planes[:, part]
        _put(result, np.tensordot(along_z, rows, 1), 0, part.start)
    if isinstance(planes, Stored):
        planes.remove()
    return result


def rescaled_as_stored(volume: Any, ratio: float, fill: Fill | None, unrotated: bool, folder: Path | None = None) -> Any:
    """A restored volume with voxels ``ratio`` times as large, in the orientation of its files.

    Args:
        volume: (z, y, x) with the beam along z, an array or a ``Stored`` volume.
        ratio: new voxel size over the old one.
        fill: its voxels without data, which keep their values, or None. Their mean stands in for them while it is rescaled: the
            edge of a constant would ring.
        unrotated: whether its files have the beam along their middle axis; their first voxel is the one that stays.
        folder: as of ``rescaled``.
    """
    shown = UnrotatedSections(volume) if unrotated else volume
    if fill is None:
        return rescaled(shown, ratio, folder)
    neutral = NeutralOf(volume, fill, _mean_of_data(volume, fill))
    small = rescaled(UnrotatedSections(neutral) if unrotated else neutral, ratio, folder)
    filled = UnrotatedSections(fill) if unrotated else fill
    sides = zip(small.shape[1:], shown.shape[1:], strict=True)
    rows, columns = (np.minimum(np.round(ratio * np.arange(n)), m - 1).astype(int) for n, m in sides)
    for z in range(small.shape[0]):
        nearest = min(round(ratio * z), shown.shape[0] - 1)
        mask = filled[nearest : nearest + 1][0][np.ix_(rows, columns)]
        if mask.any():
            section = np.array(small[z : z + 1])
            section[0][mask] = shown[nearest : nearest + 1][0][np.ix_(rows, columns)][mask]
            _put(small, section, z)
    return small


def _mean_of_data(volume: Any, fill: Fill) -> float:
    """Mean of the voxels that are no fill, section by section."""
    total, count = 0.0, 0
    for z in range(volume.shape[0]):
        values = np.asarray(volume[z : z + 1])[~fill[z : z + 1]]
        total, count = total + float(values.sum(dtype=np.float64)), count + values.size
    return total / max(count, 1)


def provenance_at(source: Path | str | None, ratio: float) -> Provenance:
    """Metadata that a rescaled volume keeps from its input: the first voxel of a larger grid counts in new voxels."""
    carried = Provenance() if source is None else provenance_of(Path(source))
    x, y, z = (round(first / ratio) for first in carried.start)
    return replace(carried, start=(x, y, z))


def _empty(folder: Path | None, name: str, shape: tuple[int, int, int]) -> Any:
    return np.empty(shape, np.float32) if folder is None else Stored(folder / f"{name}.raw", shape, fresh=True)


def _put(volume: Any, values: np.ndarray, z: int, y: int = 0) -> None:
    if isinstance(volume, Stored):
        volume.write(values, z, y)
    else:
        volume[z : z + values.shape[0], y : y + values.shape[1]] = values


def _parts(size: int, bytes_each: int) -> list[slice]:
    """Slices that cover an axis, of about PART_BYTES each."""
    count = max(1, PART_BYTES // max(bytes_each, 1))
    return [slice(start, min(start + count, size)) for start in range(0, size, count)]
