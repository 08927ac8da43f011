"""cryovae sample."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cryovae.errors import InputError
from cryovae.workflows.compute import ComputeOptions
from cryovae.workflows.geometry import GeometryOptions
from cryovae.workflows.options import only, without
from cryovae.workflows.requests import OutputOptions

SOURCES = ("prior", "patches")


def sample(
    run: Annotated[Path, typer.Argument(help="Folder of a run of the variational model, of restore or train.")],
    *,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder for the patches; without it, 'drawn' in the folder of the run.")
    ] = None,
    source: Annotated[
        str,
        typer.Option("--from", help="prior: that of the model; patches: the Gaussian of all latents of the tomogram's patches."),
    ] = "prior",
    count: Annotated[int, typer.Option(help="How many patches.")] = 8,
    temperature: Annotated[float, typer.Option(help="Standard deviation of the draws; 1 is the distribution itself.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Random seed; the same gives the same patches.")] = 0,
    between: Annotated[
        tuple[str, str] | None,
        typer.Option(
            help="Interpolate between the patches about two positions of the tomogram instead, in voxels.", metavar="Z,Y,X Z,Y,X"
        ),
    ] = None,
    steps: Annotated[int, typer.Option(help="Patches of the interpolation, both ends included.")] = 8,
    geometry: Annotated[GeometryOptions, only("voxel_size")],
    compute: Annotated[ComputeOptions, without("memory")],
    results: Annotated[OutputOptions, only("overwrite", "force")],
) -> None:
    """Draw new patches from a trained model, or interpolate between two: MRC files, and their slices on one sheet."""
    if source not in SOURCES:
        raise InputError(f"--from {source} found, expected {' or '.join(SOURCES)}")
    if count < 1:
        raise InputError(f"--count {count} found, expected 1 or more")
    if not 0 <= temperature < float("inf"):
        raise InputError(f"--temperature {temperature:g} found, expected 0 or more; 1 is the distribution itself")
    if steps < 2:
        raise InputError(f"--steps {steps} found, expected 2 or more: both ends are among them")
    ends = None if between is None else (_place(between[0]), _place(between[1]))
    device = compute.open_device()
    where = output or run / "drawn"

    from cryovae.workflows.sample import sample_run, walk_run

    if ends is not None:
        sheet = walk_run(run, where, ends, steps, geometry.voxel_size, device, results.overwrite, results.force)
    else:
        sheet = sample_run(
            run, where, source, count, temperature, seed, geometry.voxel_size, device, results.overwrite, results.force
        )
    print(f"drawn: {sheet}")


def _place(text: str) -> tuple[float, float, float]:
    try:
        z, y, x = (float(word) for word in text.split(","))
    except ValueError:
        raise InputError(f"--between {text} found, expected z,y,x in voxels, e.g. 30,40,50") from None
    return z, y, x
