"""Restoration: a tomogram in, its posterior mean, standard deviation and samples out.

    z^s ~ r(z | u),  x^s = G(z^s),   mean = < x^s >,   std^2 = < (x^s - mean)^2 >

Each raw, and data-consistent, with the Wiener weight of the measurement against the model's own spread:

    x_dc = F^-1 [ w F y + (1 - w) a F x ],     w = M var_z / (var_z + sigma^2)

a is the amplitude by shell and angle with which x fits the data best where they were measured, 1 in the wedge: an input at test
has one wedge missing, in training it has two, and so the model answers too strongly.

A sample takes the data with noise added (Matheron's rule), so that its spread is that of the weighted answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from cryovae import fourier
from cryovae.inference.amortised import sample_pair
from cryovae.inference.noise_field import NoiseField
from cryovae.models.ladder import Ladder
from cryovae.objectives.specimen import Specimen, standardise
from cryovae.physics.noise import NoiseSpectrum, amplitude_table, estimate_noise, spectrum_table
from cryovae.physics.rotation import CubeRotation, symmetry_rotations
from cryovae.physics.wedge import smeared_mask, volume_mask
from cryovae.tiling.grid import Blender, PatchGrid, Position, cut
from cryovae.tomogram import InputError, TiltGeometry, Tomogram

HALF_PAIRS = 2


@dataclass(frozen=True)
class RestoreConfig:
    """How a tomogram is restored.

    samples: draws behind mean and standard deviation, an even number, as they come in opposite pairs. samples_out: how many
    of them are kept. batch: tiles at once. raw: leave out the data-consistent step. halves: restore the halves too.
    """

    samples: int = 8
    samples_out: int = 0
    batch: int = 2
    raw: bool = False
    halves: bool = True
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
    figures: what is known of the result without a truth.
    """

    mean: Tensor
    std: Tensor
    samples: list[Tensor] = field(default_factory=list)
    halves: tuple[Tensor, Tensor] | None = None
    figures: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class _Consistency:
    """The Wiener weight w, the amplitude a and the noise of one tomogram, on its half spectrum; all None for raw output."""

    weight: Tensor | None
    amplitude: Tensor | None
    deviation: Tensor | None

    def mean(self, density: Tensor, data: Tensor) -> Tensor:
        """x_dc for a mean (z, y, x)."""
        if self.weight is None or self.amplitude is None:
            return density
        fitted = fourier.filtered(density, self.amplitude)
        return fitted + fourier.filtered(data - fitted, self.weight)

    def sample(self, density: Tensor, data: Tensor, white: Tensor) -> Tensor:
        """x_dc for a sample (z, y, x), whose data get noise of their own, made from ``white``."""
        if self.weight is None or self.deviation is None:
            return density
        return self.mean(density, data + fourier.filtered(white, self.deviation))


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
        self.config, self.watch = config, watch
        self._given: dict[TiltGeometry, Tensor] = {}
        self._done = self._total = 0

    def __call__(self, tomogram: Tomogram) -> Restoration:
        """Restore: mean, std, samples, and the halves when there are any. Values are on the grey scale of the input."""
        config = self.config
        data, shift, scale = standardise(tomogram.density)
        halves = None if tomogram.halves is None else tuple((torch.from_numpy(h) - shift) / scale for h in tomogram.halves)
        noise = estimate_noise(data.numpy(), None if halves is None else (halves[0].numpy(), halves[1].numpy()), tomogram.tilts)
        turns = symmetry_rotations(tomogram.tilts)
        grid = self.grid(tomogram.shape)
        parts = halves if halves is not None and config.halves else ()
        self._done, self._total = 0, len(grid) * (config.samples // 2 + len(parts) * len(turns[:HALF_PAIRS]))
        consistency: _Consistency | None = None
        total, squares = torch.zeros(tomogram.shape), torch.zeros(tomogram.shape)
        kept: list[Tensor] = []
        spread = 0.0
        for pair in range(config.samples // 2):
            drawn = self.pair(data, tomogram.tilts, grid, turns[pair % len(turns)], pair)
            if consistency is None:
                consistency = self._consistency(drawn, data, noise, tomogram.tilts)
                spread = float(((drawn[0] - drawn[1]) / 2).square().mean())
            generator = torch.Generator().manual_seed(config.seed * 7919 + pair)
            white = torch.randn(tomogram.shape, generator=generator)
            for density, sign in zip(drawn, (1, -1), strict=True):
                sample = consistency.sample(density, data, sign * white)
                total += sample
                squares += sample.square()
                if len(kept) < config.samples_out:
                    kept.append(sample * scale + shift)
        assert consistency is not None
        mean = total / config.samples
        std = (squares / config.samples - mean.square()).clamp_min(0).sqrt()
        restored = [consistency.mean(self.mean(part, tomogram.tilts, grid), part) * scale + shift for part in parts]
        return Restoration(
            mean=mean * scale + shift,
            std=std * scale,
            samples=kept,
            halves=(restored[0], restored[1]) if restored else None,
            figures=wedge_figures(data, mean, tomogram.tilts) | {"raw_spread": spread},
        )

    def mean(self, data: Tensor, tilts: TiltGeometry, grid: PatchGrid | None = None) -> Tensor:
        """The raw posterior mean of a standardised (z, y, x) volume, such as a half, from HALF_PAIRS pairs."""
        grid = grid or self.grid(tuple(data.shape))
        turns = symmetry_rotations(tilts)[:HALF_PAIRS]
        blender = Blender(grid)
        for number, turn in enumerate(turns):
            noise = NoiseField(self.config.seed, number, self.device)
            for positions, tiles in self._tiles(data, tilts, grid):
                drawn = sample_pair(self.ladder, tiles, positions, turn, noise).mean(0)
                for position, tile in zip(positions, drawn, strict=True):
                    blender.add(position, tile / len(turns))
                self._advance(len(positions))
        return blender.blended()

    def grid(self, shape: tuple[int, ...]) -> PatchGrid:
        """The tiles of a (z, y, x) volume, overlapping by half."""
        return PatchGrid((shape[0], shape[1], shape[2]), self.side, self.side // 2)

    def _tiles(self, data: Tensor, tilts: TiltGeometry, grid: PatchGrid) -> Iterator[tuple[list[Position], Tensor]]:
        """Batches of tiles (batch, side, side, side) with the missing wedge made empty, as r saw it in training."""
        if tilts not in self._given:
            self._given[tilts] = smeared_mask((self.side,) * 3, tilts).to(self.device)
        places = list(grid)
        for start in range(0, len(places), self.config.batch):
            positions = places[start : start + self.config.batch]
            tiles = torch.stack([cut(data, position, self.side) for position in positions]).to(self.device)
            yield positions, fourier.filtered(tiles, self._given[tilts])

    def pair(self, data: Tensor, tilts: TiltGeometry, grid: PatchGrid, turn: CubeRotation, pair: int) -> tuple[Tensor, Tensor]:
        """Two raw samples (z, y, x) of a standardised volume, drawn with opposite noise in the orientation ``turn``."""
        noise = NoiseField(self.config.seed, pair, self.device)
        plus, minus = Blender(grid), Blender(grid)
        for positions, tiles in self._tiles(data, tilts, grid):
            drawn = sample_pair(self.ladder, tiles, positions, turn, noise)
            for position, up, down in zip(positions, *drawn, strict=True):
                plus.add(position, up)
                minus.add(position, down)
            self._advance(len(positions))
        return plus.blended(), minus.blended()

    def _consistency(self, drawn: tuple[Tensor, Tensor], data: Tensor, noise: NoiseSpectrum, tilts: TiltGeometry) -> _Consistency:
        if self.config.raw:
            return _Consistency(None, None, None)
        k = fourier.frequencies(data.shape)
        spread = spectrum_table((drawn[0] - drawn[1]) / 2, k)(k)
        variance = noise(k)
        mask = volume_mask(data.shape, tilts)
        amplitude = 1 + mask * (amplitude_table((drawn[0] + drawn[1]) / 2, data, mask, k)(k) - 1)
        return _Consistency(mask * spread / (spread + variance), amplitude, variance.sqrt())

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
    """A standardised density whose wedge holds one posterior sample and noise like the data's: y+ = M y + (1 - M)(x^s + n)."""
    restorer = Restorer(ladder, patch, RestoreConfig(seed=seed), device)
    data, tilts = specimen.density, specimen.tilts
    sample, _ = restorer.pair(data, tilts, restorer.grid(tuple(data.shape)), symmetry_rotations(tilts)[0], 0)
    white = torch.randn(data.shape, generator=torch.Generator().manual_seed(seed))
    noisy = sample + fourier.filtered(white, specimen.noise(fourier.frequencies(data.shape)).sqrt())
    return noisy + fourier.filtered(data - noisy, volume_mask(data.shape, tilts))
