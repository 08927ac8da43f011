"""Whether a trained network suits a tomogram that it was not trained on: measured bins are hidden from it, and it predicts them.

A network that does not predict them better than the best low-pass filter and clipping do must be trained on the tomogram first.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import torch

from cryovae.calibration.fitted import figures_of, fitted
from cryovae.calibration.scores import Subject, held_out_sums
from cryovae.checkpoint import Checkpoint
from cryovae.data.crops import Parts
from cryovae.data.prepare import prepare
from cryovae.evaluation.baselines import predict_by_clipping
from cryovae.posterior.ladder_posterior import LadderPosterior
from cryovae.posterior.suited import suited
from cryovae.tomogram import Tomogram

# Voxels at most of the part on which a network is tried.
TRIAL_VOXELS = 2**20


@dataclass(frozen=True)
class Trial:
    """How well hidden measured bins are predicted, as correlations with the data; None where nothing could be hidden.

    Attributes:
        network: by the network.
        clipping: by the best low-pass filter and clipping.
    """

    network: float | None
    clipping: float | None

    @property
    def is_good(self) -> bool:
        """Whether the network predicts more than clipping, or nothing could be compared."""
        return self.network is None or self.clipping is None or self.network > self.clipping

    def line(self, name: str, at_once: bool, begins: bool) -> str:
        """The result in words.

        Args:
            name: of the network.
            at_once: whether it restores without training if it is good.
            begins: whether a training begins with it.
        """
        if self.network is None or self.clipping is None:
            return f"no measured bins could be hidden, so whether {name} suits this tomogram is not known"
        verdict = "it is trained first" if begins else "training begins with nothing"
        if self.is_good:
            verdict = "it restores without training" if at_once else "training begins with it"
        better = f"hidden measured bins are predicted by {name} with a correlation of {self.network:.3f}"
        return f"{better}, by a low-pass filter and clipping with {self.clipping:.3f}: {verdict}"


def tried(network: Checkpoint, tomogram: Tomogram, seed: int, device: torch.device, voxels: int = TRIAL_VOXELS) -> Trial:
    """Hide measured bins of a tomogram, or of the part of it of ``voxels`` that shows most, and predict them."""
    patch = network.patch
    part = Parts(tomogram, voxels, patch)[0] if prod(tomogram.shape) > voxels else tomogram
    prepared = prepare(part, patch, seed)
    subject = Subject.of(prepared, None, patch, prod(part.shape), scaled=False)
    posterior = LadderPosterior(suited(network.ladder, [prepared]).to(device), patch, device, 1, seed)
    sums = held_out_sums(posterior, subject, rotations=1, samples=2, seed=seed)
    if sums.wedge is None:
        return Trial(None, None)
    clipping = predict_by_clipping(prepared.density, prepared.tilts)
    correlation = float(str(figures_of(sums, fitted(sums, 2), 2)["correlation"]))
    return Trial(correlation, None if clipping is None else clipping.correlation)
