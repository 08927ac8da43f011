"""Loads a ``Tomogram`` from its files and checks it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np

from cryovae.errors import InputError
from cryovae.io.files import read_volume
from cryovae.io.fill import with_fill
from cryovae.io.names import common_name, stem
from cryovae.io.orientation import upright
from cryovae.io.stored import mapping_of, released
from cryovae.io.views import MeanOf, UprightOf
from cryovae.io.volume import Volume, voxel_size_of
from cryovae.io.voxel_sizes import doubts_of
from cryovae.tomogram import TiltGeometry, Tomogram

# Number of sections read at a time.
BLOCK = 32
# Value of the voxels of gold beads in a mask, and the largest share of them.
BEADS, MOST_BEADS = -1.0, 0.1
# Largest ratio of voxel sizes that count as equal.
SAME_SIZE = 1.01


def _check_voxels(path: Path, density: np.ndarray) -> None:
    """InputError if a density contains NaN or infinity, or is constant; it is read in slabs."""
    bad, lowest, highest = 0, np.inf, -np.inf
    for start in range(0, density.shape[0], BLOCK):
        slab = np.asarray(density[start : start + BLOCK], dtype=np.float32)
        released(density)
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
    mapped: bool = False,
) -> Tomogram:
    """Load a tomogram from one file, or from two half tomograms, whose mean is the density.

    Args:
        full: an MRC file or an OME-Zarr folder; ignored if ``halves`` is set. A plain MRC file is memory-mapped.
        halves: files of two independent half tomograms, or None.
        tilts: the tilt geometry.
        voxel_size: voxel size in angstrom that replaces the one in the header, or None.
        unrotated: whether the beam is along the middle axis of all files, including the mask.
        mask: file of a volume of the same shape, 1 inside the specimen, -1 in beads that stay as they are, or None.
        mapped: whether all volumes except the mask stay on disk and are read by slices.

    Raises:
        InputError: a file is missing, damaged, or mapped and compressed; shapes or voxel sizes differ; the halves are equal.
    """
    tomogram = _loaded(full, halves, tilts, voxel_size, mapped)
    beads = None
    if mask is not None:
        inside, beads = _mask(mask, tomogram.shape)
        tomogram = replace(tomogram, mask=inside)
    if unrotated:
        tomogram, beads = with_beam_along_z(tomogram, mapped), None if beads is None else upright(beads)
    return with_fill(tomogram, mapped, beads)


def with_beam_along_z(tomogram: Tomogram, mapped: bool = False) -> Tomogram:
    """Rotate an unrotated tomogram so that the beam is along z.

    Restored volumes are rotated back when they are written.

    Args:
        tomogram: a tomogram with the beam along the middle axis.
        mapped: whether volumes stay on disk, and each box is rotated when it is read; the mask is rotated in memory.

    Returns:
        The rotated tomogram, with ``unrotated`` set and a note.
    """
    halves, mask = tomogram.halves, tomogram.mask
    rotate = _upright_of if mapped else upright
    return replace(
        tomogram,
        density=rotate(tomogram.density),
        halves=None if halves is None else (rotate(halves[0]), rotate(halves[1])),
        mask=None if mask is None else upright(mask),
        unrotated=True,
        notes=(*tomogram.notes, f"{tomogram.name}: unrotated, the beam along the middle axis: rotated by -90 degrees about x"),
    )


def _upright_of(density: np.ndarray) -> np.ndarray:
    return cast(np.ndarray, UprightOf(density))


def _mask(path: Path, shape: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray | None]:
    """Where a mask is 1, as booleans (z, y, x), and where it is BEADS, None if it is so nowhere."""
    density = read_volume(path).density
    if density.shape != shape:
        raise InputError(f"mask {path} has shape {density.shape}, expected that of the tomogram, {shape}")
    mask, beads = np.empty(shape, bool), np.empty(shape, bool)
    for start in range(0, shape[0], BLOCK):
        slab = density[start : start + BLOCK]
        np.greater(slab, 0.5, out=mask[start : start + BLOCK])
        np.less(slab, BEADS / 2, out=beads[start : start + BLOCK])
        released(density)
    if not mask.any():
        raise InputError(f"mask {path} is 0 everywhere, expected 1 where the specimen is: make one with cryovae mask")
    if (share := float(beads.mean())) > MOST_BEADS:
        raise InputError(
            f"mask {path} is {BEADS:g} in {100 * share:.0f} % of the voxels, which stands for gold beads, expected at most "
            f"{100 * MOST_BEADS:.0f} %: let it be 0 outside the specimen"
        )
    return mask, beads if share else None


def _loaded(
    full: Path | None, halves: tuple[Path, Path] | None, tilts: TiltGeometry, voxel_size: float | None, mapped: bool
) -> Tomogram:
    if halves is not None:
        return _from_halves(halves, tilts, voxel_size, mapped)
    if full is None:
        raise InputError("no tomogram given: name an MRC file or a folder of OME-Zarr, or --half1 and --half2")
    volume = read_volume(full)
    size, findings = voxel_size_of(volume, voxel_size), doubts_of(volume, voxel_size)
    if mapped:
        _check_mapped(volume)
    density = volume.density if mapped or isinstance(volume.density, np.ndarray) else np.asarray(volume.density)
    _check_voxels(volume.path, density)
    return Tomogram(stem(full), density, size, tilts, None, str(full), notes=volume.notes, findings=findings)


def _check_mapped(volume: Volume) -> None:
    """InputError if a volume is not memory-mapped."""
    if isinstance(volume.density, np.ndarray) and mapping_of(volume.density) is None:
        raise InputError(
            f"{volume.path} is compressed or packed, and too large for the memory: unpack it first, e.g. with gunzip"
        )


def _same_voxels(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether two volumes have the same values; they are read in slabs up to the first difference."""
    for start in range(0, first.shape[0], BLOCK):
        if not np.array_equal(first[start : start + BLOCK], second[start : start + BLOCK]):
            return False
        released(first)
        released(second)
    return True


def _from_halves(halves: tuple[Path, Path], tilts: TiltGeometry, voxel_size: float | None, mapped: bool) -> Tomogram:
    first, second = read_volume(halves[0]), read_volume(halves[1])
    if first.density.shape != second.density.shape:
        raise InputError(
            f"{halves[0]} has shape {first.density.shape} and {halves[1]} {second.density.shape}, expected halves of one shape"
        )
    size, findings = voxel_size_of(first, voxel_size), doubts_of(first, voxel_size)
    _check_same_size(first, second)
    if mapped:
        _check_mapped(first)
        _check_mapped(second)
        even, odd = first.density, second.density
    else:
        even, odd = (np.array(volume.density, dtype=np.float32) for volume in (first, second))
    for volume, density in ((first, even), (second, odd)):
        _check_voxels(volume.path, density)
    if _same_voxels(even, odd):
        raise InputError(f"{halves[0]} and {halves[1]} hold the same voxels, expected independent halves: check the names")
    if mapped:
        mean = cast(np.ndarray, MeanOf(even, odd))
    else:
        mean = even + odd
        mean /= 2
    notes = (*first.notes, *second.notes)
    return Tomogram(common_name(halves), mean, size, tilts, (even, odd), str(halves[0]), notes=notes, findings=findings)


def _check_same_size(first: Volume, second: Volume) -> None:
    """InputError if both halves have a voxel size and the sizes differ."""
    one, other = first.voxel_size[0], second.voxel_size[0]
    if min(one, other) > 0 and not 1 / SAME_SIZE < other / one < SAME_SIZE:
        raise InputError(
            f"{first.path} has voxels of {one:g} angstrom and {second.path} of {other:g}, expected equal ones: check the names"
        )
