"""A tomogram from its files, checked: the one place where what the user gave becomes a ``Tomogram``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from cryovae.io.files import read_volume
from cryovae.io.names import common_name, stem
from cryovae.io.orientation import upright
from cryovae.io.volume import Volume, voxel_size_of
from cryovae.tomogram import InputError, TiltGeometry, Tomogram

BLOCK = 32
SAME = 1.01


def _check_finite(path: Path, density: np.ndarray) -> None:
    """InputError if there is a NaN or an infinity, or nothing but one value; looked at in slabs."""
    bad, lowest, highest = 0, np.inf, -np.inf
    for start in range(0, density.shape[0], BLOCK):
        slab = np.asarray(density[start : start + BLOCK], dtype=np.float32)
        finite = np.isfinite(slab)
        bad += slab.size - int(finite.sum())
        if finite.any():
            lowest, highest = min(lowest, float(slab[finite].min())), max(highest, float(slab[finite].max()))
    if bad:
        raise InputError(f"{path} has {bad} voxels that are NaN or infinite: reconstruct it again, or mend them first")
    if not lowest < highest:
        raise InputError(f"{path} is {lowest:g} everywhere, expected a tomogram: check that it is the right file")


def load_tomogram(
    full: Path | None,
    halves: tuple[Path, Path] | None,
    tilts: TiltGeometry,
    voxel_size: float | None = None,
    unrotated: bool = False,
    mask: Path | None = None,
) -> Tomogram:
    """A tomogram from one file, or from two halves, whose mean it is then; voxel_size in angstrom overrides the header.

    One MRC file stays on the disk, mapped into memory; what is compressed, halves, and what is turned, are read. unrotated: the
    beam is along the middle axis of the files, of the mask's too. mask: of the same shape, 1 where the specimen is.
    """
    found = _loaded(full, halves, tilts, voxel_size)
    if mask is not None:
        found = replace(found, mask=_mask(mask, found.shape))
    return stood_up(found) if unrotated else found


def stood_up(tomogram: Tomogram) -> Tomogram:
    """A tomogram whose beam lies along the middle axis with its beam along z; restored volumes are turned back on writing."""
    halves, mask = tomogram.halves, tomogram.mask
    return replace(
        tomogram,
        density=upright(tomogram.density),
        halves=None if halves is None else (upright(halves[0]), upright(halves[1])),
        mask=None if mask is None else upright(mask),
        unrotated=True,
        notes=(*tomogram.notes, f"{tomogram.name}: unrotated, the beam along the middle axis: turned by -90 degrees about x"),
    )


def _mask(path: Path, shape: tuple[int, int, int]) -> np.ndarray:
    """A 0/1 volume as booleans (z, y, x)."""
    density = read_volume(path).density
    if density.shape != shape:
        raise InputError(f"mask {path} has shape {density.shape}, expected that of the tomogram, {shape}")
    found = np.asarray(density) > 0.5
    if not found.any():
        raise InputError(f"mask {path} is 0 everywhere, expected 1 where the specimen is: make one with cryovae mask")
    return found


def _loaded(full: Path | None, halves: tuple[Path, Path] | None, tilts: TiltGeometry, voxel_size: float | None) -> Tomogram:
    if halves is not None:
        return _from_halves(halves, tilts, voxel_size)
    if full is None:
        raise InputError("no tomogram given: name an MRC file or a folder of OME-Zarr, or --half1 and --half2")
    volume = read_volume(full)
    size = voxel_size_of(volume, voxel_size)
    density = volume.density if isinstance(volume.density, np.ndarray) else np.asarray(volume.density)
    _check_finite(volume.path, density)
    return Tomogram(stem(full), density, size, tilts, None, str(full), notes=volume.notes)


def _from_halves(halves: tuple[Path, Path], tilts: TiltGeometry, voxel_size: float | None) -> Tomogram:
    first, second = read_volume(halves[0]), read_volume(halves[1])
    if first.density.shape != second.density.shape:
        raise InputError(
            f"{halves[0]} has shape {first.density.shape} and {halves[1]} {second.density.shape}, expected halves of one shape"
        )
    size = voxel_size_of(first, voxel_size)
    _check_same_size(first, second)
    even, odd = (np.array(volume.density, dtype=np.float32) for volume in (first, second))
    for volume, density in ((first, even), (second, odd)):
        _check_finite(volume.path, density)
    if np.array_equal(even, odd):
        raise InputError(f"{halves[0]} and {halves[1]} hold the same voxels, expected independent halves: check the names")
    mean = even + odd
    mean /= 2
    notes = (*first.notes, *second.notes)
    return Tomogram(common_name(halves), mean, size, tilts, (even, odd), str(halves[0]), notes=notes)


def _check_same_size(first: Volume, second: Volume) -> None:
    """InputError if both halves tell a voxel size, and not the same."""
    one, other = first.voxel_size[0], second.voxel_size[0]
    if min(one, other) > 0 and not 1 / SAME < other / one < SAME:
        raise InputError(
            f"{first.path} has voxels of {one:g} angstrom and {second.path} of {other:g}, expected equal ones: check the names"
        )
