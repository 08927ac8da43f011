"""The missing wedge, as a mask over the frequencies of a patch or a whole tomogram.

M at the bins of a grid, for any tilt geometry (``physics.directions``), turned with the specimen: M(R^-1 k)
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cryovae import fourier
from cryovae.physics import directions
from cryovae.physics.ctf import visible
from cryovae.physics.rotation import rotated_frequencies
from cryovae.tomogram import TiltGeometry


def wedge_mask(frequency: Tensor, tilts: TiltGeometry, edge: float) -> Tensor:
    """M (...) in [0, 1] at frequencies (3, ...) in cycles per voxel, the zeroes of a contrast transfer left out.

    edge: width of the soft edge in cycles per voxel, one or two bins.
    """
    mask = directions.wedge_mask(frequency, tilts, edge)
    return mask if tilts.transfer is None else mask * visible(frequency, tilts.transfer)


def patch_mask(shape: Sequence[int], tilts: TiltGeometry, rotation: Tensor | None = None, edge_bins: float = 1.0) -> Tensor:
    """Mask (z, y, x // 2 + 1) of a patch cut from a tomogram and turned by ``rotation``; Nyquist planes of even sizes are 0."""
    return smeared_mask(shape, tilts, rotation, edge_bins) * fourier.below_nyquist(shape)


def smeared_mask(shape: Sequence[int], tilts: TiltGeometry, rotation: Tensor | None = None, edge_bins: float = 1.0) -> Tensor:
    """The same with its Nyquist planes, all 1 where there is no wedge: what makes the wedge of an encoder's input empty.

    Cutting smears the edge of the wedge, by about a bin of the patch, so the mask is averaged over a grid twice as fine.
    """
    k = fourier.frequencies(shape)
    steps = [torch.tensor([-0.25, 0.25]) / n for n in shape]
    mask = torch.zeros(k.shape[1:])
    for shift in torch.cartesian_prod(*steps):
        shifted = k + shift.view(3, 1, 1, 1)
        rotated = shifted if rotation is None else rotated_frequencies(shifted, rotation)
        mask += wedge_mask(rotated, tilts, edge_bins / max(shape)) / 8
    mask[0, 0, 0] = 1.0
    return mask


def volume_mask(shape: Sequence[int], tilts: TiltGeometry, edge_bins: float = 1.0, device: torch.device | None = None) -> Tensor:
    """Mask (z, y, x // 2 + 1) of a whole tomogram."""
    return wedge_mask(fourier.frequencies(shape, device), tilts, volume_edge(shape, tilts, edge_bins))


def volume_edge(shape: Sequence[int], tilts: TiltGeometry, edge_bins: float = 1.0) -> float:
    """Width of the soft edge of ``volume_mask`` in cycles per voxel."""
    along_y = not (tilts.axis_angle or tilts.x_tilt or tilts.conical or tilts.second)
    return edge_bins / (min(shape[0], shape[2]) if along_y else min(shape))
