"""The missing wedge, as a mask over frequencies.

A projection at tilt t measures the plane through k_y and (k_z, k_x) = |k| (sin t, cos t). A tilt range measures the angles
between its ends, and with the ends' planes at signed distances d, the mask is

    M(k) = min over both ends of clip( 1/2 + d(k) / edge , 0, 1 ),          M(0) = 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import cos, radians, sin

import torch
from torch import Tensor

from cryovae import fourier
from cryovae.physics.rotation import turned_frequencies
from cryovae.tomogram import TiltGeometry


def wedge_mask(frequency: Tensor, tilts: TiltGeometry, edge: float) -> Tensor:
    """Mask (...) in [0, 1], 1 where measured, at frequencies (3, ...) in cycles per voxel.

    edge: width of the soft edge in cycles per voxel, one or two bins.
    """
    kz, _, kx = frequency
    if not tilts.has_wedge:
        return torch.ones_like(kz)
    low, high = radians(tilts.lowest), radians(tilts.highest)

    def inside(kz: Tensor, kx: Tensor) -> Tensor:
        above = kz * cos(low) - kx * sin(low)
        below = kx * sin(high) - kz * cos(high)
        return (0.5 + torch.minimum(above, below) / edge).clamp(0, 1)

    mask = torch.maximum(inside(kz, kx), inside(-kz, -kx))
    return torch.where(frequency.abs().sum(0) < 1e-9, torch.ones_like(mask), mask)


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
        turned = shifted if rotation is None else turned_frequencies(shifted, rotation)
        mask += wedge_mask(turned, tilts, edge_bins / max(shape)) / 8
    mask[0, 0, 0] = 1.0
    return mask


def volume_mask(shape: Sequence[int], tilts: TiltGeometry, edge_bins: float = 1.0) -> Tensor:
    """Mask (z, y, x // 2 + 1) of a whole tomogram."""
    return wedge_mask(fourier.frequencies(shape), tilts, edge_bins / min(shape[0], shape[2]))
