"""Whether a trained model fits a tomogram: the voxel size and the missing wedge are compared with those of its training.

A network recognises structures by their size in voxels. At another voxel size it takes one structure for another, and its
standard deviation does not show it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from cryovae import fourier
from cryovae.checkpoint import TrainedOn
from cryovae.config import RunConfig
from cryovae.errors import InputError
from cryovae.physics.noise import NoiseSpectrum
from cryovae.tomogram import Tomogram

# Largest difference of voxel sizes, as a share, and of missing wedges, in degrees.
MOST_SCALE, MOST_DEGREES = 0.05, 10.0
# Voxel sizes of the scenes that the base was trained on, in angstrom.
BASE_SIZES = (6.0, 16.0)
# Side of the grid over which the noise is averaged.
SIDE = 16


def trained_on(tomogram: Tomogram, noise: NoiseSpectrum) -> TrainedOn:
    """The record of a training tomogram in a model file."""
    variance = float(noise(fourier.frequencies((SIDE, SIDE, SIDE))).nanmean())
    level = min(max(variance, 0.0), 1e12) ** 0.5
    tilts = tomogram.tilts
    return TrainedOn(
        tomogram.name, float(tomogram.voxel_size), level, tilts.lowest, tilts.highest, min(max(tilts.missing, 0.0), 180.0)
    )


def scale_difference(origins: Sequence[TrainedOn], voxel_size: float) -> str | None:
    """A line if the voxel size in angstrom differs from all that a model was trained at; None if not, or if they are unknown."""
    sizes = sorted({origin.voxel_size for origin in origins})
    if not sizes or any(abs(size - voxel_size) <= MOST_SCALE * size for size in sizes):
        return None
    nearest = min(sizes, key=lambda size: max(size / voxel_size, voxel_size / size))
    known = f"{sizes[0]:.4g}" if len(sizes) == 1 else f"{sizes[0]:.4g} to {sizes[-1]:.4g}"
    return (
        f"voxel size of {voxel_size:.4g} angstrom found, expected about {known}, at which the model was trained: structures have "
        f"{nearest / voxel_size:.3g} times the size in voxels that it knows"
    )


def base_difference(tomogram: Tomogram) -> str | None:
    """A line if the voxel size is outside of those of the scenes that the base was trained on."""
    low, high = BASE_SIZES
    if low <= tomogram.voxel_size <= high:
        return None
    return (
        f"{tomogram.name}: voxel size of {tomogram.voxel_size:.4g} angstrom found, {low:g} to {high:g} in what the base was "
        "trained on: structures have other sizes in voxels than it knows"
    )


def wedge_difference(origins: Sequence[TrainedOn], tomogram: Tomogram) -> str | None:
    """A line if the missing wedge differs by more than 10 degrees from all that a model was trained with."""
    missing = tomogram.tilts.missing
    if not origins or any(abs(origin.missing - missing) <= MOST_DEGREES for origin in origins):
        return None
    nearest = min(origins, key=lambda origin: abs(origin.missing - missing))
    return (
        f"{tomogram.name}: missing wedge of {missing:.0f} degrees found, expected about {nearest.missing:.0f} as in the tilts "
        f"{nearest.lowest:.0f} to {nearest.highest:.0f} that the model was trained on: train on tomograms with these tilts, or "
        "check the tilts"
    )


def differences(origins: Sequence[TrainedOn], tomogram: Tomogram) -> list[str]:
    """A line for each way in which a tomogram differs from those that a model was trained on; none if they are unknown."""
    scale, wedge = scale_difference(origins, tomogram.voxel_size), wedge_difference(origins, tomogram)
    lines = [] if scale is None else [f"{tomogram.name}: {scale}; resample the tomogram to that voxel size, or train anew"]
    return [*lines, *([] if wedge is None else [wedge])]


def checked_match(origins: Sequence[TrainedOn], tomogram: Tomogram, config: RunConfig) -> list[str]:
    """Check, before a restoration, that a model fits a tomogram.

    Args:
        origins: what the model was trained on.
        tomogram: what is restored.
        config: the settings; ``restoration.other_scale`` allows another voxel size.

    Returns:
        The lines of ``differences``.

    Raises:
        InputError: the voxel size differs, and the settings do not allow it.
    """
    scale = scale_difference(origins, tomogram.voxel_size)
    if scale is not None and not config.restoration.other_scale:
        raise InputError(
            f"{tomogram.name}: {scale}: resample the tomogram to that voxel size, train anew, or pass --other-scale (in a batch "
            "or in Python the setting restoration.other_scale) to restore it all the same"
        )
    return differences(origins, tomogram)


def tell_match(origins: Sequence[TrainedOn], tomogram: Tomogram) -> None:
    """Print the ``differences`` on stderr."""
    for line in differences(origins, tomogram):
        print(line, file=sys.stderr)
