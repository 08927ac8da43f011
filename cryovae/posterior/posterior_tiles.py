"""A ladder applied to a whole volume, tile by tile, where each tile is searched for and not answered at once.

    r(z | u)  ->  r*(z | u, y)                          moved by steps of its own (refined.py), as many as the guard allows
              ->  x = G(z), z ~ r*  |  sum_k w_k G(z_k)  |  chains of Langevin steps from r*

Where a refined posterior enters: for each tile, in each orientation g that keeps the wedge, r's features of g u are what they are
in an ordinary restoration; on the way down the ladder each level's r is moved, given the state above it; what is decoded from the
means is that tile's part of the answer, and samples are drawn with the same noise as without (noise_field.py). The bound that is
raised scores all measured bins of the tile, with the prior of the ladder and the noise of the prepared: the likelihood has the
mask and sigma^2 turned by g. What lies past the volume is scored nowhere. So everything is done for a tile at once, and a volume
is held for each sample. Noise, candidates and steps of chains are indexed by absolute place, so that tiles that overlap share
them; which steps are accepted and which candidates count, each tile decides for itself, and where tiles disagree the blended
samples differ a little less than the samples of a tile.
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
from cryovae.models.ladder import Ladder, R
from cryovae.physics.noise import NoiseSpectrum
from cryovae.physics.rotation import CubeRotation, rotated_frequencies, symmetry_rotations
from cryovae.physics.wedge import patch_mask, smeared_mask
from cryovae.posterior.langevin import begun, chains, target
from cryovae.posterior.noise_field import NoiseField
from cryovae.posterior.problem import Moves, Problem, decoded, drawn, problem_of
from cryovae.posterior.refinement import JUDGED_BY, optimised
from cryovae.posterior.reweighted import candidates
from cryovae.posterior.search import AMORTISED, LANGEVIN, LONGEST, REWEIGHTED, SearchConfig, Tally
from cryovae.posterior.tile_memory import fitting
from cryovae.posterior.tiles import TilePredictor
from cryovae.tiling.batching import Batches, free_on
from cryovae.tiling.grid import Blender, Position, cut, inside, levels
from cryovae.tomogram import TiltGeometry

# Gradients hold every layer: tiles take this many times the memory of a pair of samples.
HELD = 6
# Where the numbers of noise fields of candidates and of chains begin, past those of samples.
CANDIDATE, CHAIN = 10**4, 10**6


@dataclass(frozen=True)
class Found:
    """answer: (z, y, x); samples: likewise; figures: of the search. opposite: whether samples 2k and 2k + 1 are of one noise."""

    answer: Tensor
    samples: list[Tensor]
    figures: dict[str, object]
    opposite: bool

    def pair(self, number: int) -> tuple[Tensor, Tensor]:
        """Samples 2 number and 2 number + 1."""
        return self.samples[2 * number], self.samples[2 * number + 1]

    def deviation(self) -> Tensor:
        """A difference from the mean with the variance of a sample, (z, y, x), from the first pair."""
        return (self.samples[0] - self.samples[1]) / (2 if self.opposite else 2**0.5)


class PosteriorTiles:
    """Tiles of a volume searched for. predictor: whose ladder, tiles and noise are used. allowed: steps of refinement."""

    def __init__(self, predictor: TilePredictor, config: SearchConfig, allowed: int) -> None:
        self.predictor, self.config, self.allowed = predictor, config, allowed
        size = fitting(predictor.ladder.config, predictor.side, predictor.batches.size, free_on(predictor.device) / HELD)
        self.batches = Batches(size)

    def orientations(self, tilts: TiltGeometry) -> Sequence[CubeRotation]:
        """The orientations in which tiles are searched."""
        return symmetry_rotations(tilts)[: self.config.orientations]

    def busy(self, tilts: TiltGeometry, samples: int) -> list[int]:
        """Those that have something to do, by number: chains are run for samples alone."""
        count = len(self.orientations(tilts))
        return [t for t in range(count) if self.config.sampler != LANGEVIN or t < samples // 2]

    @torch.no_grad()
    def over(self, data: Tensor, tilts: TiltGeometry, noise: NoiseSpectrum, samples: int, excess: float = 1.0) -> Found:
        """The answer to a standardised volume (z, y, x), and ``samples``, an even number.

        excess: variance of the volume's noise over ``noise``.
        """
        grid = self.predictor.grid(tuple(data.shape))
        answer, drawn_ = Blender(grid), [Blender(grid) for _ in range(samples)]
        busy, tally, side = self.busy(tilts, samples), Tally(), self.predictor.side

        def work(positions: Sequence[Position]) -> list[tuple[Tensor, dict[int, Tensor]]]:
            tiles = torch.stack([cut(data, position, side) for position in positions]).to(self.predictor.device)
            support = torch.stack([inside(position, side, tuple(data.shape)) for position in positions]).to(tiles)
            return [self._of_orientation(tiles, support, positions, tilts, (noise, excess), t, samples, tally) for t in busy]

        with frozen(self.predictor.ladder):
            for positions, found in self.batches.over(list(grid), work):
                for mean, sampled in found:
                    for row, position in enumerate(positions):
                        answer.add(position, mean[row] / len(busy))
                        for number, density in sampled.items():
                            drawn_[number].add(position, density[row])
                    self.predictor.advance(len(positions))
        figures = tally.figures(self.config, self.allowed)
        return Found(answer.blended(), [one.blended() for one in drawn_], figures, self.config.sampler == AMORTISED)

    def _of_orientation(
        self,
        tiles: Tensor,
        support: Tensor,
        positions: Sequence[Position],
        tilts: TiltGeometry,
        noise: tuple[NoiseSpectrum, float],
        t: int,
        samples: int,
        tally: Tally,
    ) -> tuple[Tensor, dict[int, Tensor]]:
        """The answer (batch, z, y, x) of tiles in one orientation, and the samples, by number, that are drawn in it."""
        orientations = self.orientations(tilts)
        rotation, level = orientations[t], levels(tiles)
        problem = self._problem(rotation(tiles - level), rotation(support), tilts, rotation, noise)
        place = Place(positions, rotation, [n for n in range(samples) if (n // 2) % len(orientations) == t], t)
        moves = self._refined(problem, tally) if self.allowed else None
        sampler = {AMORTISED: self._amortised, REWEIGHTED: self._reweighted, LANGEVIN: self._langevin}[self.config.sampler]
        answer, sampled = sampler(problem, moves, place, tally)
        return rotation.inverse(answer) + level, {n: rotation.inverse(x) + level for n, x in sampled.items()}

    def _problem(
        self, data: Tensor, support: Tensor, tilts: TiltGeometry, rotation: CubeRotation, noise: tuple[NoiseSpectrum, float]
    ) -> Problem:
        shape, (spectrum, excess) = data.shape[-3:], noise
        input_mask = smeared_mask(shape, tilts, rotation.matrix).to(data)
        mask = patch_mask(shape, tilts, rotation.matrix).to(data)
        variance = excess * spectrum(rotated_frequencies(fourier.frequencies(shape), rotation.matrix)).to(data)
        rows = (len(data), *mask.shape)
        input_full = bool((support == 1).all())
        m = Measurement(
            input_full=data,
            input_masked=fourier.filtered(data, input_mask),
            data=data,
            mask=mask.expand(rows),
            target_mask=torch.zeros_like(mask).expand(rows),
            variance=variance.expand(rows),
            support=None if input_full else support,
        )
        return problem_of(self.predictor.ladder, m, R)

    def _refined(self, problem: Problem, tally: Tally) -> Moves:
        """The moves of the posterior; what they gain is found with random numbers that the search did not use."""
        began, seed = time.monotonic(), self.predictor.seed
        moves = optimised(problem, self.config.refine, seed=seed, stop=self.allowed)
        tally.seconds += time.monotonic() - began
        before, after = (drawn(problem, JUDGED_BY, seed + 2, found).bound_mean for found in (None, moves))
        tally.gains.extend(((after - before) / problem.bins.double()).tolist())
        return moves

    def _amortised(self, problem: Problem, moves: Moves | None, place: Place, tally: Tally) -> tuple[Tensor, dict[int, Tensor]]:
        found = {}
        for n in place.samples:
            noise = self._noise(place, n // 2)
            found[n] = decoded(problem, moves, noise if n % 2 == 0 else [-e for e in noise])
        return decoded(problem, moves), found

    def _reweighted(self, problem: Problem, moves: Moves | None, place: Place, tally: Tally) -> tuple[Tensor, dict[int, Tensor]]:
        config = self.config
        numbers = [CANDIDATE + place.orientation_number * config.candidates + k for k in range(config.candidates)]
        found = candidates(problem, [self._noise(place, number) for number in numbers], config.temperature, moves)
        tally.effective.extend(found.effective.tolist())
        generator = torch.Generator().manual_seed(self.predictor.seed * 7919 + place.orientation_number)
        places = torch.rand(len(place.samples), generator=generator)
        return found.mean(), dict(zip(place.samples, found.drawn(places), strict=True)) if place.samples else {}

    def _langevin(self, problem: Problem, moves: Moves | None, place: Place, tally: Tally) -> tuple[Tensor, dict[int, Tensor]]:
        config = self.config
        total, count = torch.zeros(()), 0
        found: dict[int, Tensor] = {}
        for n in place.samples:
            codes, scale = begun(problem, self._noise(place, CHAIN + n * LONGEST), config.temperature, moves)
            generator = torch.Generator().manual_seed(self.predictor.seed * 7919 + n)

            def noise(number: int, n: int = n, level_numbers: Sequence[int] = tuple(codes)) -> dict[int, Tensor]:
                parts = self._noise(place, CHAIN + n * LONGEST + 1 + number)
                return {level: parts[level] for level in level_numbers}

            kept = []
            for step in chains(target(problem, config.temperature), codes, scale, config.chain, noise, generator):
                if step.kept:
                    total, count = total.to(step.state.decoded) + step.state.decoded, count + 1
                    kept.append((step.state.value, step.accepted, step.size))
                found[n] = step.state.decoded
            half = len(kept) // 2
            values = torch.stack([value for value, _, _ in kept])
            tally.climbs.extend(((values[half:].mean(0) - values[:half].mean(0)) / problem.bins).tolist())
            tally.accepted.extend(torch.stack([share for _, share, _ in kept]).mean(0).tolist())
            tally.sizes.extend(torch.stack([size for _, _, size in kept]).mean(0).tolist())
        return total / count, found

    def _noise(self, place: Place, number: int) -> list[Tensor]:
        """N(0, I) fine to coarse for tiles, (batch, channels, z, y, x) each, in the orientation in which they are."""
        ladder, side = self.predictor.ladder, self.predictor.side
        noise = NoiseField(self.predictor.seed, number, self.predictor.device)
        shapes = list(enumerate(ladder.latent_shapes((side, side, side))))
        return [place.rotation(noise.tiles(place.positions, shape, level)) for level, shape in shapes]


@dataclass(frozen=True)
class Place:
    """Which tiles: positions, their orientation and its number, and the numbers of the samples that are drawn there."""

    positions: Sequence[Position]
    rotation: CubeRotation
    samples: list[int]
    orientation_number: int


@contextmanager
def frozen(ladder: Ladder) -> Iterator[None]:
    """Weights that get no gradients within."""
    learning = [p for p in ladder.parameters() if p.requires_grad]
    for p in learning:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in learning:
            p.requires_grad_(True)
