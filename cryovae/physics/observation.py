"""The input of a network for a measured patch: its data, the linear estimate of its density, and how well each part was measured.

    linear       F^-1[ M P / (P + sigma^2) F y ]                          P power of a typical specimen, by |k|
    information  log( 1 + M(k) / sigma^2(k) ),    k on 7 shells x 33 directions of half of Fourier space

Data are in units of the standard deviation of the signal of the tomogram. The information is 0 where nothing was measured, so one
network serves any tilt range, one axis or two, and any noise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from math import pi

import numpy as np
import torch
from torch import Tensor

from cryovae import fourier
from cryovae.physics.wedge import patch_mask, wedge_mask
from cryovae.tomogram import TiltGeometry

# Shells in cycles per voxel, and directions, at which the information is given.
SHELLS = (0.03, 0.06, 0.1, 0.15, 0.2, 0.3, 0.4)
DIRECTIONS = 33
ENTRIES = len(SHELLS) * DIRECTIONS
# Width of the soft edge of the wedge there, in cycles per voxel: about that of a patch of 32 voxels.
EDGE = 1 / 32

# sigma^2 (...) at frequencies (3, ...) in cycles per voxel, e.g. a NoiseSpectrum.
NoiseFunction = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Observation:
    """Measured patches, as a network is given them.

    Attributes:
        data: y, (n, z, y, x); 0 in bins that were not measured.
        linear: the linear estimate of the density, (n, z, y, x).
        information: (n, ENTRIES), log( 1 + M / sigma^2 ).
        estimate: of the density by a network trained on the tomogram, (n, z, y, x), or None.
        power: local mean square of the data, (n, z, y, x), or None for that of each patch.
    """

    data: Tensor
    linear: Tensor
    information: Tensor
    estimate: Tensor | None = None
    power: Tensor | None = None

    def __len__(self) -> int:
        return len(self.data)

    def rows(self, index: Tensor | slice) -> Observation:
        """Some of the patches."""
        return self.map(lambda part: part[index])

    def map(self, change: Callable[[Tensor], Tensor]) -> Observation:
        """The same with ``change`` applied to each tensor."""
        estimate, power = (None if part is None else change(part) for part in (self.estimate, self.power))
        return Observation(change(self.data), change(self.linear), change(self.information), estimate, power)

    @staticmethod
    def joined(parts: Sequence[Observation]) -> Observation:
        """The patches of several in one."""
        names = [name for name in ("data", "linear", "information", "estimate", "power") if getattr(parts[0], name) is not None]
        return Observation(**{name: torch.cat([getattr(part, name) for part in parts]) for name in names})


def typical_power(radius: Tensor) -> Tensor:
    """P (...) at |k| (...) in cycles per voxel, orthonormal: fitted to 1920 patches of simulated scenes, whose variance is 1."""
    return 700.0 / (1 + (radius / 0.02) ** 2) * torch.exp(-((radius / 0.38) ** 5))


def observed(data: Tensor, tilts: TiltGeometry, noise: NoiseFunction) -> Observation:
    """Observed patches of one tomogram.

    Args:
        data: (n, z, y, x), in units of the standard deviation of the signal.
        tilts: the tilt geometry.
        noise: sigma^2 in these units, at frequencies in cycles per voxel.
    """
    shape = data.shape[-3:]
    k = fourier.frequencies(shape)
    power = typical_power(k.square().sum(0).sqrt())
    weight = patch_mask(shape, tilts) * power / (power + noise(k))
    entries = information(tilts, noise).expand(len(data), -1)
    return Observation(data, fourier.filtered(data, weight.to(data.device)), entries.to(data.device))


def information(tilts: TiltGeometry, noise: NoiseFunction) -> Tensor:
    """log( 1 + M / sigma^2 ) at ``ENTRIES`` frequencies."""
    k = described_frequencies()
    return torch.log1p(wedge_mask(k, tilts, EDGE) / noise(k).clamp_min(1e-6))


@cache
def described_frequencies() -> Tensor:
    """(3, ENTRIES): shells times directions, evenly spread over half a sphere, in cycles per voxel."""
    n = torch.arange(DIRECTIONS) + 0.5
    height = n / DIRECTIONS
    angle = pi * (1 + 5**0.5) * n
    across = (1 - height**2).sqrt()
    directions = torch.stack((height, across * torch.sin(angle), across * torch.cos(angle)))
    return (torch.tensor(SHELLS)[:, None] * directions[:, None, :]).reshape(3, -1)


@dataclass(frozen=True)
class RandomNoise:
    """sigma^2(k) = level exp(slope k / 0.5) (1 + rise exp(-(k / 0.06)^2)) exp(tilt (cos^2 - 1/3)), cos that to the beam.

    Attributes:
        level: variance at k = 0 without the rise, in units of the signal's.
        slope: of the logarithm, from 0 to 0.5 cycles per voxel.
        rise: at low frequency.
        tilt: how much stronger it is along the beam.
    """

    level: float
    slope: float
    rise: float
    tilt: float

    def __call__(self, frequency: Tensor) -> Tensor:
        """sigma^2 (...) at frequencies (3, ...)."""
        radius = frequency.square().sum(0).sqrt()
        cosine = frequency[0] / radius.clamp_min(1e-9)
        shape = torch.exp(self.slope * radius / 0.5) * (1 + self.rise * torch.exp(-((radius / 0.06) ** 2)))
        return self.level * shape * torch.exp(self.tilt * (cosine.square() - 1 / 3))


def random_noise(rng: np.random.Generator, snr: float) -> RandomNoise:
    """Noise of a random spectrum, whose variance is 1 / ``snr`` times that of the signal."""
    slope, rise, tilt = float(rng.uniform(-1, 2)), float(rng.exponential(0.5)), float(0.3 * rng.standard_normal())
    radius = torch.linspace(0.005, 0.5, 100)
    shape = torch.exp(slope * radius / 0.5) * (1 + rise * torch.exp(-((radius / 0.06) ** 2)))
    mean = float((shape * radius**2).sum() / (radius**2).sum())
    return RandomNoise(1 / (snr * mean), slope, rise, tilt)
