"""The wedge that a tomogram's own power spectrum shows: which tilts were measured, and with which sign.

The log power, less its mean in each shell of the k_z-k_x plane, is averaged by the angle atan(k_z / k_x); the range of angles
that is brighter than the rest is found by the two-level fit with the least squared error.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from cryovae import fourier

STEP = 2.0
LIMITS = (0.06, 0.4)


@dataclass(frozen=True)
class WedgeSeen:
    """Lowest and highest tilt in degrees, and the contrast: the step between inside and outside over the scatter of both."""

    lowest: float
    highest: float
    contrast: float
    angles: np.ndarray
    profile: np.ndarray


def wedge_seen(density: np.ndarray) -> WedgeSeen:
    """Find the tilt range of a (z, y, x) density; good to about 3 degrees where there is signal or noise in all measured bins."""
    angles, profile = angular_profile(density)
    count = len(angles)
    total, squares = np.concatenate(([0], profile.cumsum())), float((profile**2).sum())
    best = (np.inf, 0, count)
    for first in range(count):
        for last in range(first + 2, count + 1):
            within, outside = last - first, count - (last - first)
            level_in = (total[last] - total[first]) / within
            level_out = (total[-1] - total[last] + total[first]) / max(outside, 1)
            error = squares - within * level_in**2 - outside * level_out**2
            if outside and level_in > level_out and error < best[0]:
                best = (error, first, last)
    error, first, last = best
    inside = np.zeros(count, dtype=bool)
    inside[first:last] = True
    step = profile[inside].mean() - profile[~inside].mean() if not inside.all() else 0.0
    scatter = np.sqrt(max(error, 0.0) / count)
    return WedgeSeen(
        float(angles[first] - STEP / 2), float(angles[last - 1] + STEP / 2), float(step / max(scatter, 1e-9)), angles, profile
    )


def angular_profile(density: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Angles in degrees (bins,), and the mean log power at each, less the mean of its shell."""
    values = torch.from_numpy(np.array(density, dtype=np.float32))
    values = values - values.mean()
    for axis, size in enumerate(values.shape):
        window = torch.hann_window(size + 2, periodic=False)[1:-1]
        values = values * window.view([-1 if a == axis else 1 for a in range(3)])
    power = fourier.transform(values).abs().square()
    kz, ky, kx = fourier.frequencies(values.shape)
    plane = (kz.square() + kx.square()).sqrt()
    used = (plane > LIMITS[0]) & (plane < LIMITS[1]) & (ky.abs() < 0.25)
    angle = torch.rad2deg(torch.atan2(kz * torch.where(kx > 0, 1.0, torch.sign(kz)), kx))
    shell = (plane[used] * 40).long()
    # The mean power of a bin of (shell, angle) first, then its logarithm: a spectrum's single bins scatter by decades.
    sector = ((angle[used] + 90) / STEP).long().clamp(0, int(180 / STEP) - 1)
    sectors = int(180 / STEP)
    size = (int(shell.max()) + 1) * sectors
    index = shell * sectors + sector
    count = (int(shell.max()) + 1) * sectors
    sums = torch.zeros(count, dtype=torch.float64).index_add_(0, index, power[used].double())
    bins = torch.zeros(count, dtype=torch.float64).index_add_(0, index, torch.ones_like(index, dtype=torch.float64))
    levels = torch.log(sums / bins.clamp_min(1) + 1e-30).view(-1, sectors).numpy()
    weights = bins.view(-1, sectors).numpy()
    # Small volumes leave sectors of some shells empty: weights say how much is known of each.
    per_shell = (levels * weights).sum(1) / np.maximum(weights.sum(1), 1)
    known = weights.sum(0) > 0
    profile = ((levels - per_shell[:, None]) * weights).sum(0)[known] / weights.sum(0)[known]
    angles = (np.arange(sectors) + 0.5) * STEP - 90
    profile = np.interp(angles, angles[known], profile)
    # Where the power has fallen to a twentieth, how far it fell says nothing more; without this, edges come out too wide.
    return angles, np.maximum(profile, profile.max() - 3.0)
