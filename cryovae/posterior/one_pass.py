"""The density that a ladder predicts for a whole volume in one pass, without tiles: the network is convolutional.

    x = 1/T sum_g g^-1 G( E_r[ z | g u ] )             u the volume without its wedge, g rotations that keep the wedge

One pass over 104 x 116 x 124 voxels takes a fifth of the time of tiles that overlap by half, and predicts the wedge as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
import torch.nn.functional as nnf
from torch import Tensor

from cryovae import fourier
from cryovae.models.ladder import Ladder, R
from cryovae.physics.rotation import symmetry_rotations
from cryovae.physics.wedge import smeared_mask
from cryovae.posterior.codes import fast_convolutions
from cryovae.posterior.tile_memory import bytes_of_tile
from cryovae.posterior.tiles import TilePredictor
from cryovae.tiling.batching import free_on
from cryovae.tomogram import TiltGeometry

# Share of the free memory that a pass may take.
SHARE = 0.5


@torch.no_grad()
def predicted_volume(
    ladder: Ladder, data: Tensor, tilts: TiltGeometry, patch: int, device: torch.device, orientations: int = 1
) -> Tensor:
    """The predicted density (z, y, x), on the CPU; tile by tile if one pass would take too much memory.

    Args:
        ladder: the model, on ``device``.
        data: standardised volume, (z, y, x).
        tilts: its tilt geometry.
        patch: side of the patches of training, in voxels.
        device: of the ladder.
        orientations: number of orientations at most.
    """
    if bytes_of_tile(ladder.config, 1) * prod(data.shape) > SHARE * free_on(device):
        return TilePredictor(ladder, patch, 2, 0, device, lambda tiles: None).predict(data, tilts, orientations).cpu()
    total, rotations = torch.zeros(data.shape), symmetry_rotations(tilts)[:orientations]
    for rotation in rotations:
        total += rotation.inverse(_pass(ladder, rotation(data), tilts, device))
    return total / len(rotations)


def _pass(ladder: Ladder, data: Tensor, tilts: TiltGeometry, device: torch.device) -> Tensor:
    padded = _padded(data, ladder.config.stride)
    masked = fourier.filtered(padded, smeared_mask(padded.shape, tilts))[None]
    # torch takes a slow implementation for a single volume.
    with fast_convolutions():
        predicted = ladder.restore(ladder.encode(masked.to(device), R), None)[0].cpu()
    return predicted[tuple(slice(size) for size in data.shape)]


def _padded(data: Tensor, stride: int) -> Tensor:
    """A volume with its last planes repeated, so that all sizes are multiples of ``stride``, and twice it at least."""
    sizes: Sequence[int] = [max(-(-size // stride), 2) * stride for size in data.shape]
    z, y, x = (after - before for after, before in zip(sizes, data.shape, strict=True))
    return nnf.pad(data[None, None], (0, x, 0, y, 0, z), mode="replicate")[0, 0]
