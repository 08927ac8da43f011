"""Deterministic networks trained by the losses of other methods: one density for an input, and no error bars.

The learning rate is RATE times that of the settings: plain regression stands, and wants, larger steps than the likelihood.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from cryovae import distributed, fourier
from cryovae.data.prepare import PreparedHalves
from cryovae.data.sampling import held_out, step_generator
from cryovae.errors import InputError
from cryovae.io.stored import released
from cryovae.models.precision import convolving
from cryovae.models.unet import UNet
from cryovae.objectives.cryogen import Adversary
from cryovae.objectives.deterministic import FROM_HALVES, loss_of
from cryovae.objectives.regression import FREE, REFILLED, TWICE, HalfPair, draw_halves
from cryovae.objectives.schedules import learning_rate_at
from cryovae.objectives.validation import ValidationScores, validation_scores_of
from cryovae.training.method import Method, TrainingConfig, refilled_like, timed

REFILLS = 4
RATE = 3.0


class Deterministic(Method[UNet, HalfPair]):
    """A U-Net trained by one of the losses of objectives/deterministic.py.

    Args:
        network: the network to begin with; a copy is trained.
        tomograms: prepared tomograms with their halves.
        config: training settings.
        objective: name of the loss.
        device: where the network and its batches are.
        rotated_fraction: share of the batches rotated by any rotation, for losses that know how, 0 to 1.
        fill_wedge: returns both halves (z, y, x) with their missing wedges filled by a network. None never refills.

    Raises:
        InputError: there is no such loss, or it needs halves that a tomogram does not have.
    """

    def __init__(
        self,
        network: UNet,
        tomograms: Sequence[PreparedHalves],
        config: TrainingConfig,
        objective: str,
        device: torch.device,
        rotated_fraction: float = 0.1,
        fill_wedge: Callable[[UNet, PreparedHalves, int], tuple[Tensor, Tensor]] | None = None,
    ) -> None:
        super().__init__(network, config, device)
        single = [t.prepared.name for t in tomograms if t.single] if objective in FROM_HALVES else []
        if single:
            raise InputError(
                f"{', '.join(single)} has no halves, and {objective} takes its noise from them: pass --half1 and --half2"
            )
        self.objective, self.tomograms, self.fill_wedge = objective, list(tomograms), fill_wedge
        self.rotated_fraction = rotated_fraction if objective in FREE else 0.0
        self.loss = loss_of(objective, self.device, config.seed)
        if fill_wedge is not None and objective in REFILLED:
            self.refill_at = frozenset(round(config.steps * i / (REFILLS + 1)) for i in range(1, REFILLS + 1))
        self.held_out = [m.to(self.device) for t in self.tomograms for m in held_out(t.prepared, config.patch)]

    def learning_rates(self, step: int) -> list[float]:
        """RATE times that of the settings."""
        return [learning_rate_at(step, self.config.steps, RATE * self.config.learning_rate)]

    def draw(self, step: int) -> HalfPair:
        """Patches of the halves of one tomogram."""
        config, rng = self.config, step_generator(self.config.seed, 2 * step)
        tomogram = self.tomograms[int(torch.randint(len(self.tomograms), (1,), generator=rng))]
        pair = draw_halves(
            tomogram.prepared, tomogram.halves, tomogram.filled, config.patch, config.batch, rng, self.rotated_fraction
        )
        for density in (*tomogram.halves, *tomogram.filled):
            released(density)
        return pair.to(self.device)

    def backward(self, batch: HalfPair, step: int, seconds: dict[str, float]) -> dict[str, Tensor]:
        """Gradients of the loss, a mean over the batches of all processes."""
        with timed(seconds, "forward"):
            loss = self.loss(self._forward, batch, step_generator(self.config.seed, 2 * step + 1)) / distributed.count()
        with timed(seconds, "backward"):
            loss.backward()  # type: ignore[no-untyped-call]
        figures = {"loss": loss}
        if isinstance(self.loss, Adversary):
            figures["critic_accuracy"] = self.loss.accuracy / distributed.count()
        return figures

    def _forward(self, density: Tensor) -> Tensor:
        with convolving(self.device, self.mixed):
            restored: Tensor = self.network(density)
        return restored

    @torch.no_grad()
    def predict(self, network: UNet, masked: Tensor) -> Tensor:
        """The density (batch, z, y, x) that a network restores from patches whose wedge was made empty."""
        restored: Tensor = network(masked.to(self.device))
        if self.objective in TWICE:
            input_mask = self.tomograms[0].prepared.orientations.input_mask
            restored = network(fourier.filtered(restored, input_mask.to(self.device)))
        return restored.to(masked.device)

    def refill(self, average: UNet, step: int) -> None:
        """Fill the missing wedge of all halves by the averaged network."""
        for tomogram in self.tomograms:
            if self.fill_wedge is not None:
                tomogram.filled = self.fill_wedge(average, tomogram, step)

    def validate(self, average: UNet, step: int) -> ValidationScores | None:
        """Scores of the held-out patches; they are reported, and choose no weights."""
        return validation_scores_of(lambda u: self.predict(average, u), self.held_out) if self.held_out else None

    def state(self) -> dict[str, Any]:
        """The critic, and the refilled halves by the name of the tomogram."""
        return {
            "adversary": self.loss.state() if isinstance(self.loss, Adversary) else {},
            "filled": {t.prepared.name: list(t.filled) for t in self.tomograms if t.filled is not t.halves},
        }

    def resume(self, state: dict[str, Any]) -> None:
        """Take the critic and the refilled halves from a saved state."""
        if isinstance(self.loss, Adversary):
            self.loss.resume(state["adversary"])
        for tomogram in self.tomograms:
            filled = state["filled"].get(tomogram.prepared.name)
            if filled is None:
                tomogram.filled = tomogram.halves
            else:
                tomogram.filled = (refilled_like(tomogram.halves[0], filled[0]), refilled_like(tomogram.halves[1], filled[1]))
