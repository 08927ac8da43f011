"""The flow of one tomogram: the generative model, fitted to samples of the posterior of that tomogram (expectation-maximisation).

    E-step      x^ ~ p(x | y, m)                                 samples of the whole tomogram by the flow as it is
    M-step      fit v(z_t, t, c) to the latents of x^ in other orientations, c of  y~ = M (R x^ + n)  and of  m~ = m(y~)

m is the estimate of a network that was trained on the tomogram. The flow learns how far m can be trusted from m~, whose truth is
known, and the prior learns the specimen from x^. Samples, not means: a prior that is fitted to means is too narrow. The VAE stays
as it is: it reproduces specimens that it was not trained on with a correlation of 0.999 up to 0.3 cycles per voxel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from cryovae.models.precision import PRECISIONS
from cryovae.ranges import OneOf, Range, check_fields
from cryovae.training.generative import FlowTraining, GenerativeConfig
from cryovae.training.method import TrainingConfig

# Mean and standard deviation of the logit of t: what an estimate leaves open is decided at all times.
TIMES = (0.3, 1.8)


@dataclass(frozen=True)
class AdaptationConfig:
    """How the flow is fitted to a tomogram.

    Attributes:
        laps: laps of sampling and fitting at most, which end when held-out bins are predicted worse; 0 for the flow of the base
            as it is, without the estimate.
        steps: training steps of the flow in each lap.
        batch: patches a step.
        scenes: pairs that the flow is trained on: samples in another orientation and with other noise, in each lap.
        samples: samples of each tomogram, in each lap.
        learning_rate: highest learning rate of AdamW.
        hidden_rate: highest learning rate of Muon, for the hidden convolutions.
        conditioned: share of the patches with a condition; the others train the prior.
        ema: decay of the averaged weights.
        voxels: largest number of voxels of all tomograms together; of larger ones the most informative part is used.
        precision: precision of the convolutions.
    """

    laps: Annotated[int, Range(0, 1000)] = 1
    steps: Annotated[int, Range(1, 10**7)] = 400
    batch: Annotated[int, Range(1, 4096, what="patches")] = 16
    scenes: Annotated[int, Range(1, 10**5)] = 16
    samples: Annotated[int, Range(2, 10**4)] = 2
    learning_rate: Annotated[float, Range(0, 1, above=True)] = 1e-3
    hidden_rate: Annotated[float, Range(0, 1, above=True)] = 2e-3
    conditioned: Annotated[float, Range(0, 1)] = 0.7
    ema: Annotated[float, Range(0, 1, below=True)] = 0.99
    voxels: Annotated[int, Range(32**3, 2**34)] = 3 * 2**20
    precision: Annotated[str, OneOf(PRECISIONS)] = "auto"

    def __post_init__(self) -> None:
        check_fields(self)

    def training(self, side: int, seed: int) -> TrainingConfig:
        """The settings of the trainer of a lap, for patches of ``side`` voxels."""
        return TrainingConfig(
            patch=side,
            batch=self.batch,
            steps=self.steps,
            learning_rate=self.learning_rate,
            ema=self.ema,
            clip=1.0,
            validate_every=10**9,
            checkpoint_minutes=3.0,
            precision=self.precision,
            seed=seed,
        )

    def losses(self) -> GenerativeConfig:
        """Weights of the losses, and the rate of Muon."""
        return GenerativeConfig(conditioned=self.conditioned, hidden_rate=self.hidden_rate, detail_until=0.0)


class AdaptedTraining(FlowTraining):
    """The M-step: steps of a flow on pairs that are made of samples."""

    def _phase(self, step: int) -> tuple[tuple[float, float], float]:
        return TIMES, self.generative.conditioned
