"""A tomogram from its files, checked: the one place where what the user gave becomes a ``Tomogram``."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cryovae.io.files import read_volume
from cryovae.io.volume import Volume, voxel_size_of
from cryovae.tomogram import InputError, TiltGeometry, Tomogram

BLOCK = 32


def _check_finite(volume: Volume) -> None:
    """InputError if there is a NaN or an infinity, or nothing but one value; read in slabs."""
    bad, lowest, highest = 0, np.inf, -np.inf
    for start in range(0, volume.density.shape[0], BLOCK):
        slab = np.asarray(volume.density[start : start + BLOCK], dtype=np.float32)
        finite = np.isfinite(slab)
        bad += slab.size - int(finite.sum())
        if finite.any():
            lowest, highest = min(lowest, float(slab[finite].min())), max(highest, float(slab[finite].max()))
    if bad:
        raise InputError(f"{volume.path} has {bad} voxels that are NaN or infinite: reconstruct it again, or mend them first")
    if not lowest < highest:
        raise InputError(f"{volume.path} is {lowest:g} everywhere, expected a tomogram: check that it is the right file")


def load_tomogram(
    full: Path | None, halves: tuple[Path, Path] | None, tilts: TiltGeometry, voxel_size: float | None = None
) -> Tomogram:
    """A tomogram from one MRC file, or from two halves, whose mean it is then; voxel_size in angstrom overrides the header."""
    if halves is None:
        if full is None:
            raise InputError("no tomogram given: name an MRC file, or --half1 and --half2")
        volume = read_volume(full)
        size = voxel_size_of(volume, voxel_size)
        _check_finite(volume)
        return Tomogram(_stem(full), volume.density, size, tilts, None, str(full))
    first, second = read_volume(halves[0]), read_volume(halves[1])
    if first.density.shape != second.density.shape:
        raise InputError(
            f"{halves[0]} has shape {first.density.shape} and {halves[1]} {second.density.shape}, expected halves of one shape"
        )
    size = voxel_size_of(first, voxel_size)
    for volume in (first, second):
        _check_finite(volume)
    even, odd = first.density.astype(np.float32), second.density.astype(np.float32)
    if np.array_equal(even, odd):
        raise InputError(f"{halves[0]} and {halves[1]} hold the same voxels, expected independent halves: check the names")
    return Tomogram(_common_name(halves), (even + odd) / 2, size, tilts, (even, odd), str(halves[0]))


def _stem(path: Path) -> str:
    name = Path(path).name
    for suffix in (".gz", ".bz2"):
        name = name.removesuffix(suffix)
    return Path(name).stem


def _common_name(halves: tuple[Path, Path]) -> str:
    """ts_01 for ts_01_EVN and ts_01_ODD; the first half's stem if they share no beginning."""
    first, second = _stem(halves[0]), _stem(halves[1])
    same = 0
    while same < min(len(first), len(second)) and first[same] == second[same]:
        same += 1
    name = first[:same].rstrip("_-. ")
    return (name.removesuffix("_half").removesuffix("half").rstrip("_-. ")) or first
