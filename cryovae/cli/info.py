"""cryovae info."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cryovae.cli.geometry import (
    Adjusted,
    AxisAngle,
    Cone,
    Handedness,
    Pretilt,
    Thickness,
    Tilts2,
    Unrotated,
    XTilt,
    with_second_axes,
)
from cryovae.cli.options import TiltRange, Tilts, VoxelSize, tilt_geometries


def info(
    tomogram: Annotated[Path, typer.Argument(help="A tomogram, MRC or OME-Zarr.")],
    tilts: Tilts = None,
    tilt_range: TiltRange = None,
    tilts2: Tilts2 = None,
    axis_angle: AxisAngle = None,
    pretilt: Pretilt = None,
    x_tilt: XTilt = None,
    thickness: Thickness = None,
    cone: Cone = False,
    handedness: Handedness = 1,
    unrotated: Unrotated = None,
    voxel_size: VoxelSize = None,
) -> None:
    """Show header, statistics, and the wedge that the power spectrum shows beside the one given: axis, range, and sign."""
    from cryovae.workflows.info import print_information

    adjusted = Adjusted(axis_angle, pretilt, x_tilt, thickness, handedness, cone)
    geometry = with_second_axes(tilt_geometries(tilts, tilt_range, 1), tilts2, adjusted)[0] if tilts or tilt_range else None
    print_information(tomogram, geometry, voxel_size, unrotated)
