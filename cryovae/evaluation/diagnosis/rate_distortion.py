"""The rate-distortion curve: what the latents cost and what is left unexplained, as the weight of the KL changes.

    min  D + beta R,      D = - E_q log p(y | G(z)),   R = sum_l KL(q || p)          both in nats a measured coefficient

From a plain autoencoder at beta = 0 to collapse at large beta (Alemi et al. 2018). At each beta the same model is trained on
from the same weights with the same random numbers, by the bound alone: encoder, prior and decoder all move, unlike in the run.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace

from torch import Tensor, nn

from cryovae.data.measurement import MaskingConfig, Measurement
from cryovae.data.prepare import PreparedTomogram
from cryovae.data.sampling import draw, step_generator
from cryovae.evaluation.diagnosis.patches import filled
from cryovae.models.ladder import Ladder, R
from cryovae.objectives.elbo import ObjectiveConfig, one_encoder_bound, two_encoder_bound
from cryovae.training.trainer import Method, Trainer, TrainingConfig, timed


class Continuation(Method[Ladder, Measurement]):
    """A trained model that is trained on by the bound alone.

    Args:
        ladder: the trained model; a copy is trained.
        prepared_tomograms: the tomograms to train on.
        config: training settings.
        masking: what is hidden from r; patches are rotated by cube rotations alone.
        objective: number of encoders.
        beta: weight of the KL.
        fills: whether the wedge of a patch is filled by the model as it was before.
        frozen: whether the parameter of a name stays as it is.
    """

    def __init__(
        self,
        ladder: Ladder,
        prepared_tomograms: Sequence[PreparedTomogram],
        config: TrainingConfig,
        masking: MaskingConfig,
        objective: ObjectiveConfig,
        beta: float,
        fills: bool = False,
        frozen: Callable[[str], bool] = lambda name: False,
    ) -> None:
        super().__init__(ladder, config, ladder.top.device)
        self.network.requires_grad_(True).mixed = self.mixed
        self.before = copy.deepcopy(ladder).eval().requires_grad_(False) if fills else None
        self.prepared_tomograms, self.masking = prepared_tomograms, replace(masking, rotated_fraction=0.0)
        self.encoders, self.beta = objective.encoders, beta
        levels = [self.network.level(index) for index, latents in enumerate(ladder.config.latents) if latents]
        heads = [p for level in levels for p in level.masked_posterior.parameters()]
        # With two encoders the bound has no part in r: the gradients of matching in r's heads are not used.
        fixed = {id(p) for p in heads} if self.encoders == 2 else set()
        self.trained = [p for name, p in self.network.named_parameters() if id(p) not in fixed and not frozen(name)]

    def parameter_groups(self) -> list[list[nn.Parameter]]:
        """All that is not frozen."""
        return [self.trained]

    def draw(self, step: int) -> Measurement:
        """Patches of one tomogram, rotated and masked."""
        generator = step_generator(self.config.seed, 2 * step)
        return draw(self.prepared_tomograms, self.config.patch, self.config.batch, self.masking, generator, self.device)

    def backward(self, batch: Measurement, step: int, seconds: dict[str, float]) -> dict[str, Tensor]:
        """Gradients of the bound, without matching."""
        with timed(seconds, "forward"):
            m = batch if self.before is None else filled(self.before, batch)
            bound_of = two_encoder_bound if self.encoders == 2 else one_encoder_bound
            masked_features = self.network.encode(m.input_masked, R)
            bound = bound_of(self.network, m, masked_features, step_generator(self.config.seed, 2 * step + 1))
            loss = bound.loss(self.beta) - bound.matching / bound.bins
        with timed(seconds, "backward"):
            loss.backward()  # type: ignore[no-untyped-call]
        return {"loss": loss}

    def finished(self, network: Ladder) -> Ladder:
        """The model in float32."""
        network.mixed = False
        return network.eval()


def trained_on(method: Continuation, watch: Callable[[int, float], None] = lambda step, loss: None) -> Ladder:
    """Train a model on to the end, without averaging; ``watch`` gets each step and its loss, in nats a coefficient."""
    return Trainer(method).run(lambda report: watch(report.step, report.figures["loss"]))


def continuation_config(training: TrainingConfig, steps: int, seed: int) -> TrainingConfig:
    """The settings of a run for training on: the same patches, rates and clipping; the last weights are kept as they are."""
    return replace(training, steps=steps, seed=seed, ema=0.0, validate_every=steps)
