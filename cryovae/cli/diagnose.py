"""cryovae diagnose."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cryovae.errors import InputError
from cryovae.workflows.compute import ComputeOptions
from cryovae.workflows.geometry import GeometryOptions
from cryovae.workflows.options import only, without
from cryovae.workflows.prior_options import PriorOptions
from cryovae.workflows.requests import OutputOptions

if TYPE_CHECKING:
    import torch


def diagnose(
    run: Annotated[
        Path | None,
        typer.Argument(help="Folder of a run of the variational model, as restore writes it; may be left out with --prior."),
    ] = None,
    *,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder for table and picture; the folder of the run without it.")
    ] = None,
    patches: Annotated[
        int | None, typer.Option(help="Patches that are scored, 6: held-out ones, if there are any; 256 with --prior.")
    ] = None,
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
    generative: PriorOptions,
    geometry: Annotated[GeometryOptions, only("voxel_size")],
    compute: Annotated[ComputeOptions, without("memory")],
    results: Annotated[OutputOptions, only("overwrite", "force")],
) -> None:
    """Show what a trained model has learned: the terms of its bound, its gaps, and its collapsed levels."""
    least = 8 if generative.prior else 2
    patches = patches if patches is not None else (256 if generative.prior else 6)
    if patches < least:
        raise InputError(f"--patches {patches} found, expected {least} or more: they are compared with each other")
    if steps is not None and steps < 1:
        raise InputError(f"--steps {steps} found, expected 1 or more")
    if draws < 2 or temperatures < 1:
        raise InputError(f"--draws {draws} and --temperatures {temperatures} found, expected 2 draws and 1 temperature or more")
    if beta and (not rate_distortion or min(beta) < 0):
        raise InputError(f"--beta {min(beta):g} found, expected 0 or more, and --rate-distortion")
    device = _open(compute)
    if generative.prior:
        print(f"picture: {_of_prior(run, output, generative, (patches, draws, seed), geometry.voxel_size, device, results)}")
        return
    if run is None:
        raise InputError("no run given, expected its folder; or --prior for the generative model")

    from cryovae.evaluation.diagnosis.diagnose import DiagnosisConfig
    from cryovae.workflows.diagnose import diagnose_run

    config = DiagnosisConfig(draws=draws, steps=steps or 60, temperatures=temperatures, seed=seed)
    size, replace, force = geometry.voxel_size, results.overwrite, results.force
    if rate_distortion:
        from cryovae.workflows.rate_distortion import rate_distortion_run

        picture = rate_distortion_run(run, output, beta, patches, steps, draws, seed, size, device, replace, force)
    else:
        picture = diagnose_run(run, output, patches, config, size, device, replace, force)
    print(f"picture: {picture}")


def _open(compute: ComputeOptions) -> torch.device:
    device = compute.open_device()
    if device.type == "mps":
        raise InputError("--device mps found, which has no double precision, expected another for bounds: use --device cpu")
    return device


def _of_prior(
    run: Path | None,
    output: Path | None,
    generative: PriorOptions,
    numbers: tuple[int, int, int],
    voxel_size: float | None,
    device: torch.device,
    results: OutputOptions,
) -> Path:
    """Judge a generative model; ``numbers`` are patches, draws and seed."""
    from cryovae.evaluation.generative.report import GenerativeMeasureConfig
    from cryovae.workflows.diagnose_generative import GenerativeRequest, diagnose_generative
    from cryovae.workflows.pretrain import molecule_files
    from cryovae.workflows.run_inputs import checked_tomogram_of

    patches, draws, seed = numbers
    request = GenerativeRequest(
        output or run or Path("prior"),
        generative.model,
        molecule_files(generative.molecule or []),
        None if run is None else checked_tomogram_of(run, voxel_size, results.force),
        run,
        generative.processes,
        results.overwrite,
        GenerativeMeasureConfig(patches=patches, samples=draws, seed=seed),
    )
    return diagnose_generative(request, device)
