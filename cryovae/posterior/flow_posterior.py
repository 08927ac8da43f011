"""The posterior of a tomogram by two models: a ladder, which estimates the density, and the flow, which draws samples about it.

    m = E_r[ x | y ]        the ladder's mean, one pass                     z ~ p(z | y, m),  x = G(z)        the flow's samples

The flow takes m as a part of its condition if it was adapted to the tomogram (training/adaptation.py). It works in units of the
standard deviation of the signal; everything here is in those of the standardised tomogram.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from cryovae.data.prepare import PreparedTomogram
from cryovae.models.generator import Generator
from cryovae.models.ladder import Ladder
from cryovae.physics.observation import NoiseFunction
from cryovae.posterior.codes import fast_convolutions
from cryovae.posterior.one_pass import predicted_volume
from cryovae.posterior.patch_sampler import PatchSampler, signal_scale
from cryovae.posterior.volume_sampler import VolumeSampler
from cryovae.tiling.grid import PatchGrid
from cryovae.tomogram import TiltGeometry

# Side of the tiles of the flow in voxels, and their spacing over it: overlaps of 16 voxels.
TILE, SPACING = 64, 3 / 4


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
        """That of a tomogram. InputError if it holds no signal above its noise."""
        return VolumeData(prepared.density, prepared.tilts, prepared.noise, signal_scale(prepared))


class FlowPosterior:
    """Estimates and samples volumes.

    Args:
        generator: the generative model.
        ladder: the ladder, or None to sample without an estimate.
        side: of the tiles of the flow in voxels.
        patch: side of the patches of the ladder's training, in voxels.
        device: of both models.
        steps: steps of Heun's method of a sample.
        seed: of the noise of the samples.
        advance: called with the number of tiles after each batch of the flow.
    """

    def __init__(
        self,
        generator: Generator,
        ladder: Ladder | None,
        side: int,
        patch: int,
        device: torch.device,
        steps: int,
        seed: int,
        advance: Callable[[int], None] = lambda tiles: None,
    ) -> None:
        self.sampler = PatchSampler(generator, device, steps)
        self.ladder = None if ladder is None else ladder.to(device, memory_format=torch.channels_last_3d).eval()  # type: ignore[call-overload]
        self.side, self.patch, self.device, self.steps, self.seed, self.advance = side, patch, device, steps, seed, advance

    def estimate(self, volume: VolumeData, orientations: int = 1) -> Tensor:
        """The ladder's mean (z, y, x); zeros without a ladder."""
        if self.ladder is None:
            return torch.zeros_like(volume.data)
        return predicted_volume(self.ladder, volume.data, volume.tilts, self.patch, self.device, orientations)

    def samples(self, volume: VolumeData, estimate: Tensor) -> VolumeSamples:
        """What draws samples of a volume with the estimate (z, y, x)."""
        scaled = estimate / volume.scale if self.sampler.generator.config.flow.estimates else None

        def noise(frequency: Tensor) -> Tensor:
            return volume.noise(frequency) / volume.scale**2

        with fast_convolutions():
            sampler = VolumeSampler(
                self.sampler, volume.data.cpu() / volume.scale, volume.tilts, noise, self.side, self._step, scaled, self.advance
            )
        return VolumeSamples(sampler, volume.scale, self.seed, self.steps)

    def tiles(self, shape: tuple[int, int, int]) -> int:
        """Tiles of the flow in a volume."""
        return len(PatchGrid(shape, self.side, self._step))

    @property
    def _step(self) -> int:
        """Spacing of the tiles in voxels: a multiple of twice the stride of the latents."""
        unit = 2 * self.sampler.generator.config.vae.stride
        return max(int(SPACING * self.side) // unit, 1) * unit


@dataclass(frozen=True)
class VolumeSamples:
    """Draws samples of one volume.

    Attributes:
        sampler: the flow on its tiles.
        scale: standard deviation of the signal.
        seed: of the noise.
        steps: of Heun's method.
    """

    sampler: VolumeSampler
    scale: float
    seed: int
    steps: int

    def __call__(self, number: int) -> Tensor:
        """Sample ``number`` (z, y, x) of the posterior."""
        with fast_convolutions():
            return self.sampler.density(self.sampler.latents(number, self.seed, self.steps)) * self.scale

    def predicted(self) -> Tensor:
        """The density (z, y, x) of the predicted mean of the latents, without sampling."""
        with fast_convolutions():
            return self.sampler.density(self.sampler.predicted()) * self.scale
