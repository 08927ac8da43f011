"""A simulated tilt series, as counted electrons, and the tomograms reconstructed from it.

    I_t = N_t ( 1 - c F^-1[ C_t(k) D_t(k) F P_t x ] ) + noise,      C_t = -CTF at the defocus of tilt t

x is the density in units of protein and P_t the projection. N_t, the contrast c and the damage D_t come from
simulation/exposure.py; the order of the tilts is 0, +, -, -, +, ... Everything except the noise is linear in x. Images are
I / N - 1, and protein is dark.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as nnf
from scipy.ndimage import binary_dilation
from torch import Tensor

from cryovae import fourier
from cryovae.errors import InputError
from cryovae.physics.ctf import contrast_transfer
from cryovae.physics.projection import footprint, project, weighted_back_projection
from cryovae.simulation.exposure import contrast_of, count, damage, electrons, exposures
from cryovae.simulation.scene import Scene
from cryovae.simulation.site import Progress
from cryovae.tomogram import TiltGeometry

ROWS = 16
AROUND_GOLD = 6
# Voxels of padding for the CTF, so that its rings do not wrap around.
BORDER = 16


@dataclass(frozen=True)
class AcquisitionConfig:
    """How a specimen is imaged and reconstructed.

    Attributes:
        angles: tilts in degrees, -80 to 80.
        voxel_size: in angstrom.
        defocus: mean defocus in micrometres, 0 for no CTF.
        defocus_spread: standard deviation of the defocus between tilts in micrometres.
        kilovolts: acceleration voltage in kV.
        cs: spherical aberration in millimetres.
        amplitude: amplitude contrast, a fraction.
        dose: electrons per square angstrom over all tilts.
        snr: signal over noise variance of the full tomogram, which then sets the noise instead of the dose; or None.
        noise: 'gaussian' or 'poisson'.
        halves: 'frames', the dose of each tilt divided in two, or 'tilts', even and odd tilts.
        misalign: standard deviations of unknown image shifts in voxels and of unknown tilt errors in degrees.
        cutoff: highest frequency of the back-projection in cycles per voxel, up to 0.5.
        seed: of all random numbers.

    Raises:
        InputError: a value is out of its range.
    """

    angles: tuple[float, ...] = tuple(float(a) for a in range(-60, 61, 3))
    voxel_size: float = 10.0
    defocus: float = 2.5
    defocus_spread: float = 0.1
    kilovolts: float = 300.0
    cs: float = 2.7
    amplitude: float = 0.1
    dose: float = 120.0
    snr: float | None = None
    noise: str = "gaussian"
    halves: str = "frames"
    misalign: tuple[float, float] = (0.0, 0.0)
    cutoff: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        TiltGeometry(self.angles)
        if max(abs(a) for a in self.angles) > 80:
            raise InputError(f"tilts up to {max(abs(a) for a in self.angles):g} degrees found, expected within -80 to 80")
        if self.snr is not None and not self.snr > 0:
            raise InputError(f"snr {self.snr:g} found, expected a signal-to-noise ratio above 0, e.g. 0.3")
        if not self.dose > 0:
            raise InputError(f"dose {self.dose:g} found, expected electrons per square angstrom above 0, e.g. 120")
        if self.noise not in ("gaussian", "poisson"):
            raise InputError(f"noise {self.noise} found, expected gaussian or poisson")
        if self.halves not in ("frames", "tilts"):
            raise InputError(f"halves {self.halves} found, expected frames or tilts")
        if self.halves == "tilts" and len(self.angles) < 4:
            raise InputError(
                f"{len(self.angles)} tilts found, expected at least 4 to divide into even and odd: use --halves frames"
            )
        if min(self.defocus, self.defocus_spread, *self.misalign) < 0:
            raise InputError("a negative defocus, spread or misalignment was found, expected 0 or more")
        if not 0 < self.cutoff <= 0.5:
            raise InputError(f"cutoff {self.cutoff:g} found, expected cycles per voxel above 0, up to 0.5")


@dataclass(frozen=True)
class SimulatedSeries:
    """A simulated tilt series and its tomograms, (z, y, x) each.

    Attributes:
        full: tomogram of all electrons, mean 0 and standard deviation 1.
        half1: first half, on the scale of ``full``.
        half2: second half, on the scale of ``full``.
        truth: the density with the mean CTF and damage of all tilts, on the scale of ``full``.
        density: the density without CTF and damage, on the scale of ``full``.
        signal: ``full`` without noise.
        images: (tilts, y, x + 2 margin), I / N - 1.
        snr: measured signal over noise variance of ``full``.
    """

    full: Tensor
    half1: Tensor
    half2: Tensor
    truth: Tensor
    density: Tensor
    signal: Tensor
    images: Tensor
    snr: float


def tilt_angles(lowest: float, highest: float, step: float) -> tuple[float, ...]:
    """Evenly spaced tilts in degrees, with both ends included; the step is as close to ``step`` as the range allows.

    Raises:
        InputError: the range is empty, or the step is not above 0 and within the range.
    """
    TiltGeometry.from_range(lowest, highest)
    if not 0 < step <= highest - lowest:
        raise InputError(f"tilt step {step:g} found, expected degrees above 0 and within the range, e.g. 3")
    return tuple(float(a) for a in np.linspace(lowest, highest, round((highest - lowest) / step) + 1))


def margin_of(shape: Sequence[int], angles: Sequence[float], thickness: float) -> int:
    """Voxels of matter needed on either side along x for rays at the highest tilt, at most half the depth."""
    return min(int(np.ceil(thickness / 2 * np.tan(np.radians(max(abs(a) for a in angles))))), shape[0] // 2)


def transfers(frequency: Tensor, config: AcquisitionConfig, defocus: np.ndarray) -> list[Tensor]:
    """C_t D_t of each tilt.

    Args:
        frequency: |k| (...) in cycles per voxel.
        config: the acquisition.
        defocus: (tilts,) in micrometres.
    """
    passed = []
    for received, focus in zip(exposures(config.angles, config.dose), defocus, strict=True):
        ctf = torch.ones_like(frequency)
        if config.defocus > 0:
            ctf = -contrast_transfer(frequency, config.voxel_size, float(focus), config.kilovolts, config.cs, config.amplitude)
        passed.append(ctf * damage(frequency, received, config.voxel_size))
    return passed


def noise_free(
    density: Tensor, config: AcquisitionConfig, defocus: np.ndarray, errors: np.ndarray, progress: Progress | None = None
) -> Tensor:
    """Noise-free images I / N - 1 of a density; linear in the density.

    Args:
        density: (z, y, x).
        config: the acquisition.
        defocus: (tilts,) in micrometres.
        errors: (tilts, 3), shifts of each image along y and x in voxels, and error of its tilt in degrees.
        progress: called after each tilt, or None.

    Returns:
        (tilts, y, x).
    """
    true_angles = [angle + error[2] for angle, error in zip(config.angles, errors, strict=True)]
    step = None if progress is None else lambda done, total: progress("projections", done, total)
    images = project(density, true_angles, step=step)
    ny, nx = images.shape[1:]
    padded = nnf.pad(images[:, None], (BORDER,) * 4, mode="replicate")
    k = fourier.frequencies((1, ny + 2 * BORDER, nx + 2 * BORDER))
    transfer = transfers(k.square().sum(0).sqrt(), config, defocus)
    made = []
    for image, angle, passed, error in zip(padded, true_angles, transfer, errors, strict=True):
        weight = -contrast_of(config.voxel_size) * passed / footprint(k[2], angle)
        shift = torch.polar(torch.ones_like(k[1]), -2 * torch.pi * (k[1] * float(error[0]) + k[2] * float(error[1])))
        padded_image = fourier.inverse(fourier.transform(image) * weight * shift, image.shape)
        made.append(padded_image[0, BORDER : BORDER + ny, BORDER : BORDER + nx])
    return torch.stack(made)


def image_scene(scene: Scene, config: AcquisitionConfig, progress: Progress | None = None) -> SimulatedSeries:
    """Image a scene and reconstruct it; the same seed gives the same series."""
    rng = np.random.default_rng([config.seed, 1])
    generator = torch.Generator().manual_seed(config.seed + 1)
    tilts = len(config.angles)
    shift_error, tilt_error = config.misalign
    defocus = np.maximum(config.defocus + config.defocus_spread * rng.standard_normal(tilts), 0)
    errors = rng.standard_normal((tilts, 3)) * (shift_error, shift_error, tilt_error)
    nz, ny, nx = scene.inside.shape
    shape = (nz, ny, nx)
    clean = noise_free(torch.from_numpy(scene.density), config, defocus, errors, progress)
    signal = _reconstructed(clean, config.angles, shape, config.cutoff, "signal", progress)
    matter = torch.from_numpy(_matter(scene))
    variance = float(signal[matter].var())
    counted = electrons(config.angles, config.dose, config.voxel_size, (scene.slab[1] - scene.slab[0]) * config.voxel_size)
    if config.snr is not None:
        if not variance > 0:
            raise InputError("the specimen is empty, so no signal-to-noise ratio can be reached: give --dose instead of --snr")
        counted = counted * config.snr * _noise_gain(config, counted, clean.shape[2], shape) / variance
    full, half1, half2, images = _tomograms(clean, counted, config, shape, generator, progress)
    mean, scale = float(full.mean()), 1 / float(full.std())
    contrast = torch.from_numpy(scene.density) * -contrast_of(config.voxel_size)
    inner = slice(scene.margin, scene.margin + nx)
    truth = _passed_on_average(contrast, config, defocus)[:, :, inner]
    plain = contrast[:, :, inner]
    snr = variance / float((full - signal)[matter].var())
    return SimulatedSeries(
        (full - mean) * scale, (half1 - mean) * scale, (half2 - mean) * scale, (truth - truth.mean()) * scale,
        plain * scale, (signal - signal.mean()) * scale, images, snr,
    )  # fmt: skip


def _passed_on_average(density: Tensor, config: AcquisitionConfig, defocus: np.ndarray) -> Tensor:
    """The density with the mean of C_t D_t over tilts, from a table: one volume per tilt would need too much memory."""
    fine = torch.linspace(0, 0.9, 3601)
    table = torch.stack(transfers(fine, config, defocus)).mean(0)
    padded = nnf.pad(nnf.pad(density, (BORDER,) * 4, mode="replicate"), (0, 0, 0, 0, BORDER, BORDER))
    at = fourier.radius(padded.shape) * 4000
    below = at.long()
    passed = fourier.filtered(padded, torch.lerp(table[below], table[below + 1], at - below))
    return passed[BORDER:-BORDER, BORDER:-BORDER, BORDER:-BORDER]


def _matter(scene: Scene) -> np.ndarray:
    """Voxels (z, y, x) of the tomogram in which signal and noise are compared: the slab without gold and its surroundings."""
    nz, _, width = scene.density.shape
    z = np.arange(nz)[:, None, None]
    gold = scene.beads[:, :, scene.margin : width - scene.margin]
    near = binary_dilation(gold, iterations=AROUND_GOLD) if gold.any() else gold
    kept: np.ndarray = (z >= scene.slab[0]) & (z <= scene.slab[1]) & ~near
    return kept


def _reconstructed(
    images: Tensor, angles: Sequence[float], shape: tuple[int, int, int], cutoff: float, what: str, progress: Progress | None
) -> Tensor:
    step = None if progress is None else lambda done, total: progress(f"reconstruction, {what}", done, total)
    return weighted_back_projection(images, angles, shape, cutoff, step=step)


def _noise_gain(config: AcquisitionConfig, counted: np.ndarray, width: int, shape: tuple[int, int, int]) -> float:
    """Variance of the noise of a tomogram from images with N_t = ``counted`` electrons per pixel, measured on a few rows."""
    generator = torch.Generator().manual_seed(0)
    noise = count(torch.zeros(len(counted), ROWS, width), counted, "gaussian", generator)
    return float(weighted_back_projection(noise, config.angles, (shape[0], ROWS, shape[2]), config.cutoff).var())


def _tomograms(
    clean: Tensor,
    counted: np.ndarray,
    config: AcquisitionConfig,
    shape: tuple[int, int, int],
    generator: torch.Generator,
    progress: Progress | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The full tomogram, both halves, and the noisy images."""
    angles = config.angles
    if config.halves == "frames":
        frames = [count(clean, counted / 2, config.noise, generator) for _ in range(2)]
        half1, half2 = (
            _reconstructed(images, angles, shape, config.cutoff, f"half {i + 1}", progress) for i, images in enumerate(frames)
        )
        return (half1 + half2) / 2, half1, half2, (frames[0] + frames[1]) / 2
    images = count(clean, counted, config.noise, generator)
    order = np.argsort(angles, kind="stable")
    half1, half2 = (
        _reconstructed(images[kept], [angles[j] for j in kept], shape, config.cutoff, f"half {i + 1}", progress)
        for i, kept in enumerate((order[0::2].tolist(), order[1::2].tolist()))
    )
    return _reconstructed(images, angles, shape, config.cutoff, "full", progress), half1, half2, images
