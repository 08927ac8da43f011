"""A ladder applied to a whole volume, in one pass or in a few large boxes: the density decoded from r's means, and samples.

    x = 1/T sum_g g^-1 G( E_r[ z | g u ] )             u a box without its wedge, g one of T rotations that keep the wedge
    z = mean + width * noise,  x+- = G(z+-)            the noise of a voxel is the same in all boxes that contain it

Samples come in pairs of opposite noise. Both have the mean of r at every level of a linear ladder, so an average over pairs has
much less Monte Carlo error than one over independent samples.

The network is convolutional, so a box may have any size. Near its border a box lacks the data beyond, so boxes overlap by OVERLAP
voxels, and are blended in the middle half of that (tiling/boxes.py).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from math import prod

import torch
from torch import Tensor

from cryovae import distributed, fourier
from cryovae.models.ladder import Ladder, R
from cryovae.models.ladder_config import LadderConfig
from cryovae.physics.rotation import CubeRotation, symmetry_rotations
from cryovae.physics.wedge import smeared_mask
from cryovae.posterior.codes import fast_convolutions
from cryovae.posterior.noise_field import NoiseField
from cryovae.posterior.tile_memory import bytes_of_voxel
from cryovae.tiling.batching import free_on, lacks_memory
from cryovae.tiling.boxes import Boxes, Shape, Work, boxes_within
from cryovae.tiling.grid import Position, cut, levels
from cryovae.tomogram import TiltGeometry

log = logging.getLogger("cryovae")
# Overlap of neighbouring boxes in voxels. Half of it is blended; the 8 voxels at the border of a box have no weight.
OVERLAP = 32
# Share of the free memory of a GPU that a box may take, and the most that it may take anywhere, in bytes.
SHARE, LARGEST = 0.5, 6e9


def largest_box(config: LadderConfig, device: torch.device) -> float:
    """Voxels of the largest box: LARGEST bytes on a processor, and on a GPU no more than SHARE of its free memory."""
    return min(SHARE * free_on(device), LARGEST) / bytes_of_voxel(config)


class LadderBoxes:
    """A trained ladder on boxes of volumes. Memory: a few volumes and one box.

    Volumes are blended on the device of the data, which may be the GPU.

    Attributes:
        ladder: the model, on ``device``.
        patch: side of the training patches, in voxels.
        seed: of the noise.
        device: of the model.
        voxels: of a box at most; halved when memory runs out.
        advance: called after each box with the patches of training that it amounts to.
        shared: each process takes its part of the boxes and all get the volume; all processes must make the same calls.
    """

    def __init__(
        self,
        ladder: Ladder,
        patch: int,
        device: torch.device,
        seed: int = 0,
        advance: Callable[[int], None] = lambda patches: None,
        shared: bool = False,
        voxels: float | None = None,
    ) -> None:
        self.ladder = ladder.to(device, memory_format=torch.channels_last_3d).eval()  # type: ignore[call-overload]
        self.patch, self.device, self.seed, self.advance, self.shared = patch, device, seed, advance, shared
        self.voxels = largest_box(ladder.config, device) if voxels is None else voxels
        self._last_mask: tuple[tuple[tuple[int, ...], TiltGeometry], Tensor] | None = None

    def boxes(self, shape: Sequence[int]) -> Boxes:
        """The boxes of a (z, y, x) volume, padded so that all sizes are multiples of the coarsest stride."""
        # Free memory differs between ranks, and they must agree.
        voxels = distributed.broadcast(self.voxels) if self.shared else self.voxels
        return boxes_within(self._padded(shape), self.ladder.config.stride, OVERLAP, voxels)

    def patches(self, shape: Sequence[int]) -> int:
        """What one pass over all boxes of a volume amounts to, in patches of training."""
        boxes = self.boxes(shape)
        return len(boxes) * self._patches_of(boxes)

    @torch.no_grad()
    def predict(self, data: Tensor, tilts: TiltGeometry, orientations: int = 1) -> Tensor:
        """The mean (z, y, x) of a standardised volume, averaged over ``orientations`` that keep the wedge."""
        rotations = symmetry_rotations(tilts)[:orientations]
        return self._blended(data, 1, lambda box, _: self.mean(box, tilts, rotations), len(rotations))[0]

    @torch.no_grad()
    def pair(self, data: Tensor, tilts: TiltGeometry, number: int) -> Tensor:
        """Two samples (2, z, y, x) with opposite noise; ``number`` goes through the noises and the orientations."""
        return self._blended(data, 2, lambda box, position: self.sampled(box, position, tilts, number))

    @torch.no_grad()
    def sample(self, data: Tensor, tilts: TiltGeometry, number: int) -> Tensor:
        """One sample (z, y, x), the first of ``pair``."""
        return self._blended(data, 1, lambda box, position: self.sampled(box, position, tilts, number, opposite=False))[0]

    def mean(self, box: Tensor, tilts: TiltGeometry, orientations: Sequence[CubeRotation]) -> Tensor:
        """The mean (1, z, y, x) of a measured box (1, z, y, x), averaged over orientations."""
        masked, level = self._masked(box, tilts)
        total = torch.zeros_like(masked)
        for rotation in orientations:
            total += rotation.inverse(self.ladder.restore(self.ladder.encode(rotation(masked), R), None))
        return total / len(orientations) + level

    def sampled(self, box: Tensor, position: Position, tilts: TiltGeometry, number: int, opposite: bool = True) -> Tensor:
        """Two samples (2, z, y, x) with opposite noise, or one, of a measured box (1, z, y, x) at a position in its volume."""
        rotations, field = symmetry_rotations(tilts), NoiseField(self.seed, number, self.device)
        rotation = rotations[number % len(rotations)]
        masked, level = self._masked(box, tilts)
        shapes = self.ladder.latent_shapes(masked.shape[-3:])
        noise = [rotation(field.tiles([position], shape, at)) for at, shape in enumerate(shapes)]
        features = self.ladder.encode(rotation(masked), R)
        drawn = self.ladder.restore_pair(features, noise)[:, 0] if opposite else self.ladder.restore(features, noise)
        return rotation.inverse(drawn) + level

    def applied(self, box: Tensor, position: Position, work: Work) -> Tensor:
        """What ``work`` makes of a box (z, y, x), as (1, z, y, x); where memory runs out, of smaller boxes of it."""
        sides = (box.shape[0], box.shape[1], box.shape[2])
        parts = boxes_within(sides, self.ladder.config.stride, OVERLAP, self.voxels)
        if len(parts) == 1:
            try:
                # torch takes a slow implementation for a single tile.
                with fast_convolutions():
                    return work(box[None].to(self.device), position)
            except (MemoryError, RuntimeError) as error:
                smaller = boxes_within(sides, self.ladder.config.stride, OVERLAP, prod(sides) / 2)
                if not lacks_memory(error) or len(smaller) == 1:
                    raise
                self.voxels = prod(smaller.sides)
                log.warning("memory ran out with a box of %d x %d x %d voxels: going on with smaller ones", *sides)
            # Outside the handler, because the error keeps the tensors of the box alive inside it.
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            parts = smaller
        made: Tensor | None = None
        for start in parts:
            z, y, x = place = tuple(slice(first, first + n) for first, n in zip(start, parts.sides, strict=True))
            at = (position[0] + start[0], position[1] + start[1], position[2] + start[2])
            part = self.applied(box[place], at, work)
            made = part.new_zeros(len(part), *sides) if made is None else made
            made[:, z, y, x] += part * parts.window(start).to(part)
        assert made is not None
        return made

    def _blended(self, data: Tensor, outputs: int, work: Work, passes: int = 1) -> Tensor:
        """What ``work`` makes of all boxes of a volume, (outputs, z, y, x)."""
        shape, boxes = tuple(data.shape), self.boxes(data.shape)
        total = torch.zeros(outputs, *shape, device=data.device)
        positions = list(boxes)
        for position in positions[distributed.own(len(positions))] if self.shared else positions:
            made = self.applied(cut(data, position, boxes.sides), position, work).to(total.device)
            if len(boxes) > 1:
                made = made * boxes.window(position).to(made)
            z, y, x = (slice(start, min(start + n, size)) for start, n, size in zip(position, boxes.sides, shape, strict=True))
            total[:, z, y, x] += made[:, : z.stop - z.start, : y.stop - y.start, : x.stop - x.start]
            self.advance(passes * self._patches_of(boxes))
        if self.shared:
            distributed.summed(total)
        return total

    def _patches_of(self, boxes: Boxes) -> int:
        """Patches of training that one box amounts to, rounded up."""
        return -(-prod(boxes.sides) // self.patch**3)

    def _padded(self, shape: Sequence[int]) -> Shape:
        """Sizes rounded up to multiples of the coarsest stride, and to two of them at least."""
        stride = self.ladder.config.stride
        z, y, x = (max(-(-size // stride), 2) * stride for size in shape)
        return z, y, x

    def _masked(self, box: Tensor, tilts: TiltGeometry) -> tuple[Tensor, Tensor]:
        """A box (1, z, y, x) without its mean and wedge, and its mean (1, 1, 1, 1)."""
        level = levels(box)
        return fourier.filtered(box - level, self._input_mask(box, tilts)), level

    def _input_mask(self, box: Tensor, tilts: TiltGeometry) -> Tensor:
        """The mask of the wedge for a box; the last is kept, since nearly all boxes have one shape."""
        key = tuple(box.shape[-3:]), tilts
        if self._last_mask is None or self._last_mask[0] != key:
            self._last_mask = key, smeared_mask(key[0], tilts).to(box)
        return self._last_mask[1]
