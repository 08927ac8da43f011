"""The power of a tomogram in the plane across the tilt axis, and the edges of the missing wedge in that plane.

P(k_z, k_x) = < | F_zx (x - <x>) |^2 >,        averaged over all slices y
"""

from __future__ import annotations

from math import cos, radians, sin

import numpy as np
import torch

from cryovae import fourier
from cryovae.physics.directions import tilt_mask
from cryovae.tomogram import TiltGeometry


def log_power_xz(density: np.ndarray) -> np.ndarray:
    """log10 of the power (k_z, k_x) of a (z, y, x) density, averaged over y slices, with zero frequency in the middle."""
    values = torch.from_numpy(np.array(density, dtype=np.float32))
    values = (values - values.mean()).movedim(1, 0)[:, :, None, :]
    half = fourier.transform(values).abs().square().mean(0)[:, 0]
    nx = density.shape[2]
    mirrored = torch.roll(half.flip(0), 1, 0)[:, 1 : (nx + 1) // 2].flip(1)
    full = torch.roll(torch.cat((half, mirrored), 1), (density.shape[0] // 2, nx // 2), (0, 1))
    return torch.log10(full.clamp_min(1e-12)).numpy()  # type: ignore[no-any-return]


def edge_directions(tilts: TiltGeometry) -> dict[float, tuple[float, float]] | None:
    """Unit vectors (k_z, k_x) along the edges of the measured part, by tilt in degrees; empty without a wedge.

    None for a tilt axis off y, two axes or conical tilting: the edges in this plane are then not lines; see ``measured_xz``.
    """
    if tilts.second or tilts.conical or tilts.axis_angle or tilts.x_tilt:
        return None
    if not tilts.has_wedge:
        return {}
    return {angle: (sin(radians(angle)), cos(radians(angle))) for run in tilts.ranges for angle in run}


def measured_xz(tilts: TiltGeometry, bins: int = 301) -> tuple[np.ndarray, np.ndarray]:
    """Frequencies (bins,) from -1/2 to 1/2 cycles per voxel, and the mask of measured bins (k_z, k_x) at k_y = 0."""
    k = torch.linspace(-0.5, 0.5, bins)
    kz, kx = torch.meshgrid(k, k, indexing="ij")
    mask = tilt_mask(torch.stack((kz, torch.zeros_like(kz), kx)), tilts, 0.005)
    return k.numpy(), mask.numpy()
