"""cryovae diagnose."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cryovae.errors import InputError
from cryovae.workflows.compute import ComputeOptions
from cryovae.workflows.geometry import GeometryOptions
from cryovae.workflows.options import only, without
from cryovae.workflows.requests import OutputOptions


def diagnose(
    run: Annotated[Path, typer.Argument(help="Folder of a run of the variational model, as restore writes it.")],
    *,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder for table and picture; the folder of the run without it.")
    ] = None,
    patches: Annotated[int, typer.Option(help="Patches that are scored: held-out ones, if there are any.")] = 6,
    steps: Annotated[
        int | None, typer.Option(help="Steps of optimisation of each patch's own posterior, 60; or of training at each beta.")
    ] = None,
    draws: Annotated[int, typer.Option(help="Draws of each posterior for the bounds.")] = 16,
    rate_distortion: Annotated[
        bool, typer.Option("--rate-distortion", help="Continue the training at several beta instead: rate against distortion.")
    ] = False,
    beta: Annotated[list[float] | None, typer.Option(help="Weights of the KL for --rate-distortion; may be repeated.")] = None,
    temperatures: Annotated[
        int, typer.Option(help="Temperatures of annealed importance sampling, where the model is small enough.")
    ] = 300,
    seed: Annotated[int, typer.Option(help="Random seed; the same gives the same figures.")] = 0,
    geometry: Annotated[GeometryOptions, only("voxel_size")],
    compute: Annotated[ComputeOptions, without("memory")],
    results: Annotated[OutputOptions, only("overwrite", "force")],
) -> None:
    """Show what a trained model has learned: the terms of its bound, its gaps, and its collapsed levels."""
    if patches < 2:
        raise InputError(f"--patches {patches} found, expected 2 or more: they are compared with each other")
    if steps is not None and steps < 1:
        raise InputError(f"--steps {steps} found, expected 1 or more")
    if draws < 2 or temperatures < 1:
        raise InputError(f"--draws {draws} and --temperatures {temperatures} found, expected 2 draws and 1 temperature or more")
    if beta and (not rate_distortion or min(beta) < 0):
        raise InputError(f"--beta {min(beta):g} found, expected 0 or more, and --rate-distortion")
    device = compute.open_device()
    if device.type == "mps":
        raise InputError("--device mps found, which has no double precision, expected another for bounds: use --device cpu")

    from cryovae.evaluation.diagnosis.diagnose import DiagnosisConfig
    from cryovae.workflows.diagnose import diagnose_run

    config = DiagnosisConfig(draws=draws, steps=steps or 60, temperatures=temperatures, seed=seed)
    if rate_distortion:
        from cryovae.workflows.rate_distortion import rate_distortion_run

        picture = rate_distortion_run(
            run, output, beta, patches, steps, draws, seed, geometry.voxel_size, device, results.overwrite, results.force
        )
    else:
        size, replace, force = geometry.voxel_size, results.overwrite, results.force
        picture = diagnose_run(run, output, patches, config, size, device, replace, force)
    print(f"picture: {picture}")
