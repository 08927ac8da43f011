"""The posterior of a tomogram by two models: a ladder, which estimates the density, and the flow, which draws samples about it.

    m = E_r[ x | y ]        the ladder's mean, one pass                     z ~ p(z | y, m),  x = G(z)        the flow's samples

A few steps up the slope of the posterior refine the flow's predicted mean; Langevin steps may move samples on (langevin.py).

The flow takes m as a part of its condition if it was adapted to the tomogram (training/adaptation.py). It works in units of the
standard deviation of the signal; everything here is in those of the standardised tomogram.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cryovae.models.generator import Generator
from cryovae.models.ladder import Ladder
from cryovae.models.precision import convolving
from cryovae.posterior.codes import fast_convolutions
from cryovae.posterior.ladder_boxes import LadderBoxes
from cryovae.posterior.langevin import LAST_STEPS, REFINING, chained, refined
from cryovae.posterior.latent_slope import LatentSlope
from cryovae.posterior.patch_sampler import PatchSampler
from cryovae.posterior.search import LANGEVIN, SearchConfig
from cryovae.posterior.volume_data import AVERAGE, COMPLETION, REFINED, VolumeData
from cryovae.posterior.volume_sampler import VolumeSampler, boxes_of, patches_in
from cryovae.tiling.boxes import Shape

# Side of the patches of the flow's training, and longest side of the boxes that it is applied to, in voxels.
SIDE, MOST = 64, 208


class FlowPosterior:
    """Estimates and samples volumes.

    Attributes:
        names: of its means: the ladder's, the flow's predicted one after a few steps, the average of samples.
        hidden_samples: as of ``VolumePosterior``; their average is one of the means.
        search: settings of Langevin chains, or None if there are none.

    Args:
        generator: the generative model.
        ladder: the ladder, or None to sample without an estimate.
        patch: side of the patches of the ladder's training, in voxels.
        device: of both models.
        steps: steps of Heun's method of a sample.
        seed: of the noise of the samples.
        advance: called with what the flow has been applied to since the last call, in patches of training.
        search: settings, for Langevin steps if its sampler is LANGEVIN; else there are none.
        mixed: whether convolutions run in bfloat16 while latents are sampled and refined. That changes latents by 0.6 % of the
            difference of two samples (`quick` on dense_a).
    """

    names = (COMPLETION, REFINED, AVERAGE)
    hidden_samples = 4

    def __init__(
        self,
        generator: Generator,
        ladder: Ladder | None,
        patch: int,
        device: torch.device,
        steps: int,
        seed: int,
        advance: Callable[[int], None] = lambda patches: None,
        search: SearchConfig | None = None,
        mixed: bool = False,
    ) -> None:
        self.sampler = PatchSampler(generator, device, steps)
        self.ladder = None if ladder is None else LadderBoxes(ladder, patch, device, seed)
        self.patch, self.device, self.steps, self.seed, self.mixed = patch, device, steps, seed, mixed
        self.advance = advance
        self.search = search if search is not None and search.sampler == LANGEVIN else None

    def estimate(self, volume: VolumeData, orientations: int = 1) -> Tensor:
        """The ladder's mean (z, y, x); zeros without a ladder."""
        if self.ladder is None:
            return torch.zeros_like(volume.data)
        return self.ladder.predict(volume.data, volume.tilts, orientations)

    def samples(self, volume: VolumeData, estimate: Any, folder: Path | None = None) -> VolumeSamples:
        """What draws samples of a volume.

        Args:
            volume: its density may be an array that can be sliced.
            estimate: of the density (z, y, x), standardised like it.
            folder: for what the flow holds for each box, or None to hold it in memory.
        """
        taken = estimate if self.sampler.generator.config.flow.estimates else None
        with fast_convolutions():
            sampler = VolumeSampler(self.sampler, volume, SIDE, MOST, taken, folder, self.advance)
        chains = None if self.search is None else Chains(self.search, self.seed)
        slope = LatentSlope(sampler, 1.0 if self.search is None else self.search.temperature)
        return VolumeSamples(sampler, self.seed, self.steps, slope, chains, self.mixed)

    def restored(self, volume: VolumeData, samples: int) -> tuple[list[Tensor], list[Tensor]]:
        """The means of a volume in the order of their names, and samples of it: (z, y, x) each."""
        estimate = self.estimate(volume)
        drawing = self.samples(volume, estimate)
        drawn = [drawing(number) for number in range(samples)]
        return [estimate, drawing.refined(), torch.stack(drawn).mean(0)], drawn

    def fill(self, volume: VolumeData) -> Tensor:
        """A sample (z, y, x): of the right posterior it is as good as the truth."""
        return self.samples(volume, self.estimate(volume))(0)

    def passes_of_means(self, is_refined: bool) -> int:
        """How often all boxes are gone through for the conditions, and for the refined mean and its density if there is one."""
        # The predicted latents, the steps, the latents that they end with, and their density.
        return 1 + (1 + REFINING + 1 + 1) * is_refined

    def passes_of_sample(self) -> int:
        """The same for a sample and its density."""
        chain = 0 if self.search is None else self.search.chain + 2 * LAST_STEPS
        return 2 * self.steps + 1 + chain

    def patches(self, shape: Shape) -> int:
        """Patches of training that the flow's pass over a volume amounts to."""
        return patches_in(boxes_of(shape, MOST, self.sampler.generator.config.vae.stride), SIDE)


class Chains:
    """Langevin chains from the samples of one volume.

    Attributes:
        climb: of the last chain, as in langevin.py.
        moved: mean square distance of its end from its sample, over that of two independent samples; None for the first chain.

    Args:
        search: settings.
        seed: of the noise.
    """

    def __init__(self, search: SearchConfig, seed: int) -> None:
        self.search, self.seed = search, seed
        self.climb = 0.0
        self.moved: float | None = None
        self._end: Tensor | None = None

    def __call__(self, slope: LatentSlope, latents: Tensor, number: int) -> Tensor:
        """The latents (channels, z, y, x) of sample ``number`` after its chain."""
        chain = chained(slope, latents, number, self.search.chain, self.seed)
        self.climb = chain.climb
        if self._end is not None:
            distance = float((chain.end - self._end).square().mean())
            self.moved = float((chain.end - latents).square().mean()) / max(distance, 1e-12)
        self._end = chain.end
        return chain.end


@dataclass(frozen=True)
class VolumeSamples:
    """Draws samples of one volume, and their means.

    Attributes:
        sampler: the flow on its boxes.
        seed: of the noise.
        steps: of Heun's method.
        slope: of the posterior.
        chains: what moves each sample on, or None.
        mixed: whether convolutions run in bfloat16 while latents are sampled and refined.
    """

    sampler: VolumeSampler
    seed: int
    steps: int
    slope: LatentSlope
    chains: Chains | None = None
    mixed: bool = False

    def latents(self, number: int) -> Tensor:
        """Latents (channels, z, y, x) of sample ``number``."""
        with self._fast():
            latents = self.sampler.latents(number, self.seed, self.steps)
            return latents if self.chains is None else self.chains(self.slope, latents, number)

    def refined_latents(self) -> Tensor:
        """The predicted mean of the latents after a few steps up the slope, (channels, z, y, x)."""
        with self._fast():
            return refined(self.slope, self.sampler.predicted())

    def density(self, latents: Tensor) -> Tensor:
        """The density (z, y, x) of latents, standardised like the data."""
        return torch.cat([slab for _, slab in self.slabs(latents)])

    def slabs(self, latents: Tensor) -> Iterator[tuple[int, Tensor]]:
        """The same in slabs along z: number of the first plane, and planes (z, y, x)."""
        with fast_convolutions():
            yield from self.sampler.slabs(latents)

    def __call__(self, number: int) -> Tensor:
        """Sample ``number`` (z, y, x) of the posterior."""
        return self.density(self.latents(number))

    def refined(self) -> Tensor:
        """The density (z, y, x) of the refined mean, without sampling."""
        return self.density(self.refined_latents())

    @contextmanager
    def _fast(self) -> Iterator[None]:
        with fast_convolutions(), convolving(self.sampler.sampler.device, self.mixed):
            yield

    def taken(self) -> int:
        """Patches of training that the flow has been applied to since this was asked last."""
        done, self.sampler.done = self.sampler.done, 0
        return done
