"""Restoration of a tomogram that is larger than memory: as restore.py does it, from files into files, step by step.

What is held at once is a row of tiles, a slab of planes, or some rows of the spectrum. Each step leaves files behind that the
next one reads, and is entered in a journal: broken off at any moment, the same steps are taken from the last layer of tiles on,
and the same numbers come out. All steps are those of ``Restorer``; between the two lies rounding alone.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from cryovae import fourier
from cryovae.calibration.heldout import calibrate
from cryovae.calibration.variance import VarianceCalibration
from cryovae.data.measurement import Orientations
from cryovae.data.prepare import PreparedTomogram, patches_inside
from cryovae.data.validation_split import held_out_patches
from cryovae.io.journal import Journal
from cryovae.io.stored import Stored
from cryovae.models.ladder import Ladder
from cryovae.physics.depth import depth_at, depth_table
from cryovae.physics.noise import NoiseSpectrum, fine_shell
from cryovae.physics.rotation import symmetry_rotations
from cryovae.physics.wedge import smeared_mask
from cryovae.posterior.tiles import TilePredictor
from cryovae.restoration.data_consistency import (
    SMOOTH,
    DataConsistencyFilters,
    FourierBins,
    SpectrumStats,
    SpectrumStatsSums,
    filters,
    smoothed_root,
)
from cryovae.restoration.records import fitted_record, recorded_fitted, recorded_spread, spread_record
from cryovae.restoration.restorer import HALF_ORIENTATIONS, ORIENTATIONS, RestoreConfig, mixed_on
from cryovae.restoration.standardised import Files, Standardising
from cryovae.restoration.sums import Added, Powers, Sums
from cryovae.restoration.volume_fft import Transforms
from cryovae.tiling.streaming import Layers, Readable, Work
from cryovae.tomogram import Tomogram, Transfer

# Planes that smoothing the variance looks at on either side.
HALO = int(4 * SMOOTH + 0.5)


@dataclass(frozen=True)
class Streamed:
    """A restored tomogram in files, all (z, y, x) on the grey scale of the input; figures and held_out as in ``Restoration``."""

    mean: Stored
    std: Stored
    samples: list[Stored] = field(default_factory=list)
    halves: tuple[Stored, Stored] | None = None
    figures: dict[str, float] = field(default_factory=dict)
    held_out: dict[str, object] | None = None


class StreamedRestorer:
    """Applies a trained ladder to a tomogram that is read and restored by parts.

    folder: for the files of the steps, about ``volumes_on_disk`` times the tomogram in 32 bits. memory: bytes for a slab of
    planes or rows of the spectrum. patch, config, watch: as for ``Restorer``.
    """

    def __init__(
        self,
        ladder: Ladder,
        patch: int,
        config: RestoreConfig,
        device: torch.device,
        folder: Path,
        journal: Journal,
        memory: float,
        watch: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        self.ladder, self.patch, self.config, self.device = ladder, patch, config, device
        self.folder, self.journal, self.memory, self.watch = folder, journal, memory, watch
        ladder.mixed = mixed_on(config, device)
        self.predictor = TilePredictor(ladder, patch, config.batch, config.seed, device, lambda tiles: None)
        self.predictor.batches.size = int(journal.once("batch", lambda: self.predictor.batches.size))

    def __call__(self, tomogram: Tomogram) -> Streamed:
        """Restore, going on where the journal ends."""
        self.shape, config = tomogram.shape, self.config
        self.transforms = Transforms(self.shape, float(self.journal.once("memory", lambda: self.memory)))
        self.files = Files(self.folder, self.shape, self.transforms)
        self._begin(tomogram)
        known = self._calibration_result(tomogram)
        spread = None if known is None else recorded_spread(known["spread"])
        orientations = symmetry_rotations(self.tilts)
        self._tiles(
            "answer", self.files.volume("data"), ["answer"], self._answer(ORIENTATIONS), min(len(orientations), ORIENTATIONS)
        )
        for pair in range(config.samples // 2):
            self._pair(pair, spread)
        self._fitted()
        figures = self.journal.once("mean", lambda: self._mean("answer", "data", "mean", spread))
        names = [f"half{i + 1}" for i in range(2)] if tomogram.halves is not None and config.halves else []
        for name in names:
            self._tiles(
                name,
                self.files.volume(name),
                ["plus"],
                self._answer(HALF_ORIENTATIONS),
                min(len(orientations), HALF_ORIENTATIONS),
            )
            self.journal.once(f"mean {name}", lambda n=name: self._mean("plus", n, f"mean_{n}", spread))  # type: ignore[misc]
        self.journal.once("std", self._std)
        kept = [self._moved(number) for number in range(config.samples_out)]
        figures = {**cast(dict[str, float], figures), "raw_spread": float(self.journal.values["deviation"])}
        return Streamed(
            mean=self.files.volume("mean"),
            std=self.files.volume("std"),
            samples=kept,
            halves=(self.files.volume("mean_half1"), self.files.volume("mean_half2")) if names else None,
            figures=figures,
            held_out=None if known is None else known["figures"],
        )

    # What the steps are made of.

    def _tiles(self, name: str, source: Readable, outputs: list[str], work: Work, weight: int = 1) -> None:
        """All tiles of ``source`` into files; weight: passes through the network that a tile counts for."""
        if self.journal.has(name):
            return
        first = int(self.journal.values.get(f"layer of {name}", 0))
        files = [self.files.volume(output, fresh=not first) for output in outputs]
        grid = self.predictor.grid(self.shape)
        layers = Layers(grid, source, files, self.folder / "between", self.predictor.batches, self.device)
        per_layer = len(grid) // len(layers)
        passed = int(self.journal.values.get("tiles", 0))
        self._shown(passed)

        def done(layer: int, tiles: int) -> None:
            now = passed + (layer - first) * per_layer * weight
            self.journal.keep({f"layer of {name}": layer, "tiles": now, "batch": self.predictor.batches.size})
            self._shown(now)

        layers.run(work, first, done)
        self.journal.once(name, lambda: True)
        layers.clear()

    def _shown(self, tiles: int) -> None:
        """Tell how many passes through the network are done, of all."""
        orientations = len(symmetry_rotations(self.tilts))
        passes = self.config.samples // 2 + min(orientations, ORIENTATIONS) + self._parts * min(orientations, HALF_ORIENTATIONS)
        self.watch(tiles, passes * len(self.predictor.grid(self.shape)))

    def _answer(self, orientations: int) -> Work:
        kept = symmetry_rotations(self.tilts)[:orientations]
        return lambda tiles, positions: self.predictor.predict_tiles(tiles, self.tilts, kept).mean(0, keepdim=True)

    # The steps.

    def _begin(self, tomogram: Tomogram) -> None:
        """The standardised tomogram and its halves in files, the noise known: as ``prepare`` makes them."""
        self._parts = 2 if tomogram.halves is not None and self.config.halves else 0
        self.tilts = tomogram.tilts
        if tomogram.optics is not None:
            self.tilts = replace(self.tilts, transfer=Transfer(tomogram.optics, tomogram.voxel_size))
        begun = self.journal.once("standardised", lambda: Standardising(self.files, self.tilts, self.config.seed).begun(tomogram))
        self.mean, self.scale = begun["mean"], begun["scale"]
        self.noise = NoiseSpectrum(torch.tensor(begun["noise"]), begun["method"], self.tilts.transfer)

    def _calibration_result(self, tomogram: Tomogram) -> dict[str, Any] | None:
        if not self.config.calibrate:
            return None
        found: dict[str, Any] = self.journal.once("foretold", lambda: self._calibrate(tomogram))
        return found

    def _calibrate(self, tomogram: Tomogram) -> dict[str, Any]:
        prepared = self._prepared(tomogram)
        halves = None
        if tomogram.halves is not None:
            halves = cast(tuple[Tensor, Tensor], (self.files.volume("half1"), self.files.volume("half2")))
        found = calibrate(self.ladder, prepared, self.patch, halves, seed=self.config.seed, device=self.device, split=self._split)
        return {"spread": spread_record(found.spread), "figures": found.figures}

    def _prepared(self, tomogram: Tomogram) -> PreparedTomogram:
        """What is known of the tomogram, its density in a file from which patches are cut."""
        density = cast(Tensor, self.files.volume("data"))
        inside = None if tomogram.mask is None else patches_inside(tomogram.mask, self.patch)
        places = held_out_patches(density, self.patch, inside)
        tables = Orientations(self.tilts, self.noise, self.patch)
        return PreparedTomogram(tomogram.name, self.tilts, density, density, self.mean, self.scale, self.noise, tables, places)

    def _split(self, prepared: PreparedTomogram, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """The tomogram with noise like its own added, and taken off."""
        noise, transforms = self.files.volume("plus", fresh=True), self.transforms

        def weight(k: Tensor, rows: slice) -> Tensor:
            return self.noise(k).sqrt() * transforms.mask(k, self.tilts)

        transforms.filtered(transforms.white(generator), weight, self.files.spectrum(0), noise)
        data = self.files.volume("data")
        return cast(tuple[Tensor, Tensor], (Added(data, noise, 1.0), Added(data, noise, -1.0)))

    @cached_property
    def depths(self) -> Tensor:
        """Depth in the wedge, of the bins of a patch."""
        return depth_table(smeared_mask((self.patch,) * 3, self.tilts))

    def _bins(self, rows: slice) -> FourierBins:
        k = self.transforms.frequencies(rows)
        deep = depth_at(self.depths, k)
        return FourierBins(k, self.transforms.mask(k, self.tilts), self.noise(k), fourier.multiplicity(self.shape), deep)

    def _pair(self, pair: int, known: VarianceCalibration | None) -> None:
        """One pair of samples: tiles, then what of them counts towards mean and standard deviation."""

        def drawn(tiles: Tensor, positions: Any) -> Tensor:
            return self.predictor.sample_tiles(tiles, positions, self.tilts, pair)

        if self.journal.has(f"moments of pair {pair}"):
            return
        self._tiles(f"pair {pair}", self.files.volume("data"), ["plus", "minus"], drawn)
        if pair == 0:
            self.journal.once("fitted", lambda: self._fit(known))
        self.journal.once(f"moments of pair {pair}", lambda: self._moments(pair, known))

    def _deviation(self) -> Iterator[Tensor]:
        parts = zip(*(self.transforms.read(self.files.volume(name)) for name in ("plus", "minus")), strict=True)
        return ((plus - minus) / 2 for plus, minus in parts)

    def _fit(self, known: VarianceCalibration | None) -> dict[str, Any]:
        """What the spectra of answer, data and first pair say; and the mean square of half the pair's difference."""
        self.journal.keep({"deviation": sum(float(d.square().double().sum()) for d in self._deviation()) / prod(self.shape)})
        fitting = SpectrumStatsSums(known is not None, self.tilts.transfer is not None)
        sources = (*(self.transforms.read(self.files.volume(name)) for name in ("answer", "data")), self._deviation())
        spectra = [self.files.spectrum(number) for number in range(3)]
        for source, spectrum in zip(sources, spectra, strict=True):
            self.transforms.planes(source, spectrum)
        for rows, (raw, data, deviation) in self.transforms.columns(*spectra):
            fitting.add(self._bins(rows), raw, data, deviation, known)
        return fitted_record(fitting.fitted())

    def _fitted(self) -> SpectrumStats:
        return recorded_fitted(self.journal.values["fitted"])

    def _filters(self, bins: FourierBins, known: VarianceCalibration | None) -> DataConsistencyFilters:
        fitted = self._fitted()
        level = None if fitted.level is None else fitted.level[fine_shell(bins.radius)]
        return filters(bins, fitted, level, known, self.config.raw)

    def _moments(self, pair: int, known: VarianceCalibration | None) -> bool:
        """Filter a pair and add it to the sums, one file a slab, which says how many pairs it holds."""
        spectra = [self.files.spectrum(number) for number in range(3)]
        for name, spectrum in zip(("plus", "minus"), spectra, strict=False):
            self.transforms.planes(self.transforms.read(self.files.volume(name)), spectrum)
        generator = torch.Generator().manual_seed(self.config.seed * 7919 + pair)
        self.transforms.planes(self.transforms.white(generator), spectra[2])
        for rows, (plus, minus, white) in self.transforms.columns(*spectra):
            answer = self._filters(self._bins(rows), known)
            for sign, found, spectrum in ((1, plus, spectra[0]), (-1, minus, spectra[1])):
                values = found if answer.spread is None else found * answer.spread
                values = values if answer.noise is None else values + sign * answer.noise * white
                self.transforms.replace(rows, values, spectrum)
        kept = [self.files.volume(f"kept{n}", fresh=True) for n in range(2 * pair, min(2 * pair + 2, self.config.samples_out))]
        parts = zip(self.transforms.slabs(), *(self.transforms.densities(s) for s in spectra[:2]), strict=True)
        for place, plus, minus in parts:
            for file, sample in zip(kept, (plus, minus), strict=False):
                file.write(sample.numpy(), place.start)
            Sums(self.folder, place.start).add(pair, plus, minus)
        return True

    def _mean(self, raw: str, data: str, to: str, known: VarianceCalibration | None) -> dict[str, float]:
        """The data-consistent mean into a file, on the grey scale of the input; and what is in its wedge."""
        spectra = [self.files.spectrum(number) for number in range(2)]
        for name, spectrum in zip((raw, data), spectra, strict=True):
            self.transforms.planes(self.transforms.read(self.files.volume(name)), spectrum)
        powers = Powers(fourier.multiplicity(self.shape))
        for rows, (x, y) in self.transforms.columns(*spectra):
            bins = self._bins(rows)
            answer = self._filters(bins, known)
            if answer.amplitude is not None and answer.weight is not None:
                x = answer.amplitude * x
                x = x + answer.weight * (y - x)
            tilts = replace(self.tilts, transfer=None)
            powers.add(bins.frequency, self.transforms.mask(bins.frequency, tilts, 1e-6), x, y)
            self.transforms.replace(rows, x, spectra[0])
        self.files.write(to, (part * self.scale + self.mean for part in self.transforms.densities(spectra[0])))
        return powers.figures()

    def _std(self) -> bool:
        """The standard deviation into a file, its variance smoothed."""
        std = self.files.volume("std", fresh=True)
        edges = [place.start for place in self.transforms.slabs()]
        for place in self.transforms.slabs():
            low, high = max(place.start - HALO, 0), min(place.stop + HALO, self.shape[0])
            parts = []
            for start, stop in zip(edges, [*edges[1:], self.shape[0]], strict=True):
                if start < high and stop > low:
                    parts.append(Sums(self.folder, start).variance()[max(low - start, 0) : high - start])
            smooth = smoothed_root(torch.cat(parts))[place.start - low : place.stop - low]
            std.write((smooth * self.scale).numpy(), place.start)
        return True

    def _moved(self, number: int) -> Stored:
        """A kept sample about the answer's mean, on the grey scale of the input."""

        def move() -> bool:
            sample, mean = self.files.volume(f"kept{number}"), self.files.volume("mean")
            moved = (
                (torch.from_numpy(sample[place]) - Sums(self.folder, place.start).mean()) * self.scale
                + torch.from_numpy(mean[place])
                for place in self.transforms.slabs()
            )
            self.files.write(f"sample_{number}", moved)
            return True

        self.journal.once(f"sample {number}", move)
        return self.files.volume(f"sample_{number}")


def volumes_on_disk(config: RestoreConfig, halves: bool) -> int:
    """How many times the tomogram in 32 bits the files of all steps take at most."""
    return 13 + 2 * config.samples_out + (4 if halves else 0)


def cleared(folder: Path) -> Path:
    """An empty folder in place of what was there."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
