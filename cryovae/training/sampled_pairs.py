"""Pairs made of samples of tomograms: what the model of one tomogram is fitted to, in lap with sampling it.

    x^ ~ p(x | y)                       a sample of the whole tomogram, clean and complete
    y~ = M (R x^ + n)                   R a rotation that brings measured bins into the wedge, n noise of the measured spectrum

A scene is one sample in one orientation with its own noise. Scenes and patches follow from (seed, step) alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from cryovae import fourier
from cryovae.physics.observation import NoiseFunction, observed
from cryovae.physics.rotation import CubeRotation, training_rotations
from cryovae.simulation.patches import Pairs, measured
from cryovae.tiling.grid import cut
from cryovae.tomogram import TiltGeometry

# Estimates the density (z, y, x) of measured data of that shape.
Estimator = Callable[[Tensor], Tensor]
# Patches of one scene in a batch: what is the same for a scene is computed once.
PATCHES_OF_SCENE = 4


@dataclass(frozen=True)
class SampledTomogram:
    """A tomogram and samples of it, all in units of the standard deviation of its signal.

    Attributes:
        samples: x^, (z, y, x) each.
        tilts: the tilt geometry.
        noise: sigma^2.
        estimator: of the density.
        corners: first voxels of patches that may be drawn, (n, 3), or None for all of the volume.
        scored: True for voxels that may be scored, (z, y, x), or None for all.
    """

    samples: Sequence[Tensor]
    tilts: TiltGeometry
    noise: NoiseFunction
    estimator: Estimator
    corners: Tensor | None = None
    scored: Tensor | None = None


@dataclass(frozen=True)
class _Scene:
    """A sample, rotated and measured anew, in half precision; first voxels of its patches and scored voxels, or None for all."""

    clean: Tensor
    data: Tensor
    estimate: Tensor
    corners: Tensor | None
    scored: Tensor | None
    of: SampledTomogram


class SampledPairs:
    """Draws batches of pairs.

    Args:
        tomograms: with their samples.
        side: of the patches, in voxels.
        count: number of scenes.
        seed: of orientations and noise.
        watch: called with the number of scenes that are made.
    """

    def __init__(
        self,
        tomograms: Sequence[SampledTomogram],
        side: int,
        count: int,
        seed: int,
        watch: Callable[[int], None] = lambda done: None,
    ) -> None:
        self.side = side
        self._scenes: list[_Scene] = []
        generator = torch.Generator().manual_seed(seed)
        orders = [torch.randperm(24, generator=generator).tolist() for _ in tomograms]
        for number in range(count):
            one = tomograms[number % len(tomograms)]
            lap = number // len(tomograms)
            rotations = training_rotations(one.tilts)
            order = [index for index in orders[number % len(tomograms)] if index < len(rotations)]
            rotation = rotations[order[lap % len(order)]]
            self._scenes.append(self._scene(one, one.samples[lap % len(one.samples)], rotation, generator))
            watch(number + 1)

    def batch(self, step: int, size: int, generator: torch.Generator) -> Pairs:
        """``size`` random pairs, some of each of several scenes."""
        parts, left = [], size
        while left:
            count = min(left, PATCHES_OF_SCENE)
            scene = self._scenes[int(torch.randint(len(self._scenes), (1,), generator=generator))]
            parts.append(self._pairs(scene, count, generator))
            left -= count
        return Pairs.joined(parts)

    def _scene(self, one: SampledTomogram, sample: Tensor, rotation: CubeRotation, generator: torch.Generator) -> _Scene:
        clean = rotation(sample)
        data = measured(clean, one.tilts, one.noise(fourier.frequencies(clean.shape)), generator)
        corners = None if one.corners is None else _rotated(one.corners, sample.shape, rotation, self.side)
        scored = None if one.scored is None else rotation(one.scored)
        return _Scene(clean.half(), data.half(), one.estimator(data).half(), corners, scored, one)

    def _pairs(self, scene: _Scene, count: int, generator: torch.Generator) -> Pairs:
        if scene.corners is None:
            room = [max(size - self.side, 0) + 1 for size in scene.clean.shape]
            corners = torch.stack([torch.randint(r, (count,), generator=generator) for r in room], 1)
        else:
            corners = scene.corners[torch.randint(len(scene.corners), (count,), generator=generator)]
        clean, data, estimate = (_cut(volume, corners, self.side) for volume in (scene.clean, scene.data, scene.estimate))
        observation = replace(observed(data, scene.of.tilts, scene.of.noise), estimate=estimate)
        scored = None if scene.scored is None else _cut(scene.scored, corners, self.side)
        return Pairs(clean, observation, torch.zeros(count, dtype=torch.long), (scene.of.tilts,) * count, scored)


def _rotated(first: Tensor, shape: Sequence[int], rotation: CubeRotation, side: int) -> Tensor:
    """First voxels (n, 3) of the same patches after a rotation of their volume."""
    ends = torch.tensor(shape) - side
    columns = [
        first[:, axis] if sign > 0 else ends[axis] - first[:, axis]
        for axis, sign in zip(rotation.axes, rotation.signs, strict=True)
    ]
    return torch.stack(columns, 1)


def _cut(volume: Tensor, corners: Tensor, side: int) -> Tensor:
    return torch.stack([cut(volume, (z, y, x), side) for z, y, x in corners.tolist()])
