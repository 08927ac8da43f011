"""Finds gold beads in a tomogram: dark spheres that stand out from everything else.

    g_s = G(s) * (-x) - G(1.6 s) * (-x),        s = r / 1.6 for radii r of beads

A bead is a maximum of g_s over space and radii that is higher than STANDS_OUT robust standard deviations of g_s. Protein of a
crowded tomogram reaches about 12 of them, gold 20 to 60 (simulated at a signal-to-noise ratio of 0.1 to 0.4). Its voxels are
those of the dark body around the maximum, and some around that for the fringes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import binary_dilation, gaussian_filter, generate_binary_structure, label, maximum_filter

from cryovae.errors import InputError
from cryovae.io.fill import find_fill

# Radii in angstrom that are tried: beads of 5, 7, 10, 15 and 20 nm.
RADII = (25.0, 35.0, 50.0, 75.0, 100.0)
# Height of a bead in robust standard deviations, and beside the highest one.
STANDS_OUT, BESIDE_HIGHEST = 15.0, 0.2
# Width of the wide Gaussian over the narrow one; radius over the width at which it heights most.
WIDER, RADIUS_OVER_WIDTH = 1.6, 1.6
# Smallest width of a Gaussian in voxels.
LEAST_WIDTH = 0.8
# Darkness of a body beside its darkest voxel; width in voxels over which a body is smoothed.
EDGE, SMOOTHING = 0.25, 0.7
# Width in angstrom of what is left out around a body, at least 2 voxels; largest reach of a body, in radii.
AROUND, REACH = 20.0, 2.0
# Smallest and largest diameter in nanometres, and smallest radius in voxels, that can be looked for.
LEAST_DIAMETER, MOST_DIAMETER, LEAST_RADIUS = 2.0, 60.0, 1.0
# Radius in binned voxels of the smallest bead, and fewest binned voxels along an axis.
SMALLEST_RADIUS, LEAST_SIDE = 2.5, 16
# Standard deviation of a normal distribution over the median of its absolute deviations.
ROBUST = 1.4826


@dataclass(frozen=True)
class Bead:
    """A gold bead.

    Attributes:
        centre: (z, y, x) in voxels.
        radius: in angstrom, one of those that were tried.
        height: of its maximum in robust standard deviations.
    """

    centre: tuple[int, int, int]
    radius: float
    height: float


def find_beads(density: np.ndarray, voxel_size: float, diameter: float | None = None, bright: bool = False) -> list[Bead]:
    """The gold beads of a tomogram, the highest first. Constant regions do not count.

    Fine voxels are binned first, so that the smallest radius has about SMALLEST_RADIUS of them.

    Args:
        density: (z, y, x), finite.
        voxel_size: in angstrom.
        diameter: of the beads in nanometres; None to try 5, 7, 10, 15 and 20.
        bright: whether gold is bright, as protein is then.

    Raises:
        InputError: the diameter is out of range, or less than two voxels.
    """
    radii = _radii(voxel_size, diameter)
    factor = max(1, min(int(radii[0] / (SMALLEST_RADIUS * voxel_size)), *(n // LEAST_SIDE for n in density.shape)))
    dark, data = _dark(density, factor, bright)
    size, peaks = factor * voxel_size, list[tuple[float, float, tuple[int, ...]]]()
    for radius in radii:
        height, is_peak = _heights(dark, data, radius / size)
        peaks += [(float(height[tuple(at)]), radius, tuple(at)) for at in np.argwhere(is_peak)]
    highest = max((height for height, _, _ in peaks), default=0.0)
    beads: list[Bead] = []
    for top, radius, at in sorted(peaks, key=lambda one: -one[0]):
        if top < BESIDE_HIGHEST * highest:
            break
        z, y, x = (min(factor * int(i) + factor // 2, n - 1) for i, n in zip(at, density.shape, strict=True))
        if all(math.dist((z, y, x), bead.centre) * voxel_size > max(radius, bead.radius) for bead in beads):
            beads.append(Bead((z, y, x), radius, top))
    return beads


def _dark(density: np.ndarray, factor: int, bright: bool) -> tuple[np.ndarray, np.ndarray]:
    """The density binned by ``factor`` with gold high and its median 0, float32, and where it has data; 0 elsewhere."""
    fill = find_fill(density)
    data = np.ones(density.shape, bool) if fill is None else ~fill[:]
    # The sign changes after the type: -(-128) is -128 in bytes.
    dark = np.asarray(density, dtype=np.float32) * np.float32(1 if bright else -1)
    dark = np.where(data, dark - np.median(dark[data]) if data.any() else 0, 0).astype(np.float32)
    if factor == 1:
        return dark, data
    sides = [n // factor for n in dark.shape]
    inner = tuple(slice(0, n * factor) for n in sides)
    blocks = [part for n in sides for part in (n, factor)]
    kept = np.asarray(data[inner].reshape(blocks).all((1, 3, 5)))
    return dark[inner].reshape(blocks).mean((1, 3, 5)), kept


def bead_mask(density: np.ndarray, voxel_size: float, beads: list[Bead], bright: bool = False) -> np.ndarray:
    """The voxels of beads and of their surroundings, boolean (z, y, x); arguments as for ``find_beads``."""
    mask = np.zeros(density.shape, dtype=bool)
    if not beads:
        return mask
    fill = find_fill(density)
    data = density if fill is None else density[~fill[:]]
    middle = float(np.median(data)) if data.size else 0.0
    for bead in beads:
        reach = max(REACH * bead.radius / voxel_size, 3.0)
        box = tuple(
            slice(max(at - math.ceil(reach), 0), min(at + math.ceil(reach) + 1, n))
            for at, n in zip(bead.centre, density.shape, strict=True)
        )
        body = gaussian_filter((np.asarray(density[box], dtype=np.float32) - middle) * (1 if bright else -1), SMOOTHING)
        place = tuple(at - side.start for at, side in zip(bead.centre, box, strict=True))
        offsets = np.ogrid[tuple(slice(0, n) for n in body.shape)]
        distance = np.sqrt(sum((o - at) ** 2.0 for o, at in zip(offsets, place, strict=True)))
        # A binned place is a little off: the darkest voxel near it belongs to the body.
        near = np.where(distance <= max(bead.radius / voxel_size / 2, 1.5), body, -np.inf)
        peak = np.unravel_index(int(near.argmax()), body.shape)
        parts, _ = label((body > EDGE * body[peak]) & (distance <= reach))
        # A sphere of its radius belongs to it in any case, so that a shell whose middle is bright is closed.
        mask[box] |= ((parts == parts[peak]) & (parts > 0)) | (distance <= bead.radius / voxel_size)
    return binary_dilation(mask, generate_binary_structure(3, 1), max(2, round(AROUND / voxel_size)))


def _radii(voxel_size: float, diameter: float | None) -> list[float]:
    """The radii in angstrom to try. InputError if there is none."""
    if diameter is not None and not LEAST_DIAMETER <= diameter <= MOST_DIAMETER:
        raise InputError(
            f"--bead-diameter {diameter:g} found, expected nanometres from {LEAST_DIAMETER:g} to {MOST_DIAMETER:g}, e.g. 10"
        )
    radii = list(RADII) if diameter is None else [5.0 * diameter]
    if not (large := [radius for radius in radii if radius >= LEAST_RADIUS * voxel_size]):
        raise InputError(
            f"beads of {radii[-1] / 5:g} nm found with voxels of {voxel_size:g} angstrom, expected beads of 2 voxels or more: "
            "make the mask without --exclude-beads"
        )
    return large


def _heights(dark: np.ndarray, data: np.ndarray, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """Heights in robust standard deviations for a radius in voxels, and where they have a maximum that stands out."""
    width = max(radius / RADIUS_OVER_WIDTH, LEAST_WIDTH)
    height = gaussian_filter(dark, width) - gaussian_filter(dark, WIDER * width)
    known = height[data]
    middle = float(np.median(known)) if known.size else 0.0
    spread = ROBUST * float(np.median(np.abs(known - middle))) if known.size else 0.0
    if not spread > 0:
        return height, np.zeros(height.shape, dtype=bool)
    height = (height - middle) / spread
    side = 2 * max(round(radius), 1) + 1
    return height, data & (height > STANDS_OUT) & (height == maximum_filter(height, side))
