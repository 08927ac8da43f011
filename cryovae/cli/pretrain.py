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
            "--vae-steps 0 its VAE, with --flow-steps 0 its flow.",
        ),
    ] = None,
    vae_steps: Annotated[int | None, typer.Option(help="Steps of the VAE; without it those of the recipe.")] = None,
    flow_steps: Annotated[int | None, typer.Option(help="Steps of the flow; without it those of the recipe.")] = None,
    guided_steps: Annotated[
        int | None, typer.Option(help="Last steps, which give draws of the prior their contrast; without it those of the recipe.")
    ] = None,
    beta: Annotated[float, typer.Option(help="Weight of the KL of the VAE; 1 is the ELBO.")] = 1.0,
    divergence: Annotated[
        str,
        typer.Option(help="kl; or mmd, sliced or sinkhorn, by which all latents together are drawn to the prior, as in a WAE."),
    ] = "kl",
    processes: Annotated[int, typer.Option(help="Processes that simulate scenes beside the training; 0 for none.")] = 1,
    seed: Annotated[
        int, typer.Option(help="Random seed; the same gives the same model. 0 with --from: one more than that of its model.")
    ] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the saved states of the folder.")] = False,
    compute: Annotated[ComputeOptions, without("memory")],
    results: Annotated[OutputOptions, only("overwrite")],
) -> None:
    """Train a generative model of clean patches on simulated scenes: a VAE, and a flow that is its prior and its sampler."""
    steps = {"vae_steps": vae_steps, "flow_steps": flow_steps, "guided_steps": guided_steps}
    _check(steps, start, latent, processes)
    device = compute.open_device()

    from cryovae.training.recipe import recipe_from, recipe_of
    from cryovae.workflows.pretrain import early_of, model_to_begin_with, molecule_files
    from cryovae.workflows.pretrain import pretrain as train

    recipe = recipe_of(latent)
    patches = replace(recipe.patches, molecules=molecule_files(molecule or []))
    recipe = replace(recipe, patches=patches, generative=replace(recipe.generative, beta=beta, divergence=divergence), seed=seed)
    model = early = None
    if start is not None:
        model, digest = model_to_begin_with(start)
        recipe, early = recipe_from(recipe, model, digest), early_of(start, model)
    recipe = recipe.with_steps(**{name: count for name, count in steps.items() if count is not None})
    print(f"trained: {train(output, recipe, device, processes, resume, results.overwrite, model, early)}")


def _check(steps: dict[str, int | None], start: str | None, latent: str, processes: int) -> None:
    """InputError if options do not fit each other, or counts are out of range."""
    for name, count in steps.items():
        least = 0 if start is not None or name == "guided_steps" else 1
        if count is not None and count < least:
            raise InputError(f"--{name.replace('_', '-')} {count} found, expected {least} or more")
    if start is not None and latent != "base":
        raise InputError(f"--latent {latent} found with --from, whose sizes are kept: leave one of them out")
    if not 0 <= processes <= 256:
        raise InputError(f"--processes {processes} found, expected 0 to 256")
