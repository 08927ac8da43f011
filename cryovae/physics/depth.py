"""How deep in the missing wedge a bin lies: its distance to the nearest bin that was measured, in bins of a patch.

Near what was measured, a patch's own window carries some of it over into the wedge, and objects smaller than the patch make it
smooth: there less is left to guess than in the middle of the wedge.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from cryovae import fourier


def depth(given: Tensor) -> Tensor:
    """Distance (z, y, x // 2 + 1) in bins to the nearest with ``given`` over 0.5, for the half spectrum of a cube; 0 in those.

    Infinite where no bin was given.
    """
    return fourier.half_of(depth_table(given))


def depth_table(given: Tensor) -> Tensor:
    """The same over the whole spectrum, zero frequency in the middle: (side, side, side), for ``depth_at``."""
    # F(-k) is the conjugate of F(k), and was measured with it.
    seen = fourier.centred(given > 0.5, (given.shape[0],) * 3)
    if not seen.any():
        return torch.full(seen.shape, float("inf"))
    return torch.from_numpy(distance_transform_edt(~seen.numpy()).astype(np.float32))


def depth_at(table: Tensor, frequency: Tensor) -> Tensor:
    """Depths (a, ...) at frequencies (3, a, ...) in cycles per voxel, linear between the bins of the table; a plane at a time."""
    table = table.to(frequency.device)
    return torch.stack([_plane(table, plane) for plane in frequency.unbind(1)])


def _plane(table: Tensor, frequency: Tensor) -> Tensor:
    side = table.shape[0]
    # grid_sample wants x first, and -1 to 1 from the first bin to the last.
    place = 2 * (frequency.flip(0) * side + side // 2) / (side - 1) - 1
    grid = place.movedim(0, -1).reshape(1, -1, 1, 1, 3)
    found = torch.nn.functional.grid_sample(table[None, None], grid, padding_mode="border", align_corners=True)
    return found.reshape(frequency.shape[1:])
