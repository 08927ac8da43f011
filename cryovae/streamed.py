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

import numpy as np
import torch
from torch import Tensor

from cryovae import fourier
from cryovae.inference.answer import SMOOTH, Answer, Bins, Fitted, Fitting, filters, smoothed_root
from cryovae.inference.foretold import foretell
from cryovae.inference.layers import Layers, Readable, Work
from cryovae.inference.spectra import Transforms, spectrum_shape
from cryovae.inference.spread import Spread
from cryovae.inference.tiled import Tiled
from cryovae.io.journal import Journal
from cryovae.io.stored import Stored, released
from cryovae.models.ladder import Ladder
from cryovae.objectives.pairs import Orientations
from cryovae.objectives.reserved import held_out_patches
from cryovae.objectives.specimen import Specimen, patches_inside
from cryovae.physics.ctf import inverse_transfer
from cryovae.physics.depth import depth_at, depth_table
from cryovae.physics.noise import NoiseSpectrum, Tabulation, estimate_noise, fine_shell
from cryovae.physics.rotation import symmetry_rotations
from cryovae.physics.wedge import smeared_mask
from cryovae.restore import HALF_TURNS, TURNS, RestoreConfig
from cryovae.tomogram import TiltGeometry, Tomogram, Transfer

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
        self.tiled = Tiled(ladder, patch, config.batch, config.seed, device, lambda tiles: None)
        self.tiled.batches.size = int(journal.once("batch", lambda: self.tiled.batches.size))

    def __call__(self, tomogram: Tomogram) -> Streamed:
        """Restore, going on where the journal ends."""
        self.shape, config = tomogram.shape, self.config
        self.transforms = Transforms(self.shape, float(self.journal.once("memory", lambda: self.memory)))
        self._begin(tomogram)
        known = self._foretold(tomogram)
        spread = None if known is None else _spread(known["spread"])
        turns = symmetry_rotations(self.tilts)
        self._tiles("answer", self._file("data"), ["answer"], self._answer(TURNS), min(len(turns), TURNS))
        for pair in range(config.samples // 2):
            self._pair(pair, spread)
        self._fitted()
        figures = self.journal.once("mean", lambda: self._mean("answer", "data", "mean", spread))
        names = [f"half{i + 1}" for i in range(2)] if tomogram.halves is not None and config.halves else []
        for name in names:
            self._tiles(name, self._file(name), ["plus"], self._answer(HALF_TURNS), min(len(turns), HALF_TURNS))
            self.journal.once(f"mean {name}", lambda n=name: self._mean("plus", n, f"mean_{n}", spread))  # type: ignore[misc]
        self.journal.once("std", self._std)
        kept = [self._moved(number) for number in range(config.samples_out)]
        figures = {**cast(dict[str, float], figures), "raw_spread": float(self.journal.values["deviation"])}
        return Streamed(
            mean=self._file("mean"),
            std=self._file("std"),
            samples=kept,
            halves=(self._file("mean_half1"), self._file("mean_half2")) if names else None,
            figures=figures,
            held_out=None if known is None else known["figures"],
        )

    # What the steps are made of.

    def _file(self, name: str, fresh: bool = False) -> Stored:
        return Stored(self.folder / f"{name}.f32", self.shape, np.float32, fresh)

    def _spectrum(self, number: int) -> Stored:
        return Stored(self.folder / f"spectrum{number}.c64", spectrum_shape(self.shape), np.complex64, True)

    def _tiles(self, name: str, source: Readable, outputs: list[str], work: Work, weight: int = 1) -> None:
        """All tiles of ``source`` into files; weight: passes through the network that a tile counts for."""
        if self.journal.has(name):
            return
        first = int(self.journal.values.get(f"layer of {name}", 0))
        files = [self._file(output, fresh=not first) for output in outputs]
        grid = self.tiled.grid(self.shape)
        layers = Layers(grid, source, files, self.folder / "between", self.tiled.batches, self.device)
        per_layer = len(grid) // len(layers)
        passed = int(self.journal.values.get("tiles", 0))
        self._shown(passed)

        def done(layer: int, tiles: int) -> None:
            now = passed + (layer - first) * per_layer * weight
            self.journal.keep({f"layer of {name}": layer, "tiles": now, "batch": self.tiled.batches.size})
            self._shown(now)

        layers.run(work, first, done)
        self.journal.once(name, lambda: True)
        layers.clear()

    def _shown(self, tiles: int) -> None:
        """Tell how many passes through the network are done, of all."""
        turns = len(symmetry_rotations(self.tilts))
        passes = self.config.samples // 2 + min(turns, TURNS) + self._parts * min(turns, HALF_TURNS)
        self.watch(tiles, passes * len(self.tiled.grid(self.shape)))

    def _answer(self, turns: int) -> Work:
        kept = symmetry_rotations(self.tilts)[:turns]
        return lambda tiles, positions: self.tiled.answer_of_tiles(tiles, self.tilts, kept).mean(0, keepdim=True)

    # The steps.

    def _begin(self, tomogram: Tomogram) -> None:
        """The standardised tomogram and its halves in files, the noise known: as ``prepare`` makes them."""
        self._parts = 2 if tomogram.halves is not None and self.config.halves else 0
        self.tilts = tomogram.tilts
        if tomogram.optics is not None:
            self.tilts = replace(self.tilts, transfer=Transfer(tomogram.optics, tomogram.voxel_size))
        begun = self.journal.once("standardised", lambda: self._standardise(tomogram))
        self.mean, self.scale = begun["mean"], begun["scale"]
        self.noise = NoiseSpectrum(torch.tensor(begun["noise"]), begun["method"], self.tilts.transfer)

    def _standardise(self, tomogram: Tomogram) -> dict[str, Any]:
        volumes = {"data": tomogram.density}
        if tomogram.halves is not None:
            volumes |= {"half1": tomogram.halves[0], "half2": tomogram.halves[1]}
        mean, scale = self._statistics(self._read(tomogram.density))
        for name, volume in volumes.items():
            self._write(name, ((part - mean) / scale for part in self._read(volume)))
        if tomogram.halves is None:
            found = estimate_noise(cast(np.ndarray, self._file("data")), None, tomogram.tilts, seed=self.config.seed)
        else:
            found = self._noise_of_halves(tomogram.tilts)
        if self.tilts.transfer is None:
            return {"mean": mean, "scale": scale, "noise": found.table.tolist(), "method": found.method}
        for name in volumes:
            self._divide(name)
        _, gained = self._statistics(self.transforms.read(self._file("data")))
        for name in volumes:
            # The half is of one scale with the density, its mean untouched, as ``Specimen.ready`` makes it.
            self._write(name, (part / gained for part in self.transforms.read(self._file(name))), in_place=True)
        table = found.scaled(gained**-2).table
        return {"mean": mean, "scale": scale * gained, "noise": table.tolist(), "method": found.method}

    def _read(self, volume: np.ndarray) -> Iterator[Tensor]:
        for part in self.transforms.read(volume):
            yield part
            released(volume)

    def _write(self, name: str, parts: Iterator[Tensor], in_place: bool = False) -> Stored:
        volume = self._file(name, fresh=not in_place)
        for place, part in zip(self.transforms.slabs(), parts, strict=True):
            volume.write(part.numpy(), place.start)
        return volume

    def _statistics(self, parts: Iterator[Tensor]) -> tuple[float, float]:
        """Mean and standard deviation in double precision, in one pass: sums about the mean of the first slab."""
        middle: float | None = None
        sums = torch.zeros(2, dtype=torch.float64)
        for part in parts:
            values = part.double()
            middle = float(values.mean()) if middle is None else middle
            values -= middle
            sums += torch.stack((values.sum(), values.square_().sum()))
        count = prod(self.shape)
        mean = float(sums[0]) / count
        return mean + cast(float, middle), float(((sums[1] - count * mean**2) / (count - 1)).clamp_min(0).sqrt())

    def _noise_of_halves(self, tilts: TiltGeometry) -> NoiseSpectrum:
        """``estimate_noise`` of the halves."""
        parts = zip(*(self.transforms.read(self._file(f"half{i + 1}")) for i in range(2)), strict=True)
        spectrum = self._spectrum(0)
        self.transforms.planes(((one - two) / 2 for one, two in parts), spectrum)
        sums, multiplicity = Tabulation(1), fourier.multiplicity(self.shape)
        for rows, (found,) in self.transforms.columns(spectrum):
            k = self.transforms.frequencies(rows)
            weight = (self.transforms.mask(k, tilts) == 1) * multiplicity
            weight[(k == 0).all(0)] = 0.0
            sums.add(k, weight, found.abs().square())
        return NoiseSpectrum(sums.tables()[0].clamp_min(1e-6), "halves")

    def _divide(self, name: str) -> None:
        """Take the contrast transfer out of a volume: ``specimen.divided``."""

        def inverse(k: Tensor, rows: slice) -> Tensor:
            found = inverse_transfer(k, cast(Transfer, self.tilts.transfer))
            found[(k == 0).all(0)] = 1.0
            return found

        volume = self._file(name)
        self.transforms.filtered(self.transforms.read(volume), inverse, self._spectrum(0), volume)

    def _foretold(self, tomogram: Tomogram) -> dict[str, Any] | None:
        if not self.config.calibrate:
            return None
        found: dict[str, Any] = self.journal.once("foretold", lambda: self._foretell(tomogram))
        return found

    def _foretell(self, tomogram: Tomogram) -> dict[str, Any]:
        specimen = self._specimen(tomogram)
        halves = None
        if tomogram.halves is not None:
            halves = cast(tuple[Tensor, Tensor], (self._file("half1"), self._file("half2")))
        found = foretell(self.ladder, specimen, self.patch, halves, seed=self.config.seed, device=self.device, split=self._split)
        s = found.spread
        tables = {n: getattr(s, n).tolist() for n in ("hidden", "reference", "amplitude", "middle", "weight", "error")}
        return {"spread": tables | {"copied": s.copied.table.tolist(), "slope": s.slope}, "figures": found.figures}

    def _specimen(self, tomogram: Tomogram) -> Specimen:
        """What is known of the tomogram, its density in a file from which patches are cut."""
        density = cast(Tensor, self._file("data"))
        inside = None if tomogram.mask is None else patches_inside(tomogram.mask, self.patch)
        places = held_out_patches(density, self.patch, inside)
        tables = Orientations(self.tilts, self.noise, self.patch)
        return Specimen(tomogram.name, self.tilts, density, density, self.mean, self.scale, self.noise, tables, places)

    def _split(self, specimen: Specimen, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """The tomogram with noise like its own added, and taken off."""
        noise, transforms = self._file("plus", fresh=True), self.transforms

        def weight(k: Tensor, rows: slice) -> Tensor:
            return self.noise(k).sqrt() * transforms.mask(k, self.tilts)

        transforms.filtered(transforms.white(generator), weight, self._spectrum(0), noise)
        data = self._file("data")
        return cast(tuple[Tensor, Tensor], (_Sum(data, noise, 1.0), _Sum(data, noise, -1.0)))

    @cached_property
    def depths(self) -> Tensor:
        """Depth in the wedge, of the bins of a patch."""
        return depth_table(smeared_mask((self.patch,) * 3, self.tilts))

    def _bins(self, rows: slice) -> Bins:
        k = self.transforms.frequencies(rows)
        deep = depth_at(self.depths, k)
        return Bins(k, self.transforms.mask(k, self.tilts), self.noise(k), fourier.multiplicity(self.shape), deep)

    def _pair(self, pair: int, known: Spread | None) -> None:
        """One pair of samples: tiles, then what of them counts towards mean and standard deviation."""

        def drawn(tiles: Tensor, positions: Any) -> Tensor:
            return self.tiled.pair_of_tiles(tiles, positions, self.tilts, pair)

        if self.journal.has(f"moments of pair {pair}"):
            return
        self._tiles(f"pair {pair}", self._file("data"), ["plus", "minus"], drawn)
        if pair == 0:
            self.journal.once("fitted", lambda: self._fit(known))
        self.journal.once(f"moments of pair {pair}", lambda: self._moments(pair, known))

    def _deviation(self) -> Iterator[Tensor]:
        parts = zip(*(self.transforms.read(self._file(name)) for name in ("plus", "minus")), strict=True)
        return ((plus - minus) / 2 for plus, minus in parts)

    def _fit(self, known: Spread | None) -> dict[str, Any]:
        """What the spectra of answer, data and first pair say; and the mean square of half the pair's difference."""
        self.journal.keep({"deviation": sum(float(d.square().double().sum()) for d in self._deviation()) / prod(self.shape)})
        fitting = Fitting(known is not None, self.tilts.transfer is not None)
        sources = (*(self.transforms.read(self._file(name)) for name in ("answer", "data")), self._deviation())
        spectra = [self._spectrum(number) for number in range(3)]
        for source, spectrum in zip(sources, spectra, strict=True):
            self.transforms.planes(source, spectrum)
        for rows, (raw, data, deviation) in self.transforms.columns(*spectra):
            fitting.add(self._bins(rows), raw, data, deviation, known)
        f = fitting.fitted()
        level = None if f.level is None else f.level.tolist()
        tables = {"amplitude": f.amplitude.table.tolist(), "spread": f.spread.table.tolist(), "unseen": f.unseen.tolist()}
        return tables | {"level": level}

    def _fitted(self) -> Fitted:
        found = self.journal.values["fitted"]
        level = None if found["level"] is None else torch.tensor(found["level"])
        amplitude, spread = (NoiseSpectrum(torch.tensor(found[name]), name) for name in ("amplitude", "spread"))
        return Fitted(amplitude, spread, torch.tensor(found["unseen"]), level)

    def _filters(self, bins: Bins, known: Spread | None) -> Answer:
        fitted = self._fitted()
        level = None if fitted.level is None else fitted.level[fine_shell(bins.radius)]
        return filters(bins, fitted, level, known, self.config.raw)

    def _moments(self, pair: int, known: Spread | None) -> bool:
        """Filter a pair and add it to the sums, one file a slab, which says how many pairs it holds."""
        spectra = [self._spectrum(number) for number in range(3)]
        for name, spectrum in zip(("plus", "minus"), spectra, strict=False):
            self.transforms.planes(self.transforms.read(self._file(name)), spectrum)
        generator = torch.Generator().manual_seed(self.config.seed * 7919 + pair)
        self.transforms.planes(self.transforms.white(generator), spectra[2])
        for rows, (plus, minus, white) in self.transforms.columns(*spectra):
            answer = self._filters(self._bins(rows), known)
            for sign, found, spectrum in ((1, plus, spectra[0]), (-1, minus, spectra[1])):
                values = found if answer.spread is None else found * answer.spread
                values = values if answer.noise is None else values + sign * answer.noise * white
                self.transforms.replace(rows, values, spectrum)
        kept = [self._file(f"kept{n}", fresh=True) for n in range(2 * pair, min(2 * pair + 2, self.config.samples_out))]
        parts = zip(self.transforms.slabs(), *(self.transforms.densities(s) for s in spectra[:2]), strict=True)
        for place, plus, minus in parts:
            for file, sample in zip(kept, (plus, minus), strict=False):
                file.write(sample.numpy(), place.start)
            Sums(self.folder, place.start).add(pair, plus, minus)
        return True

    def _mean(self, raw: str, data: str, to: str, known: Spread | None) -> dict[str, float]:
        """The data-consistent mean into a file, on the grey scale of the input; and what is in its wedge."""
        spectra = [self._spectrum(number) for number in range(2)]
        for name, spectrum in zip((raw, data), spectra, strict=True):
            self.transforms.planes(self.transforms.read(self._file(name)), spectrum)
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
        self._write(to, (part * self.scale + self.mean for part in self.transforms.densities(spectra[0])))
        return powers.figures()

    def _std(self) -> bool:
        """The standard deviation into a file, its variance smoothed."""
        std = self._file("std", fresh=True)
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
            sample, mean = self._file(f"kept{number}"), self._file("mean")
            moved = (
                (torch.from_numpy(sample[place]) - Sums(self.folder, place.start).mean()) * self.scale
                + torch.from_numpy(mean[place])
                for place in self.transforms.slabs()
            )
            self._write(f"sample_{number}", moved)
            return True

        self.journal.once(f"sample {number}", move)
        return self._file(f"sample_{number}")


class _Sum:
    """Two volumes in files as one, a + sign b, read by the box."""

    def __init__(self, first: Stored, second: Stored, sign: float) -> None:
        self.first, self.second, self.sign, self.shape = first, second, sign, first.shape

    def __getitem__(self, key: Any) -> np.ndarray:
        found: np.ndarray = self.first[key] + np.float32(self.sign) * self.second[key]
        return found


class Sums:
    """``Moments`` of one slab, in a file that is written anew with every pair: it holds whole pairs only."""

    def __init__(self, folder: Path, start: int) -> None:
        self.path = folder / f"sums_{start:05d}.npz"

    def add(self, pair: int, plus: Tensor, minus: Tensor) -> None:
        """Take in pair number ``pair``, (z, y, x) each, unless it is in already."""
        zero = torch.zeros_like(plus)
        pairs, total, within, between = self._read() if pair else (0, zero, zero.clone(), zero.clone())
        if pairs > pair:
            return
        middle = (plus + minus) / 2
        total += middle
        within += ((plus - minus) / 2).square_()
        between += middle.square_()
        beside = self.path.with_suffix(".part.npz")
        np.savez(beside, pairs=pairs + 1, total=total.numpy(), within=within.numpy(), between=between.numpy())
        beside.replace(self.path)

    def mean(self) -> Tensor:
        """Of all pairs."""
        pairs, total, _, _ = self._read()
        return total / pairs

    def variance(self) -> Tensor:
        """Unbiased, not smoothed."""
        pairs, total, within, between = self._read()
        found = within / pairs
        if pairs > 1:
            found += (between / pairs - (total / pairs).square()).clamp_min(0) * (pairs / (pairs - 1))
        return found

    def _read(self) -> tuple[int, Tensor, Tensor, Tensor]:
        with np.load(self.path) as found:
            total, within, between = (torch.from_numpy(found[name]) for name in ("total", "within", "between"))
            return int(found["pairs"]), total, within, between


class Powers:
    """The sums behind ``restore.wedge_figures``, over parts of the spectra of the restored density and the data."""

    def __init__(self, multiplicity: Tensor) -> None:
        self.multiplicity = multiplicity
        self.inside = self.outside = self.bins_in = self.bins_out = self.data = 0.0

    def add(self, frequency: Tensor, mask: Tensor, restored: Tensor, data: Tensor) -> None:
        """Take in bins at frequencies (3, ...)."""
        hidden = (mask < 0.5) * self.multiplicity
        rest, middle = self.multiplicity - hidden, (frequency == 0).all(0)
        power = restored.abs().square()
        self.bins_in += float(hidden.double().sum())
        self.bins_out += float(rest.double().sum())
        self.inside += float((power * hidden).double().sum())
        self.outside += float((power * rest * ~middle).double().sum())
        self.data += float((data.abs().square() * self.multiplicity * ~middle).double().sum())

    def figures(self) -> dict[str, float]:
        """Power in the wedge over that in measured bins, per bin, and over the data's variance."""
        ratio = (self.inside / max(self.bins_in, 1)) / max(self.outside / max(self.bins_out, 1), 1e-30)
        return {"wedge_energy_ratio": ratio, "wedge_power_of_input": self.inside / self.data}


def volumes_on_disk(config: RestoreConfig, halves: bool) -> int:
    """How many times the tomogram in 32 bits the files of all steps take at most."""
    return 13 + 2 * config.samples_out + (4 if halves else 0)


def _spread(tables: dict[str, Any]) -> Spread:
    own = {name: torch.tensor(tables[name]) for name in ("hidden", "reference", "amplitude", "middle", "weight", "error")}
    return Spread(**own, slope=tables["slope"], copied=NoiseSpectrum(torch.tensor(tables["copied"]), "copied"))


def cleared(folder: Path) -> Path:
    """An empty folder in place of what was there."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
