"""Training: one loop for all methods.

A ``Method`` (training/method.py) supplies the network, the batch of a step, its losses and what is refilled; the ``Trainer``
takes the steps. All random numbers of a step follow from (seed, step), so the state to resume from is the weights, their average,
that of the best validation, the optimiser, the refilled inputs and the step: a resumed run is the uninterrupted one bit for bit
on one device. Each of several processes draws its part of one larger batch, and all of them take the same step (distributed.py).
"""

from __future__ import annotations

import copy
import math
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any, Generic

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from cryovae import distributed
from cryovae.data.prefetch import Prefetcher
from cryovae.objectives.elbo import numbers
from cryovae.objectives.validation import ValidationScores
from cryovae.training.method import Batch, Method, Network, timed

# Skipped steps in a row after which the best weights return.
MAX_SKIPPED = 5
# Steps from which the usual gradient norm is known, and steps over which it is taken.
MIN_NORMS, MAX_NORMS = 50, 100
# A held-out gain below this share of the best is a relapse: training returns to the best weights, at half the pace.
RELAPSE = 0.6
# A best gain below this, in nats per scored coefficient, is too small to relapse from.
MIN_BEST_GAIN = 0.01
# What an optimiser keeps of the direction of earlier steps: of AdamW, of Muon.
MOMENTA = ("exp_avg", "momentum")
# Steps over which the learning rate rises anew where a run goes on beyond the steps that it was begun with.
RISE = 50


@dataclass(frozen=True)
class Report:
    """What is known after a step.

    Attributes:
        step: steps taken so far.
        steps: steps to take at most.
        figures: losses, gradient norm and schedules of the step, by name.
        validation: held-out scores, or None if the step was not validated.
        event: what happened out of the ordinary, in words, or None.
        seconds: duration by part of the step ('data', 'forward', 'backward', 'update'), in seconds.
    """

    step: int
    steps: int
    figures: dict[str, float]
    validation: ValidationScores | None
    event: str | None
    seconds: dict[str, float]


class Interrupted(Exception):
    """Training was asked to stop; its state was saved at this step."""

    def __init__(self, step: int) -> None:
        super().__init__(f"stopped at step {step}")
        self.step = step


class Trainer(Generic[Network, Batch]):
    """The loop: takes the steps of a method, guards, averages, validates, stops and saves.

    Attributes:
        network: the network in training.
        average: running average of its weights.
        best: the average of the best validation, or of the last where validation does not choose; training goes back to it.
        step: steps taken so far.
        extended: the step at which the run was extended, or None.
        prefetches: whether the next batch is drawn during a step.
    """

    def __init__(self, method: Method[Network, Batch]) -> None:
        config, on_gpu = method.config, method.device.type == "cuda"
        self.method, self.config, self.device = method, config, method.device
        self.network = method.network
        self.average = copy.deepcopy(self.network).requires_grad_(False)
        self.best = copy.deepcopy(self.average)
        self.best_gain, self.stale, self.step, self.skipped = -math.inf, 0, 0, 0
        self.norms: list[float] = []
        self.pace = 1.0
        self.extended: int | None = None
        self.optimiser = method.optimiser()
        # On a CPU no processor is idle meanwhile.
        self.prefetches = on_gpu

    def run(
        self,
        watch: Callable[[Report], None] = lambda report: None,
        save: Callable[[dict[str, Any]], None] = lambda state: None,
        stop: Callable[[], bool] = lambda: False,
    ) -> Network:
        """Train to the end.

        Args:
            watch: called after each step.
            save: called with the state every ``checkpoint_minutes``, and before a stop.
            stop: asked before each step.

        Returns:
            The averaged network of the best validation, or of the last step without early stopping.

        Raises:
            Interrupted: ``stop`` said so; the state was saved.
        """
        with closing(Prefetcher(self.method.draw)) as batches, reproducible():
            saved = time.monotonic()
            while self.step < self.config.steps and self.stale < self.config.patience:
                if distributed.any_rank(stop()):
                    save(self.state())
                    raise Interrupted(self.step)
                watch(self._take_step(batches))
                if distributed.broadcast(time.monotonic() - saved > 60 * self.config.checkpoint_minutes):
                    save(self.state())
                    saved = time.monotonic()
        return self.method.finished(self.best if self.method.early_stopping else self.average)

    def _take_step(self, batches: Prefetcher[Batch]) -> Report:
        self._begin_step()
        seconds: dict[str, float] = {}
        with timed(seconds, "data"):
            batch = batches(self.step, self._next())
        schedules = self.method.schedules(self.step)
        figures, norm = self._gradients(batch, seconds)
        event = self._update(norm, seconds)
        self.step += 1
        validation, relapse = self._validate()
        figures = schedules | figures | {"norm": norm}
        return Report(self.step, self.config.steps, figures, validation, relapse or event, seconds)

    def _begin_step(self) -> None:
        """Refill inputs and begin a phase of training where they are due; gains from there on are of another kind."""
        method = self.method
        if self.step in method.refill_at:
            if self.step == min(method.refill_at):
                self.best_gain, self.stale = -math.inf, 0
            method.refill(self.average, self.step)
        if self.step == method.phase_start:
            method.begin_phase()
            # Gradients are of another size too.
            self.best_gain, self.stale, self.norms = -math.inf, 0, []

    def _next(self) -> int | None:
        """The step whose batch may be drawn now: not one before which inputs are refilled."""
        following = self.step + 1
        allowed = self.prefetches and following < self.config.steps and following not in self.method.refill_at
        return following if allowed else None

    def _gradients(self, batch: Batch, seconds: dict[str, float]) -> tuple[dict[str, float], float]:
        """Leave the gradients of a step in the parameters; returns its figures and the largest norm before clipping."""
        self.optimiser.zero_grad(set_to_none=True)
        figures = self.method.backward(batch, self.step, seconds)
        groups = self.method.clipped(self.step)
        with timed(seconds, "update"):
            distributed.sum_gradients([p for group in groups for p in group])
            if distributed.count() > 1:
                total = distributed.summed(torch.stack([value.detach().double() for value in figures.values()]))
                figures = dict(zip(figures, total.unbind(), strict=True))
            # A NaN is not lost: the largest of several is then none. Without gradients the norm is a zero on the CPU.
            norms = [nn.utils.clip_grad_norm_(group, self.config.clip).to(self.device) for group in groups]
        with timed(seconds, "backward"):
            # The only time in a step at which a GPU is waited for.
            values = numbers(figures | {"norm": torch.stack(norms).max()})
        return values, values.pop("norm")

    def _update(self, norm: float, seconds: dict[str, float]) -> str | None:
        """Take the step, or skip it if it is wild; return to the best weights after several wild steps in a row."""
        usual = statistics.median(self.norms) if len(self.norms) >= MIN_NORMS else math.inf
        if not norm < self.config.wild * usual or not math.isfinite(norm):
            self.skipped += 1
            event = f"step {self.step} skipped: gradient norm {norm:.3g}, usually {usual:.3g}"
            if self.skipped % MAX_SKIPPED == 0:
                self._go_back()
                event += "; went back to the best weights so far"
            return event
        self.skipped = 0
        self.norms = [*self.norms[1 - MAX_NORMS :], norm]
        rise = 1.0 if self.extended is None else min(1.0, (self.step + 1 - self.extended) / RISE)
        with timed(seconds, "update"), torch.no_grad():
            for group, rate in zip(self.optimiser.param_groups, self.method.learning_rates(self.step), strict=True):
                group["lr"] = self.pace * rate * rise
            self.optimiser.step()
            decay = min(self.config.ema, (1 + self.step) / (10 + self.step))
            get_ema_multi_avg_fn(decay)(list(self.average.parameters()), list(self.network.parameters()), 0)
        return None

    def _validate(self) -> tuple[ValidationScores | None, str | None]:
        """Score the held-out patches where it is due; keep the best weights, and return to them after a relapse."""
        if self.step % self.config.validate_every and self.step != self.config.steps:
            return None, None
        scores = self.method.validate(self.average, self.step)
        if scores is None or not self.method.early_stopping:
            self.best.load_state_dict(self.average.state_dict())
            return scores, None
        if scores.gain > self.best_gain:
            self.best_gain, self.stale = scores.gain, 0
            self.best.load_state_dict(self.average.state_dict())
        elif self.best_gain > MIN_BEST_GAIN and not scores.gain >= RELAPSE * self.best_gain:
            self._go_back()
            self.pace /= 2
            fell = f"held-out gain fell from {self.best_gain:.4f} to {scores.gain:.4f}"
            return scores, f"{fell}: went back to the best weights, at half the pace"
        elif self.step > self.method.phase_start:
            self.stale += 1
        return scores, None

    def _go_back(self) -> None:
        """Return to the best averaged weights, without the momentum that led away from them.

        The optimiser keeps its estimate of the size of gradients. So no copy of network and optimiser is held, or saved.
        """
        for network in (self.network, self.average):
            network.load_state_dict(self.best.state_dict())
        for state in self.optimiser.state.values():
            for name in MOMENTA:
                if name in state:
                    state[name].zero_()

    def state(self) -> dict[str, Any]:
        """All that a resumed run needs: tensors and plain numbers."""
        counts = {
            "step": self.step,
            "pace": self.pace,
            "stale": self.stale,
            "best_gain": self.best_gain,
            "norms": self.norms,
            "skipped": self.skipped,
        }
        if self.extended is not None:
            counts["extended"] = self.extended
        networks = {name: getattr(self, name).state_dict() for name in ("network", "average", "best")}
        return networks | {"optimiser": self.optimiser.state_dict()} | counts | self.method.state()

    def resume(self, state: dict[str, Any]) -> None:
        """Continue from a saved state, as ``load_state`` reads it."""
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(copy.deepcopy(state["optimiser"]))
        self.step = state["step"]
        # Earlier versions kept network and optimiser of the best validation too; networks of other objectives had none in 0.1.
        good = state.get("good")
        self.best.load_state_dict(good["average"] if good else state.get("best", state["average"]))
        self.stale, self.best_gain = state.get("stale", 0), state.get("best_gain", -math.inf)
        self.norms, self.skipped, self.pace = state.get("norms", []), state.get("skipped", 0), state.get("pace", 1.0)
        self.extended = state.get("extended")
        self.method.resume(state)

    def begin_at(self, network: Network, step: int) -> None:
        """Begin at a step, with the network that a finished run ended with."""
        for own in (self.network, self.average, self.best):
            own.load_state_dict(network.state_dict())
        self.step = step

    def extend(self) -> None:
        """Go on to more steps than the run was begun with: by the schedules of all of them, and with no gain to compare with.

        Inputs are refilled now if the schedule would have done it before.
        """
        self.extended, self.best_gain, self.stale, self.norms = self.step, -math.inf, 0, []
        refills = self.method.refill_at
        if refills and min(refills) < self.step and self.step not in refills:
            self.method.refill(self.average, self.step)


@contextmanager
def reproducible() -> Iterator[None]:
    """On a GPU: convolutions whose gradients are the same each time."""
    before = torch.backends.cudnn.deterministic
    torch.backends.cudnn.deterministic = True
    try:
        yield
    finally:
        torch.backends.cudnn.deterministic = before
