"""Specimen mask: voxels near high density, in regions of high variance.

    d(r) = max of -G * x over the window,     s(r) = std of x over the window,     mask: d and s are both among their highest

G is a Gaussian of half the window, protein is dark, and the shares of voxels that pass are by default 50 % each: the automatic
mask of IsoNet, and its defaults (Liu et al., Nat. Commun. 13, 6482, 2022), on a grid of half the size.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter, maximum_filter, uniform_filter

from cryovae.errors import InputError

BINNED = 2


def specimen_mask(
    density: np.ndarray,
    density_percentage: float = 50.0,
    std_percentage: float = 50.0,
    patch_size: int = 4,
    z_crop: float = 0.0,
    bright: bool = False,
) -> np.ndarray:
    """Mask the specimen in a density.

    Args:
        density: (z, y, x).
        density_percentage: percentage of voxels that pass by density; 100 passes all.
        std_percentage: percentage of voxels that pass by standard deviation; 100 passes all.
        patch_size: half the window, in voxels of the binned grid.
        z_crop: share of the depth that is left out, half at the top and half at the bottom, 0 to below 1.
        bright: whether protein is brighter than ice.

    Returns:
        Booleans (z, y, x), True in the specimen.

    Raises:
        InputError: a setting is out of range.
    """
    if not (0 < density_percentage <= 100 and 0 < std_percentage <= 100 and patch_size >= 1 and 0 <= z_crop < 1):
        raise InputError(
            f"mask with {density_percentage:g} % by density, {std_percentage:g} % by deviation, patch size {patch_size}, z crop "
            f"{z_crop:g} found, expected percentages above 0 to 100, a size of 1 or more, a crop of 0 to below 1"
        )
    small = _binned(density)
    window = min(2 * patch_size + 1, 2 * min(small.shape) - 1)
    kept = np.ones(small.shape, dtype=bool)
    if density_percentage < 100:
        smooth = gaussian_filter(small if bright else -small, patch_size / 2)
        kept &= _highest(maximum_filter(smooth, window), density_percentage)
    if std_percentage < 100:
        mean = uniform_filter(small, window)
        kept &= _highest(uniform_filter(np.square(small), window) - np.square(mean), std_percentage)
    return _cropped(_unbinned(kept, density.shape), z_crop)


def _binned(density: np.ndarray) -> np.ndarray:
    """Block means as float32, less their mean so that squares keep precision; the last block of an axis may be smaller."""
    values: np.ndarray = density
    for axis, size in enumerate(density.shape):
        starts = np.arange(0, size, BINNED)
        width = np.diff(np.append(starts, size)).reshape([-1 if a == axis else 1 for a in range(3)])
        values = np.add.reduceat(values, starts, axis=axis, dtype=np.float32) / width.astype(np.float32)
    return np.asarray(values - values.mean(), dtype=np.float32)


def _highest(values: np.ndarray, percentage: float) -> np.ndarray:
    return np.asarray(values >= np.percentile(values, 100 - percentage))


def _unbinned(mask: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    for axis, size in enumerate(shape):
        mask = np.repeat(mask, BINNED, axis=axis).take(np.arange(size), axis=axis)
    return mask


def _cropped(mask: np.ndarray, z_crop: float) -> np.ndarray:
    edge = round(z_crop / 2 * mask.shape[0])
    mask[:edge] = False
    mask[mask.shape[0] - edge :] = False
    return mask
