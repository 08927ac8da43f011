"""Restoration: a tomogram in, its posterior mean, standard deviation and samples out.

    x = 1/4 sum_g g^-1 G( E_r[ z | g u ] )             the mean: of r's means, in four orientations that keep the wedge
    z^s ~ r(z | u),  x^s = G(z^s)                      samples, centred on it;         std^2 = < (x^s - < x^s >)^2 >

tile by tile (inference/tiled.py), each raw and data-consistent (inference/answer.py). Where tiles are searched for, and not
answered at once, mean and samples are those of the posterior that was found (inference/searched.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from cryovae import distributed, fourier
from cryovae.calibration.heldout import CalibrationResult, calibrate
from cryovae.data.prepare import PreparedTomogram, prepare
from cryovae.errors import InputError
from cryovae.models.ladder import Ladder
from cryovae.models.precision import checked, halved
from cryovae.physics.rotation import symmetry_rotations
from cryovae.physics.wedge import volume_mask
from cryovae.posterior.early_stopping import early_stopping
from cryovae.posterior.posterior_tiles import PosteriorTiles, frozen
from cryovae.posterior.search import AMORTISED, LANGEVIN, SearchConfig
from cryovae.posterior.tiles import TilePredictor
from cryovae.restoration.data_consistency import DataConsistencyFilters, SampleMoments, data_consistency_filters
from cryovae.tiling.batching import free_on
from cryovae.tomogram import TiltGeometry, Tomogram

# Orientations over which the answer is averaged, for the whole and for each half.
ORIENTATIONS, HALF_ORIENTATIONS = 4, 2
# Volumes of 32 bits that a GPU has to hold at once, spectra and their frequencies among them (measured: 31, tiles included).
HELD = 34


@dataclass(frozen=True)
class RestoreConfig:
    """How a tomogram is restored.

    samples: draws behind mean and standard deviation, an even number, as they come in opposite pairs. samples_out: how many
    of them are kept. batch: tiles at once. raw: leave out the data-consistent step. halves: restore the halves too. calibrate:
    widen the spread of the samples by what held-out measured bins show; what draws other samples than the encoder's has a spread
    of its own, which is left as it is. precision: 'float32', 'bfloat16' (of the convolutions alone), or 'auto', bfloat16 on a GPU
    that has it; always float32 where tiles are searched for. refine, sampler, temperature, candidates, chain, orientations: as in
    inference/search.py.
    """

    samples: int = 8
    samples_out: int = 0
    batch: int = 2
    raw: bool = False
    halves: bool = True
    calibrate: bool = True
    seed: int = 0
    precision: str = "auto"
    refine: int = 0
    sampler: str = AMORTISED
    temperature: float = 1.0
    candidates: int = 16
    chain: int = 100
    orientations: int = 4

    @property
    def search(self) -> SearchConfig:
        """What is done for a tile beyond the encoder's answer."""
        return SearchConfig(self.refine, self.sampler, self.temperature, self.candidates, self.chain, self.orientations)

    def __post_init__(self) -> None:
        # Which say what is wrong with them.
        _ = self.search
        checked(self.precision)
        if self.samples < 2 or self.samples % 2:
            raise InputError(f"{self.samples} samples found, expected an even number from 2: they are drawn in opposite pairs")
        if not 0 <= self.samples_out <= self.samples:
            raise InputError(f"--samples-out {self.samples_out} found, expected 0 to the number of samples, {self.samples}")


@dataclass(frozen=True)
class Restoration:
    """A restored tomogram, all (z, y, x) on the grey scale of the input.

    mean, std: of the posterior. samples: those that were kept. halves: the two halves, restored each by itself, or None.
    figures, held_out: what is known of the result without a truth, and of measured data hidden from the model. search: what the
    search of tiles gained and how far it can be trusted, None if there was none.
    """

    mean: Tensor
    std: Tensor
    samples: list[Tensor] = field(default_factory=list)
    halves: tuple[Tensor, Tensor] | None = None
    figures: dict[str, float] = field(default_factory=dict)
    held_out: dict[str, object] | None = None
    search: dict[str, object] | None = None


def mixed_on(config: RestoreConfig, device: torch.device) -> bool:
    """Whether convolutions run in bfloat16 there; never where the bound is climbed, or a step accepted by it."""
    return halved(config.precision, device) and not config.search.any


def held_on(device: torch.device, shape: Sequence[int]) -> torch.device:
    """Where the volumes of a restoration lie: on the GPU if it has room for all of them, else in memory."""
    return device if 4 * HELD * math.prod(shape) < free_on(device) and device.type == "cuda" else torch.device("cpu")


class Restorer:
    """Applies a trained ladder to tomograms. Memory: a few volumes and the tile batch, whatever the samples.

    Volumes lie on the GPU if all of them fit.
    Of several ranks each takes its part of the tiles, unless they are searched for; all have the whole restoration in the end.
    patch: side of the patches of training. watch: told of tiles done, of all.
    """

    def __init__(
        self,
        ladder: Ladder,
        patch: int,
        config: RestoreConfig,
        device: torch.device | None = None,
        watch: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        self.device = device or torch.device("cpu")
        self.ladder, self.patch, self.config, self.watch = ladder, patch, config, watch
        ladder.mixed = mixed_on(config, self.device)
        self.predictor = TilePredictor(
            ladder, patch, config.batch, config.seed, self.device, self._advance, shared=not config.search.any
        )
        self._done = self._total = 0

    def __call__(self, tomogram: Tomogram) -> Restoration:
        """Restore: mean, std, samples, and the halves when there are any. Values are on the grey scale of the input."""
        config, predict = self.config, self.predictor.predict
        where = torch.device("cpu") if config.search.any else held_on(self.device, tomogram.shape)
        prepared = prepare(tomogram, self.patch, config.seed, device=where)
        tilts, shift, scale = prepared.tilts, prepared.mean, prepared.scale
        parts = () if tomogram.halves is None else tuple(prepared.ready(half) for half in tomogram.halves)
        halves = (parts[0], parts[1]) if parts else None
        parts = parts if config.halves else ()
        posterior_tiles, search = self._posterior_tiles(prepared)
        self._done, self._total = 0, self._tiles_of(prepared, len(parts), posterior_tiles)
        calibration_result: CalibrationResult | None = None
        if config.calibrate and config.sampler == AMORTISED:
            calibration_result = calibrate(self.ladder, prepared, self.patch, halves, seed=config.seed, device=self.device)
        prepared = replace(prepared, density=prepared.density.to(where))
        data = prepared.density
        found = None if posterior_tiles is None else posterior_tiles.over(data, tilts, prepared.noise, config.samples)
        raw = predict(data, tilts, ORIENTATIONS) if found is None else found.mean
        moments = SampleMoments(tomogram.shape, where)
        answer: DataConsistencyFilters | None = None
        kept: list[Tensor] = []
        spread = 0.0
        for pair in range(config.samples // 2):
            drawn = self.predictor.pair(data, tilts, pair) if found is None else found.pair(pair)
            if answer is None:
                deviation = (drawn[0] - drawn[1]) / 2 if found is None else found.deviation()
                answer = data_consistency_filters(
                    prepared, raw, deviation, calibration_result.spread if calibration_result else None, config.raw
                )
                spread = float(deviation.square().mean())
            white = torch.randn(tomogram.shape, generator=torch.Generator().manual_seed(config.seed * 7919 + pair)).to(where)
            samples = answer.deviating(drawn[0], white), answer.deviating(drawn[1], -white)
            moments.add(*samples)
            kept.extend(sample.cpu() for sample in samples[: config.samples_out - len(kept)])
        assert answer is not None
        mean = answer.mean(raw, data)
        moved = (mean - moments.mean()).cpu()
        restored = [self._half(part.to(where), prepared, posterior_tiles, answer).cpu() * scale + shift for part in parts]
        self.watch(self._total, self._total)
        return Restoration(
            mean=(mean * scale + shift).cpu(),
            std=moments.std() * scale,
            samples=[(sample + moved) * scale + shift for sample in kept],
            halves=(restored[0], restored[1]) if restored else None,
            figures=wedge_figures(data, mean, tomogram.tilts) | {"raw_spread": spread},
            held_out=calibration_result.figures if calibration_result else None,
            search=None if search is None else search | (found.figures if found else {}),
        )

    def _posterior_tiles(self, prepared: PreparedTomogram) -> tuple[PosteriorTiles | None, dict[str, object] | None]:
        """What searches the tiles, and the record of its guard; None for none, or where the guard leaves nothing to do."""
        search, allowed = self.config.search, self.config.refine
        record: dict[str, object] = {}
        if not search.any:
            return None, None
        if search.refine:
            with frozen(self.ladder):
                guard = early_stopping(self.ladder, prepared, self.patch, search.refine, self.config.seed, self.device)
            allowed = search.refine if guard is None else guard.allowed
            record = {"asked_steps": search.refine, "guard": None if guard is None else guard.figures()}
        if not allowed and search.sampler == AMORTISED:
            return None, record
        return PosteriorTiles(self.predictor, search, allowed), record

    def _half(
        self, part: Tensor, prepared: PreparedTomogram, posterior_tiles: PosteriorTiles | None, answer: DataConsistencyFilters
    ) -> Tensor:
        """A restored half (z, y, x), whose noise has twice the variance of that of the mean of both."""
        if posterior_tiles is None:
            return answer.mean(self.predictor.predict(part, prepared.tilts, HALF_ORIENTATIONS), part)
        fewer = PosteriorTiles(
            self.predictor,
            replace(posterior_tiles.config, orientations=min(HALF_ORIENTATIONS, posterior_tiles.config.orientations)),
            posterior_tiles.allowed,
        )
        found = fewer.over(part, prepared.tilts, prepared.noise, self._half_samples(), excess=2.0)
        return answer.mean(found.mean, part)

    def _half_samples(self) -> int:
        """Samples behind the answer to a half: chains alone need any."""
        return 2 if self.config.sampler == LANGEVIN else 0

    def _tiles_of(self, prepared: PreparedTomogram, parts: int, posterior_tiles: PosteriorTiles | None) -> int:
        """Tiles in all: of the samples' pairs, of the answer's orientations, and of those of the halves."""
        orientations = len(symmetry_rotations(prepared.tilts))
        if posterior_tiles is not None:
            most = len(posterior_tiles.active_orientations(prepared.tilts, self.config.samples))
            each = 1 if self.config.sampler == LANGEVIN else min(most, HALF_ORIENTATIONS)
            return (most + parts * each) * len(self.predictor.grid(tuple(prepared.density.shape)))
        passes = self.config.samples // 2 + min(orientations, ORIENTATIONS) + parts * min(orientations, HALF_ORIENTATIONS)
        return passes * len(self.predictor.grid(tuple(prepared.density.shape)))

    def _advance(self, tiles: int) -> None:
        # Other ranks are as far as this one.
        self._done += tiles * (distributed.count() if self.predictor.shared else 1)
        self.watch(min(self._done, self._total), self._total)


def wedge_figures(data: Tensor, restored: Tensor, tilts: TiltGeometry) -> dict[str, float]:
    """Power of the restored density in the wedge, over that in the measured bins, per bin, and over the data's variance."""
    counted = fourier.multiplicity(data.shape, data.device)
    mask = (volume_mask(data.shape, tilts, 1e-6, data.device) < 0.5) * counted
    rest = counted - mask
    power = fourier.transform(restored).abs().square()
    inside, outside = float((power * mask).sum()), float((power * rest).sum() - power[0, 0, 0])
    bins_in, bins_out = float(mask.sum()), float(rest.sum())
    return {
        "wedge_energy_ratio": (inside / max(bins_in, 1)) / max(outside / max(bins_out, 1), 1e-30),
        "wedge_power_of_input": inside / float((data - data.mean()).square().sum()),
    }


def refilled(ladder: Ladder, prepared: PreparedTomogram, patch: int, seed: int, device: torch.device) -> Tensor:
    """A standardised density whose wedge holds r's answer and noise like the data's: y+ = M y + (1 - M)(x + n)."""
    where, tilts = held_on(device, prepared.density.shape), prepared.tilts
    data = prepared.density.to(where)
    predictor = TilePredictor(ladder, patch, RestoreConfig().batch, seed, device, lambda tiles: None, shared=True)
    found = predictor.predict(data, tilts)
    white = torch.randn(data.shape, generator=torch.Generator().manual_seed(seed)).to(where)
    noisy = found + fourier.filtered(white, prepared.noise(fourier.frequencies(data.shape, where)).sqrt())
    return (noisy + fourier.filtered(data - noisy, volume_mask(data.shape, tilts, device=where))).cpu()
