"""cryovae info."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cryovae.interfaces.commands.options import TiltRange, Tilts, VoxelSize, tilt_geometries


def info(
    tomogram: Annotated[Path, typer.Argument(help="A tomogram, MRC or OME-Zarr.")],
    tilts: Tilts = None,
    tilt_range: TiltRange = None,
    voxel_size: VoxelSize = None,
) -> None:
    """Show header, statistics, and the wedge that the power spectrum shows."""
    from cryovae.interfaces.information import print_information

    geometry = tilt_geometries(tilts, tilt_range, 1)[0] if tilts or tilt_range else None
    print_information(tomogram, geometry, voxel_size)
