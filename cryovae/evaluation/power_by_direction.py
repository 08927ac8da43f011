"""The power of a tomogram by direction, which shows the tilts that were measured.

    v(k) = log < |F w x|^2 > (k) - its 80th percentile in the shell of k,       clipped to [-4, 1]

w is a Hann window, which suppresses the power of the faces of the volume. Some of it remains near the axes of the grid; bins
there are not used. The mean is over the bins around k, because single bins vary by orders of magnitude. The percentile and the
clipping make dense, sparse and noisy specimens comparable.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from math import cos, radians, sin

import numpy as np
import torch

from cryovae import fourier

# Cycles per voxel. Bins below are too coarse to define an angle; above, interpolation has removed the corners of many spectra.
DIRECTION_BAND = (0.08, 0.42)
DIRECTION_SHELLS = 8
CLIP = (-4.0, 1.0)
# Number of bins on either side of the axes of the grid that still contain power of the faces.
AXIS_BINS = 3
# The spectrum is averaged over blocks of at most this side length, at most two along each axis.
BLOCK = 160
# The mean around a bin extends this many bins in both directions along each axis.
MEAN_BINS = 1


@dataclass(frozen=True)
class Directions:
    """Bins of a power spectrum.

    Attributes:
        k: Frequencies (bins, 3), ordered z, y, x, in cycles per voxel.
        shell: Number of the shell (bins,).
        power: Power (bins,), in grey values squared.
        value: v of the module's equation (bins,), in nats.
    """

    k: np.ndarray
    shell: np.ndarray
    power: np.ndarray
    value: np.ndarray

    def kept(self, which: np.ndarray) -> Directions:
        """The bins selected by a boolean mask (bins,) or by indices."""
        return Directions(self.k[which], self.shell[which], self.power[which], self.value[which])


def power_by_direction(density: np.ndarray) -> Directions:
    """Bins of the power spectrum of a (z, y, x) density, from one half of Fourier space."""
    power, shape = _power(density)
    k = fourier.frequencies(shape)
    radius = k.square().sum(0).sqrt()
    off_axis = torch.stack([k[axis].abs() * shape[axis] > AXIS_BINS + 0.5 for axis in range(3)]).sum(0) >= 2
    low, high = DIRECTION_BAND
    used = (radius > low) & (radius < high) & off_axis
    shell = ((radius[used] - low) / (high - low) * DIRECTION_SHELLS).long().clamp(0, DIRECTION_SHELLS - 1).numpy()
    values = np.zeros(len(shell))
    around = _mean_around(power.double().numpy(), off_axis.numpy())[used.numpy()]
    for number in range(DIRECTION_SHELLS):
        inside = shell == number
        if inside.any():
            log = np.log(around[inside] + 1e-20 * around[inside].max() + 1e-300)
            values[inside] = np.clip(log - np.percentile(log, 80), *CLIP)
    return Directions(k[:, used].T.double().numpy(), shell, power[used].double().numpy(), values)


def _mean_around(power: np.ndarray, counted: np.ndarray) -> np.ndarray:
    """Mean of a half spectrum (z, y, x // 2 + 1) over the neighbouring bins where ``counted`` is true."""
    from scipy.ndimage import uniform_filter

    modes = ("wrap", "wrap", "nearest")
    total = uniform_filter(power * counted, 2 * MEAN_BINS + 1, mode=modes)
    return np.asarray(total / np.maximum(uniform_filter(counted.astype(float), 2 * MEAN_BINS + 1, mode=modes), 1e-6))


def _power(density: np.ndarray) -> tuple[torch.Tensor, tuple[int, int, int]]:
    """Power spectrum summed over the blocks of a density, and the shape of a block."""
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
    """Unit vector (z, y, x) of the tilt axis rotated by ``angle`` degrees from +y to +x, then by ``lift`` degrees to +z."""
    phi, chi = radians(angle), radians(lift)
    return np.array([sin(chi), cos(phi) * cos(chi), sin(phi) * cos(chi)])


def angles_of(axis: np.ndarray) -> tuple[float, float]:
    """In-plane angle (-90 exclusive to 90) and lift of a tilt axis (z, y, x), in degrees; opposite vectors are the same axis."""
    z, y, x = axis if (axis[1], axis[2]) > (1e-9, 0.0) or (abs(axis[1]) <= 1e-9 and axis[2] >= 0) else -axis
    return float(np.degrees(np.arctan2(x, y))), float(np.degrees(np.arcsin(np.clip(z, -1, 1))))


def tilt_of(k: np.ndarray, axis: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Tilt at which each frequency is measured.

    Args:
        k: Frequencies (bins, 3), ordered z, y, x.
        axis: Unit vector (z, y, x) of the tilt axis.

    Returns:
        Tilt (bins,), -90 to 90 degrees, and distance from the axis (bins,), in the unit of ``k``.
    """
    phi, chi = (radians(a) for a in angles_of(axis))
    across = k[:, 2] * cos(phi) - k[:, 1] * sin(phi)
    beam = k[:, 0] * cos(chi) - (k[:, 1] * cos(phi) + k[:, 2] * sin(phi)) * sin(chi)
    return np.degrees(np.arctan2(np.where(across < 0, -beam, beam), np.abs(across))), np.hypot(across, beam)
