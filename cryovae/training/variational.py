"""The variational model: completion of hidden bins first, then the bound as well.

Completion trains what the mean of r is decoded from; the bound trains q and the widths of r (objectives/elbo.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from cryovae.data.measurement import MaskingConfig, Measurement
from cryovae.data.prepare import PreparedTomogram
from cryovae.data.sampling import draw, held_out, step_generator
from cryovae.models.ladder import Ladder, R
from cryovae.objectives.elbo import ObjectiveConfig, completion, one_encoder_bound, two_encoder_bound
from cryovae.objectives.schedules import beta_at, learning_rate_at, refill_steps
from cryovae.objectives.validation import ValidationScores, validation_scores
from cryovae.training.method import Method, TrainingConfig, refilled_like, timed


class Variational(Method[Ladder, Measurement]):
    """A ladder trained by completion and the bound.

    Args:
        ladder: the model to begin with; a copy is trained.
        prepared_tomograms: the tomograms to train on.
        config: training settings.
        masking: what is hidden from r and how patches are rotated.
        objective: weights and schedules of the losses.
        device: where the model and its batches are.
        fill_wedge: returns the density (z, y, x) of a tomogram with its missing wedge filled by a model; the integer is a seed.
            None trains on the measured density throughout.
    """

    def __init__(
        self,
        ladder: Ladder,
        prepared_tomograms: Sequence[PreparedTomogram],
        config: TrainingConfig,
        masking: MaskingConfig,
        objective: ObjectiveConfig,
        device: torch.device,
        fill_wedge: Callable[[Ladder, PreparedTomogram, int], Tensor] | None = None,
    ) -> None:
        super().__init__(ladder, config, device)
        self.network.mixed = self.mixed
        self.masking, self.objective = masking, objective
        self.prepared_tomograms = list(prepared_tomograms)
        self.fill_wedge = fill_wedge
        if fill_wedge is not None:
            self.refill_at = frozenset(refill_steps(config.steps, objective.refill_from, objective.refill_every))
        widths = {id(p) for p in (*self.network.posterior_parameters(), *self.network.spread_parameters())}
        self.completing = [p for p in self.network.parameters() if id(p) not in widths]
        # Without hidden bins there is no held-out score to choose the best weights by.
        scored = self.prepared_tomograms if masking.hide else []
        self.held_out = [m.to(self.device) for prepared in scored for m in held_out(prepared, config.patch)]
        self.early_stopping = bool(self.held_out)
        # The bound joins the completion term.
        self.phase_start = round(objective.completion_fraction * config.steps)

    def parameter_groups(self) -> list[list[nn.Parameter]]:
        """Two groups: the parameters of the mean; the heads of q and the widths of r."""
        return [self.completing, [*self.network.posterior_parameters(), *self.network.spread_parameters()]]

    def learning_rates(self, step: int) -> list[float]:
        """The rate of the second group rises anew with the bound: until then nothing has trained q or the widths of r."""
        steps, highest, start = self.config.steps, self.config.learning_rate, self.phase_start
        shared = learning_rate_at(step, steps, highest)
        return [shared, shared if step < start else learning_rate_at(step - start, steps - start, highest)]

    def clipped(self, step: int) -> Sequence[list[nn.Parameter]]:
        """Parameters whose gradients are clipped separately: those of the bound are at first a hundred times larger."""
        groups = (self.completing, self.network.posterior_parameters(), self.network.spread_parameters())
        return groups[: 3 if step >= self.phase_start else 1]

    def schedules(self, step: int) -> dict[str, float]:
        """The weight of the KL."""
        o = self.objective
        return {"beta": beta_at(step, self.config.steps, o.beta, o.completion_fraction, o.warmup, o.cycles)}

    def draw(self, step: int) -> Measurement:
        """Patches of one tomogram, rotated and masked."""
        generator = step_generator(self.config.seed, 2 * step)
        return draw(self.prepared_tomograms, self.config.patch, self.config.batch, self.masking, generator, self.device)

    def backward(self, batch: Measurement, step: int, seconds: dict[str, float]) -> dict[str, Tensor]:
        """Gradients of completion, and from ``phase_start`` on of the bound."""
        noise = step_generator(self.config.seed, 2 * step + 1)
        bounded = step >= self.phase_start
        figures: dict[str, Tensor] = {}
        with timed(seconds, "forward"):
            masked_features = self.network.encode(batch.input_masked, R)
        if self.objective.encoders == 2 or not bounded:
            with timed(seconds, "forward"):
                completed = completion(self.network, batch, masked_features)
            with timed(seconds, "backward"):
                completed.loss().backward(retain_graph=False)
            figures |= completed.figures()
        if bounded:
            beta = self.schedules(step)["beta"]
            bound_of = two_encoder_bound if self.objective.encoders == 2 else one_encoder_bound
            with self._mean_fixed():
                with timed(seconds, "forward"):
                    bound = bound_of(self.network, batch, masked_features, noise, self.objective.kl_regularization(beta))
                with timed(seconds, "backward"):
                    bound.loss(beta).backward()
            figures |= bound.figures()
        return figures

    @contextmanager
    def _mean_fixed(self) -> Iterator[None]:
        """With two encoders the bound trains q and the widths of r, and nothing that the mean of r is made of."""
        fixed = self.completing if self.objective.encoders == 2 else []
        for p in fixed:
            p.requires_grad_(False)
        yield
        for p in fixed:
            p.requires_grad_(True)

    def begin_phase(self) -> None:
        """Initialise q from r."""
        self.network.init_q_from_r()

    def refill(self, average: Ladder, step: int) -> None:
        """Fill the missing wedge of all tomograms by the averaged model and noise."""
        if self.fill_wedge is not None:
            seed, fill = self.config.seed + step, self.fill_wedge
            self.prepared_tomograms = [replace(p, filled=fill(average, p, seed).cpu()) for p in self.prepared_tomograms]

    def validate(self, average: Ladder, step: int) -> ValidationScores | None:
        """Scores of the held-out patches, whose own wedge is filled once that of the inputs is."""
        if not self.held_out:
            return None
        return validation_scores(average, self.held_out, bool(self.refill_at) and step > min(self.refill_at))

    def finished(self, network: Ladder) -> Ladder:
        """The model in float32."""
        network.mixed = False
        return network

    def state(self) -> dict[str, Any]:
        """The refilled densities (z, y, x), by the name of the tomogram."""
        return {"filled": {p.name: p.filled for p in self.prepared_tomograms if p.filled is not p.density}}

    def resume(self, state: dict[str, Any]) -> None:
        """Take the refilled densities from a saved state."""
        filled = [state["filled"].get(p.name, p.density) for p in self.prepared_tomograms]
        self.prepared_tomograms = [
            replace(p, filled=refilled_like(p.density, f)) for p, f in zip(self.prepared_tomograms, filled, strict=True)
        ]
