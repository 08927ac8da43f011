"""Subtomogram averages from picks, and their Fourier shell correlation with the map of the molecule.

A = F^-1[ sum_i F f_i(u) / sum_i M(R_i k) ],    f_i(u) = f(r_i + R_i u)       u in the frame of the map, f the raw tomogram
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from scipy.ndimage import affine_transform, spline_filter
from scipy.spatial.transform import Rotation
from torch import Tensor

from cryovae import fourier
from cryovae.evaluation.fsc import correlation, resolution_at
from cryovae.physics.wedge import patch_mask
from cryovae.tomogram import TiltGeometry

# Voxels around the body of the molecule in the box, and of the soft edge of its mask.
ROOM, EDGE = 6, 3.0
# Resolutions in angstrom between which the FSC is averaged.
COARSE, FINE = 100.0, 25.0
# A direction that fewer subtomograms than this measured is not amplified further.
LEAST = 1.0


def averaged(tomogram: Tensor, positions: np.ndarray, rotations: Rotation, radius: float, tilts: TiltGeometry) -> Tensor:
    """Average the subtomograms of a tomogram (z, y, x).

    Args:
        tomogram: raw, (z, y, x).
        positions: (n, 3), z, y, x in voxels.
        rotations: n, from the map to the tomogram.
        radius: of the molecule in voxels.
        tilts: the tilt geometry.

    Returns:
        A cube with the position in its middle voxel.
    """
    side = 2 * int(np.ceil(radius + ROOM)) + 1
    middle, splines = np.full(3, side // 2), spline_filter(tomogram.numpy().astype(np.float32))
    total, seen = np.zeros((side,) * 3), torch.zeros(side, side, side // 2 + 1)
    matrices = rotations.as_matrix()[..., ::-1, ::-1]
    for position, matrix in zip(positions, matrices, strict=True):
        total += affine_transform(
            splines, matrix, position - matrix @ middle, (side,) * 3, order=3, mode="nearest", prefilter=False
        )
        seen += patch_mask((side,) * 3, tilts, torch.from_numpy(np.ascontiguousarray(matrix.T)).float())
    return fourier.filtered(torch.from_numpy(total).float(), 1 / seen.clamp_min(LEAST))


def agreement(
    average: Tensor, density: np.ndarray, radius: float, transfer: Callable[[Tensor], Tensor], voxel: float
) -> dict[str, float]:
    """FSC of an average with the map of the molecule, both in a soft ball.

    Args:
        average: cube (n, n, n), n odd.
        density: map, a cube of odd side, of the contrast of the tomogram.
        radius: of the molecule in voxels.
        transfer: contrast transfer of |k| in cycles per voxel.
        voxel: in angstrom.

    Returns:
        ``resolution`` at FSC 0.5 in angstrom, nan if it starts below; ``fsc``, its mean from COARSE to FINE.
    """
    n = average.shape[0]
    room = (n - density.shape[0]) // 2
    known = torch.from_numpy(np.pad(density, room) if room >= 0 else density[-room:room, -room:room, -room:room]).float()
    known = fourier.filtered(known, transfer(fourier.radius(known.shape)))
    offset = torch.arange(n) - n // 2
    distance = torch.stack(torch.meshgrid(offset, offset, offset, indexing="ij")).float().square().sum(0).sqrt()
    mask = ((radius + EDGE - distance) / EDGE).clamp(0, 1)
    inside = mask / mask.sum()
    weight = (fourier.multiplicity(average.shape) * (fourier.radius(average.shape) > 0)).expand(n, n, -1)
    curve = correlation((average - (average * inside).sum()) * mask, (known - (known * inside).sum()) * mask, weight)
    band = (curve.frequency >= voxel / COARSE) & (curve.frequency <= voxel / FINE)
    return {
        "resolution": resolution_at(curve.frequency, curve.shells, voxel, 0.5),
        "fsc": float(np.nanmean(curve.shells[band])),
    }
