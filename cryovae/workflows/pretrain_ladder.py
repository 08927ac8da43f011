"""cryovae pretrain --network ladder: the network that restores tomograms without training, from simulated patches to its file."""

from __future__ import annotations

import json
import logging
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from cryovae import __version__
from cryovae.checkpoint import BASE_LADDER, Checkpoint, load_state, save_model, save_state
from cryovae.errors import InputError
from cryovae.io.atomic import write_text
from cryovae.io.claim import HeldByOther, claimed
from cryovae.io.outputs import check_folder
from cryovae.models.ladder import Ladder
from cryovae.physics.traits import TRAITS
from cryovae.progress.watch import Watch
from cryovae.report.model_card import Training, ladder_card
from cryovae.saved_state import ANEW, check_fits
from cryovae.simulation.pool import PairPool
from cryovae.training.pretrained import LadderRecipe, LadderTraining
from cryovae.training.trainer import Interrupted, Report, Trainer
from cryovae.workflows.signals import stoppable

log = logging.getLogger("cryovae")
STATE, CARD = "ladder.pt", "ladder_card.md"
# The scenes are others than those of the generative model.
FIRST_SCENE = 5_000_000


def pretrain_ladder(
    folder: Path, recipe: LadderRecipe, device: torch.device, processes: int, resume: bool, overwrite: bool
) -> Path:
    """Train a ladder on simulated patches, or go on with one; returns its file.

    Args:
        folder: for the network, its card and its saved state.
        recipe: what is trained.
        device: where.
        processes: how many others make scenes.
        resume: go on from the saved state of the folder.
        overwrite: whether a network that is there is replaced.

    Raises:
        InputError: a network or a saved state is there already, or is of another recipe, or the folder is in use.
    """
    check_folder(folder)
    target, state = folder / BASE_LADDER.name, folder / STATE
    if target.exists() and not overwrite:
        raise InputError(f"{target} is there already: pass --overwrite, or another folder with -o")
    if state.exists() and not (resume or overwrite):
        raise InputError(
            f"{state} is of a training that was stopped, expected none: pass --resume to go on, or --overwrite to begin anew"
        )
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with claimed(folder / ".pretrain.claim", "pretrain"):
            if not resume:
                state.unlink(missing_ok=True)
            ladder, seconds = _trained(state, recipe, device, processes)
            save_model(target, Checkpoint(ladder.cpu(), recipe.patches.side, recipe.steps, 2, {}), half=True)
            write_text(folder / CARD, ladder_card(recipe.plain(), _about(ladder, recipe, seconds, device)))
            state.unlink(missing_ok=True)
    except HeldByOther as held:
        raise InputError(f"{folder} is in use by another run, expected a folder of its own: give another with -o") from held
    return target


def _trained(path: Path, recipe: LadderRecipe, device: torch.device, processes: int) -> tuple[Ladder, float]:
    """The trained network, and the seconds that it took, before it was resumed too."""
    torch.manual_seed(recipe.seed)
    patches, began = replace(recipe.patches, seed=recipe.seed), time.monotonic()
    plain = json.dumps(recipe.plain())
    with PairPool(patches, recipe.pool, processes, FIRST_SCENE) as pool:
        trainer = Trainer(LadderTraining(Ladder(recipe.sizes, traits=TRAITS), pool, recipe.training(), device))
        if path.is_file():
            saved = load_state(path)
            if saved.get("recipe") != plain:
                raise InputError(f"{path} was saved by another recipe, expected the settings that it began with: {ANEW}")
            check_fits(path, saved, trainer.network, trainer.optimiser)
            trainer.resume(saved)
            began -= float(saved.get("seconds", 0.0))
            log.info("resumed at step %d", trainer.step)

        def save(state: dict[str, Any]) -> None:
            save_state(path, state | {"recipe": plain, "seconds": time.monotonic() - began})

        with Watch("training the ladder", recipe.steps, trainer.step) as watch, stoppable() as stop:

            def shown(report: Report) -> None:
                named = ("squared_error", "error_over_std")
                watch.update(report.step, "  ".join(f"{n} {report.figures[n]:.3f}" for n in named if n in report.figures))

            trained = trainer.run(shown, save, stop)
            if stop():
                save(trainer.state())
                raise Interrupted(trainer.step)
    return trained, time.monotonic() - began


def _about(ladder: Ladder, recipe: LadderRecipe, seconds: float, device: torch.device) -> Training:
    command = ["cryovae pretrain --network ladder", f"--ladder-steps {recipe.steps}"]
    command += [f"--seed {recipe.seed}"] if recipe.seed else []
    command += [f"--molecule {Path(path).name}" for path in recipe.patches.molecules]
    cpu = f"{torch.get_num_threads()} threads of a CPU"
    machine = torch.cuda.get_device_name(device) if device.type == "cuda" else cpu
    weights = sum(parameter.numel() for parameter in ladder.parameters())
    return Training(" ".join(command), seconds, f"{machine}, torch {torch.__version__}", weights, __version__)
