"""The posterior of a whole tomogram by the generative model: one flow over a few large boxes, blended at each of its steps.

    z_t  latents of the whole volume,      dz/dt = sum_i w_i v(z_t on box i, t, y on box i),      sum_i w_i = 1

The flow is convolutional, so a volume of one box needs no seams. Noise at t = 1 is that of the absolute place
(posterior/noise_field.py), and there is one state for all boxes: nothing is averaged that was drawn twice (Bar-Tal et al. 2023,
"MultiDiffusion"). Memory: the latents of the volume LATENTS times, and the conditions of all boxes in half precision, which may
lie in files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise, product
from math import prod
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as nnf
from torch import Tensor

from cryovae.models.flow_ode import ode_times
from cryovae.models.latent_flow import Context
from cryovae.physics.observation import observed
from cryovae.posterior.noise_field import NoiseField
from cryovae.posterior.patch_sampler import PatchSampler
from cryovae.posterior.volume_data import VolumeData
from cryovae.tiling.boxes import Boxes, Shape
from cryovae.tiling.grid import Position, cut

# Overlap of neighbouring boxes in voxels. Half of it is blended; the quarter at the border of a box has no weight.
OVERLAP = 48
# How often the latents of a volume are held at most while it is sampled or refined, or a chain runs.
LATENTS = 9


class _Contexts:
    """The conditions of all boxes in half precision, in memory or in files of a folder."""

    def __init__(self, count: int, folder: Path | None) -> None:
        self.count, self.folder = count, folder
        self._parts: list[Tensor] = []

    def put(self, start: int, context: Context) -> None:
        """Store the conditions of boxes from number ``start`` on."""
        parts = (context.features, context.mean, context.embedding)
        if not self._parts:
            self._parts = [self._empty(number, part.shape[1:]) for number, part in enumerate(parts)]
        for stored, part in zip(self._parts, parts, strict=True):
            stored[start : start + len(part)] = part.half().cpu()

    def rows(self, numbers: Sequence[int], device: torch.device) -> Context:
        """The conditions of some boxes."""
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
        data: of the volume.
        boxes: of the volume and its padding, in voxels.
        done: what the flow has been applied to, in patches of training.

    Args:
        sampler: the generative model.
        data: of the volume; its density may be an array that can be sliced.
        side: of the patches of the model's training, in voxels: data are brought to one scale over as much.
        most: longest side of a box, in voxels.
        estimate: of the density (z, y, x), standardised like the data, for a flow that takes one.
        folder: for the conditions of all boxes, or None to hold them in memory.
        advance: called after each box with the patches of training that it amounts to.
    """

    def __init__(
        self,
        sampler: PatchSampler,
        data: VolumeData,
        side: int,
        most: int,
        estimate: Any = None,
        folder: Path | None = None,
        advance: Callable[[int], None] = lambda patches: None,
    ) -> None:
        self.sampler, self.data, self.scale, self.side, self.done = sampler, data, data.scale, side, 0
        self._watch = advance
        z, y, x = data.data.shape
        self.shape = (z, y, x)
        self.stride = sampler.generator.config.vae.stride
        self.boxes = boxes_of(self.shape, most, self.stride)
        self._numbers = {position: number for number, position in enumerate(self.boxes)}
        self._contexts = _Contexts(len(self.boxes), folder)
        self._add_conditions(data, estimate)

    def _add_conditions(self, data: VolumeData, estimate: Any) -> None:
        """Find the condition of each box."""

        def noise(frequency: Tensor) -> Tensor:
            return data.noise(frequency) / self.scale**2

        def part(density: Any, position: Position) -> Tensor:
            return cut(density, position, self.boxes.sides)[None] / self.scale

        for position, number in self._numbers.items():
            density = part(data.data, position)
            observation = replace(observed(density, data.tilts, noise), power=local_power(density, self.side, self.stride))
            if estimate is not None:
                observation = replace(observation, estimate=part(estimate, position))
            self._contexts.put(number, self.sampler.context(observation))
            self._advance()

    @torch.no_grad()
    def latents(self, number: int, seed: int, steps: int) -> Tensor:
        """Latents (channels, z, y, x) of a sample of the posterior.

        Args:
            number: of the sample; the same number and seed give the same sample.
            seed: of the noise.
            steps: steps of Heun's method.
        """
        times = ode_times(steps).tolist()
        return self.flowed(NoiseField(seed, number, self.sampler.device).tile((0, 0, 0), self._shape, 0), times)

    @torch.no_grad()
    def flowed(self, state: Tensor, times: Sequence[float]) -> Tensor:
        """Take a state (channels, z, y, x) from the first of ``times`` to the last, by Heun's method."""
        for now, then in pairwise(times):
            first = self._velocity(state, now)
            second = self._velocity(state + (then - now) * first, then)
            state = state + (then - now) * 0.5 * (first + second)
        return state

    @torch.no_grad()
    def prior_velocity(self, state: Tensor, time: float) -> Tensor:
        """v of a state (channels, z, y, x) without its condition: that of the prior."""
        return self.blended(state, lambda part, _: self.prior(part, time))

    def prior(self, part: Tensor, time: float) -> Tensor:
        """The same for the state (1, channels, z, y, x) of one box."""
        flow, at = self.sampler.generator.flow, torch.full((1,), time, device=part.device)
        return flow(part, at, flow.no_context(tuple(part.shape), part))

    @torch.no_grad()
    def predicted(self) -> Tensor:
        """The predicted mean of the latents of the volume, (channels, z, y, x)."""
        return self.blended(
            torch.zeros(self._shape, device=self.sampler.device), lambda _, position: self._context(position).mean
        )

    @torch.no_grad()
    def slabs(self, latents: Tensor) -> Iterator[tuple[int, Tensor]]:
        """The density of latents of the volume, standardised like the data, in slabs: number of the first plane, (z, y, x)."""
        depth, (_, height, width) = self.boxes.sides[0], self.boxes.shape
        held = torch.zeros(0, height, width)
        starts, (_, ny, nx) = self.boxes.starts(0), self.shape
        rows = list(product(self.boxes.starts(1), self.boxes.starts(2)))
        for start, end in zip(starts, [*starts[1:], self.shape[0]], strict=True):
            total = torch.zeros(depth, height, width)
            total[: len(held)] = held
            for y, x in rows:
                tile = self.sampler.generator.decode(self._part(latents, (start, y, x)))[0].cpu()
                place = total[:, y : y + tile.shape[1], x : x + tile.shape[2]]
                place += tile * self.boxes.window((start, y, x)) * self.scale
                self._advance()
            held = total[end - start :].clone()
            yield start, total[: end - start, :ny, :nx]

    def _advance(self) -> None:
        patches = patches_in(self.boxes, self.side) // len(self.boxes)
        self.done += patches
        self._watch(patches)

    @property
    def _shape(self) -> tuple[int, ...]:
        """Shape of the latents of the volume, (channels, z, y, x)."""
        return self.sampler.generator.vae.latent_shape(self.boxes.shape)

    def _velocity(self, state: Tensor, time: float) -> Tensor:
        """v of all boxes, blended: (channels, z, y, x)."""
        at = torch.full((1,), time, device=state.device)
        return self.blended(state, lambda part, position: self.sampler.generator.flow(part, at, self._context(position)))

    def blended(self, state: Tensor, work: Callable[[Tensor, Position], Tensor]) -> Tensor:
        """What is made of each box of a state (channels, z, y, x), blended.

        Args:
            state: of the latents of the volume.
            work: makes (1, channels, z, y, x) of the state (1, channels, z, y, x) of the box at a position.
        """
        total = torch.zeros_like(state)
        for position in self._numbers:
            made = work(self._part(state, position), position)[0].float()
            self._part(total, position)[0].add_(made * self.boxes.window(position, self.stride).to(made))
            self._advance()
        return total

    def _context(self, position: Position) -> Context:
        """The condition of the box at a position."""
        return self._contexts.rows([self._numbers[position]], self.sampler.device)

    def _part(self, latents: Tensor, position: Position) -> Tensor:
        """Latents (1, channels, z, y, x) of one box of latents of the volume, in the same memory."""
        z, y, x = (
            slice(start // self.stride, (start + n) // self.stride) for start, n in zip(position, self.boxes.sides, strict=True)
        )
        return latents[None, :, z, y, x]


def boxes_of(shape: Shape, most: int, stride: int) -> Boxes:
    """The boxes of a volume (z, y, x) in voxels, padded so that its latents at ``stride`` can be halved."""
    unit = 2 * stride
    z, y, x = (-(-size // unit) * unit for size in shape)
    return Boxes((z, y, x), most, min(OVERLAP, most // 2 // unit * unit), unit)


def patches_in(boxes: Boxes, side: int) -> int:
    """Cubes of ``side`` voxels that all boxes amount to, each of them rounded up."""
    return len(boxes) * -(-prod(boxes.sides) // side**3)


def local_power(density: Tensor, side: int, stride: int) -> Tensor:
    """Mean square of densities (n, z, y, x) in cubes of ``side`` voxels about each place of their latents, cut at their borders.

    A patch of ``side`` voxels has its mean square everywhere, as in training.
    """
    square, count = nnf.avg_pool3d(density.square(), stride), side // stride
    for axis in (-3, -2, -1):
        size = square.shape[axis]
        sums = nnf.pad(square.movedim(axis, -1).cumsum(-1), (1, 0))
        first = (torch.arange(size) - count // 2).clamp(0, max(size - count, 0))
        last = (first + count).clamp_max(size)
        square = ((sums[..., last] - sums[..., first]) / (last - first)).movedim(-1, axis)
    for axis in (-3, -2, -1):
        square = square.repeat_interleave(stride, axis)
    return square
