"""cryovae pretrain."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from cryovae.errors import InputError
from cryovae.workflows.compute import ComputeOptions
from cryovae.workflows.options import only, without
from cryovae.workflows.requests import OutputOptions


def pretrain(
    *,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the model, its saved states and its log.")] = Path(
        "pretrained"
    ),
    latent: Annotated[str, typer.Option(help="base: for two cores in hours; large: for a GPU.")] = "base",
    molecule: Annotated[
        list[Path] | None,
        typer.Option(help="A file or folder of molecules (MRC maps, PDB, mmCIF) beside the procedural ones; may be repeated."),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(
            "--from",
            help="A model to go on with: base, for the package's, or a file or folder of pretrain. Its sizes are kept, and with "
            "--vae-steps 0 its VAE.",
        ),
    ] = None,
    vae_steps: Annotated[int | None, typer.Option(help="Steps of the VAE; without it those of the recipe.")] = None,
    flow_steps: Annotated[int | None, typer.Option(help="Steps of the flow; without it those of the recipe.")] = None,
    beta: Annotated[float, typer.Option(help="Weight of the KL of the VAE; 1 is the ELBO.")] = 1.0,
    processes: Annotated[int, typer.Option(help="Processes that simulate scenes beside the training; 0 for none.")] = 1,
    seed: Annotated[
        int, typer.Option(help="Random seed; the same gives the same model. 0 with --from: one more than that of its model.")
    ] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the saved states of the folder.")] = False,
    compute: Annotated[ComputeOptions, without("memory")],
    results: Annotated[OutputOptions, only("overwrite")],
) -> None:
    """Train a generative model of clean patches on simulated scenes: a VAE, and a flow that is its prior and its sampler."""
    for name, value, least in (("--vae-steps", vae_steps, 0 if start else 1), ("--flow-steps", flow_steps, 1)):
        if value is not None and value < least:
            raise InputError(f"{name} {value} found, expected {least} or more")
    if start is not None and latent != "base":
        raise InputError(f"--latent {latent} found with --from, whose sizes are kept: leave one of them out")
    if not 0 <= processes <= 256:
        raise InputError(f"--processes {processes} found, expected 0 to 256")
    device = compute.open_device()

    from cryovae.training.recipe import recipe_from, recipe_of
    from cryovae.workflows.pretrain import model_to_begin_with, molecule_files
    from cryovae.workflows.pretrain import pretrain as train

    recipe = recipe_of(latent)
    recipe = replace(
        recipe,
        patches=replace(recipe.patches, molecules=molecule_files(molecule or [])),
        generative=replace(recipe.generative, beta=beta),
        flow_steps=flow_steps or recipe.flow_steps,
        seed=seed,
    )
    model = None
    if start is not None:
        model, digest = model_to_begin_with(start)
        recipe = recipe_from(recipe, model, digest)
    recipe = replace(recipe, vae_steps=recipe.vae_steps if vae_steps is None else vae_steps)
    print(f"trained: {train(output, recipe, device, processes, resume, results.overwrite, model)}")
