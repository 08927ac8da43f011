"""The steps of a restoration, in their order, over a storage that is memory or files.

Hidden bins say how means, samples and data are combined (calibration/fitted.py); filters on spectra do it (data_consistency.py).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from cryovae import fourier
from cryovae.calibration.fitted import Fitted, MeasuredPowers, bounded, figures_of, fitted, of_samples, plain
from cryovae.calibration.scores import Subject, held_out_sums
from cryovae.data.prepare import PreparedTomogram
from cryovae.phases import Phases
from cryovae.physics.wedge import emptied, volume_edge, wedge_mask
from cryovae.posterior.volume_data import AVERAGE, VolumePosterior
from cryovae.restoration.config import OUTPUTS, RestoreConfig
from cryovae.restoration.data_consistency import Filters, FourierBins, MeasuredPowerSums, filters, fourier_bins
from cryovae.restoration.moments import SMOOTHING_REACH, WedgePower, smoothed_std
from cryovae.restoration.records import from_plain, to_plain
from cryovae.restoration.sources import OF_HALF, Source
from cryovae.restoration.storage import Storage
from cryovae.tomogram import Tomogram


@dataclass(frozen=True)
class Restoration:
    """A restored tomogram, all (z, y, x) on the grey scale of the input: tensors in memory, or ``Stored`` volumes in files.

    Attributes:
        mean: of the posterior.
        std: standard deviation of the posterior.
        measured: the mean without its wedge: denoised where there are data, empty where there are none; or None.
        samples: those that were kept.
        halves: the two halves, each restored by itself, or None.
        figures: what is known of the result without a truth.
        held_out: how well measured bins are predicted that the model did not see, or None.
        search: what a search of the posterior gained and how far it can be trusted, or None.
        outputs: what is written beside the mean, as the settings say.
        output_voxel_size: in angstrom, at which all but the standard deviation are written a second time; 0 for none.
    """

    mean: Tensor
    std: Tensor
    measured: Tensor | None = None
    samples: list[Tensor] = field(default_factory=list)
    halves: tuple[Tensor, Tensor] | None = None
    figures: dict[str, float] = field(default_factory=dict)
    held_out: dict[str, object] | None = None
    search: dict[str, object] | None = None
    outputs: tuple[str, ...] = OUTPUTS
    output_voxel_size: float = 0.0

    def volumes(self) -> dict[str, Any]:
        """The volumes that are written by their kind, as in the names of files."""
        volumes: dict[str, Any] = {"mean": self.mean} | ({"std": self.std} if "std" in self.outputs else {})
        if self.measured is not None:
            volumes["measured"] = self.measured
        if self.halves is not None:
            volumes |= {"mean_half1": self.halves[0], "mean_half2": self.halves[1]}
        return volumes | {f"sample_{i}": sample for i, sample in enumerate(self.samples)}


class Steps:
    """The steps of one restoration. Names of volumes in the storage: see ``run``.

    Args:
        source: of means and samples.
        config: the settings.
        tomogram: what is restored.
        prepared: the same, standardised.
        subject: the part of it on which hidden bins are looked at.
        storage: of all volumes; a step that its journal has is not repeated.
        phase: to which the seconds of the steps are added.
    """

    def __init__(
        self,
        source: Source,
        config: RestoreConfig,
        tomogram: Tomogram,
        prepared: PreparedTomogram,
        subject: Subject,
        storage: Storage,
        phase: Phases,
    ) -> None:
        self.source, self.config, self.prepared, self.subject, self.storage = source, config, prepared, subject, storage
        self.shape, self.fill, self.tilts = tomogram.shape, tomogram.fill, prepared.tilts
        self.halves = ("half1", "half2") if tomogram.halves is not None and config.with_halves else ()
        self.fit: Fitted | None = None
        self.fit_of_half: Fitted | None = None
        self.powers: MeasuredPowers | None = None
        self.phase = phase
        self._all_filters: dict[bool, Filters] = {}

    def run(self) -> Restoration:
        """All steps in their order.

        Volumes: "mean_completion" and so on are the means of the model; "plus" and "minus" are one pair of its samples;
        "consistent" is the mean with the data; "kept_0", ... are samples. The results are "mean", "std", "measured", "sample_0",
        ..., "mean_half1" and "mean_half2".
        """
        config, storage, source = self.config, self.storage, self.source
        with self.phase("calibration"):
            held_out = self._calibrate()
        with self.phase("means"):
            source.means(storage, "data")
        deviation = 0.0
        for pair in range(config.samples // 2):
            with self.phase("samples"):
                source.pair(storage, "data", pair)
                if pair == 0:
                    deviation = self._measure_first_pair()
                storage.once(f"moments of pair {pair}", self._add_pair, pair)
        with self.phase("means"):
            figures = storage.once("mean", self._mean)
            if "measured" in config.outputs:
                storage.once("measured", self._measured)
        for half in self.halves:
            with self.phase("halves"):
                self._restore_half(half)
        with self.phase("samples"):
            storage.once("std", self._std)
            for number in range(config.samples_kept):
                storage.once(f"sample {number}", self._sample, number)
                storage.discard(f"kept_{number}")
        return Restoration(
            mean=storage.volume("mean"),
            std=storage.volume("std"),
            measured=storage.volume("measured") if "measured" in config.outputs else None,
            samples=[storage.volume(f"sample_{number}") for number in range(config.samples_kept)],
            halves=(storage.volume("mean_half1"), storage.volume("mean_half2")) if self.halves else None,
            figures=figures | {"raw_spread": deviation},
            held_out=held_out,
            search=source.figures,
            outputs=config.outputs,
            output_voxel_size=config.output_voxel_size,
        )

    def _restore_half(self, half: str) -> None:
        """Restore "half1" or "half2" by itself."""
        source, storage = self.source, self.storage
        source.means(storage, half)
        for pair in range(source.half_samples // 2):
            source.pair(storage, half, pair)
            storage.once(f"pair {pair} of {half}", self._keep_pair, pair)
        storage.once(f"restored {half}", self._half_mean, half)

    # What hidden bins and samples say.

    def _calibrate(self) -> dict[str, object] | None:
        """Fit how the volume is restored to hidden bins; returns the figures."""
        posterior = self.source.posterior() if self.config.calibrate else None
        if posterior is None:
            return None
        record = self.storage.once("calibration", self._calibration_record, posterior)
        self.fit, self.fit_of_half = (from_plain(record[name], Fitted) for name in ("data", "half"))
        figures: dict[str, object] = record["figures"]
        return figures

    def _calibration_record(self, posterior: VolumePosterior) -> dict[str, Any]:
        samples = self.config.samples
        held_out = held_out_sums(posterior, self.subject, seed=self.config.seed)
        fit, of_half = fitted(held_out, samples), fitted(held_out, max(self.source.half_samples, 1), OF_HALF)
        return {"data": to_plain(fit), "half": to_plain(of_half), "figures": figures_of(held_out, fit, samples)}

    def _measure_first_pair(self) -> float:
        """Measure the power of samples in measured bins on the first pair; returns the mean square of its deviation."""
        record = self.storage.once("powers", self._measured_powers)
        self.powers = powers = from_plain(record["powers"], MeasuredPowers)
        if self.fit is None or self.fit_of_half is None:
            own = of_samples(self.source.names, powers)
            factors = own.measured.factors.at_noise(OF_HALF)
            self.fit, self.fit_of_half = own, replace(own, measured=replace(own.measured, factors=factors))
            if self.config.raw:
                self.fit = self.fit_of_half = plain(self.source.names)
        if self.config.raw:
            self.fit, self.fit_of_half = self.fit.raw(), self.fit_of_half.raw()
        self.fit = bounded(self.fit, powers)
        return float(record["deviation"])

    def _measured_powers(self) -> dict[str, Any]:
        storage = self.storage
        power = sum(float(part.square().sum(dtype=torch.float64)) for part in self._seen(self._deviation()))
        sums = MeasuredPowerSums()
        for rows, (deviation,) in storage.spectra(self._seen(self._deviation())):
            sums.add(self._bins(rows), deviation)
        return {"deviation": power / math.prod(self.shape), "powers": to_plain(sums.powers())}

    def _seen(self, slabs: Iterable[Tensor]) -> Iterator[Tensor]:
        """The slabs of a volume through the window of the region, so that powers are those of a volume without fill."""
        region = self.prepared.region
        if region is None:
            return iter(slabs)
        windowed = zip(self.storage.slabs, slabs, strict=True)
        return (part * region.window(slab).to(part.device) for slab, part in windowed)

    def _deviation(self) -> Iterator[Tensor]:
        """A difference from the mean with the variance of a sample, from the first pair."""
        pairs = zip(self.storage.read("plus"), self.storage.read("minus"), strict=True)
        return ((plus - minus) / (2 if self.source.opposite else 2**0.5) for plus, minus in pairs)

    # Means and samples with the data.

    def _bins(self, rows: slice) -> FourierBins:
        return fourier_bins(self.shape, self.tilts, self.prepared.noise, rows, self.storage.device)

    def _filters(self, rows: slice, of_half: bool = False) -> Filters:
        fit = self.fit_of_half if of_half else self.fit
        assert fit is not None
        assert self.powers is not None
        if of_half not in self._all_filters or rows != slice(None):
            tables = filters(self._bins(rows), fit, self.powers)
            if rows != slice(None):
                return tables
            self._all_filters[of_half] = tables
        return self._all_filters[of_half]

    def _with_data(self, average: Iterable[Tensor], data: str) -> Iterator[Tensor]:
        """The slabs of the mean of a volume; average: of its samples."""
        storage, of_half = self.storage, data != "data"
        means = [average if name == AVERAGE else storage.read(f"mean_{name}") for name in self.source.names]

        def weights(rows: slice) -> list[Tensor | None]:
            tables = self._filters(rows, of_half)
            return [*tables.means, tables.data]

        for parts in storage.filtered([*means, storage.read(data)], weights):
            yield torch.stack(parts).sum(0)

    def _add_pair(self, pair: int) -> bool:
        """Give a pair the spread of the filters, keep samples, and add it to the moments."""
        storage = self.storage

        def weights(rows: slice) -> list[Tensor | None]:
            tables = self._filters(rows)
            return [tables.spread, tables.spread]

        kept = range(2 * pair, min(2 * pair + 2, self.config.samples_kept))
        filtered = storage.filtered([storage.read("plus"), storage.read("minus")], weights)
        drawn = zip(storage.read("plus"), storage.read("minus"), strict=True)
        for slab, samples, (plus, minus) in zip(storage.slabs, filtered, drawn, strict=True):
            for number, sample in zip(kept, samples, strict=False):
                storage.put(f"kept_{number}", slab, sample.cpu())
            moments = storage.moments(slab)
            # A run that was broken off may have added the pair to this slab already.
            if moments.pairs == pair:
                moments.add(samples[0], samples[1], (plus + minus) / 2)
                storage.keep_moments(slab, moments)
        return True

    def _keep_pair(self, pair: int) -> bool:
        """Keep the mean of a pair of samples of a half."""
        pairs = zip(self.storage.read("plus"), self.storage.read("minus"), strict=True)
        self.storage.write(f"pair_{pair}", ((plus + minus) / 2 for plus, minus in pairs))
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
        averages = (storage.moments(slab).average().to(storage.device) for slab in storage.slabs)
        storage.write("consistent", self._with_data(averages, "data"))
        storage.write("mean", self._grey(storage.read("consistent")))
        tilts, power = replace(self.tilts, transfer=None), WedgePower(fourier.multiplicity(self.shape, storage.device))
        for rows, (restored, data) in storage.spectra(*map(self._seen, (storage.read("consistent"), storage.read("data")))):
            k = fourier.frequencies(self.shape, storage.device, rows)
            power.add(k, wedge_mask(k, tilts, volume_edge(self.shape, tilts, 1e-6)), restored, data)
        return power.figures()

    def _measured(self) -> bool:
        """Write the mean without its wedge, whose soft edge lies outside of it: w = 2 M - 1, at least 0.

        Fill is not put back: the edge of a constant would reach into the wedge.
        """
        storage, tilts = self.storage, replace(self.tilts, transfer=None)

        def inside(rows: slice) -> list[Tensor | None]:
            k = fourier.frequencies(self.shape, storage.device, rows)
            return [emptied(wedge_mask(k, tilts, volume_edge(self.shape, tilts)))]

        filtered = (slab for (slab,) in storage.filtered([storage.read("consistent")], inside))
        storage.write("measured", (slab.cpu() * self.prepared.scale + self.prepared.mean for slab in filtered))
        return True

    def _half_mean(self, half: str) -> bool:
        storage, pairs = self.storage, range(self.source.half_samples // 2)
        slabs = zip(*(storage.read(f"pair_{pair}") for pair in pairs), strict=True)
        averages = (torch.stack(parts).mean(0) for parts in slabs)
        storage.write(f"mean_{half}", self._grey(self._with_data(averages, half), 1 if half == "half1" else 2))
        storage.discard(*(f"pair_{pair}" for pair in pairs))
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
        """Write a kept sample, moved to the mean with the data."""
        storage, count = self.storage, self.config.samples
        # Deviations from the average of few independent samples are too small.
        factor = 1.0 if self.source.opposite else (count / (count - 1)) ** 0.5
        parts = zip(storage.slabs, storage.read(f"kept_{number}"), storage.read("consistent"), strict=True)
        storage.write(
            f"sample_{number}",
            self._grey(mean + factor * (sample - storage.moments(slab).mean()) for slab, sample, mean in parts),
        )
        return True
