"""A measured volume, and what a model of its posterior gives: means and samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from cryovae.data.prepare import PreparedTomogram
from cryovae.physics.observation import NoiseFunction
from cryovae.posterior.patch_sampler import signal_scale
from cryovae.tomogram import TiltGeometry

# Means: of the ladder, of the flow's prediction after a few steps, of samples.
COMPLETION, REFINED, AVERAGE = "completion", "refined", "average"


@dataclass(frozen=True)
class VolumeData:
    """A measured volume.

    Attributes:
        data: y, (z, y, x), standardised.
        tilts: the tilt geometry.
        noise: sigma^2 at frequencies in cycles per voxel.
        scale: standard deviation of the signal.
    """

    data: Tensor
    tilts: TiltGeometry
    noise: NoiseFunction
    scale: float

    @staticmethod
    def of(prepared: PreparedTomogram) -> VolumeData:
        """That of a tomogram in memory. InputError if it holds no signal above its noise."""
        return VolumeData(prepared.density, prepared.tilts, prepared.noise, signal_scale(prepared))


class VolumePosterior(Protocol):
    """A model of the posterior of volumes.

    Attributes:
        names: of its means.
        hidden_samples: samples of each volume with hidden bins that a fit needs.
    """

    hidden_samples: int

    @property
    def names(self) -> tuple[str, ...]:
        """Of its means."""

    def restored(self, volume: VolumeData, samples: int) -> tuple[list[Tensor], list[Tensor]]:
        """The means of a volume, in the order of their names, and samples of it: (z, y, x) each."""

    def fill(self, volume: VolumeData) -> Tensor:
        """What fills the wedge of a volume, (z, y, x), where other bins of it are hidden and predicted."""
