"""Finds the fill of a tomogram: voxels with a constant instead of data, in borders, corners and slabs that software left empty.

A voxel is fill if it lies in a flat square normal to z, y or x, and if enough such voxels are connected. A square is flat if

    max - min over 5 x 5 voxels  <=  1e-3 of a usual step between neighbours

A region has one value, or one value in each section. Regions at the faces of the volume count if together they have at least
0.2 % of its voxels. A region inside the volume counts if it has at least 1 %, unless its value is the lowest or highest of the
volume: clipped gold and clipped vacuum are data.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, cast

import numpy as np
from scipy import ndimage

from cryovae.errors import InputError
from cryovae.findings import Finding, Severity
from cryovae.io.stored import released
from cryovae.io.views import NeutralOf
from cryovae.tomogram import Fill, Tomogram

# Side of the flat square in voxels; number of sections that are read at a time.
FLAT, SECTIONS = 5, 16
# Largest range of a flat square, as a share of a usual step between neighbours.
TOLERANCE = 1e-3
# Regions are joined on blocks of this side in voxels.
BLOCK = 4
# Smallest share of the volume: of all regions at the faces together, each with a tenth of it at least; and of a region inside.
AT_FACE, INSIDE = 2e-3, 1e-2
# Smallest share of the voxels of a region that have its value.
CONSTANT = 0.9
# Share of the volume from which fill is worth a warning.
MUCH_FILL = 0.6
# Number of sections, and of rows in all of them, from which the usual step is taken.
STEP_SECTIONS, ROWS = 40, 2000


def with_fill(tomogram: Tomogram, mapped: bool = False, beads: np.ndarray | None = None) -> Tomogram:
    """Find the fill of a tomogram, and replace it by the mean of the other voxels for all computations.

    With halves, a voxel is fill if it is fill in either half. Beads count as fill: they stay as they are.

    Args:
        tomogram: as it was read, with the beam along z.
        mapped: whether the volumes stay on disk, and their fill is replaced when a box is read.
        beads: where gold beads are, boolean (z, y, x), or None.

    Returns:
        The same tomogram if it has no fill; else one with ``fill`` set.
    """
    volumes: list[Any] = list(tomogram.halves or (tomogram.density,))
    fill = find_fill(volumes[0])
    for volume in volumes[1:]:
        other = find_fill(volume)
        if fill is not None and other is not None:
            fill.bits[:] |= other.bits
        fill = fill or other
    findings = tomogram.findings if fill is None else (*tomogram.findings, _finding(tomogram.name, fill))
    if beads is not None:
        findings = (*findings, _bead_finding(tomogram.name, beads))
        fill = Fill.of(beads if fill is None else beads | fill[:])
    if fill is None:
        return tomogram
    sources = (tomogram.density, *(tomogram.halves or ()))
    neutral = [_neutral(volume, fill, tomogram.mask, mapped) for volume in sources]
    halves = (neutral[1], neutral[2]) if tomogram.halves is not None else None
    fill = replace(fill, sources=sources)
    return replace(tomogram, density=neutral[0], halves=halves, fill=fill, findings=findings)


def _finding(name: str, fill: Fill) -> Finding:
    filled = sum(int(fill[z : z + SECTIONS].sum()) for z in range(0, fill.shape[0], SECTIONS)) / float(np.prod(fill.shape))
    return Finding(
        "fill",
        Severity.WARNING if filled > MUCH_FILL else Severity.NOTE,
        f"{name}: constant regions take {100 * filled:.3g} % of the voxels",
        action="they are left out of all that is measured, and stay as they are",
    )


def _bead_finding(name: str, beads: np.ndarray) -> Finding:
    return Finding(
        "beads",
        Severity.NOTE,
        f"{name}: beads of the mask take {100 * float(beads.mean()):.3g} % of the voxels",
        action="they are left out of all that is measured, and stay as they are",
    )


def find_fill(density: Any) -> Fill | None:
    """The fill of one volume, which is read some sections at a time; None if it has none.

    Args:
        density: (z, y, x), an array or a view.
    """
    shape = (density.shape[0], density.shape[1], density.shape[2])
    step, lowest, highest = _usual_step(density)
    if not step:
        return None
    bits = np.zeros((shape[0], shape[1], -(-shape[2] // 8)), np.uint8)
    blocks = np.zeros([-(-n // BLOCK) for n in shape], np.int32)
    values = np.zeros(blocks.shape, np.float32)
    for start, flat, section in _flat_sections(density, TOLERANCE * step):
        bits[start : start + len(flat)] = np.packbits(flat, axis=-1)
        _count(flat, section, start, blocks, values)
    if not blocks.any():
        return None
    tolerance = TOLERANCE * step
    kept = _kept_blocks(blocks, values, shape, (lowest + tolerance, highest - tolerance), 10 * tolerance)
    if not kept.any():
        return None
    for z in range(shape[0]):
        row = np.repeat(np.repeat(kept[z // BLOCK], BLOCK, 0)[: shape[1]], BLOCK, 1)[:, : shape[2]]
        bits[z] &= np.packbits(row, axis=-1)
    return Fill(shape, bits)


def _usual_step(density: Any) -> tuple[float, float, float]:
    """The 95th percentile of the steps between neighbours along x that are not 0; the lowest and highest value that was seen."""
    nz, ny, _ = density.shape
    steps, lowest, highest = [], np.inf, -np.inf
    for z in np.unique(np.linspace(0, nz - 1, min(nz, STEP_SECTIONS)).astype(int)):
        rows = np.unique(np.linspace(0, ny - 1, min(ny, ROWS // STEP_SECTIONS)).astype(int))
        section = np.asarray(density[int(z) : int(z) + 1], dtype=np.float32)[0]
        lowest, highest = min(lowest, float(section.min())), max(highest, float(section.max()))
        step = np.abs(np.diff(section[rows], axis=-1))
        steps.append(step[step > 0])
        released(density)
    seen = np.concatenate(steps)
    return (float(np.percentile(seen, 95)) if len(seen) else 0.0), lowest, highest


def _flat_sections(density: Any, tolerance: float) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Index of the first section, mask (z, y, x) of voxels in flat squares, and values, for some sections at a time."""
    reach, nz = FLAT - 1, density.shape[0]
    for start in range(0, nz, SECTIONS):
        low, high = max(start - reach, 0), min(start + SECTIONS + reach, nz)
        values = np.asarray(density[low:high], dtype=np.float32)
        released(density)
        inner = slice(start - low, min(start + SECTIONS, nz) - low)
        yield start, _in_flat_squares(values, tolerance)[inner], values[inner]


def _in_flat_squares(values: np.ndarray, tolerance: float) -> np.ndarray:
    """Voxels in a square of FLAT x FLAT voxels, normal to any axis, whose range is at most ``tolerance``."""
    flat = np.zeros(values.shape, bool)
    for normal in range(3):
        size = [1 if axis == normal else min(FLAT, n) for axis, n in enumerate(values.shape)]
        if sorted(size)[1] < FLAT:
            continue
        extent = ndimage.maximum_filter(values, size, mode="nearest") - ndimage.minimum_filter(values, size, mode="nearest")
        flat |= ndimage.maximum_filter(extent <= tolerance, size, mode="constant", cval=0)
    return flat


def _count(flat: np.ndarray, section: np.ndarray, start: int, blocks: np.ndarray, values: np.ndarray) -> None:
    """Add the flat voxels of some sections to the counts of their blocks, and keep a value of each block."""
    for offset, (mask, plane) in enumerate(zip(flat, section, strict=True)):
        if not mask.any():
            continue
        rows, columns = (np.arange(0, n, BLOCK) for n in mask.shape)
        count = np.add.reduceat(np.add.reduceat(mask.astype(np.int32), rows, 0), columns, 1)
        total = np.add.reduceat(np.add.reduceat(np.where(mask, plane, 0).astype(np.float64), rows, 0), columns, 1)
        z = (start + offset) // BLOCK
        blocks[z] += count
        np.copyto(values[z], (total / np.maximum(count, 1)).astype(np.float32), where=count > 0)


def _kept_blocks(
    blocks: np.ndarray, values: np.ndarray, shape: tuple[int, int, int], extremes: tuple[float, float], tolerance: float
) -> np.ndarray:
    """The blocks of the regions that are fill, from the flat voxels and a value of each block."""
    labels, count = ndimage.label(blocks > 0, np.ones((3, 3, 3)))
    voxels = np.bincount(labels.ravel(), blocks.ravel(), count + 1)
    faces = [np.take(labels, end, axis).ravel() for axis in range(3) for end in (0, -1)]
    at_face = np.zeros(count + 1, bool)
    at_face[np.unique(np.concatenate(faces))] = True
    at_face[0] = False
    total = float(np.prod(shape))
    kept = at_face & (voxels >= AT_FACE / 10 * total)
    kept |= ~at_face & (voxels >= INSIDE * total)
    kept[0] = False
    boxes = ndimage.find_objects(labels)
    for label in np.flatnonzero(kept):
        box = boxes[label - 1]
        part = np.where(labels[box] == label, blocks[box], 0), values[box]
        inner = at_face[label] or extremes[0] < float(np.median(part[1][part[0] > 0])) < extremes[1]
        kept[label] = inner and _is_constant(*part, tolerance)
    kept &= at_face * voxels.sum(where=at_face & kept) + ~at_face * total >= AT_FACE * total
    return cast(np.ndarray, kept[labels])


def _is_constant(counts: np.ndarray, values: np.ndarray, tolerance: float) -> bool:
    """Whether almost all voxels of a region have one value, or one in each section along an axis."""
    for axis in range(3):
        layers = np.moveaxis(values, axis, 0).reshape(counts.shape[axis], -1)
        weights = np.moveaxis(counts, axis, 0).reshape(layers.shape)
        near = sum(
            float(weight[np.abs(layer - np.median(layer[weight > 0])) <= tolerance].sum())
            for layer, weight in zip(layers, weights, strict=True)
            if weight.any()
        )
        if near >= CONSTANT * weights.sum():
            return True
    return False


def _neutral(volume: Any, fill: Fill, mask: np.ndarray | None, mapped: bool) -> Any:
    """A volume with its fill replaced by the mean of its other voxels, of those inside the mask if there is one."""
    total, count = 0.0, 0
    for z in range(0, fill.shape[0], SECTIONS):
        used = ~fill[z : z + SECTIONS]
        used = used if mask is None else used & mask[z : z + SECTIONS]
        part = np.asarray(volume[z : z + SECTIONS], dtype=np.float32)[used]
        released(volume)
        total, count = total + float(part.sum(dtype=np.float64)), count + part.size
    if not count:
        raise InputError("constant regions take all voxels of the tomogram, or of its mask, expected data: check the files")
    view = NeutralOf(volume, fill, total / count)
    return view if mapped else view[:]
