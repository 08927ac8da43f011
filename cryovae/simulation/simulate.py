"""A simulated tomogram with a known truth: crowded molecules and membranes, a missing wedge, and noise in two halves.

    half_i = T_M(C x) + n_i,        n_i ~ N(0, sigma^2(k) M(k)),        protein dark

C is the contrast transfer function. It is not corrected, and the truth includes it. Molecules are random chains of Gaussian
blobs of several species in random orientations, so that shapes recur; membranes are bilayered shells. The noise rises with
frequency as after weighted back-projection. The truth has mean zero; the mean of the halves has standard deviation 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation
from torch import Tensor

from cryovae import fourier
from cryovae.errors import InputError
from cryovae.physics.ctf import contrast_transfer
from cryovae.physics.wedge import volume_mask
from cryovae.tomogram import TiltGeometry

ORIENTATIONS = 16


@dataclass(frozen=True)
class SimulationConfig:
    """Settings of a simulation.

    Attributes:
        shape: (z, y, x) in voxels, at least 16 each.
        tilt_range: lowest and highest tilt in degrees.
        tilt_step: step of the tilts in degrees.
        snr: signal over noise variance of the mean of the halves.
        voxel_size: in angstrom.
        defocus: in micrometres, 0 for no CTF.
        species: number of different molecules.
        crowding: share of the volume that molecules fill.
        membranes: number of membranes.
        seed: of all random numbers.

    Raises:
        InputError: a value is out of its range.
    """

    shape: tuple[int, int, int] = (64, 96, 80)
    tilt_range: tuple[float, float] = (-60.0, 60.0)
    tilt_step: float = 3.0
    snr: float = 0.3
    voxel_size: float = 10.0
    defocus: float = 2.5
    species: int = 5
    crowding: float = 0.3
    membranes: int = 2
    seed: int = 0

    def __post_init__(self) -> None:
        if len(self.shape) != 3 or min(self.shape) < 16:
            raise InputError(f"shape {self.shape} found, expected three sizes of at least 16 voxels, e.g. 96 128 112")
        if not self.snr > 0:
            raise InputError(f"snr {self.snr:g} found, expected a signal-to-noise ratio above 0, e.g. 0.3")
        if not self.tilt_step > 0:
            raise InputError(f"tilt step {self.tilt_step:g} found, expected degrees above 0, e.g. 3")


# The sample of cryovae demo and of the windows in napari, whose files are in data_samples.
SAMPLE = SimulationConfig(shape=(64, 80, 72), seed=11, snr=0.3)


@dataclass(frozen=True)
class Simulation:
    """A simulated tomogram.

    Attributes:
        truth: (z, y, x) float32, protein dark.
        half1: first half, (z, y, x) float32.
        half2: second half, (z, y, x) float32.
        tilts: the tilt angles.
    """

    truth: Tensor
    half1: Tensor
    half2: Tensor
    tilts: TiltGeometry


def simulate(config: SimulationConfig) -> Simulation:
    """Simulate a tomogram; the same seed gives the same result."""
    rng = np.random.default_rng(config.seed)
    low, high = config.tilt_range
    TiltGeometry.from_range(low, high)
    tilts = TiltGeometry(tuple(float(a) for a in np.arange(low, high + config.tilt_step / 2, config.tilt_step)))
    density = torch.from_numpy(phantom(config, rng))
    density = density - density.mean()
    if config.defocus > 0:
        density = fourier.filtered(density, -contrast_transfer(fourier.radius(config.shape), config.voxel_size, config.defocus))
    truth = -density
    mask = (volume_mask(config.shape, tilts, 1e-6) > 0.5) * fourier.below_nyquist(config.shape)
    seen = fourier.filtered(truth, mask)
    level = float(seen.var()) / config.snr
    noise = [_noise(config.shape, mask, level, config.seed * 2 + half) for half in range(2)]
    scale = 1 / float((seen + (noise[0] + noise[1]) / 2).std())
    return Simulation(truth * scale, (seen + noise[0]) * scale, (seen + noise[1]) * scale, tilts)


def _noise(shape: tuple[int, int, int], mask: Tensor, level: float, seed: int) -> Tensor:
    """Noise of one half with a spectrum that rises linearly with frequency; the mean of two has variance ``level``."""
    white = torch.randn(shape, generator=torch.Generator().manual_seed(seed + 1))
    noise = fourier.filtered(white, mask * (0.2 + fourier.radius(shape)).sqrt())
    return noise * (2 * level / float(noise.var())) ** 0.5


def phantom(config: SimulationConfig, rng: np.random.Generator) -> np.ndarray:
    """Density (z, y, x) of molecules and membranes, positive where there is matter."""
    density = np.zeros(config.shape, dtype=np.float32)
    taken = np.zeros(config.shape, dtype=bool)
    for _ in range(config.membranes):
        _add_membrane(density, taken, rng)
    library = [rotated for _ in range(config.species) for rotated in _renderings(_molecule(rng), rng)]
    goal, filled = config.crowding * density.size, 0
    for _ in range(density.size // 20):
        if filled >= goal:
            break
        filled += _add_molecule(density, taken, library[int(rng.integers(len(library)))], rng)
    return gaussian_filter(density, 0.7)


def _molecule(rng: np.random.Generator) -> np.ndarray:
    """Blobs (count, 5) of a chain that folds back on itself: z, y, x from its centre, radius in voxels, height."""
    count = int(rng.integers(14, 40))
    places = [np.zeros(3)]
    for _ in range(count - 1):
        step = rng.normal(size=3)
        step *= rng.uniform(1.6, 2.6) / np.linalg.norm(step)
        places.append(places[-1] * 0.92 + step)
    centred = np.array(places) - np.mean(places, axis=0)
    return np.column_stack((centred, rng.uniform(0.9, 1.7, count), rng.uniform(0.6, 1.4, count)))


def _renderings(blobs: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
    """One species in ORIENTATIONS random orientations, each a density cube that saturates at 1 where blobs overlap."""
    cubes = []
    for rotation in Rotation.random(ORIENTATIONS, rng=rng):
        places = rotation.apply(blobs[:, :3])
        half = int(np.ceil(np.abs(places).max() + 4))
        axis = np.arange(-half, half + 1, dtype=np.float32)
        factors = [np.exp(-((axis - p[:, None]) ** 2) / (2 * blobs[:, 3:4] ** 2)) for p in places.T]
        cube = np.einsum("n,nz,ny,nx->zyx", blobs[:, 4], *factors, optimize=True)
        cubes.append((1 - np.exp(-cube)).astype(np.float32))
    return cubes


def _add_molecule(density: np.ndarray, taken: np.ndarray, cube: np.ndarray, rng: np.random.Generator) -> int:
    """Add a molecule at a random position if it is free; return the voxels that it occupies."""
    half = cube.shape[0] // 2
    centre = np.array([rng.integers(3, size - 3) for size in density.shape])
    if taken[tuple(centre)]:
        return 0
    inside = [(max(c - half, 0), min(c + half + 1, size)) for c, size in zip(centre, density.shape, strict=True)]
    place_in = tuple(slice(a, b) for a, b in inside)
    place_of = tuple(slice(a - c + half, b - c + half) for (a, b), c in zip(inside, centre, strict=True))
    body = cube[place_of] > 0.2
    if not body.any() or (taken[place_in] & body).any():
        return 0
    density[place_in] += cube[place_of]
    taken[place_in] |= body
    return int(body.sum())


def _add_membrane(density: np.ndarray, taken: np.ndarray, rng: np.random.Generator) -> None:
    """Add part of a large, slightly wavy vesicle with two leaflets, four voxels apart."""
    size = np.array(density.shape)
    radius = rng.uniform(0.5, 0.9) * size.max()
    direction = rng.normal(size=3)
    direction /= np.linalg.norm(direction)
    centre = size * rng.uniform(0.25, 0.75, 3) - direction * radius
    axes = np.meshgrid(*[np.arange(n, dtype=np.float32) for n in density.shape], indexing="ij")
    offset = [axis - c for axis, c in zip(axes, centre, strict=True)]
    distance = np.sqrt(sum(o**2 for o in offset)) - radius
    phase = rng.uniform(0, 2 * np.pi)
    distance += 2.0 * np.sin(2 * np.pi * (offset[1] + 0.7 * offset[2] + 0.4 * offset[0]) / size.max() * 2 + phase)
    leaflets = np.exp(-((distance - 2) ** 2) / 2) + np.exp(-((distance + 2) ** 2) / 2)
    density += 0.6 * leaflets.astype(np.float32)
    taken |= np.abs(distance) < 5
