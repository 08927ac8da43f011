"""Restoration: a tomogram in, its posterior mean, standard deviation and samples out.

    x = 1/4 sum_g g^-1 G( E_r[ z | g u ] )             the mean: of r's means, in four orientations that keep the wedge
    z^s ~ r(z | u),  x^s = G(z^s)                      samples, centred on it;         std^2 = < (x^s - < x^s >)^2 >

Each raw, and data-consistent, with the weight of the measurement against the model's own error:

    x_dc = F^-1[ w F y + (1 - w) a F x ],     w = M P / (P + sigma^2)

P is found between halves, or between two noisier copies of one volume, on held-out patches (inference/foretold.py); not
calibrated, it is the model's own variance, and w the Wiener weight. a is the amplitude with which x fits what was measured, by
shell and angle, less the noise that x passes on from its input, and in the wedge that with which held-out bins are foretold, by
shell: an input at test has one wedge missing, in training it has two, and what was given is never scored.

The samples' deviations from the mean are scaled, apart for the wedge and for measured bins, to the errors that held-out measured
bins show; what their scaling cannot reach is noise of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from cryovae import fourier
from cryovae.inference.amortised import sample_pair
from cryovae.inference.foretold import Foretold, foretell
from cryovae.inference.noise_field import NoiseField
from cryovae.inference.spread import Spread, at_noise
from cryovae.models.ladder import Ladder, R
from cryovae.objectives.specimen import Specimen, prepare
from cryovae.physics.noise import amplitude_table, spectrum_mean, spectrum_table
from cryovae.physics.rotation import CubeRotation, symmetry_rotations
from cryovae.physics.wedge import smeared_mask, volume_mask
from cryovae.tiling.grid import Blender, PatchGrid, Position, cut, levels
from cryovae.tomogram import InputError, TiltGeometry, Tomogram

# Orientations over which the answer is averaged, for the whole and for each half.
TURNS, HALF_TURNS = 4, 2
# Width in voxels of the Gaussian by which the variance of the samples is smoothed.
SMOOTH = 1.5
# By how much the spread in measured bins may be scaled to the error that held-out bins show.
FARTHEST = 4.0


@dataclass(frozen=True)
class RestoreConfig:
    """How a tomogram is restored.

    samples: draws behind mean and standard deviation, an even number, as they come in opposite pairs. samples_out: how many
    of them are kept. batch: tiles at once. raw: leave out the data-consistent step. halves: restore the halves too. calibrate:
    widen the spread of the samples by what held-out measured bins show.
    """

    samples: int = 8
    samples_out: int = 0
    batch: int = 2
    raw: bool = False
    halves: bool = True
    calibrate: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        if self.samples < 2 or self.samples % 2:
            raise InputError(f"{self.samples} samples found, expected an even number from 2: they are drawn in opposite pairs")
        if not 0 <= self.samples_out <= self.samples:
            raise InputError(f"--samples-out {self.samples_out} found, expected 0 to the number of samples, {self.samples}")


@dataclass(frozen=True)
class Restoration:
    """A restored tomogram, all (z, y, x) on the grey scale of the input.

    mean, std: of the posterior. samples: those that were kept. halves: the two halves, restored each by itself, or None.
    figures, held_out: what is known of the result without a truth, and of measured data hidden from the model.
    """

    mean: Tensor
    std: Tensor
    samples: list[Tensor] = field(default_factory=list)
    halves: tuple[Tensor, Tensor] | None = None
    figures: dict[str, float] = field(default_factory=dict)
    held_out: dict[str, object] | None = None


@dataclass(frozen=True)
class _Answer:
    """How raw samples become the answer, as filters on the half spectrum; None leaves what it would filter as it is.

    amplitude: a. weight: w of the data in the mean. spread: what multiplies a sample's deviation from the mean, with the
    widening by what held-out bins showed. noise: amplitude spectrum of the noise that a sample's data get.
    """

    amplitude: Tensor | None = None
    weight: Tensor | None = None
    spread: Tensor | None = None
    noise: Tensor | None = None

    def mean(self, density: Tensor, data: Tensor) -> Tensor:
        """x_dc for a mean (z, y, x)."""
        if self.amplitude is None or self.weight is None:
            return density
        fitted = fourier.filtered(density, self.amplitude)
        return fitted + fourier.filtered(data - fitted, self.weight)

    def deviating(self, density: Tensor, white: Tensor) -> Tensor:
        """A sample (z, y, x) whose differences from others like it are those of the answer; their mean is not the answer's."""
        found = density if self.spread is None else fourier.filtered(density, self.spread)
        return found if self.noise is None else found + fourier.filtered(white, self.noise)


class _Moments:
    """Mean and variance of samples that come in opposite pairs, without keeping them: three volumes."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.total, self.within, self.between = torch.zeros(shape), torch.zeros(shape), torch.zeros(shape)
        self.pairs = 0

    def add(self, plus: Tensor, minus: Tensor) -> None:
        middle = (plus + minus) / 2
        self.total += middle
        self.between += middle.square()
        self.within += ((plus - minus) / 2).square()
        self.pairs += 1

    def mean(self) -> Tensor:
        return self.total / self.pairs

    def std(self) -> Tensor:
        """Unbiased, and its variance smoothed over SMOOTH voxels: of one voxel a few pairs know little."""
        variance = self.within / self.pairs
        if self.pairs > 1:
            variance += (self.between / self.pairs - self.mean().square()).clamp_min(0) * (self.pairs / (self.pairs - 1))
        return torch.from_numpy(gaussian_filter(variance.numpy(), SMOOTH, mode="nearest")).clamp_min(0).sqrt()


class Restorer:
    """Applies a trained ladder to tomograms, tile by tile. Memory: a few volumes and the tile batch, whatever the samples."""

    def __init__(
        self,
        ladder: Ladder,
        patch: int,
        config: RestoreConfig,
        device: torch.device | None = None,
        watch: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        self.device = device or torch.device("cpu")
        self.ladder = ladder.to(self.device, memory_format=torch.channels_last_3d).eval()  # type: ignore[call-overload]
        # The next size of which a half is still a multiple of the coarsest stride, so that all tiles share their latents.
        self.side = -(-patch // (2 * ladder.config.stride)) * 2 * ladder.config.stride
        self.patch, self.config, self.watch = patch, config, watch
        self._given: dict[TiltGeometry, Tensor] = {}
        self._done = self._total = 0

    def __call__(self, tomogram: Tomogram) -> Restoration:
        """Restore: mean, std, samples, and the halves when there are any. Values are on the grey scale of the input."""
        config = self.config
        specimen = prepare(tomogram, self.patch, config.seed)
        data, shift, scale = specimen.density, specimen.mean, specimen.scale
        parts = () if tomogram.halves is None else tuple(specimen.ready(half) for half in tomogram.halves)
        halves = (parts[0], parts[1]) if parts else None
        tilts = specimen.tilts
        turns = symmetry_rotations(tilts)
        grid = self.grid(tomogram.shape)
        parts = parts if config.halves else ()
        self._done, self._total = 0, len(grid) * (config.samples // 2 + len(turns[:TURNS]) + len(parts) * len(turns[:HALF_TURNS]))
        foretold: Foretold | None = None
        if config.calibrate:
            foretold = foretell(self.ladder, specimen, self.patch, halves, seed=config.seed, device=self.device)
        answer: _Answer | None = None
        raw, moments = self.answered(data, tilts, TURNS), _Moments(tomogram.shape)
        kept: list[Tensor] = []
        spread = 0.0
        for pair in range(config.samples // 2):
            drawn = self.pair(data, tilts, grid, turns[pair % len(turns)], pair)
            if answer is None:
                answer = self._answer(raw, (drawn[0] - drawn[1]) / 2, specimen, foretold.spread if foretold else None)
                spread = float(((drawn[0] - drawn[1]) / 2).square().mean())
            white = torch.randn(tomogram.shape, generator=torch.Generator().manual_seed(config.seed * 7919 + pair))
            samples = answer.deviating(drawn[0], white), answer.deviating(drawn[1], -white)
            moments.add(*samples)
            kept.extend(samples[: config.samples_out - len(kept)])
        assert answer is not None
        mean = answer.mean(raw, data)
        moved = mean - moments.mean()
        restored = [answer.mean(self.answered(part, tilts, HALF_TURNS), part) * scale + shift for part in parts]
        return Restoration(
            mean=mean * scale + shift,
            std=moments.std() * scale,
            samples=[(sample + moved) * scale + shift for sample in kept],
            halves=(restored[0], restored[1]) if restored else None,
            figures=wedge_figures(data, mean, tomogram.tilts) | {"raw_spread": spread},
            held_out=foretold.figures if foretold else None,
        )

    @torch.no_grad()
    def answered(self, data: Tensor, tilts: TiltGeometry, turns: int = 1) -> Tensor:
        """x decoded from r's means for a standardised (z, y, x) volume, in up to ``turns`` orientations that keep the wedge."""
        grid = self.grid(tuple(data.shape))
        blender = Blender(grid)
        kept = symmetry_rotations(tilts)[:turns]
        for turn in kept:
            for positions, tiles, level in self._tiles(data, tilts, grid):
                found = turn.inverse(self.ladder.restore(self.ladder.encode(turn(tiles), R), None)) + level
                for position, tile in zip(positions, found, strict=True):
                    blender.add(position, tile / len(kept))
                self._advance(len(positions))
        return blender.blended()

    def grid(self, shape: tuple[int, ...]) -> PatchGrid:
        """The tiles of a (z, y, x) volume, overlapping by half."""
        return PatchGrid((shape[0], shape[1], shape[2]), self.side, self.side // 2)

    def _tiles(self, data: Tensor, tilts: TiltGeometry, grid: PatchGrid) -> Iterator[tuple[list[Position], Tensor, Tensor]]:
        """Batches of tiles (batch, side, side, side), their levels taken out and their wedge made empty, and those levels."""
        if tilts not in self._given:
            self._given[tilts] = smeared_mask((self.side,) * 3, tilts).to(self.device)
        places = list(grid)
        for start in range(0, len(places), self.config.batch):
            positions = places[start : start + self.config.batch]
            tiles = torch.stack([cut(data, position, self.side) for position in positions]).to(self.device)
            level = levels(tiles)
            yield positions, fourier.filtered(tiles - level, self._given[tilts]), level

    def pair(self, data: Tensor, tilts: TiltGeometry, grid: PatchGrid, turn: CubeRotation, pair: int) -> tuple[Tensor, Tensor]:
        """Two raw samples (z, y, x) of a standardised volume, drawn with opposite noise in the orientation ``turn``."""
        noise = NoiseField(self.config.seed, pair, self.device)
        plus, minus = Blender(grid), Blender(grid)
        for positions, tiles, level in self._tiles(data, tilts, grid):
            drawn = sample_pair(self.ladder, tiles, positions, turn, noise) + level
            for position, up, down in zip(positions, *drawn, strict=True):
                plus.add(position, up)
                minus.add(position, down)
            self._advance(len(positions))
        return plus.blended(), minus.blended()

    def _answer(self, raw: Tensor, deviation: Tensor, specimen: Specimen, known: Spread | None) -> _Answer:
        """Filters from the raw answer, half the difference of a pair of samples, the noise, and what held-out bins say."""
        data, tilts, config = specimen.density, specimen.tilts, self.config
        if config.raw and known is None:
            return _Answer()
        k, radius = fourier.frequencies(data.shape), fourier.radius(data.shape)
        mask, noise = volume_mask(data.shape, tilts), specimen.noise(k)
        # Not calibrated, nothing says how much of the noise the answer holds, and an answer of data and noise alike is kept.
        limits = (None, None) if known is None else (noise, known.copied(k) * noise)
        unseen = torch.ones(()) if known is None else Spread.at(known.amplitude, radius)
        amplitude = unseen + mask * (amplitude_table(raw, data, mask, k, *limits)(k) - unseen)
        spread = amplitude.square() * spectrum_table(deviation, k)(k)
        hidden = torch.ones(()) if known is None else Spread.at(known.hidden, radius).sqrt()
        if config.raw:
            return _Answer(spread=hidden)
        plain = spread / (spread + noise)
        # Noise that varies within a shell, as it does around the zeroes of a contrast transfer, against the mean of the shell.
        uneven = noise / spectrum_mean(noise, mask, radius) if tilts.transfer else torch.ones(())
        weight = mask * (plain if known is None else at_noise(Spread.at(known.weight, radius), uneven))
        error = noise * (plain if known is None else at_noise(Spread.at(known.error, radius), uneven))
        # A sample deviates by its own spread, scaled as far as may be, and by noise for what is left of the error.
        own = (1 - weight).square() * spread
        factor = (error / (own + weight.square() * noise).clamp_min(1e-12)).sqrt().clamp(max=FARTHEST)
        return _Answer(
            amplitude=amplitude,
            weight=weight,
            spread=hidden + mask * (amplitude * (1 - weight) * factor - hidden),
            noise=mask * (error - factor.square() * own).clamp_min(0).sqrt(),
        )

    def _advance(self, tiles: int) -> None:
        self._done += tiles
        self.watch(self._done, self._total)


def wedge_figures(data: Tensor, restored: Tensor, tilts: TiltGeometry) -> dict[str, float]:
    """Power of the restored density in the wedge, over that in the measured bins, per bin, and over the data's variance."""
    mask = (volume_mask(data.shape, tilts, 1e-6) < 0.5) * fourier.multiplicity(data.shape)
    rest = fourier.multiplicity(data.shape) - mask
    power = fourier.transform(restored).abs().square()
    inside, outside = float((power * mask).sum()), float((power * rest).sum() - power[0, 0, 0])
    bins_in, bins_out = float(mask.sum()), float(rest.sum())
    return {
        "wedge_energy_ratio": (inside / max(bins_in, 1)) / max(outside / max(bins_out, 1), 1e-30),
        "wedge_power_of_input": inside / float((data - data.mean()).square().sum()),
    }


def refilled(ladder: Ladder, specimen: Specimen, patch: int, seed: int, device: torch.device) -> Tensor:
    """A standardised density whose wedge holds r's answer and noise like the data's: y+ = M y + (1 - M)(x + n)."""
    data, tilts = specimen.density, specimen.tilts
    found = Restorer(ladder, patch, RestoreConfig(seed=seed), device).answered(data, tilts)
    white = torch.randn(data.shape, generator=torch.Generator().manual_seed(seed))
    noisy = found + fourier.filtered(white, specimen.noise(fourier.frequencies(data.shape)).sqrt())
    return noisy + fourier.filtered(data - noisy, volume_mask(data.shape, tilts))
