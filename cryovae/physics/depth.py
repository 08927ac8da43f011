"""Depth in the missing wedge: the distance of a bin to the nearest measured bin, in bins of a patch.

The window of a patch spreads measured values into the wedge, and the spectrum of objects smaller than the patch is smooth. The
edge of the wedge is therefore easier to predict than its middle.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from cryovae import fourier


def depth(mask: Tensor) -> Tensor:
    """Distance in bins to the nearest bin whose ``mask`` is above 0.5, for the half spectrum of a cube.

    Args:
        mask: (z, y, x // 2 + 1), 1 where measured.

    Returns:
        (z, y, x // 2 + 1), 0 in measured bins, infinite if no bin was measured.
    """
    return fourier.half_of(depth_table(mask))


def depth_table(mask: Tensor) -> Tensor:
    """``depth`` over the full spectrum, (side, side, side), zero frequency in the middle, for ``depth_at``."""
    # F(-k) is the conjugate of F(k), so both were measured.
    measured = fourier.centred(mask > 0.5, (mask.shape[0],) * 3)
    if not measured.any():
        return torch.full(measured.shape, float("inf"))
    return torch.from_numpy(distance_transform_edt(~measured.numpy()).astype(np.float32))


def depth_at(table: Tensor, frequency: Tensor) -> Tensor:
    """Depths (a, ...) at frequencies (3, a, ...) in cycles per voxel, linear between bins, computed plane by plane."""
    table = table.to(frequency.device)
    return torch.stack([_plane(table, plane) for plane in frequency.unbind(1)])


def _plane(table: Tensor, frequency: Tensor) -> Tensor:
    side = table.shape[0]
    # grid_sample expects x first, and -1 to 1 from the first bin to the last.
    place = 2 * (frequency.flip(0) * side + side // 2) / (side - 1) - 1
    grid = place.movedim(0, -1).reshape(1, -1, 1, 1, 3)
    depths = torch.nn.functional.grid_sample(table[None, None], grid, padding_mode="border", align_corners=True)
    return depths.reshape(frequency.shape[1:])
