"""The posterior of a whole tomogram by the generative model: one flow over all tiles, blended at each of its steps.

    z_t  latents of the whole volume,      dz/dt = sum_i w_i v(z_t on tile i, t, y on tile i) / sum_i w_i

Noise at t = 1 is that of the absolute place (posterior/noise_field.py), and there is one state for all tiles: tiles agree where
they overlap, so nothing is averaged that was drawn twice, and samples keep their variance at seams (Bar-Tal et al. 2023,
"MultiDiffusion"). Memory: the latents of the volume three times, and the conditions of all tiles in half precision.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

import torch
from torch import Tensor

from cryovae.models.flow_ode import ode_times
from cryovae.models.latent_flow import Context
from cryovae.physics.observation import NoiseFunction, observed
from cryovae.posterior.noise_field import NoiseField
from cryovae.posterior.patch_sampler import PatchSampler
from cryovae.tiling.batching import Batches
from cryovae.tiling.grid import Blender, PatchGrid, Position, cut
from cryovae.tomogram import TiltGeometry

# Tiles that the flow sees at once.
BATCH = 16


class VolumeSampler:
    """Draws samples of a volume, given its data.

    Attributes:
        grid: tiles of the volume, in voxels.
        places: the same tiles on the places of the latents.

    Args:
        sampler: the generative model.
        data: y, (z, y, x), in units of the standard deviation of the signal.
        tilts: the tilt geometry.
        noise: sigma^2 in these units, at frequencies in cycles per voxel.
        side: side of the tiles in voxels, that of the model's patches.
        step: spacing of the tiles in voxels; both are multiples of twice the stride of the latents.
        estimate: of the density (z, y, x), in the units of the data, for a flow that takes one.
        advance: called after each batch of tiles with their number; a sample takes ``passes`` of all tiles.
    """

    def __init__(
        self,
        sampler: PatchSampler,
        data: Tensor,
        tilts: TiltGeometry,
        noise: NoiseFunction,
        side: int,
        step: int,
        estimate: Tensor | None = None,
        advance: Callable[[int], None] = lambda tiles: None,
    ) -> None:
        self.sampler, self.advance = sampler, advance
        self.stride = sampler.generator.config.vae.stride
        z, y, x = data.shape
        self.grid = PatchGrid((z, y, x), side, step)
        lengths = [(self.grid.starts(axis)[-1] + side) // self.stride for axis in range(3)]
        self.places = PatchGrid((lengths[0], lengths[1], lengths[2]), side // self.stride, step // self.stride)
        self.batches = Batches(BATCH)
        self._contexts = self._conditions(data, tilts, noise, estimate)

    def _conditions(
        self, data: Tensor, tilts: TiltGeometry, noise: NoiseFunction, estimate: Tensor | None
    ) -> dict[Position, Context]:
        """The condition of each tile, in half precision and main memory."""
        contexts: dict[Position, Context] = {}
        side = self.grid.side

        def work(positions: Sequence[Position]) -> Context:
            tiles = torch.stack([cut(data, position, side) for position in positions])
            observation = observed(tiles, tilts, noise)
            if estimate is not None:
                estimates = torch.stack([cut(estimate, position, side) for position in positions])
                observation = replace(observation, estimate=estimates)
            return self.sampler.context(observation).map(lambda part: part.half().cpu())

        for positions, context in self.batches.over(list(self.grid), work):
            for index, position in enumerate(positions):
                contexts[position] = context.rows(slice(index, index + 1))
            self.advance(len(positions))
        return contexts

    def passes(self, steps: int) -> int:
        """How often a sample goes through all tiles: twice in each of its ``steps``, and in the decoder."""
        return 2 * steps + 1

    @torch.no_grad()
    def latents(self, number: int, seed: int, steps: int) -> Tensor:
        """Latents (channels, z, y, x) of a sample of the posterior.

        Args:
            number: of the sample; the same number and seed give the same sample.
            seed: of the noise.
            steps: steps of Heun's method.
        """
        device = self.sampler.device
        channels = self.sampler.generator.config.vae.channels
        state = NoiseField(seed, number, device).tile((0, 0, 0), (channels, *self.places.shape), 0)
        for now, then in pairwise(ode_times(steps).tolist()):
            first = self._velocity(state, now)
            second = self._velocity(state + (then - now) * first, then)
            state = state + (then - now) * 0.5 * (first + second)
        return state

    @torch.no_grad()
    def predicted(self) -> Tensor:
        """The predicted mean of the latents of the volume, (channels, z, y, x)."""
        channels = self.sampler.generator.config.vae.channels
        return self._blended(torch.zeros(channels, *self.places.shape, device=self.sampler.device), lambda _, c: c.mean)

    @torch.no_grad()
    def density(self, latents: Tensor) -> Tensor:
        """The density (z, y, x) of latents of the volume."""
        blender = Blender(self.grid)
        for positions, tiles in self._tiles(latents, lambda states, _: self.sampler.generator.decode(states)):
            for position, tile in zip(positions, tiles, strict=True):
                blender.add(position, tile.cpu())
        return blender.blended()

    def _velocity(self, state: Tensor, time: float) -> Tensor:
        """v of all tiles, blended: (channels, z, y, x)."""

        def work(states: Tensor, context: Context) -> Tensor:
            return self.sampler.generator.flow(states, torch.full((len(states),), time, device=states.device), context)

        return self._blended(state, work)

    def _blended(self, state: Tensor, work: Callable[[Tensor, Context], Tensor]) -> Tensor:
        """What ``work`` makes of all tiles of latents of the volume, blended: (channels, z, y, x)."""
        total, window, size = torch.zeros_like(state), self.places.window().to(state), self.places.side
        window = window[:, None, None] * window[:, None] * window
        for positions, tiles in self._tiles(state, work):
            for position, tile in zip(positions, tiles, strict=True):
                z, y, x = (start // self.stride for start in position)
                total[:, z : z + size, y : y + size, x : x + size] += tile * window
        for axis, weights in enumerate(self.places.weights()):
            total /= weights.to(total).view([-1 if axis == other else 1 for other in range(3)])
        return total

    def _tiles(self, state: Tensor, work: Callable[[Tensor, Context], Tensor]) -> Iterator[tuple[list[Position], Tensor]]:
        """Batches of positions, and what ``work`` makes of their latents and conditions."""
        size, device = self.places.side, self.sampler.device

        def on(positions: Sequence[Position]) -> Tensor:
            starts = [[start // self.stride for start in position] for position in positions]
            states = torch.stack([state[:, z : z + size, y : y + size, x : x + size] for z, y, x in starts])
            context = Context.joined([self._contexts[position] for position in positions])
            return work(states, context.map(lambda part: part.to(device, torch.float32)))

        for positions, tiles in self.batches.over(list(self.grid), on):
            yield list(positions), tiles
            self.advance(len(positions))
