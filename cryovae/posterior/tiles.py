"""A ladder applied to a whole volume, tile by tile: the density decoded from r's means, and opposite pairs of samples.

x = 1/T sum_g g^-1 G( E_r[ z | g u ] )             T rotations g that keep the wedge
z = mean + width * noise,  x+- = G(z+-)            the noise of a voxel is the same in all tiles that contain it
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from cryovae import distributed, fourier
from cryovae.models.ladder import Ladder, R
from cryovae.models.ladder_config import LadderConfig
from cryovae.physics.rotation import CubeRotation, symmetry_rotations
from cryovae.physics.wedge import smeared_mask
from cryovae.posterior.amortised import sample_pair
from cryovae.posterior.noise_field import NoiseField
from cryovae.posterior.tile_memory import fitting
from cryovae.tiling.batching import Batches, free_on
from cryovae.tiling.grid import Blender, PatchGrid, Position, cut, levels
from cryovae.tomogram import TiltGeometry

Result = TypeVar("Result")
# Voxels in a batch of tiles that use a GPU well.
GPU_VOXELS = 2**21


def side_of(config: LadderConfig, patch: int) -> int:
    """Side of the tiles for a ``patch``, in voxels: its half is a multiple of the coarsest stride, so tiles share latents."""
    return int(-(-patch // (2 * config.stride)) * 2 * config.stride)


class TilePredictor:
    """A trained ladder on tiles that overlap by half. Memory: a few volumes and a batch of tiles.

    Volumes are blended on the device of the data, which may be the GPU.

    Args:
        ladder: The model.
        patch: Side of the training patches, in voxels.
        batch: Tiles in a batch at most; on a GPU at least GPU_VOXELS voxels. Fewer if memory is short.
        seed: Seed of the noise.
        device: Device of the model.
        advance: Called with the number of tiles after each batch.
        shared: Each process takes its part of the tiles and all get the volume; all processes must make the same calls.
    """

    def __init__(
        self,
        ladder: Ladder,
        patch: int,
        batch: int,
        seed: int,
        device: torch.device,
        advance: Callable[[int], None],
        shared: bool = False,
    ) -> None:
        self.device, self.seed, self.advance, self.shared = device, seed, advance, shared
        self.ladder = ladder.to(device, memory_format=torch.channels_last_3d).eval()  # type: ignore[call-overload]
        self.side = side_of(ladder.config, patch)
        most = batch if device.type == "cpu" else max(batch, GPU_VOXELS // self.side**3)
        self.batches = Batches(fitting(ladder.config, self.side, most, free_on(device)))
        self._input_masks: dict[TiltGeometry, Tensor] = {}

    def grid(self, shape: tuple[int, ...]) -> PatchGrid:
        """The tiles of a (z, y, x) volume, overlapping by half."""
        return PatchGrid((shape[0], shape[1], shape[2]), self.side, self.side // 2)

    @torch.no_grad()
    def predict(self, data: Tensor, tilts: TiltGeometry, orientations: int = 1) -> Tensor:
        """x decoded from r's means for a standardised (z, y, x) volume, averaged over ``orientations`` that keep the wedge."""
        grid = self.grid(tuple(data.shape))
        blender = Blender(grid, data.device)
        rotations = symmetry_rotations(tilts)[:orientations]
        for rotation in rotations:

            def restore(tiles: Tensor, positions: Sequence[Position], rotation: CubeRotation = rotation) -> Tensor:
                return self.predict_tiles(tiles, tilts, [rotation])[0]

            for positions, densities in self._each(data, grid, restore):
                for position, tile in zip(positions, densities, strict=True):
                    blender.add(position, tile / len(rotations))
                self.advance(len(positions))
        return self._blended(blender)

    def pair(self, data: Tensor, tilts: TiltGeometry, pair: int) -> tuple[Tensor, Tensor]:
        """Two raw samples (z, y, x) of a standardised volume with opposite noise; ``pair`` cycles through the orientations."""
        grid = self.grid(tuple(data.shape))
        plus, minus = Blender(grid, data.device), Blender(grid, data.device)
        for positions, drawn in self._each(data, grid, lambda tiles, at: self.sample_tiles(tiles, at, tilts, pair)):
            for position, up, down in zip(positions, *drawn, strict=True):
                plus.add(position, up)
                minus.add(position, down)
            self.advance(len(positions))
        return self._blended(plus), self._blended(minus)

    @torch.no_grad()
    def predict_tiles(self, tiles: Tensor, tilts: TiltGeometry, orientations: Sequence[CubeRotation]) -> Tensor:
        """Restored densities (orientations, batch, z, y, x) of measured tiles (batch, z, y, x)."""
        masked, level = self._masked(tiles, tilts)
        densities = [r.inverse(self.ladder.restore(self.ladder.encode(r(masked), R), None)) for r in orientations]
        return torch.stack(densities) + level

    @torch.no_grad()
    def sample_tiles(self, tiles: Tensor, positions: Sequence[Position], tilts: TiltGeometry, pair: int) -> Tensor:
        """Two raw samples (2, batch, z, y, x) of measured tiles (batch, z, y, x) at ``positions`` in their volume."""
        noise, orientations = NoiseField(self.seed, pair, self.device), symmetry_rotations(tilts)
        masked, level = self._masked(tiles, tilts)
        return sample_pair(self.ladder, masked, positions, orientations[pair % len(orientations)], noise) + level

    def _each(
        self, data: Tensor, grid: PatchGrid, work: Callable[[Tensor, Sequence[Position]], Result]
    ) -> Iterator[tuple[Sequence[Position], Result]]:
        """Batches of positions, and the results of ``work`` for their tiles (batch, side, side, side)."""

        def on(positions: Sequence[Position]) -> Result:
            return work(torch.stack([cut(data, position, self.side) for position in positions]).to(self.device), positions)

        positions = list(grid)
        return self.batches.over(positions[distributed.own(len(positions))] if self.shared else positions, on)

    def _blended(self, blender: Blender) -> Tensor:
        if self.shared:
            distributed.summed(blender.total)
        return blender.blended()

    def _masked(self, tiles: Tensor, tilts: TiltGeometry) -> tuple[Tensor, Tensor]:
        """Tiles (batch, side, side, side) without patch mean and wedge, and their patch means (batch, 1, 1, 1)."""
        if tilts not in self._input_masks:
            self._input_masks[tilts] = smeared_mask((self.side,) * 3, tilts).to(self.device)
        level = levels(tiles)
        return fourier.filtered(tiles - level, self._input_masks[tilts]), level
