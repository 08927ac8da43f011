"""A tomogram standardised slab by slab, its noise measured: what ``data.prepare.prepare`` does in memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import prod
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor

from cryovae import fourier
from cryovae.data.region import Region, region_of
from cryovae.physics.ctf import inverse_transfer
from cryovae.physics.noise import HALVES, NoiseSpectrum, Tabulation, estimate_noise
from cryovae.physics.wedge import volume_edge, wedge_mask
from cryovae.tomogram import TiltGeometry, Tomogram, Transfer

if TYPE_CHECKING:
    from cryovae.restoration.file_storage import FileStorage


def with_transfer(tomogram: Tomogram) -> TiltGeometry:
    """The tilts of a tomogram, with the contrast transfer that is divided out if it is known."""
    if tomogram.optics is None:
        return tomogram.tilts
    return replace(tomogram.tilts, transfer=Transfer(tomogram.optics, tomogram.voxel_size))


def standardise(storage: FileStorage, tomogram: Tomogram, seed: int) -> dict[str, Any]:
    """Write "data", "half1" and "half2"; returns their mean and scale, and the table and method of the noise."""
    volumes: dict[str, Any] = {"data": tomogram.density}
    volumes |= {f"half{number}": half for number, half in enumerate(tomogram.halves or (), 1)}
    region = region_of(tomogram)
    if region is None:
        mean, scale = _statistics(storage, storage.read_array(tomogram.density))
    else:
        mean, scale = region.statistics(tomogram.density)
    for name, volume in volumes.items():
        storage.write(name, ((part - mean) / scale for part in storage.read_array(volume)))
    if tomogram.halves is None:
        places = None if region is None else region.random_positions
        noise = estimate_noise(cast(np.ndarray, storage.volume("data")), None, tomogram.tilts, seed=seed, places=places)
    else:
        noise = _noise_of_halves(storage, tomogram.tilts, region)
    transfer = with_transfer(tomogram).transfer
    if transfer is not None:
        for name in volumes:
            divided = storage.filtered([storage.read(name)], lambda rows: [_inverse_transfer(storage, transfer, rows)])
            storage.write(name, (part for (part,) in divided))
        if region is None:
            _, gain = _statistics(storage, storage.read("data"))
        else:
            _, gain = region.statistics(storage.volume("data"))
        for name in volumes:
            storage.write(name, (part / gain for part in storage.read(name)))
        scale, noise = scale * gain, noise.scaled(gain**-2)
    return {"mean": mean, "scale": scale, "noise": noise.table.tolist(), "method": noise.method}


def _statistics(storage: FileStorage, parts: Iterator[Tensor]) -> tuple[float, float]:
    """Mean and standard deviation in double precision, in one pass: sums about the mean of the first slab."""
    middle: float | None = None
    sums = torch.zeros(2, dtype=torch.float64)
    for part in parts:
        values = part.double()
        middle = float(values.mean()) if middle is None else middle
        values -= middle
        sums += torch.stack((values.sum(), values.square_().sum()))
    count = prod(storage.shape)
    mean = float(sums[0]) / count
    return mean + cast(float, middle), float(((sums[1] - count * mean**2) / (count - 1)).clamp_min(0).sqrt())


def _noise_of_halves(storage: FileStorage, tilts: TiltGeometry, region: Region | None) -> NoiseSpectrum:
    """``estimate_noise`` of the halves."""
    sums, multiplicity = Tabulation(1), fourier.multiplicity(storage.shape)
    difference = ((one - two) / 2 for one, two in zip(storage.read("half1"), storage.read("half2"), strict=True))
    if region is not None:
        difference = (part * region.window(slab) for slab, part in zip(storage.slabs, difference, strict=True))
    for rows, (spectrum,) in storage.spectra(difference):
        k = fourier.frequencies(storage.shape, rows=rows)
        weight = (wedge_mask(k, tilts, volume_edge(storage.shape, tilts)) == 1) * multiplicity
        weight[(k == 0).all(0)] = 0.0
        sums.add(k, weight, spectrum.abs().square())
    return NoiseSpectrum(sums.tables()[0].clamp_min(1e-6), HALVES)


def _inverse_transfer(storage: FileStorage, transfer: Transfer, rows: slice) -> Tensor:
    k = fourier.frequencies(storage.shape, rows=rows)
    inverse = inverse_transfer(k, transfer)
    inverse[(k == 0).all(0)] = 1.0
    return inverse
