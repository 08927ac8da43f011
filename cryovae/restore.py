"""Restoration: a tomogram in, its posterior mean, standard deviation and samples out.

    x = 1/4 sum_g g^-1 G( E_r[ z | g u ] )             the mean: of r's means, in four orientations that keep the wedge
    z^s ~ r(z | u),  x^s = G(z^s)                      samples, centred on it;         std^2 = < (x^s - < x^s >)^2 >

tile by tile (inference/tiled.py), each raw and data-consistent (inference/answer.py). A tomogram with more long waves than
a patch can hold is restored binned as well, by the same network, and the wedge takes from each size what it knows best
(inference/merging.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from cryovae import fourier
from cryovae.inference.answer import Answer, Moments, answer_of
from cryovae.inference.foretold import Foretold, foretell
from cryovae.inference.merging import found_merging
from cryovae.inference.tiled import Tiled
from cryovae.models.ladder import Ladder
from cryovae.objectives.binning import binned
from cryovae.objectives.specimen import Specimen
from cryovae.physics.rotation import symmetry_rotations
from cryovae.physics.wedge import volume_mask
from cryovae.tomogram import InputError, TiltGeometry, Tomogram

# Orientations over which the answer is averaged, for the whole and for each half.
TURNS, HALF_TURNS = 4, 2


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
    figures, held_out: what is known of the result without a truth, and of measured data hidden from the model. binnings: for each
    further binning that was used, its weight in the wedge by shell.
    """

    mean: Tensor
    std: Tensor
    samples: list[Tensor] = field(default_factory=list)
    halves: tuple[Tensor, Tensor] | None = None
    figures: dict[str, float] = field(default_factory=dict)
    held_out: dict[str, object] | None = None
    binnings: list[list[float]] = field(default_factory=list)


class Restorer:
    """Applies a trained ladder to tomograms. Memory: a few volumes and the tile batch, whatever the samples.

    patch: side of the patches of training. binnings: of a tomogram at most, itself included. watch: told of tiles done, of all.
    """

    def __init__(
        self,
        ladder: Ladder,
        patch: int,
        config: RestoreConfig,
        device: torch.device | None = None,
        watch: Callable[[int, int], None] = lambda done, total: None,
        binnings: int = 1,
    ) -> None:
        self.device = device or torch.device("cpu")
        self.ladder, self.patch, self.binnings = ladder, patch, binnings
        self.config, self.watch = config, watch
        self.tiled = Tiled(ladder, patch, config.batch, config.seed, self.device, self._advance)
        self._done = self._total = 0

    def __call__(self, tomogram: Tomogram) -> Restoration:
        """Restore: mean, std, samples, and the halves when there are any. Values are on the grey scale of the input."""
        config = self.config
        sizes = [_Size(self, volume, specimen) for volume, specimen in binned(tomogram, self.patch, self.binnings, config.seed)]
        first = sizes[0]
        # To see which size knows what takes one pass of each.
        judging = len(sizes) > 1 and tomogram.tilts.has_wedge
        self._done, self._total = 0, sum(size.passes() + judging * len(size.grid) for size in sizes)
        for size in sizes:
            size.know()
        merge = found_merging([size.specimen for size in sizes], self.tiled)
        moments = Moments(tomogram.shape)
        kept: list[Tensor] = []
        for pair in range(config.samples // 2):
            drawn = [size.samples(pair) for size in sizes]
            plus, minus = (merge([samples[sign] for samples in drawn]) for sign in (0, 1))
            moments.add(plus, minus)
            kept.extend((plus, minus)[: config.samples_out - len(kept)])
        mean = merge([size.mean() for size in sizes])
        moved = mean - moments.mean()
        halves = tuple(merge(list(parts)) for parts in zip(*(size.halves() for size in sizes), strict=True))
        figures = wedge_figures(first.specimen.density, first.standardised(mean), tomogram.tilts)
        return Restoration(
            mean=mean,
            std=moments.std(),
            samples=[sample + moved for sample in kept],
            halves=(halves[0], halves[1]) if halves else None,
            figures=figures | {"raw_spread": first.raw_spread},
            held_out=first.foretold.figures if first.foretold else None,
            binnings=[[float(w) for w in table] for table in merge.tables],
        )

    def _advance(self, tiles: int) -> None:
        self._done += tiles
        self.watch(self._done, self._total)


class _Size:
    """A tomogram at one binning while it is restored; what it hands out is (z, y, x) on the grey scale of the input."""

    def __init__(self, restorer: Restorer, tomogram: Tomogram, specimen: Specimen) -> None:
        self.restorer, self.tomogram, self.specimen = restorer, tomogram, specimen
        self.grid = restorer.tiled.grid(tomogram.shape)
        self.parts = () if tomogram.halves is None else tuple(specimen.ready(half) for half in tomogram.halves)
        self.foretold: Foretold | None = None
        self.answer: Answer | None = None
        self.raw: Tensor | None = None
        self.raw_spread = 0.0

    def passes(self) -> int:
        """Tiles in all."""
        config, turns = self.restorer.config, len(symmetry_rotations(self.specimen.tilts))
        halves = len(self.parts) * min(turns, HALF_TURNS) if config.halves else 0
        return len(self.grid) * (config.samples // 2 + min(turns, TURNS) + halves)

    def know(self) -> None:
        """Find the raw answer, and what held-out bins say of the model's errors."""
        r = self.restorer
        if r.config.calibrate:
            halves = (self.parts[0], self.parts[1]) if self.parts else None
            self.foretold = foretell(r.ladder, self.specimen, r.patch, halves, seed=r.config.seed, device=r.device)
        self.raw = r.tiled.answered(self.specimen.density, self.specimen.tilts, TURNS)

    def samples(self, pair: int) -> tuple[Tensor, Tensor]:
        """Two samples drawn with opposite noise, not yet centred on the mean. The first pair settles the answer's filters."""
        assert self.raw is not None
        config, specimen = self.restorer.config, self.specimen
        plus, minus = self.restorer.tiled.pair(specimen.density, specimen.tilts, pair)
        if self.answer is None:
            deviation = (plus - minus) / 2
            known = self.foretold.spread if self.foretold else None
            self.answer = answer_of(specimen, self.raw, deviation, known, config.raw)
            self.raw_spread = float(deviation.square().mean())
        white = torch.randn(self.tomogram.shape, generator=torch.Generator().manual_seed(config.seed * 7919 + pair))
        return self.grey(self.answer.deviating(plus, white)), self.grey(self.answer.deviating(minus, -white))

    def mean(self) -> Tensor:
        """The answer; samples have been drawn before."""
        assert self.raw is not None
        assert self.answer is not None
        return self.grey(self.answer.mean(self.raw, self.specimen.density))

    def halves(self) -> tuple[Tensor, ...]:
        """The halves, each restored by itself; none if there are none, or none are wanted."""
        assert self.answer is not None
        tilts, answered = self.specimen.tilts, self.restorer.tiled.answered
        parts = self.parts if self.restorer.config.halves else ()
        return tuple(self.grey(self.answer.mean(answered(part, tilts, HALF_TURNS), part)) for part in parts)

    def grey(self, density: Tensor) -> Tensor:
        """A standardised density on the grey scale of the input."""
        return density * self.specimen.scale + self.specimen.mean

    def standardised(self, density: Tensor) -> Tensor:
        """The way back."""
        return (density - self.specimen.mean) / self.specimen.scale


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
    found = Tiled(ladder, patch, RestoreConfig().batch, seed, device, lambda tiles: None).answered(data, tilts)
    white = torch.randn(data.shape, generator=torch.Generator().manual_seed(seed))
    noisy = found + fourier.filtered(white, specimen.noise(fourier.frequencies(data.shape)).sqrt())
    return noisy + fourier.filtered(data - noisy, volume_mask(data.shape, tilts))
