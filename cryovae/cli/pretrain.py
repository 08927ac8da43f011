"""cryovae pretrain."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cryovae.errors import InputError
from cryovae.workflows.compute import ComputeOptions
from cryovae.workflows.options import only, without
from cryovae.workflows.requests import OutputOptions

if TYPE_CHECKING:
    import torch

    from cryovae.training.recipe import Recipe

GENERATOR, LADDER = "generator", "ladder"


def pretrain(
    *,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the model, its saved states and its log.")] = Path(
        "pretrained"
    ),
    network: Annotated[
        str, typer.Option(help="generator: a VAE and its flow; ladder: what restores by --from base.")
    ] = GENERATOR,
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
    ladder_steps: Annotated[int | None, typer.Option(help="Steps of the ladder; without it those of the recipe.")] = None,
    guided_steps: Annotated[
        int | None, typer.Option(help="Last steps, which give draws of the prior their contrast; without it those of the recipe.")
    ] = None,
    beta: Annotated[float, typer.Option(help="Weight of the KL of the VAE; 1 is the ELBO.")] = 1.0,
    divergence: Annotated[str, typer.Option(help="kl, or that of a WAE: mmd, sliced, sinkhorn; then --beta 100 or more.")] = "kl",
    processes: Annotated[int, typer.Option(help="Processes that simulate scenes beside the training; 0 for none.")] = 1,
    seed: Annotated[
        int, typer.Option(help="Random seed; the same gives the same model. 0 with --from: one more than that of its model.")
    ] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the saved states of the folder.")] = False,
    compute: Annotated[ComputeOptions, without("memory")],
    results: Annotated[OutputOptions, only("overwrite")],
) -> None:
    """Train on simulated scenes a generative model (a VAE, and a flow that is its prior and its sampler), or a ladder."""
    steps = {"vae_steps": vae_steps, "flow_steps": flow_steps, "guided_steps": guided_steps}
    _check(steps, start, latent, processes)
    others = {"latent": latent != "base", "beta": beta != 1, "divergence": divergence != "kl", "from": start is not None}
    _check_network(network, ladder_steps, others | {name: count is not None for name, count in steps.items()})
    device = compute.open_device()
    if network == LADDER:
        return _pretrain_ladder(output, molecule or [], ladder_steps, device, processes, seed, resume, results.overwrite)

    from cryovae.training.recipe import recipe_from
    from cryovae.workflows.pretrain import early_of, model_to_begin_with
    from cryovae.workflows.pretrain import pretrain as train

    recipe = _recipe(latent, molecule or [], beta, divergence, seed)
    model = early = None
    if start is not None:
        model, digest = model_to_begin_with(start)
        recipe, early = recipe_from(recipe, model, digest), early_of(start, model)
    recipe = recipe.with_steps(**{name: count for name, count in steps.items() if count is not None})
    print(f"trained: {train(output, recipe, device, processes, resume, results.overwrite, model, early)}")


def _recipe(latent: str, molecules: list[Path], beta: float, divergence: str, seed: int) -> Recipe:
    """The recipe of a generator."""
    from cryovae.training.recipe import recipe_of
    from cryovae.workflows.pretrain import molecule_files

    recipe = recipe_of(latent)
    patches = replace(recipe.patches, molecules=molecule_files(molecules))
    return replace(recipe, patches=patches, generative=replace(recipe.generative, beta=beta, divergence=divergence), seed=seed)


def _pretrain_ladder(
    output: Path,
    molecules: list[Path],
    steps: int | None,
    device: torch.device,
    processes: int,
    seed: int,
    resume: bool,
    overwrite: bool,
) -> None:
    from cryovae.training.pretrained import LadderRecipe
    from cryovae.workflows.pretrain import molecule_files
    from cryovae.workflows.pretrain_ladder import pretrain_ladder

    recipe = LadderRecipe()
    patches = replace(recipe.patches, molecules=molecule_files(molecules))
    recipe = replace(recipe, patches=patches, seed=seed, steps=steps or recipe.steps)
    print(f"trained: {pretrain_ladder(output, recipe, device, processes, resume, overwrite)}")


def _check_network(network: str, ladder_steps: int | None, others: dict[str, bool]) -> None:
    """InputError for an unknown network, or options of the other one."""
    if network not in (GENERATOR, LADDER):
        raise InputError(f"--network {network} found, expected {GENERATOR} or {LADDER}")
    if network == GENERATOR and ladder_steps is not None:
        raise InputError("--ladder-steps found without --network ladder, expected both or none")
    if ladder_steps is not None and ladder_steps < 1:
        raise InputError(f"--ladder-steps {ladder_steps} found, expected 1 or more")
    if network == LADDER and (named := [name for name, is_named in others.items() if is_named]):
        raise InputError(f"--{named[0].replace('_', '-')} found with --network ladder, expected none: it is of the generator")


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
