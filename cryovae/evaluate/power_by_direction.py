"""The power of a tomogram by direction: what shows which tilts were measured.

    v(k) = log < |F w x|^2 > (k) - its 80th percentile in the shell of k,       clipped to [-4, 1]

w is a Hann window, which keeps the faces of the volume out of the spectrum; the lines along the grid's axes, where what is left
of them lies, are not used. The mean is over the bins around k: a spectrum's single bins scatter by decades. Percentile and
clipping leave a dense and a sparse specimen, or a noisy one, much alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from math import cos, radians, sin

import numpy as np
import torch

from cryovae import fourier

# Cycles per voxel: below, bins are too coarse to have an angle; above, interpolation has taken the corners of many volumes away.
BAND = (0.08, 0.42)
SHELLS = 8
CLIP = (-4.0, 1.0)
# Bins on either side of the grid's axes that hold what the window leaves of the faces.
CROSS = 3
# Large tomograms are judged by blocks of this side, at most two along each axis.
BLOCK = 160
# A mean of bins is over those at most this many bins away along each axis.
AROUND = 1


@dataclass(frozen=True)
class Directions:
    """Bins of a spectrum: k (bins, 3) as z, y, x in cycles per voxel, shell (bins,), power (bins,), and value v (bins,)."""

    k: np.ndarray
    shell: np.ndarray
    power: np.ndarray
    value: np.ndarray

    def kept(self, which: np.ndarray) -> Directions:
        """Those bins that ``which`` (bins,) says, a boolean or an index."""
        return Directions(self.k[which], self.shell[which], self.power[which], self.value[which])


def power_by_direction(density: np.ndarray) -> Directions:
    """Bins of the power spectrum of a (z, y, x) density, of one half of Fourier space."""
    power, shape = _power(density)
    k = fourier.frequencies(shape)
    radius = k.square().sum(0).sqrt()
    off_axis = torch.stack([k[axis].abs() * shape[axis] > CROSS + 0.5 for axis in range(3)]).sum(0) >= 2
    used = (radius > BAND[0]) & (radius < BAND[1]) & off_axis
    shell = ((radius[used] - BAND[0]) / (BAND[1] - BAND[0]) * SHELLS).long().clamp(0, SHELLS - 1).numpy()
    found, values = power[used].double().numpy(), np.zeros(len(shell))
    around = _mean_around(power.double().numpy(), off_axis.numpy())[used.numpy()]
    for number in range(SHELLS):
        inside = shell == number
        if inside.any():
            log = np.log(around[inside] + 1e-20 * around[inside].max() + 1e-300)
            values[inside] = np.clip(log - np.percentile(log, 80), *CLIP)
    return Directions(k[:, used].T.double().numpy(), shell, found, values)


def _mean_around(power: np.ndarray, counted: np.ndarray) -> np.ndarray:
    """Mean of a half spectrum (z, y, x // 2 + 1) over neighbouring bins, of those that are counted."""
    from scipy.ndimage import uniform_filter

    modes = ("wrap", "wrap", "nearest")
    total = uniform_filter(power * counted, 2 * AROUND + 1, mode=modes)
    return np.asarray(total / np.maximum(uniform_filter(counted.astype(float), 2 * AROUND + 1, mode=modes), 1e-6))


def _power(density: np.ndarray) -> tuple[torch.Tensor, tuple[int, int, int]]:
    """Mean power spectrum of the blocks of a density, and their shape."""
    shape = (min(density.shape[0], BLOCK), min(density.shape[1], BLOCK), min(density.shape[2], BLOCK))
    starts = [sorted({(n - s) // 4, (n - s) - (n - s) // 4}) for n, s in zip(density.shape, shape, strict=True)]
    total = torch.zeros(shape[0], shape[1], shape[2] // 2 + 1)
    for z, y, x in product(*starts):
        block = density[z : z + shape[0], y : y + shape[1], x : x + shape[2]]
        values = torch.from_numpy(np.array(block, dtype=np.float32)).nan_to_num(0.0, 0.0, 0.0)
        values = values - values.mean()
        for axis, size in enumerate(shape):
            window = torch.hann_window(size + 2, periodic=False)[1:-1]
            values = values * window.view([-1 if a == axis else 1 for a in range(3)])
        total += fourier.transform(values).abs().square()
    return total, shape


def axis_of(angle: float, lift: float) -> np.ndarray:
    """Unit vector (z, y, x) of the tilt axis that is turned by ``angle`` from +y towards +x, then lifted to +z, in degrees."""
    phi, chi = radians(angle), radians(lift)
    return np.array([sin(chi), cos(phi) * cos(chi), sin(phi) * cos(chi)])


def angles_of(axis: np.ndarray) -> tuple[float, float]:
    """The angle in plane, above -90 to 90, and the lift in degrees of a tilt axis (z, y, x); opposite vectors are one axis."""
    z, y, x = axis if (axis[1], axis[2]) > (1e-9, 0.0) or (abs(axis[1]) <= 1e-9 and axis[2] >= 0) else -axis
    return float(np.degrees(np.arctan2(x, y))), float(np.degrees(np.arcsin(np.clip(z, -1, 1))))


def tilt_of(k: np.ndarray, axis: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Tilt in degrees, -90 to 90, at which each of k (bins, 3) is measured about an axis, and its distance from the axis."""
    phi, chi = (radians(a) for a in angles_of(axis))
    across = k[:, 2] * cos(phi) - k[:, 1] * sin(phi)
    beam = k[:, 0] * cos(chi) - (k[:, 1] * cos(phi) + k[:, 2] * sin(phi)) * sin(chi)
    return np.degrees(np.arctan2(np.where(across < 0, -beam, beam), np.abs(across))), np.hypot(across, beam)
