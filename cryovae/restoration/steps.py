"""The steps of a restoration, in their order, over a storage that is memory or files.

Mean and samples of the model become data-consistent: x_dc = F^-1[ w F y + (1 - w) a F x ] (data_consistency.py).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from cryovae import fourier
from cryovae.calibration.heldout import calibrate
from cryovae.calibration.variance import VarianceCalibration
from cryovae.physics.depth import depth_table
from cryovae.physics.rotation import symmetry_rotations
from cryovae.physics.wedge import volume_edge, wedge_mask
from cryovae.posterior.early_stopping import early_stopping
from cryovae.posterior.posterior_tiles import PosteriorTiles, PosteriorVolumes, frozen
from cryovae.posterior.search import AMORTISED, LANGEVIN
from cryovae.posterior.tiles import TilePredictor
from cryovae.restoration.config import RestoreConfig
from cryovae.restoration.data_consistency import (
    DataConsistencyFilters,
    FourierBins,
    SpectrumStats,
    SpectrumStatsSums,
    filters,
    fourier_bins,
)
from cryovae.restoration.moments import SMOOTHING_REACH, WedgePower, smoothed_std
from cryovae.restoration.records import from_plain, to_plain
from cryovae.restoration.storage import Storage
from cryovae.tomogram import Tomogram

# Orientations over which the mean is averaged, for the tomogram and for each half.
ORIENTATIONS, HALF_ORIENTATIONS = 4, 2


@dataclass(frozen=True)
class Restoration:
    """A restored tomogram, all (z, y, x) on the grey scale of the input: tensors in memory, or ``Stored`` volumes in files.

    Attributes:
        mean: of the posterior.
        std: standard deviation of the posterior.
        samples: those that were kept.
        halves: the two halves, each restored by itself, or None.
        figures: what is known of the result without a truth.
        held_out: how well measured bins are predicted that the model did not see, or None.
        search: what a search of the posterior gained and how far it can be trusted, or None.
    """

    mean: Tensor
    std: Tensor
    samples: list[Tensor] = field(default_factory=list)
    halves: tuple[Tensor, Tensor] | None = None
    figures: dict[str, float] = field(default_factory=dict)
    held_out: dict[str, object] | None = None
    search: dict[str, object] | None = None


class Steps:
    """The steps of one restoration. Names of volumes in the storage: see ``run``.

    Args:
        predictor: applies the model to tiles.
        patch: side of the patches of training, in voxels.
        config: the settings.
        tomogram: what is restored.
        storage: of all volumes; a step that its journal has is not repeated.
    """

    def __init__(self, predictor: TilePredictor, patch: int, config: RestoreConfig, tomogram: Tomogram, storage: Storage) -> None:
        self.predictor, self.patch, self.config = predictor, patch, config
        self.storage, self.shape = storage, tomogram.shape
        self.has_halves, self.fill = tomogram.halves is not None, tomogram.fill
        self.halves = ("half1", "half2") if self.has_halves and self.config.halves else ()
        self.prepared = storage.prepare(tomogram, self.patch, self.config.seed)
        self.tilts = self.prepared.tilts
        self.search, self.search_figures = self._posterior_search()
        self.search_result: PosteriorVolumes | None = None
        self.calibration: VarianceCalibration | None = None
        self.stats: SpectrumStats | None = None
        self.depths = depth_table(self.prepared.orientations.input_mask)
        self._all_filters: DataConsistencyFilters | None = None

    def run(self) -> Restoration:
        """All steps in their order.

        Volumes: "raw" is the model's mean of "data"; "plus" and "minus" are one pair of raw samples, or serve a single step;
        "consistent" is the data-consistent mean; "kept_0", ... are samples. The results are "mean", "std", "sample_0", ...,
        "mean_half1" and "mean_half2".
        """
        config, storage, deviation = self.config, self.storage, 0.0
        held_out = self._calibrate()
        self._raw_mean("data", "raw", ORIENTATIONS)
        for pair in range(config.samples // 2):
            self._samples(pair)
            if pair == 0:
                deviation = self._fit()
            storage.once(f"moments of pair {pair}", self._add_pair, pair)
        figures = storage.once("mean", self._mean)
        storage.discard("raw")
        for half in self.halves:
            self._raw_mean(half, "plus", HALF_ORIENTATIONS)
            storage.once(f"restored {half}", self._half_mean, half)
        storage.once("std", self._std)
        for number in range(config.samples_out):
            storage.once(f"sample {number}", self._sample, number)
            storage.discard(f"kept_{number}")
        return Restoration(
            mean=storage.volume("mean"),
            std=storage.volume("std"),
            samples=[storage.volume(f"sample_{number}") for number in range(config.samples_out)],
            halves=(storage.volume("mean_half1"), storage.volume("mean_half2")) if self.halves else None,
            figures=figures | {"raw_spread": deviation},
            held_out=held_out,
            search=self.search_figures,
        )

    def tile_count(self) -> int:
        """Tiles in all: of the pairs of samples, and of the orientations of the mean and of the halves."""
        orientations, parts = len(symmetry_rotations(self.tilts)), len(self.halves)
        if self.search is not None:
            passes = len(self.search.active_orientations(self.tilts, self.config.samples))
            passes += parts * (1 if self.config.sampler == LANGEVIN else min(passes, HALF_ORIENTATIONS))
        else:
            passes = self.config.samples // 2 + min(orientations, ORIENTATIONS) + parts * min(orientations, HALF_ORIENTATIONS)
        return passes * len(self.predictor.grid(self.shape))

    # Calibration.

    def _calibrate(self) -> dict[str, object] | None:
        """Fit the variances on held-out bins; returns the figures."""
        if not self.config.calibrate or self.config.sampler != AMORTISED:
            return None
        record = self.storage.once("calibration", self._calibration_record)
        self.calibration = from_plain(record["variance"], VarianceCalibration)
        figures: dict[str, object] = record["figures"]
        return figures

    def _calibration_record(self) -> dict[str, Any]:
        storage, predictor = self.storage, self.predictor
        halves = (storage.volume("half1"), storage.volume("half2")) if self.has_halves else None
        result = calibrate(
            predictor.ladder, self.prepared, self.patch, halves, self._split, seed=self.config.seed, device=predictor.device
        )
        storage.discard("plus", "minus")
        return {"variance": to_plain(result.variance), "figures": result.figures}

    def _split(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Two volumes of the same signal whose noises are independent, each of variance 2 sigma^2."""
        storage, prepared = self.storage, self.prepared

        def noise_amplitude(rows: slice) -> list[Tensor]:
            k = fourier.frequencies(self.shape, storage.device, rows)
            return [prepared.noise(k).sqrt() * wedge_mask(k, self.tilts, volume_edge(self.shape, self.tilts))]

        noise = storage.filtered([storage.white(generator)], noise_amplitude)
        for slab, data, (part,) in zip(storage.slabs, storage.read("data"), noise, strict=True):
            storage.put("plus", slab, (data + part).cpu())
            storage.put("minus", slab, (data - part).cpu())
        return storage.volume("plus"), storage.volume("minus")

    # The model, tile by tile.

    def _posterior_search(self) -> tuple[PosteriorTiles | None, dict[str, object] | None]:
        """The search of the posterior and the record of its early stopping; None for none, or if no step is allowed."""
        config, ladder, search = self.config, self.predictor.ladder, self.config.search
        if not search.any:
            return None, None
        allowed = search.refine
        record: dict[str, object] = {}
        if search.refine:
            with frozen(ladder):
                stopping = early_stopping(ladder, self.prepared, self.patch, search.refine, config.seed, self.predictor.device)
            allowed = search.refine if stopping is None else stopping.allowed
            record = {"asked_steps": search.refine, "guard": None if stopping is None else stopping.figures()}
        if not allowed and search.sampler == AMORTISED:
            return None, record
        return PosteriorTiles(self.predictor, search, allowed), record

    def _raw_mean(self, source: str, target: str, orientations: int) -> None:
        """The model's mean of "data" or of a half, whose noise has twice the variance."""
        if self.search is None:
            self.storage.predict(self.predictor, source, target, self.tilts, orientations)
            return
        search, samples, excess = self.search, self.config.samples, 1.0
        if source != "data":
            fewer = replace(search.config, orientations=min(orientations, search.config.orientations))
            search, excess = PosteriorTiles(self.predictor, fewer, search.allowed), 2.0
            # Chains alone need samples for their mean.
            samples = 2 if self.config.sampler == LANGEVIN else 0
        tiles = search.over(self.storage.volume(source), self.tilts, self.prepared.noise, samples, excess)
        self.storage.write(target, [tiles.mean])
        if source == "data":
            self.search_result = tiles
            self.search_figures = (self.search_figures or {}) | tiles.figures

    def _samples(self, pair: int) -> None:
        if self.search_result is None:
            self.storage.sample(self.predictor, self.tilts, pair)
            return
        for name, sample in zip(("plus", "minus"), self.search_result.pair(pair), strict=True):
            self.storage.write(name, [sample])

    # Data consistency.

    def _fit(self) -> float:
        """Fit what the filters need to the first pair; returns the mean square of its deviation from the mean."""
        record = self.storage.once("spectrum statistics", self._spectrum_stats)
        self.stats = None if record["stats"] is None else from_plain(record["stats"], SpectrumStats)
        return float(record["deviation"])

    def _spectrum_stats(self) -> dict[str, Any]:
        storage, calibration = self.storage, self.calibration
        power = sum(float(part.square().sum(dtype=torch.float64)) for part in self._seen(self._deviation()))
        stats = None
        if calibration is not None or not self.config.raw:
            sums = SpectrumStatsSums(calibration, self.tilts.transfer is not None, storage.sum_dtype, storage.device)
            volumes = (storage.read("raw"), storage.read("data"), self._deviation())
            for rows, (raw, data, deviation) in storage.spectra(*map(self._seen, volumes)):
                sums.add(self._bins(rows), raw, data, deviation)
            stats = sums.stats()
        return {"deviation": power / math.prod(self.shape), "stats": to_plain(stats)}

    def _seen(self, slabs: Iterable[Tensor]) -> Iterator[Tensor]:
        """The slabs of a volume through the window of the region, so that powers are those of a volume without fill."""
        region = self.prepared.region
        if region is None:
            return iter(slabs)
        windowed = zip(self.storage.slabs, slabs, strict=True)
        return (part * region.window(slab).to(part.device) for slab, part in windowed)

    def _deviation(self) -> Iterator[Tensor]:
        """A difference from the mean with the variance of a sample, from the first pair."""
        is_opposite = self.search_result is None or self.search_result.opposite
        pairs = zip(self.storage.read("plus"), self.storage.read("minus"), strict=True)
        return ((plus - minus) / (2 if is_opposite else 2**0.5) for plus, minus in pairs)

    def _bins(self, rows: slice) -> FourierBins:
        return fourier_bins(self.prepared, self.shape, self.depths, rows, self.storage.device)

    def _filters(self, rows: slice) -> DataConsistencyFilters:
        if self.stats is None:
            return DataConsistencyFilters()
        if self._all_filters is not None:
            return self._all_filters
        tables = filters(self._bins(rows), self.stats, self.calibration, self.config.raw)
        self._all_filters = tables if rows == slice(None) else None
        return tables

    def _data_consistent(self, raw: str, data: str) -> Iterator[Tensor]:
        """a x + w (y - a x) of a raw mean x and data y."""
        storage = self.storage
        if self.config.raw:
            return storage.read(raw)
        fitted = storage.filtered([storage.read(raw)], lambda rows: [self._filters(rows).amplitude])
        storage.write("fitted", (part for (part,) in fitted))
        missing = (y - x for y, x in zip(storage.read(data), storage.read("fitted"), strict=True))
        kept = storage.filtered([missing], lambda rows: [self._filters(rows).weight])
        return (x + part for x, (part,) in zip(storage.read("fitted"), kept, strict=True))

    def _add_pair(self, pair: int) -> bool:
        """Give a raw pair the spread and the noise of the filters, keep samples, and add it to the moments."""
        storage, generator = self.storage, torch.Generator().manual_seed(self.config.seed * 7919 + pair)
        volumes = [storage.read("plus"), storage.read("minus")] + ([] if self.config.raw else [storage.white(generator)])

        def weights(rows: slice) -> list[Tensor | None]:
            tables = self._filters(rows)
            return [tables.spread, tables.spread, tables.noise][: len(volumes)]

        kept = range(2 * pair, min(2 * pair + 2, self.config.samples_out))
        for slab, (plus, minus, *noise) in zip(storage.slabs, storage.filtered(volumes, weights), strict=True):
            samples = (plus + noise[0], minus - noise[0]) if noise else (plus, minus)
            for number, sample in zip(kept, samples, strict=False):
                storage.put(f"kept_{number}", slab, sample.cpu())
            moments = storage.moments(slab)
            # A run that was broken off may have added the pair to this slab already.
            if moments.pairs == pair:
                moments.add(*samples)
                storage.keep_moments(slab, moments)
        return True

    # Results, on the grey scale of the input.

    def _grey(self, slabs: Iterable[Tensor], source: int = 0) -> Iterator[Tensor]:
        """Standardised slabs on the grey scale of the input; fill is that of the density, or of a half (1, 2)."""
        for slab, standardised in zip(self.storage.slabs, slabs, strict=True):
            grey = standardised.cpu() * self.prepared.scale + self.prepared.mean
            yield grey if self.fill is None else torch.from_numpy(self.fill.kept(grey.numpy(), source, slab))

    def _mean(self) -> dict[str, float]:
        """Write the mean; returns the power in its wedge."""
        storage = self.storage
        storage.write("consistent", self._data_consistent("raw", "data"))
        storage.discard("fitted")
        storage.write("mean", self._grey(storage.read("consistent")))
        tilts, power = replace(self.tilts, transfer=None), WedgePower(fourier.multiplicity(self.shape, storage.device))
        for rows, (restored, data) in storage.spectra(*map(self._seen, (storage.read("consistent"), storage.read("data")))):
            k = fourier.frequencies(self.shape, storage.device, rows)
            power.add(k, wedge_mask(k, tilts, volume_edge(self.shape, tilts, 1e-6)), restored, data)
        return power.figures()

    def _half_mean(self, half: str) -> bool:
        self.storage.write(f"mean_{half}", self._grey(self._data_consistent("plus", half), 1 if half == "half1" else 2))
        self.storage.discard("fitted")
        return True

    def _std(self) -> bool:
        """Write the standard deviation; slabs see the variance of the planes beside them, for the smoothing."""
        storage = self.storage
        for slab in storage.slabs:
            low, high = max(slab.start - SMOOTHING_REACH, 0), min(slab.stop + SMOOTHING_REACH, self.shape[0])
            near = [other for other in storage.slabs if other.start < high and other.stop > low]
            parts = [storage.moments(p).variance()[max(low - p.start, 0) : high - p.start] for p in near]
            std = smoothed_std(torch.cat(parts))[slab.start - low : slab.stop - low]
            if self.fill is not None:
                std[torch.from_numpy(self.fill[slab])] = 0.0
            storage.put("std", slab, std * self.prepared.scale)
        return True

    def _sample(self, number: int) -> bool:
        """Write a kept sample, moved to the data-consistent mean."""
        storage = self.storage
        parts = zip(storage.slabs, storage.read(f"kept_{number}"), storage.read("consistent"), strict=True)
        storage.write(
            f"sample_{number}", self._grey(sample + (mean - storage.moments(slab).mean()) for slab, sample, mean in parts)
        )
        return True
