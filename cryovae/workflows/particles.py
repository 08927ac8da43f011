"""Subtomograms as small tomograms to train on: volumes as they are, 2D stacks reconstructed, each with its own tilts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cryovae.errors import InputError
from cryovae.io.files import read_volume
from cryovae.io.load import load_tomogram
from cryovae.io.star.loading import Tomograms
from cryovae.io.star.particles import Particle
from cryovae.io.volume import voxel_size_of
from cryovae.physics.subtomogram import halves_of_stack
from cryovae.tomogram import Tomogram

LEAST_TILTS = 4


def tomograms_of_particles(particles: Sequence[Particle], voxel_size: float | None = None) -> Tomograms:
    """The particles as tomograms, read or reconstructed when they are asked for; voxel_size in angstrom goes over their own."""
    return Tomograms([p.name for p in particles], lambda index, mapped: tomogram_of(particles[index], voxel_size))


def tomogram_of(particle: Particle, voxel_size: float | None = None) -> Tomogram:
    """One particle. InputError if its file cannot be read, or a stack does not have the images of its tilts."""
    if not particle.stacked:
        subtomogram = load_tomogram(particle.file, None, particle.geometry, voxel_size or particle.voxel_size)
        return Tomogram(particle.name, subtomogram.density, subtomogram.voxel_size, subtomogram.tilts, None, subtomogram.source)
    volume = read_volume(particle.file)
    images, angles, axes = images_of(particle, np.asarray(volume.density, dtype=np.float32))
    size = voxel_size_of(volume, voxel_size or particle.voxel_size)
    first, second = (half.numpy() for half in halves_of_stack(images, angles, axes))
    return Tomogram(particle.name, (first + second) / 2, size, particle.geometry, (first, second), str(particle.file))


def images_of(particle: Particle, stack: np.ndarray) -> tuple[np.ndarray, list[float], list[float]]:
    """The images (tilts, n, n) that are visible, their angles, and those of their axes, in degrees.

    Warp writes an image for every tilt, RELION for the visible ones only.
    """
    series = particle.series
    assert series is not None
    shown = [i for i, out in enumerate(series.excluded) if not out]
    if stack.shape[0] == len(series.angles):
        stack = stack[shown]
    if stack.shape[0] != len(shown) or stack.shape[1] != stack.shape[2] or len(shown) < LEAST_TILTS:
        raise InputError(
            f"{particle.file} holds images of shape {stack.shape}, expected {len(shown)} square ones, one for each "
            f"visible tilt, {LEAST_TILTS} at least: extract the particles again"
        )
    if not np.isfinite(stack).all():
        raise InputError(f"{particle.file} holds NaN or infinite pixels: extract the particle again, or leave it out")
    axes = series.axis_angles or (series.axis_angle or 0.0,) * len(series.angles)
    return stack, [series.angles[i] for i in shown], [axes[i] for i in shown]
