"""What a step of training costs, and how many steps fit: every row is given the same time.

Seconds are of two cores' processor time, or on a GPU twice those for which it is busy, its kernels added up.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import cast

import torch
from data import Subject
from rows import Row
from torch.profiler import ProfilerActivity, profile

from cryovae.config import RunConfig, override, preset
from cryovae.data.binning import binned
from cryovae.data.measurement import Measurement
from cryovae.data.prepare import prepare, prepare_halves
from cryovae.models.ladder import Ladder
from cryovae.models.unet import UNet
from cryovae.objectives.regression import HalfPair
from cryovae.objectives.schedules import refill_steps
from cryovae.objectives.validation import validation_scores
from cryovae.restoration.networks import fill_halves
from cryovae.restoration.restorer import refilled
from cryovae.training.deterministic import Deterministic
from cryovae.training.trainer import Interrupted, Trainer
from cryovae.training.variational import Variational

# Seconds by what they are spent on.
Cost = dict[str, float]
VAETrainer = Trainer[Ladder, Measurement]
CORES = 2
TRIAL, VALIDATIONS = 4, 15


@dataclass(frozen=True)
class Budget:
    """What a row may spend on training: minutes of two cores or of the GPU; cost: of its steps, None to have them timed."""

    minutes: float
    device: torch.device
    cost: Cost | None = None


def device_here() -> torch.device:
    """The GPU, if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def kind_of(row: Row) -> str:
    """The kind of a row: rows of one kind take equally long for a step. Empty for fixed rows."""
    if row.kind == "vae":
        return f"vae, {row.settings.get('objective.encoders', 2)} encoders"
    return f"unet, {row.objective}" if row.kind == "unet" else ""


def costs_of(subject: Subject, kinds: list[Row], threads: int) -> dict[str, Cost]:
    """Kind to the cost of a step, timed on one row of each kind."""
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    device = device_here()
    costs = {}
    for row in kinds:
        config = override(preset("quick"), dict(row.settings))
        unet = row.kind == "unet"
        costs[kind_of(row)] = cost_of_unet(subject, row, config, device) if unet else cost_of_vae(subject, config, device)
    return costs


class Spent:
    """Seconds of two cores' processor time that a piece of work takes; on a GPU, twice those for which it is busy.

    What is queued counts: entering and leaving wait for it. Read ``seconds`` afterwards.
    """

    def __init__(self, device: torch.device) -> None:
        self.device, self.seconds = device, 0.0

    def __enter__(self) -> Spent:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
            self._profile = profile(activities=[ProfilerActivity.CUDA])
            self._profile.start()
        self._start = time.process_time()
        return self

    def __exit__(self, *error: object) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
            self._profile.stop()
            self.seconds = CORES * sum(event.self_device_time_total for event in self._profile.key_averages()) / 1e6
            if not self.seconds:
                raise RuntimeError("torch's profiler saw no work on the GPU: there is nothing to share time by")
        else:
            self.seconds = time.process_time() - self._start


def trainer_for(subject: Subject, config: RunConfig, device: torch.device, steps: int, completion_fraction: float) -> VAETrainer:
    """Of a ladder, for so many steps, a share ``completion_fraction`` of them of completion alone."""
    training = config.training
    prepared_tomograms = binned(subject.tomogram, training.patch, training.binnings, training.seed, config.masking)
    torch.manual_seed(training.seed)
    changed = override(
        config,
        {
            "training.steps": steps,
            "objective.completion_fraction": completion_fraction,
            "training.validate_every": max(steps // VALIDATIONS, 10),
        },
    )
    refill = lambda ladder, s, seed: refilled(ladder, s, training.patch, seed, device)  # noqa: E731
    ladder = Ladder(config.ladder, config.objective.encoders)
    return Trainer(Variational(ladder, prepared_tomograms, changed.training, changed.masking, changed.objective, device, refill))


def cost_of_vae(subject: Subject, config: RunConfig, device: torch.device) -> Cost:
    """Seconds of a step and of a validation, with and without the bound, and of a refill."""
    cost: Cost = {}
    for phase, completion_fraction in (("completion", 1.0), ("bound", 0.0)):
        trainer = trainer_for(subject, config, device, 2 * TRIAL, completion_fraction)
        cost |= _timed_vae(trainer, phase, device)
    with Spent(device) as spent:
        for prepared in cast(Variational, trainer.method).prepared_tomograms:
            refilled(Ladder(config.ladder, config.objective.encoders).to(device), prepared, config.training.patch, 0, device)
    return cost | {"refill": spent.seconds}


def _timed_vae(trainer: VAETrainer, phase: str, device: torch.device) -> dict[str, float]:
    """Seconds of a step, the first ones being a warm-up, and of a validation."""
    method = cast(Variational, trainer.method)
    held_out, method.held_out = method.held_out, []
    # Refills are timed by themselves: three of them among so few steps would be most of what is measured.
    method.refill_at = frozenset()
    with suppress(Interrupted):
        trainer.run(lambda report: None, lambda state: None, lambda: trainer.step == 2)
    with Spent(device) as steps:
        trainer.run(lambda report: None, lambda state: None)
    seconds = {phase: steps.seconds / (trainer.step - 2), f"check_{phase}": 0.0}
    if held_out:
        with Spent(device) as check:
            validation_scores(trainer.average, held_out)
        seconds[f"check_{phase}"] = check.seconds
    return seconds


def network_trainer_for(
    subject: Subject, row: Row, config: RunConfig, device: torch.device, steps: int
) -> Trainer[UNet, HalfPair]:
    """Of a U-Net by the objective of a row, for so many steps."""
    torch.manual_seed(config.training.seed)
    # Validations choose nothing here, and would take time from the steps.
    training, patch = replace(config.training, steps=steps, validate_every=steps), config.training.patch
    network = UNet(config.ladder)
    halves = [prepare_halves(subject.tomogram, prepare(subject.tomogram, patch, training.seed))]
    fill = lambda trained, data, seed: fill_halves(trained, data, patch, device)  # noqa: E731
    rotated_fraction = config.masking.rotated_fraction
    return Trainer(Deterministic(network, halves, training, row.objective, device, rotated_fraction, fill))


def cost_of_unet(subject: Subject, row: Row, config: RunConfig, device: torch.device) -> Cost:
    """Of a step, and of all refills."""
    trial = network_trainer_for(subject, row, config, device, 1000)
    refills, trial.method.refill_at = len(trial.method.refill_at), frozenset()
    with suppress(Interrupted):
        trial.run(stop=lambda: trial.step == 1)
    with Spent(device) as step, suppress(Interrupted):
        trial.run(stop=lambda: trial.step == 1 + TRIAL)
    if not refills:
        return {"step": step.seconds / TRIAL, "refills": 0.0}
    with Spent(device) as refill:
        trial.method.refill(trial.average, 0)
    return {"step": step.seconds / TRIAL, "refills": refills * refill.seconds}


def steps_within(seconds: dict[str, float], config: RunConfig, minutes: float) -> int:
    """The training steps that fit. seconds: of a step, a validation and a refill, as ``cost_of_vae`` gives them."""
    completion_fraction = config.objective.completion_fraction
    checks = VALIDATIONS * (
        completion_fraction * seconds["check_completion"] + (1 - completion_fraction) * seconds["check_bound"]
    )
    step = completion_fraction * seconds["completion"] + (1 - completion_fraction) * seconds["bound"]
    fills = len(refill_steps(1000, config.objective.refill_from, config.objective.refill_every))
    return max(int((60 * minutes * CORES - checks - fills * seconds.get("refill", 0.0)) / step), 20)
