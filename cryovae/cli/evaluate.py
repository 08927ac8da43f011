"""cryovae evaluate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cryovae.errors import InputError
from cryovae.workflows.geometry import GeometryOptions, TiltAdjustment
from cryovae.workflows.options import without


def evaluate(
    restored: Annotated[Path, typer.Argument(help="A restored tomogram, MRC or OME-Zarr.")],
    *,
    truth: Annotated[Path | None, typer.Option(help="The truth, of the same shape, if there is one.")] = None,
    inputs: Annotated[
        list[Path] | None,
        typer.Option("--input", help="What was restored, for the baselines; twice for halves. Read from run.json without it."),
    ] = None,
    band: Annotated[tuple[float, float], typer.Option(help="Frequencies of the correlation, in cycles per voxel.")] = (
        0.01,
        0.2,
    ),
    shells: Annotated[bool, typer.Option(help="Print the FSC by shell too.")] = True,
    json_path: Annotated[Path | None, typer.Option("--json", help="Write all figures to this file too.")] = None,
    report: Annotated[Path | None, typer.Option(help="The report; beside the restored tomogram without it.")] = None,
    geometry: Annotated[GeometryOptions, without("mask")],
) -> None:
    """Score a restored tomogram, with a truth and without, beside two trivial baselines; write its report.html."""
    from cryovae.workflows.evaluate import evaluate_volume

    tilts = geometry.geometry()
    if tilts is None and (geometry.tilts2 or geometry.adjustment != TiltAdjustment()):
        raise InputError("options of geometry found without tilts, expected --tilts or --tilt-range too; run.json has all of it")
    size, unrotated = geometry.voxel_size, geometry.unrotated
    evaluate_volume(restored, truth, tilts, inputs, band, shells, json_path, report, size, unrotated)
