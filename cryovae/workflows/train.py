"""A training run in a folder: progress, figures, saved states, and a model at the end."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cryovae import distributed
from cryovae.checkpoint import MODEL, STATE, Checkpoint, load_model, load_state, save_model, save_state
from cryovae.config import RunConfig, as_plain
from cryovae.data.binning import binned
from cryovae.data.memmap import offload_folder, offloaded, to_memmap
from cryovae.data.prepare import PreparedTomogram, hold_out_whole
from cryovae.data.sampling import draw, step_generator
from cryovae.errors import InputError
from cryovae.io.stored import released
from cryovae.models.ladder import Ladder
from cryovae.posterior.activity import active_units
from cryovae.report.pictures import loss_plot
from cryovae.restoration.restorer import refilled
from cryovae.tomogram import Tomogram
from cryovae.training.trainer import Interrupted, Report, Trainer
from cryovae.workflows.live import Live
from cryovae.workflows.progress import Watch
from cryovae.workflows.run_folder import Metrics, RunFolder, log, read_metrics
from cryovae.workflows.signals import StoppedMidStep, Terminated, interruptible, stoppable

EVERY = 10
# Patches by which the latents in use are counted.
PROBED = 8
# Patches held out of all tomograms together: each is scored under several rotations, and all of them stay in memory.
MOST_HELD_OUT = 16
PARTS = ("data", "forward", "backward", "update")


def train_in(
    folder: RunFolder,
    tomograms: Sequence[Tomogram],
    config: RunConfig,
    device: torch.device,
    resume: bool,
    live: bool = False,
) -> Checkpoint:
    """Train one model on the tomograms, keep all that a resumed run needs in ``folder``, and return the finished model.

    live: show how the first of them is coming on, in a file (interfaces/live.py).
    """
    if resume and folder.saved(MODEL).exists():
        log.info("the model is finished, nothing left to train")
        return load_model(folder.saved(MODEL))
    torch.manual_seed(config.training.seed)
    # Of several ranks each has its own, on the disk where there is room.
    with offload_folder(folder.saved(f"shelf{distributed.rank() or ''}")) as place:
        prepared_tomograms = _prepared_tomograms(tomograms, config, place)
        refill = _refill_with(config, device, place if len(prepared_tomograms) > 1 else None)
        ladder = Ladder(config.ladder, config.objective.encoders)
        trainer = Trainer(ladder, prepared_tomograms, config.training, config.objective, device, refill)
        if resume and begun(folder):
            trainer.resume(matching_state(folder, config))
            log.info("resumed at step %d", trainer.step)
        trained = _run(folder, trainer, config, Live(folder, tomograms[0], config.training.patch) if live else None)
    checkpoint = Checkpoint(
        trained,
        config.training.patch,
        trainer.step,
        config.objective.encoders,
        {s.name: s.noise.table for s in prepared_tomograms if not s.binned},
    )
    save_model(folder.path(MODEL), checkpoint)
    folder.path(STATE).unlink(missing_ok=True)
    # What comes next may read it.
    distributed.barrier()
    return checkpoint


def _prepared_tomograms(tomograms: Sequence[Tomogram], config: RunConfig, place: Path) -> list[PreparedTomogram]:
    """The tomograms made ready, one after the other; of several, only what is in use stays in memory."""
    share = [MOST_HELD_OUT // len(tomograms) + (i < MOST_HELD_OUT % len(tomograms)) for i in range(len(tomograms))]
    prepared_tomograms: list[PreparedTomogram] = []
    for number, tomogram in enumerate(tomograms):
        if tomogram.name in {s.name for s in prepared_tomograms}:
            raise InputError(f"two tomograms are called {tomogram.name}, expected different names: rename one")
        t = config.training
        for size, prepared in enumerate(binned(tomogram, t.patch, t.binnings, t.seed, config.objective)):
            if len(tomograms) > 1:
                prepared = offloaded(prepared.validated_by(share[number]), place / f"{number}_{size}")
            prepared_tomograms.append(prepared)
    prepared_tomograms = hold_out_whole(prepared_tomograms, config.training.patch)
    for prepared in prepared_tomograms:
        _describe(prepared, config.training.patch)
    return prepared_tomograms


def _refill_with(
    config: RunConfig, device: torch.device, place: Path | None
) -> Callable[[Ladder, PreparedTomogram, int], Tensor]:
    """Fills a specimen's wedge, in memory or in a file of ``place``."""
    latest: dict[str, Path] = {}

    def refill(ladder: Ladder, prepared: PreparedTomogram, seed: int) -> Tensor:
        log.info("refilling the wedge of %s", prepared.name)
        # Many times as long as a step, and nothing of the trainer changes meanwhile: it may be left at any moment.
        with interruptible():
            found = refilled(ladder, prepared, config.training.patch, seed, device)
        released(prepared.density)
        if place is None:
            return found
        # The file before this one is still mapped, and goes from the disk once it is not.
        if prepared.name in latest:
            latest[prepared.name].unlink()
        latest[prepared.name] = place / f"{prepared.name}_{seed}.f32"
        return to_memmap(found, latest[prepared.name])

    return refill


def _describe(prepared: PreparedTomogram, patch: int) -> None:
    held = f"{len(prepared.held_out)} patches held out" if prepared.held_out else "no room to hold patches out: no validation"
    held = held if prepared.share else "held out whole"
    tilts = prepared.tilts
    wedge = f"wedge of {tilts.missing:.0f} degrees" if tilts.has_wedge else "no missing wedge: it will be denoised only"
    log.info(
        "%s: %s voxels, tilts %.0f to %.0f, %s, noise from %s, patches of %d, %s",
        prepared.name,
        " x ".join(str(n) for n in prepared.density.shape),
        tilts.lowest,
        tilts.highest,
        wedge,
        prepared.noise.method,
        patch,
        held,
    )


def begun(folder: RunFolder) -> bool:
    """Whether a state to resume from was saved; says so if not, as a job that is begun anew always asks to resume."""
    if folder.saved(STATE).exists():
        return True
    log.info("nothing was saved in %s, so training begins at step 0", folder.folder)
    print(f"nothing was saved in {folder.folder}, so training begins at step 0", file=sys.stderr)
    return False


def matching_state(folder: RunFolder, config: RunConfig) -> dict[str, Any]:
    """The saved state of a run. InputError if it was saved with other settings."""
    state = load_state(folder.saved(STATE))
    for section in ("ladder", "objective", "training"):
        now, then = as_plain(config)[section], state["config"][section]
        usual = type(getattr(config, section))()
        for key, value in now.items():
            # A setting that came after the run began had no other value then than the one that changes nothing.
            old = then.get(key, getattr(usual, key))
            if (list(value) if isinstance(value, tuple) else value) != (list(old) if isinstance(old, tuple) else old):
                raise InputError(
                    f"{section}.{key} is {value} but the saved run has {old}: resume with the settings it began with"
                )
    return state


def _run(folder: RunFolder, trainer: Trainer, config: RunConfig, live: Live | None) -> Ladder:
    levels = [f"kl_{level}" for level in reversed(range(len(config.ladder.widths)))]
    columns = ["step", "beta", "log_likelihood", "kl", "matching", "completion", "norm", *levels]
    columns += ["val_gain", "val_correlation", "val_chi2", *(f"s_{part}" for part in PARTS)]
    metrics = Metrics(folder.path("metrics.csv"), columns, trainer.step)
    spent = dict.fromkeys(PARTS, 0.0)
    latest = ""

    def save(state: dict[str, Any]) -> None:
        save_state(folder.path(STATE), state | {"config": as_plain(config)})
        log.info("saved at step %d", state["step"])

    def watch(report: Report) -> None:
        nonlocal latest
        for part, seconds in report.seconds.items():
            spent[part] += seconds
        if report.event:
            log.warning(report.event)
        row = (
            {"step": float(report.step), "beta": report.beta} | report.figures | {f"s_{k}": v for k, v in report.seconds.items()}
        )
        if report.validation is not None:
            row |= {f"val_{name}": value for name, value in vars(report.validation).items()}
            latest = f"held-out gain {report.validation.gain:.4f} nats, correlation {report.validation.correlation:.3f}"
        if report.validation is not None or report.step % EVERY == 0 or report.step == report.steps:
            metrics.add(row)
        figures = report.figures
        shown = "  ".join(f"{name} {figures[name]:.3f}" for name in ("log_likelihood", "kl", "completion") if name in figures)
        progress.update(report.step, f"{shown}  {latest}")
        if live is not None:
            live.look(trainer)

    began = time.monotonic()
    try:
        with Watch("training", config.training.steps, trainer.step) as progress, stoppable() as stop:
            try:
                trained = trainer.run(watch, save, stop)
            except Terminated as stopped:
                if not isinstance(stopped, StoppedMidStep):
                    save(trainer.state())
                raise
            if stop():
                save(trainer.state())
                raise Interrupted(trainer.step)
    finally:
        metrics.close()
        if live is not None:
            live.close()
        loss_plot(folder.path("loss.png"), read_metrics(folder.path("metrics.csv")))
    reached = "the step limit" if trainer.step >= config.training.steps else f"no gain in {config.training.patience} validations"
    log.info("training ended at step %d: %s", trainer.step, reached)
    folder.save(
        training={
            "steps": trainer.step,
            "ended_by": reached,
            "seconds": round(time.monotonic() - began, 1),
            "seconds_by_part": {part: round(seconds, 2) for part, seconds in spent.items()},
            "best_held_out_gain_nats": trainer.best_gain,
            "noise": {s.name: s.noise.method for s in trainer.prepared_tomograms if not s.binned},
            "active_units": _active_units(trained, trainer, config),
        }
    )
    return trained


def _active_units(ladder: Ladder, trainer: Trainer, config: RunConfig) -> dict[str, int]:
    batch = draw(
        trainer.prepared_tomograms, config.training.patch, PROBED, replace(config.objective, rotated_fraction=0.0), step_generator(0, 0)
    )
    return active_units(ladder, batch.input_masked.to(trainer.device))
