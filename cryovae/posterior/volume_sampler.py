"""The posterior of a whole tomogram by the generative model: one flow over all tiles, blended at each of its steps.

    z_t  latents of the whole volume,      dz/dt = sum_i w_i v(z_t on tile i, t, y on tile i) / sum_i w_i

Noise at t = 1 is that of the absolute place (posterior/noise_field.py), and there is one state for all tiles: tiles agree where
they overlap, so nothing is averaged that was drawn twice, and samples keep their variance at seams (Bar-Tal et al. 2023,
"MultiDiffusion"). Memory: the latents of the volume LATENTS times, and the conditions of all tiles in half precision, which may
lie in files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cryovae.models.flow_ode import ode_times
from cryovae.models.latent_flow import Context
from cryovae.physics.observation import observed
from cryovae.posterior.noise_field import NoiseField
from cryovae.posterior.patch_sampler import PatchSampler
from cryovae.posterior.volume_data import VolumeData
from cryovae.tiling.batching import Batches
from cryovae.tiling.grid import Blender, PatchGrid, Position, cut

# Tiles that the flow sees at once.
BATCH = 16
# How often the latents of a volume are held while it is sampled.
LATENTS = 5


class _Contexts:
    """The conditions of all tiles in half precision, in memory or in files of a folder."""

    def __init__(self, count: int, folder: Path | None) -> None:
        self.count, self.folder = count, folder
        self._parts: list[Tensor] = []

    def put(self, start: int, context: Context) -> None:
        """Store the conditions of tiles from number ``start`` on."""
        parts = (context.features, context.mean, context.embedding)
        if not self._parts:
            self._parts = [self._empty(number, part.shape[1:]) for number, part in enumerate(parts)]
        for stored, part in zip(self._parts, parts, strict=True):
            stored[start : start + len(part)] = part.half().cpu()

    def rows(self, numbers: Sequence[int], device: torch.device) -> Context:
        """The conditions of some tiles."""
        features, mean, embedding = (part[list(numbers)].to(device, torch.float32) for part in self._parts)
        return Context(features, mean, embedding)

    def _empty(self, number: int, shape: torch.Size) -> Tensor:
        full = (self.count, *shape)
        if self.folder is None:
            return torch.empty(full, dtype=torch.float16)
        path = self.folder / f"conditions_{number}.f16"
        return torch.from_file(str(path), shared=True, size=prod(full), dtype=torch.float16).view(full)


class VolumeSampler:
    """Draws samples of a volume, given its data.

    Attributes:
        grid: tiles of the volume, in voxels.
        places: the same tiles on the places of the latents.

    Args:
        sampler: the generative model.
        data: of the volume; its density may be an array that can be sliced.
        side: side of the tiles in voxels, that of the model's patches.
        step: spacing of the tiles in voxels; both are multiples of twice the stride of the latents.
        estimate: of the density (z, y, x), standardised like the data, for a flow that takes one.
        folder: for the conditions of all tiles, or None to hold them in memory.
        advance: called after each batch of tiles with their number; a sample takes ``passes`` of all tiles.
    """

    def __init__(
        self,
        sampler: PatchSampler,
        data: VolumeData,
        side: int,
        step: int,
        estimate: Any = None,
        folder: Path | None = None,
        advance: Callable[[int], None] = lambda tiles: None,
    ) -> None:
        self.sampler, self.advance, self.scale = sampler, advance, data.scale
        self.stride = sampler.generator.config.vae.stride
        z, y, x = data.data.shape
        self.grid = PatchGrid((z, y, x), side, step)
        lengths = [(self.grid.starts(axis)[-1] + side) // self.stride for axis in range(3)]
        self.places = PatchGrid((lengths[0], lengths[1], lengths[2]), side // self.stride, step // self.stride)
        self.batches = Batches(BATCH)
        self._numbers = {position: number for number, position in enumerate(self.grid)}
        self._contexts = _Contexts(len(self.grid), folder)
        self._add_conditions(data, estimate)

    def _add_conditions(self, data: VolumeData, estimate: Any) -> None:
        """Find the condition of each tile."""
        side = self.grid.side

        def noise(frequency: Tensor) -> Tensor:
            return data.noise(frequency) / self.scale**2

        def cubes(density: Any, positions: Sequence[Position]) -> Tensor:
            return torch.stack([cut(density, position, side) for position in positions]) / self.scale

        def work(positions: Sequence[Position]) -> Context:
            observation = observed(cubes(data.data, positions), data.tilts, noise)
            if estimate is not None:
                observation = replace(observation, estimate=cubes(estimate, positions))
            return self.sampler.context(observation)

        for positions, context in self.batches.over(list(self.grid), work):
            self._contexts.put(self._numbers[positions[0]], context)
            self.advance(len(positions))

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
        """The density (z, y, x) of latents of the volume, standardised like the data."""
        blender = Blender(self.grid)
        for positions, tiles in self.batches.over(list(self.grid), lambda positions: self.decoded(latents, positions)):
            for position, tile in zip(positions, tiles, strict=True):
                blender.add(position, tile.cpu())
            self.advance(len(positions))
        return blender.blended()

    @torch.no_grad()
    def decoded(self, latents: Tensor, positions: Sequence[Position]) -> Tensor:
        """Tiles (n, z, y, x) of the density of latents of the volume, standardised like the data."""
        return self.sampler.generator.decode(self._states(latents, positions)) * self.scale

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

        def on(positions: Sequence[Position]) -> Tensor:
            numbers = [self._numbers[position] for position in positions]
            return work(self._states(state, positions), self._contexts.rows(numbers, self.sampler.device))

        for positions, tiles in self.batches.over(list(self.grid), on):
            yield list(positions), tiles
            self.advance(len(positions))

    def _states(self, state: Tensor, positions: Sequence[Position]) -> Tensor:
        """Latents (n, channels, z, y, x) of tiles of latents of the volume."""
        size = self.places.side
        starts = [[start // self.stride for start in position] for position in positions]
        return torch.stack([state[:, z : z + size, y : y + size, x : x + size] for z, y, x in starts])
