"""A training run in a folder: progress, figures, saved states, and a model at the end."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cryovae import distributed
from cryovae.checkpoint import (
    MODEL,
    STATE,
    Checkpoint,
    NetworkCheckpoint,
    TrainedOn,
    load_model,
    load_network,
    load_state,
    save_model,
    save_network,
    save_state,
)
from cryovae.checks.model_match import trained_on
from cryovae.config import RunConfig, as_plain
from cryovae.data.binning import binned
from cryovae.data.memmap import offload_folder, offloaded, offloaded_halves, to_memmap
from cryovae.data.prepare import PreparedHalves, PreparedTomogram, hold_out_whole, prepare, prepare_halves
from cryovae.data.sampling import draw, step_generator
from cryovae.errors import InputError
from cryovae.io.stored import released
from cryovae.models.ladder import Ladder
from cryovae.models.unet import UNet
from cryovae.posterior.activity import active_units
from cryovae.posterior.suited import suited
from cryovae.progress.watch import Watch
from cryovae.ranges import shown
from cryovae.report.pictures import loss_plot
from cryovae.restoration.networks import fill_halves
from cryovae.restoration.restorer import refilled
from cryovae.saved_state import ANEW, check_fits
from cryovae.tomogram import Tomogram
from cryovae.training.deterministic import Deterministic
from cryovae.training.trainer import Interrupted, Report, Trainer
from cryovae.training.variational import Variational
from cryovae.workflows.extend import EXTENDED, extended_step
from cryovae.workflows.live import Live
from cryovae.workflows.resume import STEPS, TRAINING
from cryovae.workflows.run_folder import Metrics, RunFolder, log, read_metrics
from cryovae.workflows.signals import StoppedMidStep, Terminated, interruptible, stoppable

# Steps between rows of metrics.csv.
EVERY = 10
# Patches by which the latents in use are counted.
COUNTED_PATCHES = 8
# Patches held out of all tomograms together: each is scored under several rotations, and all of them stay in memory.
MOST_HELD_OUT = 16
PARTS = ("data", "forward", "backward", "update")
# Figures that the progress line shows.
SHOWN = ("log_likelihood", "kl", "completion", "loss", "critic_accuracy")


def train_in(
    folder: RunFolder,
    tomograms: Sequence[Tomogram],
    config: RunConfig,
    device: torch.device,
    resume: bool,
    live: bool = False,
    start: Ladder | None = None,
) -> Checkpoint | NetworkCheckpoint:
    """Train one model on tomograms, and keep in the folder all that a resumed run needs.

    Args:
        folder: the run folder.
        tomograms: the tomograms, read one at a time.
        config: the settings of the run; ``config.objective.name`` says what is trained.
        device: where it is trained.
        resume: continue from the saved state, if there is one.
        live: show the progress on the first tomogram in a file (workflows/live.py); variational models only.
        start: the ladder to begin with, of the sizes of the settings; None for random weights.

    Returns:
        The trained model.
    """
    variational = config.objective.variational
    if resume and folder.saved(MODEL).exists():
        log.info("the model is finished, nothing left to train")
        return (load_model if variational else load_network)(folder.saved(MODEL))
    torch.manual_seed(config.training.seed)
    # Each rank has its own files, on the disk where there is room.
    with folder.phase("preparing"), offload_folder(folder.saved(f"memmap{distributed.rank() or ''}")) as place:
        checkpoint: Checkpoint | NetworkCheckpoint
        if variational:
            checkpoint = _train_variational(folder, tomograms, config, device, resume, live, place, start)
        else:
            checkpoint = _train_deterministic(folder, tomograms, config, device, resume, place)
    for name in (STATE, EXTENDED):
        folder.path(name).unlink(missing_ok=True)
    # What comes next may read the model.
    distributed.barrier()
    return checkpoint


def _train_variational(
    folder: RunFolder,
    tomograms: Sequence[Tomogram],
    config: RunConfig,
    device: torch.device,
    resume: bool,
    live: bool,
    place: Path,
    start: Ladder | None,
) -> Checkpoint:
    origins: list[TrainedOn] = []
    prepared_tomograms = _prepared_tomograms(tomograms, config, place, origins)
    store = _Store(place if len(prepared_tomograms) > 1 else None)

    def fill_wedge(ladder: Ladder, prepared: PreparedTomogram, seed: int) -> Tensor:
        with _refilling(folder, prepared):
            density = refilled(ladder, prepared, config.training.patch, seed, device, config.training.batch)
        return store.keep(density, prepared.name, seed)

    ladder = Ladder(config.ladder, config.objective.encoders) if start is None else suited(start, prepared_tomograms)
    training, objective = config.training, config.objective
    method = Variational(ladder, prepared_tomograms, training, config.masking, objective, device, fill_wedge)
    trainer = Trainer(method)
    _resume(trainer, folder, config, resume)
    shown = Live(folder, tomograms[0], config.training.patch, method) if live else None
    with folder.phase("training"):
        trained = _run(folder, trainer, config, shown)
    folder.save(
        training=folder.record["training"]
        | {
            "best_held_out_gain_nats": trainer.best_gain,
            "noise": {p.name: p.noise.method for p in prepared_tomograms if not p.binned},
            "active_units": _active_units(trained, method),
        }
    )
    noise = {p.name: p.noise.table for p in prepared_tomograms if not p.binned}
    checkpoint = Checkpoint(trained, config.training.patch, trainer.step, config.objective.encoders, noise, tuple(origins))
    save_model(folder.path(MODEL), checkpoint)
    return checkpoint


def _train_deterministic(
    folder: RunFolder, tomograms: Sequence[Tomogram], config: RunConfig, device: torch.device, resume: bool, place: Path
) -> NetworkCheckpoint:
    network = UNet(config.ladder)
    origins: list[TrainedOn] = []
    halves = _prepared_halves(tomograms, config, place, origins)
    store, patch, name = _Store(place if len(halves) > 1 else None), config.training.patch, config.objective.name

    def fill_wedge(network: UNet, data: PreparedHalves, seed: int) -> tuple[Tensor, Tensor]:
        with _refilling(folder, data.prepared):
            first, second = fill_halves(network, data, patch, device)
        return store.keep(first, f"{data.prepared.name}_half1", seed), store.keep(second, f"{data.prepared.name}_half2", seed)

    method = Deterministic(network, halves, config.training, name, device, config.masking.rotated_fraction, fill_wedge)
    trainer = Trainer(method)
    _resume(trainer, folder, config, resume)
    single = [data.prepared.name for data in halves if data.single]
    if single:
        log.warning("%s: no halves, so the noise of the target stands in the input too, and can be copied", ", ".join(single))
    with folder.phase("training"):
        trained = _run(folder, trainer, config)
    folder.save(training=folder.record["training"] | {"objective": name})
    checkpoint = NetworkCheckpoint(trained, patch, trainer.step, name, tuple(origins))
    save_network(folder.path(MODEL), checkpoint)
    return checkpoint


def _each(tomograms: Sequence[Tomogram]) -> Iterator[tuple[int, Tomogram, int]]:
    """Number, tomogram and the largest number of its held-out patches, one tomogram after the other."""
    names: set[str] = set()
    for number, tomogram in enumerate(tomograms):
        if tomogram.name in names:
            raise InputError(f"two tomograms are called {tomogram.name}, expected different names: rename one")
        names.add(tomogram.name)
        yield number, tomogram, MOST_HELD_OUT // len(tomograms) + (number < MOST_HELD_OUT % len(tomograms))


def _prepared_tomograms(
    tomograms: Sequence[Tomogram], config: RunConfig, place: Path, origins: list[TrainedOn]
) -> list[PreparedTomogram]:
    """The tomograms made ready, one after the other; of several, only what is in use stays in memory. ``origins`` is added to."""
    prepared_tomograms: list[PreparedTomogram] = []
    t = config.training
    for number, tomogram, held_out in _each(tomograms):
        for size, prepared in enumerate(binned(tomogram, t.patch, t.binnings, t.seed, config.masking)):
            if not prepared.binned:
                origins.append(trained_on(tomogram, prepared.noise))
            if len(tomograms) > 1:
                prepared = offloaded(prepared.validated_by(held_out), place / f"{number}_{size}")
            prepared_tomograms.append(prepared)
    prepared_tomograms = hold_out_whole(prepared_tomograms, t.patch)
    for prepared in prepared_tomograms:
        _describe(prepared, t.patch)
    return prepared_tomograms


def _prepared_halves(
    tomograms: Sequence[Tomogram], config: RunConfig, place: Path, origins: list[TrainedOn]
) -> list[PreparedHalves]:
    """The same for a deterministic network, which knows neither binnings nor settings of masking."""
    halves = []
    for number, tomogram, held_out in _each(tomograms):
        data = prepare_halves(tomogram, prepare(tomogram, config.training.patch, config.training.seed))
        origins.append(trained_on(tomogram, data.prepared.noise))
        if len(tomograms) > 1:
            data = offloaded_halves(replace(data, prepared=data.prepared.validated_by(held_out)), place / str(number))
        _describe(data.prepared, config.training.patch)
        halves.append(data)
    return halves


class _Store:
    """Keeps refilled volumes in memory, or in files of ``place``."""

    def __init__(self, place: Path | None) -> None:
        self.place = place
        self.latest: dict[str, Path] = {}

    def keep(self, density: Tensor, name: str, seed: int) -> Tensor:
        """The same values where they are kept."""
        if self.place is None:
            return density
        # The file before this one is still mapped; the disk frees it once it is not.
        if name in self.latest:
            self.latest[name].unlink()
        self.latest[name] = self.place / f"{name}_{seed}.f32"
        return to_memmap(density, self.latest[name])


@contextmanager
def _refilling(folder: RunFolder, prepared: PreparedTomogram) -> Iterator[None]:
    log.info("refilling the wedge of %s", prepared.name)
    # It takes many times as long as a step, and the trainer does not change meanwhile: it may be left at any moment.
    with folder.phase("refilling"), interruptible():
        yield
    released(prepared.density)


def _describe(prepared: PreparedTomogram, patch: int) -> None:
    held_out = f"{len(prepared.held_out)} patches held out" if prepared.held_out else "no room to hold patches out: no validation"
    held_out = held_out if prepared.share else "held out whole"
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
        held_out,
    )


def begun(folder: RunFolder) -> bool:
    """Whether a state to resume from was saved; says so if not, as a job that is begun anew always asks to resume."""
    if folder.saved(STATE).exists() or folder.saved(EXTENDED).exists():
        return True
    log.info("nothing was saved in %s, so training begins at step 0", folder.folder)
    print(f"nothing was saved in {folder.folder}, so training begins at step 0", file=sys.stderr)
    return False


def matching_state(folder: RunFolder, config: RunConfig) -> dict[str, Any]:
    """The saved state of a run. InputError if it was saved with other settings."""
    state = load_state(folder.saved(STATE))
    if "config" not in state:
        raise InputError(f"{folder.saved(STATE)} has no settings, expected those of its run: {ANEW}")
    for section in TRAINING:
        now, then = as_plain(config)[section], state["config"].get(section, {})
        default = type(getattr(config, section))()
        for key, value in now.items():
            # A setting that was added after the run began had no other value then than its default.
            old = then.get(key, getattr(default, key))
            if (section, key) == STEPS and isinstance(old, int) and value >= old:
                continue
            if (list(value) if isinstance(value, tuple) else value) != (list(old) if isinstance(old, tuple) else old):
                raise InputError(
                    f"{section}.{key} is {value} but the saved run has {old}: resume with the settings it began with"
                )
    return state


def check_state(folder: RunFolder, config: RunConfig) -> None:
    """InputError if there is a state to resume from that was saved with other settings, or cannot be read."""
    if folder.saved(MODEL).exists() or not begun(folder) or not folder.saved(STATE).exists():
        return
    matching_state(folder, config)
    if not folder.saved("run.json").exists():
        raise InputError(
            f"{folder.saved(STATE)} found without its run.json, so its data are unknown: put it back, or begin anew with "
            "--overwrite and without --resume"
        )


def _resume(trainer: Trainer[Any, Any], folder: RunFolder, config: RunConfig, resume: bool) -> None:
    if resume and begun(folder):
        ended = None if folder.saved(STATE).exists() else extended_step(folder)
        if ended is not None:
            trainer.begin_at(*ended)
            trainer.extend()
            log.info("goes on from step %d", trainer.step)
            return
        state = matching_state(folder, config)
        check_fits(folder.saved(STATE), state, trainer.network, trainer.optimiser)
        try:
            trainer.resume(state)
        except (RuntimeError, LookupError, TypeError, ValueError, AttributeError) as error:
            raise InputError(f"{folder.saved(STATE)} does not fit this run, {shown(str(error))} found: {ANEW}") from error
        log.info("resumed at step %d", trainer.step)
        if config.training.steps > state["config"]["training"]["steps"]:
            trainer.extend()


class _Progress:
    """Writes what a trainer reports: metrics.csv, the progress line, the log, live.mrc and saved states."""

    def __init__(self, folder: RunFolder, trainer: Trainer[Any, Any], config: RunConfig, watch: Watch, live: Live | None) -> None:
        self.folder, self.trainer, self.config, self.watch, self.live = folder, trainer, config, watch, live
        if config.objective.variational:
            levels = [f"kl_{level}" for level in reversed(range(len(config.ladder.widths)))]
            columns = ["step", "beta", "log_likelihood", "kl", "matching", "completion", "norm", *levels]
        else:
            columns = ["step", "loss", "critic_accuracy", "norm"]
        columns += ["val_gain", "val_correlation", "val_chi2", *(f"s_{part}" for part in PARTS)]
        self.metrics = Metrics(folder.path("metrics.csv"), columns, trainer.step)
        self.spent = dict.fromkeys(PARTS, 0.0)
        self.held_out = ""

    def save(self, state: dict[str, Any]) -> None:
        """Write a state to resume from."""
        save_state(self.folder.path(STATE), state | {"config": as_plain(self.config)})
        log.info("saved at step %d", state["step"])

    def __call__(self, report: Report) -> None:
        """Take the report of a step."""
        for part, seconds in report.seconds.items():
            self.spent[part] += seconds
        if report.event:
            log.warning(report.event)
        row = {"step": float(report.step)} | report.figures | {f"s_{part}": s for part, s in report.seconds.items()}
        if report.validation is not None:
            row |= {f"val_{name}": value for name, value in vars(report.validation).items()}
            scores = report.validation
            self.held_out = f"held-out gain {scores.gain:.4f} nats, correlation {scores.correlation:.3f}"
        if report.validation is not None or report.step % EVERY == 0 or report.step == report.steps:
            self.metrics.add(row)
        shown = "  ".join(f"{name} {report.figures[name]:.3f}" for name in SHOWN if name in report.figures)
        self.watch.update(report.step, f"{shown}  {self.held_out}")
        if self.live is not None:
            self.live.look(self.trainer)

    def close(self) -> None:
        """Close the files, and draw the losses."""
        self.metrics.close()
        if self.live is not None:
            self.live.close()
        rows = read_metrics(self.folder.path("metrics.csv"))
        if self.config.objective.variational or rows:
            loss_plot(self.folder.path("loss.png"), rows)


def _run(folder: RunFolder, trainer: Trainer[Any, Any], config: RunConfig, live: Live | None = None) -> Any:
    """Train to the end, and note in run.json how that went; returns the trained network."""
    began = time.monotonic()
    watch = Watch("training", config.training.steps, trainer.step)
    progress = _Progress(folder, trainer, config, watch, live)
    try:
        with watch, stoppable() as stop:
            try:
                trained = trainer.run(progress, progress.save, stop)
            except Terminated as stopped:
                if not isinstance(stopped, StoppedMidStep):
                    progress.save(trainer.state())
                raise
            if stop():
                progress.save(trainer.state())
                raise Interrupted(trainer.step)
    finally:
        progress.close()
    reached = "the step limit" if trainer.step >= config.training.steps else f"no gain in {config.training.patience} validations"
    log.info("training ended at step %d: %s", trainer.step, reached)
    folder.save(
        training={
            "steps": trainer.step,
            "ended_by": reached,
            "seconds": round(time.monotonic() - began, 1),
            "seconds_by_part": {part: round(seconds, 2) for part, seconds in progress.spent.items()},
        }
    )
    return trained


def _active_units(ladder: Ladder, method: Variational) -> dict[str, int]:
    masking = replace(method.masking, rotated_fraction=0.0)
    batch = draw(method.prepared_tomograms, method.config.patch, COUNTED_PATCHES, masking, step_generator(0, 0))
    return active_units(ladder, batch.input_masked.to(method.device))
