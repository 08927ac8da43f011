"""cryovae evaluate."""

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
from cryovae.errors import InputError


def evaluate(
    restored: Annotated[Path, typer.Argument(help="A restored tomogram, MRC or OME-Zarr.")],
    truth: Annotated[Path | None, typer.Option(help="The truth, of the same shape, if there is one.")] = None,
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
    given: Annotated[
        list[Path] | None,
        typer.Option("--input", help="What was restored, for the baselines; twice for halves. Found in run.json without it."),
    ] = None,
    band: Annotated[tuple[float, float], typer.Option(help="Cycles per voxel that are correlated.")] = (0.01, 0.2),
    shells: Annotated[bool, typer.Option(help="Print the FSC by shell too.")] = True,
    json_path: Annotated[Path | None, typer.Option("--json", help="Write all figures to this file too.")] = None,
    voxel_size: VoxelSize = None,
    report: Annotated[Path | None, typer.Option(help="Where the report goes; beside the restored tomogram without it.")] = None,
) -> None:
    """Score a restored tomogram, with a truth and without, beside two trivial baselines; write its report.html."""
    from cryovae.workflows.evaluate import evaluate_volume

    adjusted = Adjusted(axis_angle, pretilt, x_tilt, thickness, handedness, cone)
    if (tilts2 or adjusted != Adjusted()) and not (tilts or tilt_range):
        raise InputError("options of geometry found without tilts, expected --tilts or --tilt-range too; run.json has all of it")
    geometry = with_second_axes(tilt_geometries(tilts, tilt_range, 1), tilts2, adjusted)[0] if tilts or tilt_range else None
    evaluate_volume(restored, truth, geometry, given, band, shells, json_path, report, voxel_size, unrotated)
