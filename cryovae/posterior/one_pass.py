"""Mean and samples of a whole volume by a ladder in one pass. The network is convolutional, so it needs no tiles.

    x = 1/T sum_g g^-1 G( E_r[ z | g u ] )             u the volume without its wedge, g rotations that keep the wedge
    x^s = g^-1 G(z),   z ~ r(z | g u)                  a sample, in one of these orientations

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
from cryovae.posterior.noise_field import NoiseField
from cryovae.posterior.tile_memory import bytes_of_tile
from cryovae.posterior.tiles import TilePredictor
from cryovae.tiling.batching import free_on
from cryovae.tomogram import TiltGeometry

# Share of the free memory that a pass may take, and the most, in bytes.
SHARE, LARGEST = 0.5, 6e9


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
    if not _fits(ladder, data, device):
        return TilePredictor(ladder, patch, 2, 0, device, lambda tiles: None).predict(data, tilts, orientations).cpu()
    total, rotations = torch.zeros(data.shape), symmetry_rotations(tilts)[:orientations]
    for rotation in rotations:
        total += rotation.inverse(_pass(ladder, rotation(data), tilts, device))
    return total / len(rotations)


@torch.no_grad()
def sampled_volume(
    ladder: Ladder, data: Tensor, tilts: TiltGeometry, patch: int, device: torch.device, number: int, seed: int
) -> Tensor:
    """Sample ``number`` of the density (z, y, x), on the CPU; arguments as of ``predicted_volume``, and the seed of the noise."""
    if not _fits(ladder, data, device):
        return TilePredictor(ladder, patch, 2, seed, device, lambda tiles: None).pair(data, tilts, number)[0].cpu()
    rotations = symmetry_rotations(tilts)
    rotation = rotations[number % len(rotations)]
    return rotation.inverse(_pass(ladder, rotation(data), tilts, device, NoiseField(seed, number, device)))


def _fits(ladder: Ladder, data: Tensor, device: torch.device) -> bool:
    return bytes_of_tile(ladder.config, 1) * prod(data.shape) <= min(SHARE * free_on(device), LARGEST)


def _pass(ladder: Ladder, data: Tensor, tilts: TiltGeometry, device: torch.device, field: NoiseField | None = None) -> Tensor:
    """The mean, or with noise a sample."""
    padded = _padded(data, ladder.config.stride)
    masked = fourier.filtered(padded, smeared_mask(padded.shape, tilts))[None]
    shapes = ladder.latent_shapes(padded.shape)
    noise = None if field is None else [field.tiles([(0, 0, 0)], shape, level) for level, shape in enumerate(shapes)]
    # torch takes a slow implementation for a single volume.
    with fast_convolutions():
        predicted = ladder.restore(ladder.encode(masked.to(device), R), noise)[0].cpu()
    return predicted[tuple(slice(size) for size in data.shape)]


def _padded(data: Tensor, stride: int) -> Tensor:
    """A volume with its last planes repeated, so that all sizes are multiples of ``stride``, and twice it at least."""
    sizes: Sequence[int] = [max(-(-size // stride), 2) * stride for size in data.shape]
    z, y, x = (after - before for after, before in zip(sizes, data.shape, strict=True))
    return nnf.pad(data[None, None], (0, x, 0, y, 0, z), mode="replicate")[0, 0]
