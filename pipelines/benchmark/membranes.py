"""A simple segmentation of membranes, and how well it agrees with where they are.

    s = sqrt(h - o) (h - o) / h,    v = l3 - l2 of G * ( s n n^T )        h > 0 the largest eigenvalue of the Hessian,
                                                                          o the largest magnitude of the others

s is large in a dark sheet and small in a ball, a tube or noise; the root keeps a dense molecule from outshining a thin membrane.
v adds s over the neighbourhood G where the normals n agree, as tensor voting does. The sheet is where s is a maximum along n. One
rule decides what is kept, and no truth is used: the STRONGEST share of all voxels by v, in connected pieces of at least SMALLEST.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt, gaussian_filter, label, map_coordinates
from torch import Tensor

from cryovae import fourier
from cryovae.io.molecules import Molecule
from cryovae.simulation.scene import SceneConfig, build_scene
from cryovae.simulation.tilt_series import AcquisitionConfig, margin_of

# Width in voxels of 10 angstrom of the Gaussian before the Hessian, and of the neighbourhood.
SCALE, NEIGHBOURHOOD = 2.0, 4.0
# Set on a scene that is not in the table.
STRONGEST, SMALLEST = 0.05, 300
# Share of the voxels, the strongest by s, that vote and that may be a ridge.
CANDIDATES = 0.3
# Of the largest value: where a membrane without noise ends.
CUT = 0.2
# Largest distance in voxels at which two surfaces agree.
TOLERANCE = 2.0
# Axes of the six numbers of a symmetric tensor.
PAIRS = ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))


def membranes_of(config: SceneConfig, seed: int) -> Tensor:
    """The membranes alone (z, y, x), bright, of what ``cryovae simulate`` makes of a configuration and a seed."""
    margin = margin_of(config.shape, AcquisitionConfig().angles, config.slab[1] - config.slab[0])
    # Membranes are placed first, so the random numbers are the same. Without crowding no molecule follows; one is passed,
    # because others would be made up, with random numbers.
    only = SceneConfig(config.shape, config.voxel_size, 0.0, 1, config.sheets, config.vesicles, 0, 0)
    unused = Molecule("unused", np.ones((3, 3, 3), dtype=np.float32), 1.0)
    return torch.from_numpy(np.ascontiguousarray(build_scene(only, [unused], margin, np.random.default_rng(seed)).inside))


def sheets(density: Tensor) -> np.ndarray:
    """The leaflets of dark membranes in a density (z, y, x), one voxel thick, as a mask of the same shape."""
    hessian = _hessian(density)
    score = _sheetness(hessian)
    places, normals = _normals(hessian, score > np.quantile(score, 1 - CANDIDATES))
    _, middle, high = _eigenvalues(_votes(score, places, normals))
    agreed = high - middle
    ridge = _ridge(score, places, normals) & (agreed > np.quantile(agreed, 1 - STRONGEST))
    pieces, _ = label(ridge, np.ones((3, 3, 3)))
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    kept: np.ndarray = sizes[pieces] >= SMALLEST
    return kept


def true_sheets(membranes: Tensor) -> np.ndarray:
    """The leaflets of membranes (z, y, x) without noise and without anything else, bright, as a mask."""
    hessian = _hessian(-membranes)
    score = _sheetness(hessian)
    inside = (score > CUT * score.max()) & (membranes.numpy() > CUT * float(membranes.max()))
    return _ridge(score, *_normals(hessian, inside))


def surface_dice(first: np.ndarray, second: np.ndarray, tolerance: float = TOLERANCE) -> float:
    """Share of the voxels of two surfaces that are within a tolerance of the other: 1 if they agree, 0 if one is empty."""
    if not first.any() or not second.any():
        return 0.0
    near = [int((distance_transform_edt(~b)[a] <= tolerance).sum()) for a, b in ((first, second), (second, first))]
    return sum(near) / int(first.sum() + second.sum())


def _hessian(density: Tensor) -> np.ndarray:
    """Second derivatives (zz, yy, xx, zy, zx, yx) of the density after a Gaussian, (6, z, y, x)."""
    k = fourier.frequencies(density.shape)
    spectrum = fourier.transform(density - density.mean()) * torch.exp(-2 * (np.pi * SCALE) ** 2 * k.square().sum(0))
    return torch.stack([fourier.inverse(-4 * np.pi**2 * k[a] * k[b] * spectrum, density.shape) for a, b in PAIRS]).numpy()


def _sheetness(hessian: np.ndarray) -> np.ndarray:
    low, middle, high = _eigenvalues(hessian)
    excess = np.maximum(high - np.maximum(np.abs(middle), np.abs(low)), 0)
    score: np.ndarray = np.sqrt(excess) * excess / np.maximum(high, 1e-12)
    return score


def _normals(hessian: np.ndarray, where: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places (n, 3) of the voxels of a mask, and the normal (n, 3) of the sheet there."""
    places = np.argwhere(where)
    zz, yy, xx, zy, zx, yx = hessian[:, places[:, 0], places[:, 1], places[:, 2]]
    matrices = np.stack([np.stack(row, -1) for row in ((zz, zy, zx), (zy, yy, yx), (zx, yx, xx))], -2)
    return places, np.linalg.eigh(matrices)[1][..., 2]


def _votes(score: np.ndarray, places: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """G * ( s n n^T ), as ``_hessian`` returns the Hessian."""
    index, votes = tuple(places.T), []
    for a, b in PAIRS:
        field = np.zeros(score.shape, dtype=np.float32)
        field[index] = score[index] * normals[:, a] * normals[:, b]
        votes.append(gaussian_filter(field, NEIGHBOURHOOD, truncate=3))
    return np.stack(votes)


def _eigenvalues(hessian: np.ndarray) -> np.ndarray:
    """Of symmetric 3 x 3 matrices, in rising order, (3, ...), by the trigonometric formula."""
    a, b, c, d, e, f = hessian.astype(np.float64)
    mean = (a + b + c) / 3
    a, b, c = a - mean, b - mean, c - mean
    size = np.sqrt(np.maximum((a**2 + b**2 + c**2 + 2 * (d**2 + e**2 + f**2)) / 6, 0))
    determinant = a * (b * c - f**2) - d * (d * c - f * e) + e * (d * f - b * e)
    angle = np.arccos(np.clip(determinant / np.maximum(2 * size**3, 1e-300), -1, 1)) / 3
    return np.stack([mean + 2 * size * np.cos(angle + shift * 2 * np.pi / 3) for shift in (1, 2, 0)])


def _ridge(score: np.ndarray, places: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """The places (n, 3) whose score is not below that one voxel away on either side along the normal, as a mask."""
    own = score[tuple(places.T)]
    sides = [map_coordinates(score, (places + sign * normals).T, order=1, mode="nearest") for sign in (1, -1)]
    ridge = np.zeros(score.shape, dtype=bool)
    ridge[tuple(places[(own >= sides[0]) & (own >= sides[1])].T)] = True
    return ridge
