"""Training: one visible loop.

Every random number of a step follows from (seed, step), so the state to resume from is the weights, their average, the
optimiser, the refilled inputs, the best validation and the step; a resumed run is the uninterrupted one bit for bit on one
device. Of several processes each draws its part of one larger batch, and all of them take the same step (ranks.py).
"""

from __future__ import annotations

import copy
import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from cryovae import distributed
from cryovae.data.measurement import Measurement
from cryovae.data.prefetch import Prefetcher
from cryovae.data.prepare import PreparedTomogram
from cryovae.data.sampling import draw, held_out, step_generator
from cryovae.models.ladder import Ladder, R
from cryovae.models.precision import checked, halved
from cryovae.objectives.elbo import ObjectiveConfig, completion, numbers, one_encoder_bound, two_encoder_bound
from cryovae.objectives.schedules import beta_at, learning_rate_at, refill_steps
from cryovae.objectives.validation import ValidationScores, validation_scores

WILD_RUN = 5
# A held-out gain that falls below this share of the best is a relapse: training goes back to the best, and goes on slower.
# One under LEAST_GAIN, in nats per hidden coefficient, is too little to fall from.
RELAPSE, LEAST_GAIN = 0.6, 0.01


@dataclass(frozen=True)
class TrainingConfig:
    """How the model is trained.

    patch: cube side in voxels. batch: patches a step, of each process where there are several. steps: at most. learning_rate:
    AdamW's highest. ema: decay of the averaged weights. clip: gradient norm above which a step is shortened. wild: multiple of
    the usual gradient norm above which a step is skipped. validate_every: steps. patience: validations without improvement before
    training stops.
    checkpoint_minutes: minutes between saved states. binnings: of a tomogram at most, itself included (objectives/binning.py).
    precision: 'float32'; 'bfloat16', of the convolutions alone; or 'auto', which is that on a GPU that has it.
    """

    patch: int = 64
    batch: int = 4
    steps: int = 20000
    learning_rate: float = 3e-4
    ema: float = 0.995
    clip: float = 0.5
    wild: float = 1000.0
    validate_every: int = 200
    patience: int = 20
    checkpoint_minutes: float = 10.0
    binnings: int = 3
    precision: str = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        checked(self.precision)


@dataclass(frozen=True)
class Report:
    """What a step tells those who watch: the step, the beta, figures in nats per coefficient, events in words, timings in s."""

    step: int
    steps: int
    beta: float
    figures: dict[str, float]
    validation: ValidationScores | None
    event: str | None
    seconds: dict[str, float]


class Interrupted(Exception):
    """Training was asked to stop; its state was saved at this step."""

    def __init__(self, step: int) -> None:
        super().__init__(f"stopped at step {step}")
        self.step = step


class Trainer:
    """Weights, their average and the optimiser of one run over one or more specimens.

    refill: fills the missing wedge of a specimen by the averaged model's answer and noise; needed only if the objective refills.
    """

    def __init__(
        self,
        ladder: Ladder,
        prepared_tomograms: Sequence[PreparedTomogram],
        config: TrainingConfig,
        objective: ObjectiveConfig,
        device: torch.device,
        refill: Callable[[Ladder, PreparedTomogram, int], Tensor] | None = None,
    ) -> None:
        if device.type == "cuda" and device.index is None:
            # Batches are drawn in another thread, for which "the GPU" may be another one.
            device = torch.device("cuda", torch.cuda.current_device())
        self.config, self.objective, self.device = config, objective, device
        self.prepared_tomograms = list(prepared_tomograms)
        self.ladder = ladder.to(device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        self.ladder.mixed = halved(config.precision, device)
        self.average = copy.deepcopy(self.ladder).requires_grad_(False)
        self.best = copy.deepcopy(self.average)
        self.best_gain, self.stale, self.step, self.skipped = -math.inf, 0, 0, 0
        self.norms: list[float] = []
        self.pace = 1.0
        on_gpu = device.type == "cuda"
        spread = [*self.ladder.posterior_parameters(), *self.ladder.spread_parameters()]
        own = {id(p) for p in spread}
        self.completing = [p for p in self.ladder.parameters() if id(p) not in own]
        groups = [{"params": self.completing}, {"params": spread}]
        self.optimiser = torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.99), weight_decay=0.01, fused=on_gpu)
        # On a processor nothing is idle meanwhile.
        self.ahead = on_gpu
        self.refill = refill
        self.refills = refill_steps(config.steps, objective.refill_from, objective.refill_every)
        # With nothing hidden there is nothing to foretell, and so nothing to choose the best weights by.
        scored = self.prepared_tomograms if objective.hide else []
        self.held_out = [m.to(device) for s in scored for m in held_out(s, config.patch)]
        self.good = copy.deepcopy(self._weights())

    def run(
        self,
        watch: Callable[[Report], None],
        save: Callable[[dict[str, Any]], None],
        stop: Callable[[], bool] = lambda: False,
    ) -> Ladder:
        """Train to the end, and return the averaged model of the best validation.

        Raises Interrupted, once the state is saved, when ``stop`` says so.
        """
        with closing(Prefetcher(self._draw)) as batches, reproducible():
            self._run(batches, watch, save, stop)
        found = self.best if self.held_out else self.average
        found.mixed = False
        return found

    def _run(
        self,
        batches: Prefetcher[Measurement],
        watch: Callable[[Report], None],
        save: Callable[[dict[str, Any]], None],
        stop: Callable[[], bool],
    ) -> None:
        saved = time.monotonic()
        while self.step < self.config.steps and self.stale < self.config.patience:
            if distributed.any_rank(stop()):
                save(self.state())
                raise Interrupted(self.step)
            self._refill()
            if self.step == self._first_bound:
                self.ladder.init_q_from_r()
                # Until here nothing has taught r how sure it may be: whatever comes now is better than the best before,
                # and its gradients are of another size.
                self.best_gain, self.stale, self.norms = -math.inf, 0, []
            seconds: dict[str, float] = {}
            with _timed(seconds, "data"):
                measurement = batches(self.step, self._next())
            beta = self._beta()
            figures, norm = self._gradients(measurement, beta, seconds)
            event = self._update(norm, seconds)
            self.step += 1
            validation, relapse = self._validate()
            event = relapse or event
            watch(Report(self.step, self.config.steps, beta, figures | {"norm": norm}, validation, event, seconds))
            if distributed.broadcast(time.monotonic() - saved > 60 * self.config.checkpoint_minutes):
                save(self.state())
                saved = time.monotonic()

    @property
    def _first_bound(self) -> int:
        """The step at which the bound joins the completion term, which until then is trained alone."""
        return round(self.objective.completion_fraction * self.config.steps)

    def _beta(self) -> float:
        o = self.objective
        return beta_at(self.step, self.config.steps, o.beta, o.completion_fraction, o.warmup, o.cycles)

    def _learning_rates(self) -> tuple[float, float]:
        """Of what the mean is made of, and of q's heads and r's widths, for which training begins anew with the bound: until then
        nothing has taught q anything, nor r how sure it may be.
        """
        steps, highest, first = self.config.steps, self.config.learning_rate, self._first_bound
        shared = learning_rate_at(self.step, steps, highest)
        return shared, shared if self.step < first else learning_rate_at(self.step - first, steps - first, highest)

    def _next(self) -> int | None:
        """The step whose batch may be drawn now: not one before which inputs are refilled."""
        following = self.step + 1
        refilled = self.refill is not None and following in self.refills
        return following if self.ahead and following < self.config.steps and not refilled else None

    def _draw(self, step: int) -> Measurement:
        generator = step_generator(self.config.seed, 2 * step)
        return draw(self.prepared_tomograms, self.config.patch, self.config.batch, self.objective, generator, self.device)

    def _gradients(self, m: Measurement, beta: float, seconds: dict[str, float]) -> tuple[dict[str, float], float]:
        """Leave the gradients of a step in the parameters; returns its figures and the largest norm before clipping.

        What completion, bound and matching train is clipped each by itself: the gradients of one are a hundred times those of
        another when they set in, and would silence it.
        """
        noise = step_generator(self.config.seed, 2 * self.step + 1)
        bounded = self.step >= self._first_bound
        figures: dict[str, Tensor] = {}
        self.optimiser.zero_grad(set_to_none=True)
        with _timed(seconds, "forward"):
            partial = self.ladder.encode(m.input_masked, R)
        if self.objective.encoders == 2 or not bounded:
            with _timed(seconds, "forward"):
                completed = completion(self.ladder, m, partial)
            with _timed(seconds, "backward"):
                completed.loss().backward(retain_graph=False)
            figures |= completed.figures()
        if bounded:
            bound_of = two_encoder_bound if self.objective.encoders == 2 else one_encoder_bound
            with self._bound_alone():
                with _timed(seconds, "forward"):
                    bound = bound_of(self.ladder, m, partial, noise, self.objective.kl_regularization(beta))
                with _timed(seconds, "backward"):
                    bound.loss(beta).backward()
            figures |= bound.figures()
        parts = (self.completing, self.ladder.posterior_parameters(), self.ladder.spread_parameters())
        trained = parts[: 3 if bounded else 1]
        with _timed(seconds, "update"):
            figures = self._together([p for part in trained for p in part], figures)
            # A NaN is not lost: the largest of several is then none.
            norm = torch.stack([self._clip(part) for part in trained]).max()
        with _timed(seconds, "backward"):
            # The one time in a step that a GPU is waited for.
            found = numbers(figures | {"norm": norm})
        return found, found.pop("norm")

    def _clip(self, parameters: list[torch.nn.Parameter]) -> Tensor:
        # Of parameters without gradients it is a zero elsewhere.
        return torch.nn.utils.clip_grad_norm_(parameters, self.config.clip).to(self.device)

    def _together(self, parameters: list[torch.nn.Parameter], figures: dict[str, Tensor]) -> dict[str, Tensor]:
        """Sum the gradients of all ranks, which are parts of one loss, and their figures, parts of one mean."""
        if distributed.count() == 1:
            return figures
        found = [p.grad for p in parameters if p.grad is not None]
        flat = distributed.summed(torch.cat([g.flatten() for g in found]))
        for gradient, part in zip(found, flat.split([g.numel() for g in found]), strict=True):
            gradient.copy_(part.view_as(gradient))
        total = distributed.summed(torch.stack([value.detach().double() for value in figures.values()]))
        return dict(zip(figures, total.unbind(), strict=True))

    @contextmanager
    def _bound_alone(self) -> Iterator[None]:
        """With two encoders the bound trains q and how wide r is, and nothing that the mean of r is made of."""
        fixed = self.completing if self.objective.encoders == 2 else []
        for p in fixed:
            p.requires_grad_(False)
        yield
        for p in fixed:
            p.requires_grad_(True)

    def _update(self, norm: float, seconds: dict[str, float]) -> str | None:
        """Take the step, or skip it if it is wild; go back to the last good weights after several wild steps in a row."""
        usual = statistics.median(self.norms) if len(self.norms) >= 50 else math.inf
        if not norm < self.config.wild * usual or not math.isfinite(norm):
            self.skipped += 1
            event = f"step {self.step} skipped: gradient norm {norm:.3g}, usually {usual:.3g}"
            if self.skipped % WILD_RUN == 0:
                self._restore(self.good)
                event += "; went back to the last good weights"
            return event
        self.skipped = 0
        self.norms = [*self.norms[-99:], norm]
        with _timed(seconds, "update"), torch.no_grad():
            for group, rate in zip(self.optimiser.param_groups, self._learning_rates(), strict=True):
                group["lr"] = self.pace * rate
            self.optimiser.step()
            decay = min(self.config.ema, (1 + self.step) / (10 + self.step))
            get_ema_multi_avg_fn(decay)(list(self.average.parameters()), list(self.ladder.parameters()), 0)
        return None

    def _validate(self) -> tuple[ValidationScores | None, str | None]:
        """Score the held-out patches now and then; keep the best model, and go back to it after a relapse."""
        if self.step % self.config.validate_every and self.step != self.config.steps:
            return None, None
        if not self.held_out:
            self.good = copy.deepcopy(self._weights())
            return None, None
        found = validation_scores(self.average, self.held_out, self._fills())
        if found.gain > self.best_gain:
            self.best_gain, self.stale = found.gain, 0
            self.best.load_state_dict(self.average.state_dict())
            self.good = copy.deepcopy(self._weights())
        elif self.best_gain > LEAST_GAIN and not found.gain >= RELAPSE * self.best_gain:
            self._restore(self.good)
            self.pace /= 2
            fell = f"held-out gain fell from {self.best_gain:.4f} to {found.gain:.4f}"
            return found, f"{fell}: went back to the best weights, at half the pace"
        elif self.step > self._first_bound:
            self.stale += 1
        return found, None

    def _fills(self) -> bool:
        """Whether training has come to inputs whose own wedge is filled."""
        return self.refill is not None and self.step > min(self.refills, default=self.step)

    def _refill(self) -> None:
        if self.refill is None or self.step not in self.refills:
            return
        if self.step == min(self.refills):
            # From here on inputs have one wedge missing, in training and in validation: gains are of another kind.
            self.best_gain, self.stale = -math.inf, 0
        seed = self.config.seed + self.step
        self.prepared_tomograms = [replace(s, filled=self.refill(self.average, s, seed).cpu()) for s in self.prepared_tomograms]

    def _weights(self) -> dict[str, Any]:
        return {
            "ladder": self.ladder.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }

    def _restore(self, weights: dict[str, Any]) -> None:
        self.ladder.load_state_dict(weights["ladder"])
        self.average.load_state_dict(weights["average"])
        self.optimiser.load_state_dict(copy.deepcopy(weights["optimiser"]))

    def state(self) -> dict[str, Any]:
        """All that a resumed run needs: tensors and plain numbers."""
        filled = {s.name: s.filled for s in self.prepared_tomograms if s.filled is not s.density}
        counts = {
            "step": self.step,
            "pace": self.pace,
            "stale": self.stale,
            "best_gain": self.best_gain,
            "norms": self.norms,
            "skipped": self.skipped,
        }
        return self._weights() | counts | {"best": self.best.state_dict(), "good": self.good, "filled": filled}

    def resume(self, state: dict[str, Any]) -> None:
        """Continue from a saved state."""
        self._restore(state)
        self.best.load_state_dict(state["best"])
        self.good = state["good"]
        self.step, self.stale, self.best_gain = state["step"], state["stale"], state["best_gain"]
        self.norms, self.skipped, self.pace = state["norms"], state["skipped"], state["pace"]
        self.prepared_tomograms = [replace(s, filled=state["filled"].get(s.name, s.density)) for s in self.prepared_tomograms]


@contextmanager
def reproducible() -> Iterator[None]:
    """On a GPU: convolutions whose gradients are the same each time."""
    before = torch.backends.cudnn.deterministic
    torch.backends.cudnn.deterministic = True
    try:
        yield
    finally:
        torch.backends.cudnn.deterministic = before


@contextmanager
def _timed(seconds: dict[str, float], part: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[part] = seconds.get(part, 0.0) + time.perf_counter() - start
