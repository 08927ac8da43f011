"""Sides of the tiles of a ladder, and the memory that they and boxes need while samples of them are drawn."""

from __future__ import annotations

from cryovae.models.ladder_config import LadderConfig

# Floats for each voxel of a tile while a pair of samples is drawn: for each channel of the finest level, and for noise and
# spectra. Measured on a CPU for widths 2, 4 and 16: 151, 198 and 310 to 450 in all.
FLOATS_PER_CHANNEL, FLOATS_BESIDE = 18, 120
# The same for one large box. Measured for widths 4, 16 and 32: 112 to 193, 301 to 342 and 544 in all.
BOX_PER_CHANNEL, BOX_BESIDE = 14, 130


def side_of(config: LadderConfig, patch: int) -> int:
    """Side of the tiles for a ``patch``, in voxels: its half is a multiple of the coarsest stride, so tiles share latents."""
    return int(-(-patch // (2 * config.stride)) * 2 * config.stride)


def bytes_of_tile(config: LadderConfig, side: int) -> int:
    """Memory in bytes that a tile of ``side`` voxels needs while a pair of samples is drawn from a ladder."""
    return 4 * (FLOATS_PER_CHANNEL * config.widths[0] + FLOATS_BESIDE) * side**3


def bytes_of_voxel(config: LadderConfig) -> int:
    """Memory in bytes for each voxel of a large box while a pair of samples is drawn from a ladder; half as much for its mean."""
    return 4 * (BOX_PER_CHANNEL * config.widths[0] + BOX_BESIDE)


def fitting(config: LadderConfig, side: int, most: int, free: float) -> int:
    """Tiles at once, 1 to ``most``, for which ``free`` bytes are enough."""
    return int(max(1, min(most, free // bytes_of_tile(config, side))))
