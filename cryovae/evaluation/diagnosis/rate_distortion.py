"""The rate-distortion curve: rate and distortion as functions of the weight of the KL.

    min  D + beta R,      D = - E_q log p(y | G(z)),   R = sum_l KL(q || p)          both in nats per measured coefficient

The curve runs from an autoencoder at beta = 0 to collapse at large beta (Alemi et al. 2018). At each beta, training continues
from the same weights with the same random numbers and the bound alone. Unlike in the original run, encoder, prior and decoder
are all updated.
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
from cryovae.training.method import Method, TrainingConfig, timed
from cryovae.training.trainer import Trainer


class Continuation(Method[Ladder, Measurement]):
    """Continues the training of a model with the bound alone.

    Args:
        ladder: Trained model; a copy is trained.
        prepared_tomograms: Tomograms to train on.
        config: Training settings.
        masking: Settings of the bins hidden from r; patches are rotated by cube rotations only.
        objective: Settings of the objective; only the number of encoders is used.
        beta: Weight of the KL.
        fills: Whether the original model fills the wedge of each patch.
        frozen: Returns, for the name of a parameter, whether it is kept fixed.
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
        # With two encoders the bound does not depend on r, and the gradients of matching are not used for r's heads.
        fixed = {id(p) for p in heads} if self.encoders == 2 else set()
        self.trained = [p for name, p in self.network.named_parameters() if id(p) not in fixed and not frozen(name)]

    def parameter_groups(self) -> list[list[nn.Parameter]]:
        """One group with all parameters that are not frozen."""
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
    """Run the continued training to its end, without averaging of weights.

    Args:
        method: Model and settings.
        watch: Called with each step and its loss, in nats per coefficient.
    """
    return Trainer(method).run(lambda report: watch(report.step, report.figures["loss"]))


def continuation_config(training: TrainingConfig, steps: int, seed: int) -> TrainingConfig:
    """Settings of a continued training: patches, rates and clipping of the run, but no averaging of weights."""
    return replace(training, steps=steps, seed=seed, ema=0.0, validate_every=steps)
