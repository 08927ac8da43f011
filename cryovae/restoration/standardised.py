"""A tomogram by parts into files, standardised, its noise known: as ``prepare`` makes one in memory (objectives/specimen.py)."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from cryovae import fourier
from cryovae.io.stored import Stored, released
from cryovae.physics.ctf import inverse_transfer
from cryovae.physics.noise import NoiseSpectrum, Tabulation, estimate_noise
from cryovae.restoration.volume_fft import Transforms, spectrum_shape
from cryovae.tomogram import TiltGeometry, Tomogram, Transfer


class Files:
    """The volumes and spectra of a restoration, by name in one folder, and what goes through them by slabs."""

    def __init__(self, folder: Path, shape: tuple[int, int, int], transforms: Transforms) -> None:
        self.folder, self.shape, self.transforms = folder, shape, transforms

    def volume(self, name: str, fresh: bool = False) -> Stored:
        """A volume (z, y, x), or one made anew."""
        return Stored(self.folder / f"{name}.f32", self.shape, np.float32, fresh)

    def spectrum(self, number: int) -> Stored:
        """A half spectrum, made anew: they are for one step, and used again by the next."""
        return Stored(self.folder / f"spectrum{number}.c64", spectrum_shape(self.shape), np.complex64, True)

    def taken(self, volume: np.ndarray) -> Iterator[Tensor]:
        """Slabs of an input, which is let go of as it is read."""
        for part in self.transforms.read(volume):
            yield part
            released(volume)

    def write(self, name: str, parts: Iterator[Tensor], in_place: bool = False) -> Stored:
        """Slabs into a volume."""
        volume = self.volume(name, fresh=not in_place)
        for place, part in zip(self.transforms.slabs(), parts, strict=True):
            volume.write(part.numpy(), place.start)
        return volume


class Standardising:
    """Puts a tomogram and its halves into ``files``: "data", "half1", "half2". tilts: with the contrast transfer to take out."""

    def __init__(self, files: Files, tilts: TiltGeometry, seed: int) -> None:
        self.files, self.tilts, self.seed = files, tilts, seed

    def begun(self, tomogram: Tomogram) -> dict[str, Any]:
        """Mean, scale, noise and its method, as plain numbers; the files are written."""
        volumes = {"data": tomogram.density}
        if tomogram.halves is not None:
            volumes |= {"half1": tomogram.halves[0], "half2": tomogram.halves[1]}
        mean, scale = self._statistics(self.files.taken(tomogram.density))
        for name, volume in volumes.items():
            self.files.write(name, ((part - mean) / scale for part in self.files.taken(volume)))
        if tomogram.halves is None:
            found = estimate_noise(cast(np.ndarray, self.files.volume("data")), None, tomogram.tilts, seed=self.seed)
        else:
            found = self._noise_of_halves(tomogram.tilts)
        if self.tilts.transfer is None:
            return {"mean": mean, "scale": scale, "noise": found.table.tolist(), "method": found.method}
        for name in volumes:
            self._divide(name)
        _, gained = self._statistics(self.files.transforms.read(self.files.volume("data")))
        for name in volumes:
            # The half is of one scale with the density, its mean untouched, as ``PreparedTomogram.ready`` makes it.
            self.files.write(name, (part / gained for part in self.files.transforms.read(self.files.volume(name))), in_place=True)
        table = found.scaled(gained**-2).table
        return {"mean": mean, "scale": scale * gained, "noise": table.tolist(), "method": found.method}

    def _statistics(self, parts: Iterator[Tensor]) -> tuple[float, float]:
        """Mean and standard deviation in double precision, in one pass: sums about the mean of the first slab."""
        middle: float | None = None
        sums = torch.zeros(2, dtype=torch.float64)
        for part in parts:
            values = part.double()
            middle = float(values.mean()) if middle is None else middle
            values -= middle
            sums += torch.stack((values.sum(), values.square_().sum()))
        count = prod(self.files.shape)
        mean = float(sums[0]) / count
        return mean + cast(float, middle), float(((sums[1] - count * mean**2) / (count - 1)).clamp_min(0).sqrt())

    def _noise_of_halves(self, tilts: TiltGeometry) -> NoiseSpectrum:
        """``estimate_noise`` of the halves."""
        parts = zip(*(self.files.transforms.read(self.files.volume(f"half{i + 1}")) for i in range(2)), strict=True)
        spectrum = self.files.spectrum(0)
        self.files.transforms.planes(((one - two) / 2 for one, two in parts), spectrum)
        sums, multiplicity = Tabulation(1), fourier.multiplicity(self.files.shape)
        for rows, (found,) in self.files.transforms.columns(spectrum):
            k = self.files.transforms.frequencies(rows)
            weight = (self.files.transforms.mask(k, tilts) == 1) * multiplicity
            weight[(k == 0).all(0)] = 0.0
            sums.add(k, weight, found.abs().square())
        return NoiseSpectrum(sums.tables()[0].clamp_min(1e-6), "halves")

    def _divide(self, name: str) -> None:
        """Take the contrast transfer out of a volume: ``prepared.divided``."""

        def inverse(k: Tensor, rows: slice) -> Tensor:
            found = inverse_transfer(k, cast(Transfer, self.tilts.transfer))
            found[(k == 0).all(0)] = 1.0
            return found

        volume = self.files.volume(name)
        self.files.transforms.filtered(self.files.transforms.read(volume), inverse, self.files.spectrum(0), volume)
