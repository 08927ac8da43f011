"""The posterior of a volume by a ladder alone: r's mean and independent samples of r."""

from __future__ import annotations

import torch
from torch import Tensor

from cryovae.models.ladder import Ladder
from cryovae.posterior.ladder_boxes import LadderBoxes
from cryovae.posterior.volume_data import COMPLETION, VolumeData


class LadderPosterior:
    """Estimates and samples volumes.

    Attributes:
        names: of its only mean.
        hidden_samples: as of ``VolumePosterior``; of them only the variance matters.

    Args:
        ladder: the model, on ``device``.
        patch: side of the patches of training, in voxels.
        device: of the ladder.
        orientations: over which the mean is averaged.
        seed: of the noise of the samples.
    """

    names = (COMPLETION,)
    hidden_samples = 2

    def __init__(self, ladder: Ladder, patch: int, device: torch.device, orientations: int, seed: int) -> None:
        self.boxes, self.orientations = LadderBoxes(ladder, patch, device, seed), orientations

    def restored(self, volume: VolumeData, samples: int) -> tuple[list[Tensor], list[Tensor]]:
        """The mean of a volume, and samples of it: (z, y, x) each."""
        data, tilts = volume.data, volume.tilts
        return [self.fill(volume)], [self.boxes.sample(data, tilts, number) for number in range(samples)]

    def fill(self, volume: VolumeData) -> Tensor:
        """The mean (z, y, x).

        Samples of r hold much noise in the wedge: filled with one, hidden bins are predicted far worse than those of the wedge.
        """
        return self.boxes.predict(volume.data, volume.tilts, self.orientations)
