"""A ladder applied to a volume tile by tile, with a posterior that is refined or sampled for each tile on its own.

    r(z | u)  ->  r*(z | u, y)                          refinement (refinement.py), as many steps as early stopping allows
              ->  x = G(z), z ~ r*  |  sum_k w_k G(z_k)

For each tile and each rotation g that keeps the wedge, the features of g u are those of an ordinary restoration, and the r of
each level is moved. The density decoded from the means is the tile's mean, and samples use the same noise as without
(noise_field.py). The bound scores all measured bins of the tile with mask and sigma^2 rotated by g; voxels outside the volume are
not scored. A tile is finished in one go, so a volume is held for each sample. Noise and candidates are indexed by absolute
position, so overlapping tiles share them. Each tile decides on its own which candidates count; where tiles differ, the blended
samples vary a little less than those of a tile.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from cryovae import fourier
from cryovae.data.measurement import Measurement
from cryovae.models.ladder import Ladder, LadderDistribution, R
from cryovae.physics.noise import NoiseSpectrum
from cryovae.physics.rotation import CubeRotation, rotated_frequencies, symmetry_rotations
from cryovae.physics.wedge import patch_mask, smeared_mask
from cryovae.posterior.ladder_boxes import LadderBoxes
from cryovae.posterior.noise_field import NoiseField
from cryovae.posterior.problem import Moves, Problem, drawn, problem_of
from cryovae.posterior.refinement import CHECK_DRAWS, optimised
from cryovae.posterior.reweighted import candidates
from cryovae.posterior.search import AMORTISED, REWEIGHTED, SearchConfig, SearchRecord
from cryovae.posterior.tile_memory import fitting, side_of
from cryovae.tiling.batching import Batches, free_on
from cryovae.tiling.grid import Blender, PatchGrid, Position, cut, inside
from cryovae.tiling.grid import levels as patch_means
from cryovae.tomogram import TiltGeometry

# Voxels in a batch of tiles that use a GPU well.
GPU_VOXELS = 2**21
# Gradients hold every layer: tiles take this many times the memory of a pair of samples.
HELD = 6
# First number of the noise fields of candidates, beyond those of samples.
CANDIDATE = 10**4
# Mean (batch, z, y, x) of tiles, and their samples by number.
MeanAndSamples = tuple[Tensor, dict[int, Tensor]]


@dataclass(frozen=True)
class PosteriorVolumes:
    """Mean and samples of a volume.

    Attributes:
        mean: (z, y, x).
        samples: Volumes as ``mean``.
        figures: Figures of the search for the record of a restoration.
        opposite: Whether samples 2k and 2k + 1 have opposite noise.
    """

    mean: Tensor
    samples: list[Tensor]
    figures: dict[str, object]
    opposite: bool

    def pair(self, number: int) -> tuple[Tensor, Tensor]:
        """Samples 2 number and 2 number + 1."""
        return self.samples[2 * number], self.samples[2 * number + 1]

    def deviation(self) -> Tensor:
        """A difference from the mean with the variance of a sample, (z, y, x), from the first pair."""
        return (self.samples[0] - self.samples[1]) / (2 if self.opposite else 2**0.5)


@dataclass(frozen=True)
class RotatedTiles:
    """The inference problem of tiles in one orientation.

    Attributes:
        problem: The tiles, rotated.
        moves: Moves of their posterior, or None.
        positions: First voxels of the tiles.
        rotation: The orientation.
        number: Its number.
        samples: Numbers of the samples drawn in it.
    """

    problem: Problem
    moves: Moves | None
    positions: Sequence[Position]
    rotation: CubeRotation
    number: int
    samples: list[int]

    @property
    def posterior(self) -> LadderDistribution:
        """The posterior of the tiles, refined if there are moves."""
        return self.problem.posterior.moved(self.moves)


class PosteriorTiles:
    """Refines and samples the posterior of each tile of a volume.

    Args:
        predictor: The ladder, its device and seed.
        config: Settings.
        allowed: Steps of refinement.
        batch: Tiles in a batch at most; on a GPU at least GPU_VOXELS voxels. Fewer if memory is short.
    """

    def __init__(self, predictor: LadderBoxes, config: SearchConfig, allowed: int, batch: int) -> None:
        self.predictor, self.config, self.allowed = predictor, config, allowed
        sizes, device = predictor.ladder.config, predictor.device
        self.side = side_of(sizes, predictor.patch)
        most = batch if device.type == "cpu" else max(batch, GPU_VOXELS // self.side**3)
        self.batches = Batches(fitting(sizes, self.side, most, free_on(device) / HELD))

    def grid(self, shape: tuple[int, ...]) -> PatchGrid:
        """The tiles of a (z, y, x) volume, overlapping by half."""
        return PatchGrid((shape[0], shape[1], shape[2]), self.side, self.side // 2)

    def orientations(self, tilts: TiltGeometry) -> Sequence[CubeRotation]:
        """The rotations that keep the wedge, as many as the settings ask for."""
        return symmetry_rotations(tilts)[: self.config.orientations]

    @torch.no_grad()
    def over(
        self, data: Tensor, tilts: TiltGeometry, noise: NoiseSpectrum, samples: int, excess: float = 1.0
    ) -> PosteriorVolumes:
        """Mean and samples of a volume.

        Args:
            data: Standardised volume, (z, y, x).
            tilts: Its tilt geometry.
            noise: Noise spectrum.
            samples: Number of samples, even.
            excess: Variance of the volume's noise over ``noise``.
        """
        grid, record = self.grid(tuple(data.shape)), SearchRecord()
        mean, sampled = Blender(grid), [Blender(grid) for _ in range(samples)]
        active, side = range(len(self.orientations(tilts))), self.side

        def of_batch(positions: Sequence[Position]) -> list[MeanAndSamples]:
            tiles = torch.stack([cut(data, position, side) for position in positions]).to(self.predictor.device)
            support = torch.stack([inside(position, side, tuple(data.shape)) for position in positions]).to(tiles)
            level = patch_means(tiles)
            rotated = (
                self._rotated(tiles - level, support, positions, tilts, (noise, excess), number, samples, record)
                for number in active
            )
            return [self._restored(one, level, record) for one in rotated]

        with frozen(self.predictor.ladder):
            for positions, restored in self.batches.over(list(grid), of_batch):
                for tile_mean, tile_samples in restored:
                    for row, position in enumerate(positions):
                        mean.add(position, tile_mean[row] / len(active))
                        for number, density in tile_samples.items():
                            sampled[number].add(position, density[row])
                    self.predictor.advance(len(positions))
        figures = record.figures(self.config, self.allowed)
        return PosteriorVolumes(mean.blended(), [one.blended() for one in sampled], figures, self.config.sampler == AMORTISED)

    def _rotated(
        self,
        tiles: Tensor,
        support: Tensor,
        positions: Sequence[Position],
        tilts: TiltGeometry,
        noise: tuple[NoiseSpectrum, float],
        number: int,
        samples: int,
        record: SearchRecord,
    ) -> RotatedTiles:
        """Tiles in orientation ``number``, their posterior refined."""
        orientations = self.orientations(tilts)
        rotation = orientations[number]
        problem = self._problem(rotation(tiles), rotation(support), tilts, rotation, noise)
        moves = self._refined(problem, record) if self.allowed else None
        own = [n for n in range(samples) if (n // 2) % len(orientations) == number]
        return RotatedTiles(problem, moves, positions, rotation, number, own)

    def _restored(self, tiles: RotatedTiles, level: Tensor, record: SearchRecord) -> MeanAndSamples:
        """Mean and samples of tiles in one orientation, rotated back, with their patch means."""
        sampler = {AMORTISED: self._amortised, REWEIGHTED: self._reweighted}[self.config.sampler]
        mean, samples = sampler(tiles, record)
        inverse = tiles.rotation.inverse
        return inverse(mean) + level, {n: inverse(x) + level for n, x in samples.items()}

    def _problem(
        self, data: Tensor, support: Tensor, tilts: TiltGeometry, rotation: CubeRotation, noise: tuple[NoiseSpectrum, float]
    ) -> Problem:
        shape, (spectrum, excess) = data.shape[-3:], noise
        input_mask = smeared_mask(shape, tilts, rotation.matrix).to(data)
        mask = patch_mask(shape, tilts, rotation.matrix).to(data)
        variance = excess * spectrum(rotated_frequencies(fourier.frequencies(shape), rotation.matrix)).to(data)
        rows = (len(data), *mask.shape)
        m = Measurement(
            input_full=data,
            input_masked=fourier.filtered(data, input_mask),
            data=data,
            mask=mask.expand(rows),
            target_mask=torch.zeros_like(mask).expand(rows),
            variance=variance.expand(rows),
            support=None if bool((support == 1).all()) else support,
        )
        return problem_of(self.predictor.ladder, m, R)

    def _refined(self, problem: Problem, record: SearchRecord) -> Moves:
        """The moves of the posterior; their gain is estimated with random numbers that refinement did not use."""
        began, seed = time.monotonic(), self.predictor.seed
        moves = optimised(problem, self.config.refine, seed=seed, stop=self.allowed)
        record.seconds += time.monotonic() - began
        before, after = (drawn(problem, CHECK_DRAWS, seed + 2, each).bound_mean for each in (None, moves))
        record.gains.extend(((after - before) / problem.bins.double()).tolist())
        return moves

    def _amortised(self, tiles: RotatedTiles, record: SearchRecord) -> MeanAndSamples:
        samples = {}
        for n in tiles.samples:
            noise = self._noise(tiles, n // 2)
            samples[n] = tiles.posterior.sample(noise if n % 2 == 0 else [-e for e in noise]).density
        return tiles.posterior.mean().density, samples

    def _reweighted(self, tiles: RotatedTiles, record: SearchRecord) -> MeanAndSamples:
        config = self.config
        noises = [self._noise(tiles, CANDIDATE + tiles.number * config.candidates + k) for k in range(config.candidates)]
        weighted = candidates(tiles.problem, noises, config.temperature, tiles.moves)
        record.effective.extend(weighted.effective.tolist())
        generator = torch.Generator().manual_seed(self.predictor.seed * 7919 + tiles.number)
        quantiles = torch.rand(len(tiles.samples), generator=generator)
        samples = dict(zip(tiles.samples, weighted.drawn(quantiles), strict=True)) if tiles.samples else {}
        return weighted.mean(), samples

    def _noise(self, tiles: RotatedTiles, number: int) -> list[Tensor]:
        """N(0, I) of rotated tiles, fine to coarse, (batch, channels, z, y, x) each."""
        field = NoiseField(self.predictor.seed, number, self.predictor.device)
        shapes = self.predictor.ladder.latent_shapes((self.side,) * 3)
        return [tiles.rotation(field.tiles(tiles.positions, shape, level)) for level, shape in enumerate(shapes)]


@contextmanager
def frozen(ladder: Ladder) -> Iterator[None]:
    """Switch off the gradients of the weights, and restore them afterwards."""
    learning = [p for p in ladder.parameters() if p.requires_grad]
    for p in learning:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in learning:
            p.requires_grad_(True)
