"""The missing wedge, as a mask M over the frequencies of a patch or a tomogram.

A specimen rotated by R has the mask M(R^-1 k), with M from ``physics.directions``.
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
    """M (...) in [0, 1] at frequencies (3, ...) in cycles per voxel, 0 around the zeroes of a contrast transfer.

    edge: width of the soft edge in cycles per voxel, one or two bins.
    """
    mask = directions.tilt_mask(frequency, tilts, edge)
    return mask if tilts.transfer is None else mask * visible(frequency, tilts.transfer)


def patch_mask(shape: Sequence[int], tilts: TiltGeometry, rotation: Tensor | None = None, edge_bins: float = 1.0) -> Tensor:
    """Mask (z, y, x // 2 + 1) of a patch cut from a tomogram and rotated; 0 in the Nyquist planes of even sizes.

    Args:
        shape: (z, y, x) of the patch.
        tilts: the tilt geometry.
        rotation: R, (3, 3), of the specimen, or None.
        edge_bins: width of the soft edge in bins of the longest axis.
    """
    return smeared_mask(shape, tilts, rotation, edge_bins) * fourier.below_nyquist(shape)


def smeared_mask(shape: Sequence[int], tilts: TiltGeometry, rotation: Tensor | None = None, edge_bins: float = 1.0) -> Tensor:
    """``patch_mask`` with its Nyquist planes; it removes the wedge from the input of an encoder.

    Cutting a patch smears the edge of the wedge by about one bin, so the mask is averaged over a grid twice as fine.
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
    """Mask (z, y, x // 2 + 1) of a tomogram of ``shape`` (z, y, x)."""
    return wedge_mask(fourier.frequencies(shape, device), tilts, volume_edge(shape, tilts, edge_bins))


def emptied(mask: Tensor) -> Tensor:
    """A mask whose soft edge lies outside of the wedge: 0 where ``mask`` is at most 1/2, the middle of its edge."""
    return (2 * mask - 1).clamp_min(0)


def volume_edge(shape: Sequence[int], tilts: TiltGeometry, edge_bins: float = 1.0) -> float:
    """Width of the soft edge of ``volume_mask`` in cycles per voxel."""
    along_y = not (tilts.axis_angle or tilts.x_tilt or tilts.conical or tilts.second)
    return edge_bins / (min(shape[0], shape[2]) if along_y else min(shape))
