"""cryovae diagnose."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cryovae.errors import InputError
from cryovae.workflows.compute import ComputeOptions
from cryovae.workflows.geometry import GeometryOptions
from cryovae.workflows.options import only, without
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
    prior: Annotated[
        bool,
        typer.Option(
            "--prior",
            help="Judge the generative model: its draws, evidence and posterior, and the run's data if there is one.",
        ),
    ] = False,
    model: Annotated[Path | None, typer.Option(help="Generative model for --prior; without it the base of the package.")] = None,
    molecule: Annotated[
        list[Path] | None,
        typer.Option(help="Molecules for --prior that the model was not trained on: a file or a folder; may be repeated."),
    ] = None,
    processes: Annotated[int, typer.Option(help="Processes that simulate scenes for --prior; 0 for none.")] = 1,
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
    geometry: Annotated[GeometryOptions, only("voxel_size")],
    compute: Annotated[ComputeOptions, without("memory")],
    results: Annotated[OutputOptions, only("overwrite", "force")],
) -> None:
    """Show what a trained model has learned: the terms of its bound, its gaps, and its collapsed levels."""
    least = 8 if prior else 2
    patches = patches if patches is not None else (256 if prior else 6)
    if patches < least:
        raise InputError(f"--patches {patches} found, expected {least} or more: they are compared with each other")
    if (model or molecule) and not prior:
        raise InputError("--model or --molecule found without --prior, expected both together")
    if not 0 <= processes <= 256:
        raise InputError(f"--processes {processes} found, expected 0 to 256")
    if steps is not None and steps < 1:
        raise InputError(f"--steps {steps} found, expected 1 or more")
    if draws < 2 or temperatures < 1:
        raise InputError(f"--draws {draws} and --temperatures {temperatures} found, expected 2 draws and 1 temperature or more")
    if beta and (not rate_distortion or min(beta) < 0):
        raise InputError(f"--beta {min(beta):g} found, expected 0 or more, and --rate-distortion")
    device = compute.open_device()
    if device.type == "mps":
        raise InputError("--device mps found, which has no double precision, expected another for bounds: use --device cpu")

    if prior:
        size, replace, force = geometry.voxel_size, results.overwrite, results.force
        where = output or run or Path("prior")
        picture = _of_prior(where, run, model, molecule or [], (patches, draws, seed, processes), size, device, replace, force)
        print(f"picture: {picture}")
        return

    if run is None:
        raise InputError("no run given, expected its folder; or --prior for the generative model")

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


def _of_prior(
    output: Path,
    run: Path | None,
    model: Path | None,
    molecules: list[Path],
    numbers: tuple[int, int, int, int],
    voxel_size: float | None,
    device: torch.device,
    overwrite: bool,
    force: bool,
) -> Path:
    """Judge a generative model; ``numbers`` are patches, draws, seed and processes."""
    from cryovae.evaluation.generative.report import GenerativeMeasureConfig
    from cryovae.workflows.diagnose_generative import GenerativeRequest, diagnose_generative
    from cryovae.workflows.pretrain import molecule_files
    from cryovae.workflows.run_inputs import checked_tomogram_of

    patches, draws, seed, processes = numbers
    tomogram = None if run is None else checked_tomogram_of(run, voxel_size, force)
    config = GenerativeMeasureConfig(patches=patches, samples=draws, seed=seed)
    request = GenerativeRequest(output, model, molecule_files(molecules), tomogram, processes, overwrite, config)
    return diagnose_generative(request, device)
