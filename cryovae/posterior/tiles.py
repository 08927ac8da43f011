"""A ladder applied to a whole volume, tile by tile: r's answer, and opposite pairs of samples.

x = 1/T sum_g g^-1 G( E_r[ z | g u ] )             T orientations g that keep the wedge
z = mean + width * noise,  x+- = G(z+-)            the noise of a voxel being the same in all tiles that hold it
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from cryovae import distributed, fourier
from cryovae.models.ladder import Ladder, LadderConfig, R
from cryovae.physics.rotation import CubeRotation, symmetry_rotations
from cryovae.physics.wedge import smeared_mask
from cryovae.posterior.amortised import sample_pair
from cryovae.posterior.noise_field import NoiseField
from cryovae.posterior.tile_memory import fitting
from cryovae.tiling.batching import Batches, free_on
from cryovae.tiling.grid import Blender, PatchGrid, Position, cut, levels
from cryovae.tomogram import TiltGeometry

Result = TypeVar("Result")
# Voxels by which a GPU is kept busy.
AT_ONCE = 2**21


def side_of(config: LadderConfig, patch: int) -> int:
    """Voxels along a tile: the next size of which a half is a multiple of the coarsest stride, so that tiles share latents."""
    return int(-(-patch // (2 * config.stride)) * 2 * config.stride)


class TilePredictor:
    """A trained ladder on tiles that overlap by half. Memory: a few volumes and a batch of tiles.

    patch: side of the patches of training, in voxels. batch: tiles at once at most, on a GPU as many as make up AT_ONCE voxels at
    least; fewer where memory is short. Volumes are blended where the data lie, and may lie on the GPU. advance: is told
    of each batch how many tiles it had. shared: each rank takes its part of the tiles, and all have the volume; all of them must
    ask for it then.
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
        most = batch if device.type == "cpu" else max(batch, AT_ONCE // self.side**3)
        self.batches = Batches(fitting(ladder.config, self.side, most, free_on(device)))
        self._given: dict[TiltGeometry, Tensor] = {}

    def grid(self, shape: tuple[int, ...]) -> PatchGrid:
        """The tiles of a (z, y, x) volume, overlapping by half."""
        return PatchGrid((shape[0], shape[1], shape[2]), self.side, self.side // 2)

    @torch.no_grad()
    def predict(self, data: Tensor, tilts: TiltGeometry, orientations: int = 1) -> Tensor:
        """x decoded from r's means for a standardised (z, y, x) volume, in up to ``orientations`` orientations that keep the wedge."""
        grid = self.grid(tuple(data.shape))
        blender = Blender(grid, data.device)
        kept = symmetry_rotations(tilts)[:orientations]
        for rotation in kept:

            def answer(tiles: Tensor, positions: Sequence[Position], rotation: CubeRotation = rotation) -> Tensor:
                return self.predict_tiles(tiles, tilts, [rotation])[0]

            for positions, found in self._each(data, grid, answer):
                for position, tile in zip(positions, found, strict=True):
                    blender.add(position, tile / len(kept))
                self.advance(len(positions))
        return self._blended(blender)

    def pair(self, data: Tensor, tilts: TiltGeometry, pair: int) -> tuple[Tensor, Tensor]:
        """Two raw samples (z, y, x) of a standardised volume, with opposite noise; ``pair`` counts the orientations through."""
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
        """The answer (turns, batch, z, y, x) to tiles (batch, z, y, x) as measured, in each of the orientations."""
        empty, level = self._emptied(tiles, tilts)
        found = [rotation.inverse(self.ladder.restore(self.ladder.encode(rotation(empty), R), None)) for rotation in orientations]
        return torch.stack(found) + level

    @torch.no_grad()
    def sample_tiles(self, tiles: Tensor, positions: Sequence[Position], tilts: TiltGeometry, pair: int) -> Tensor:
        """Two raw samples (2, batch, z, y, x) of tiles (batch, z, y, x) as measured, at ``positions`` in their volume."""
        noise, orientations = NoiseField(self.seed, pair, self.device), symmetry_rotations(tilts)
        empty, level = self._emptied(tiles, tilts)
        return sample_pair(self.ladder, empty, positions, orientations[pair % len(orientations)], noise) + level

    def _each(
        self, data: Tensor, grid: PatchGrid, work: Callable[[Tensor, Sequence[Position]], Result]
    ) -> Iterator[tuple[Sequence[Position], Result]]:
        """Batches of positions, and what ``work`` makes of their tiles (batch, side, side, side)."""

        def on(positions: Sequence[Position]) -> Result:
            return work(torch.stack([cut(data, position, self.side) for position in positions]).to(self.device), positions)

        positions = list(grid)
        return self.batches.over(positions[distributed.own(len(positions))] if self.shared else positions, on)

    def _blended(self, blender: Blender) -> Tensor:
        if self.shared:
            distributed.summed(blender.total)
        return blender.blended()

    def _emptied(self, tiles: Tensor, tilts: TiltGeometry) -> tuple[Tensor, Tensor]:
        """Tiles (batch, side, side, side), their levels taken out and their wedge made empty, and those levels."""
        if tilts not in self._given:
            self._given[tilts] = smeared_mask((self.side,) * 3, tilts).to(self.device)
        level = levels(tiles)
        return fourier.filtered(tiles - level, self._given[tilts]), level
