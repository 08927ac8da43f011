"""The noise spectrum sigma^2(k), by shell and by the angles to the beam and to the tilt axis.

    halves:   sigma^2(k) = 1/4 < |F(y0 - y1)(k)|^2 >          the noise of their mean
    one map:  sigma^2(k) = < |F y (k)|^2 > over the quietest patches, an upper bound where no patch is empty; at low frequency
              it is limited by the line log sigma^2 = a + b |k|, fitted where there is almost no signal

It is fixed before training, never learned: a learned sigma rewards a blurry decoder for staying blurry.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from torch import Tensor

from cryovae import fourier
from cryovae.errors import InputError
from cryovae.physics.ctf import inverse_transfer
from cryovae.physics.wedge import patch_mask, volume_mask
from cryovae.tomogram import TiltGeometry, Transfer

TABLE_SHELLS, TABLE_ANGLES = 24, 4
# Cycles per voxel, the end of the last shell: the corner of the Nyquist cube.
TABLE_RADIUS = 3**0.5 / 2
# A bin of the table counts as this many coefficients of its shell's mean in addition to its own.
PRIOR_COUNT = 200.0
# Cycles per voxel between which a tomogram is taken to be noise alone.
RIM = (0.32, 0.5)
# How it was estimated.
HALVES, QUIET = "halves", "quiet patches"


Places = Callable[[Sequence[int], int, np.random.Generator], set[tuple[int, ...]]]


@dataclass(frozen=True)
class SpectralTable:
    """A real function of frequency, tabulated for orthonormal spectra: a power, a variance or an amplitude.

    Attributes:
        table: (shells, angles, angles): shells of |k| from 0 to sqrt(3)/2 cycles per voxel, |cos| of the angle to the beam in
            0 to 1, |cos| of the angle to the tilt axis in 0 to 1.
    """

    table: Tensor

    def __call__(self, frequency: Tensor) -> Tensor:
        """Values (...) at frequencies (3, ...) in cycles per voxel, linear between shells."""
        shell, beam, axis = _coordinates(frequency)
        below = shell.floor().clamp(0, TABLE_SHELLS - 1).long()
        above = (below + 1).clamp(max=TABLE_SHELLS - 1)
        part = (shell - below).clamp(0, 1)
        table = self.table.to(frequency.device)
        return table[below, beam, axis] * (1 - part) + table[above, beam, axis] * part

    def scaled(self, factor: float) -> Self:
        """The same with all values multiplied by ``factor``."""
        return replace(self, table=self.table * factor)


@dataclass(frozen=True)
class NoiseSpectrum(SpectralTable):
    """The noise variance sigma^2 of an orthonormal spectrum.

    Attributes:
        table: sigma^2 of the data before the contrast transfer was divided out, laid out as in ``SpectralTable``.
        method: how it was estimated, 'halves' or 'quiet patches'.
        transfer: the contrast transfer C that was divided out of the data, so that their noise is sigma^2 / C^2; or None.
    """

    method: str
    transfer: Transfer | None = None

    def __call__(self, frequency: Tensor) -> Tensor:
        """sigma^2 (...) at frequencies (3, ...) in cycles per voxel, linear between shells."""
        variance = super().__call__(frequency)
        return (
            variance if self.transfer is None else variance * inverse_transfer(frequency, self.transfer).square().clamp_min(1.0)
        )

    def simplified(self, detail: str) -> NoiseSpectrum:
        """The same with less detail: 'angular' as it is, 'radial' one variance a shell, 'white' one for all."""
        if detail == "angular":
            return self
        if detail == "radial":
            return replace(self, table=self.table.mean((1, 2), keepdim=True).expand_as(self.table).clone())
        if detail != "white":
            raise InputError(f"noise '{detail}' found, expected angular, radial or white")
        radius = (torch.arange(TABLE_SHELLS) + 0.5) / TABLE_SHELLS
        volume = (radius.square() * (radius < 0.5 / TABLE_RADIUS)).view(-1, 1, 1)
        mean = (self.table * volume).sum() / (volume.sum() * TABLE_ANGLES**2)
        return replace(self, table=torch.full_like(self.table, float(mean)))

    def signal(self, density: Tensor, mask: Tensor) -> SpectralTable:
        """Power of the signal by shell: that of a (z, y, x) density where ``mask`` is 1, less this noise, at least 0."""
        k = fourier.frequencies(density.shape)
        weight = (mask == 1) * fourier.multiplicity(density.shape)
        weight[0, 0, 0] = 0.0
        power = tabulated(fourier.transform(density).abs().square() - self(k), weight, k).table
        radial = power.mean((1, 2), keepdim=True).clamp_min(0)
        return SpectralTable(radial.expand_as(power).clone())


def _coordinates(frequency: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Position along the shells, and the two indices of the angles, (...) each, of frequencies (3, ...)."""
    length = frequency.square().sum(0).sqrt()
    shell = length / TABLE_RADIUS * TABLE_SHELLS - 0.5
    cosines = frequency.abs() / length.clamp_min(1e-9)
    beam, axis = ((cosines[i] * TABLE_ANGLES).long().clamp(0, TABLE_ANGLES - 1) for i in (0, 1))
    return shell.clamp_min(0), beam, axis


def tabulated(values: Tensor, weight: Tensor, frequency: Tensor) -> SpectralTable:
    """Weighted means of values (z, y, x // 2 + 1) at frequencies (3, z, y, x // 2 + 1), on the CPU.

    A bin with few coefficients is drawn towards the mean of its shell.
    """
    index, size = _bin_of(frequency), TABLE_SHELLS * TABLE_ANGLES**2
    total, count = (_summed(terms, index, size).cpu().view(TABLE_SHELLS, -1) for terms in (values * weight, weight))
    return SpectralTable(_means(total, count))


def _summed(values: Tensor, index: Tensor, size: int) -> Tensor:
    """Sums (size,) of values over the bins of an index of their shape, float32."""
    # The order of a sum on a GPU varies; double precision hides this from the single-precision result.
    dtype = torch.float32 if values.device.type == "cpu" else fourier.sum_dtype(values.device)
    return fourier.shell_sums(values[None], index, size, dtype)[0].float()


def _bin_of(frequency: Tensor) -> Tensor:
    """The bin of the table (...) that holds each of the frequencies (3, ...)."""
    shell, beam, axis = _coordinates(frequency)
    return (shell.round().long().clamp(0, TABLE_SHELLS - 1) * TABLE_ANGLES + beam) * TABLE_ANGLES + axis


def _means(total: Tensor, count: Tensor) -> Tensor:
    """A table from sums (shells, angles) of values and of their weights."""
    per_shell = total.sum(1) / count.sum(1).clamp_min(1e-6)
    known = count.sum(1) > 8
    radial = torch.from_numpy(np.interp(np.arange(TABLE_SHELLS), np.flatnonzero(known), per_shell[known].numpy())).float()
    table = (total + PRIOR_COUNT * radial[:, None]) / (count + PRIOR_COUNT)
    return table.view(TABLE_SHELLS, TABLE_ANGLES, TABLE_ANGLES)


class Tabulation:
    """Sums behind the tables of several powers of one spectrum, accumulated part by part for volumes on disk."""

    def __init__(self, powers: int, dtype: torch.dtype = torch.float64, device: torch.device | None = None) -> None:
        self.total = torch.zeros(powers, TABLE_SHELLS * TABLE_ANGLES**2, dtype=dtype, device=device)
        self.count = torch.zeros(TABLE_SHELLS * TABLE_ANGLES**2, dtype=dtype, device=device)

    def add(self, frequency: Tensor, weight: Tensor, *powers: Tensor) -> None:
        """Add bins (...) at frequencies (3, ...)."""
        index = _bin_of(frequency)
        fourier.add_shell_sums(self.count[None], weight.expand(index.shape)[None], index)
        for total, power in zip(self.total, powers, strict=True):
            fourier.add_shell_sums(total[None], (power * weight)[None], index)

    def tables(self) -> list[Tensor]:
        """A table (shells, angles, angles) for each power."""
        count = self.count.float().cpu().view(TABLE_SHELLS, -1)
        return [_means(total.float().cpu().view(TABLE_SHELLS, -1), count) for total in self.total]


def amplitude_table(
    density: Tensor, data: Tensor, mask: Tensor, frequency: Tensor, noise: Tensor | None = None, copied: Tensor | None = None
) -> SpectralTable:
    """The factor for each bin of a table by which a density fits the data.

    a = ( sum Re( F x conj F y ) - n ) / sum |F x|^2, within 0 to 2, where ``mask`` is 1.

    Args:
        density: x, (z, y, x), what is scaled.
        data: y, (z, y, x), what is fitted.
        mask: (z, y, x // 2 + 1), 1 where y was measured.
        frequency: (3, z, y, x // 2 + 1) in cycles per voxel.
        noise: sigma^2, (z, y, x // 2 + 1), or None; the power of a x is then limited to that of y less its noise.
        copied: n, (z, y, x // 2 + 1), or None: what the noise of y adds to the product because x was made from y.
    """
    x, y = fourier.transform(density), fourier.transform(data)
    weight = mask * fourier.multiplicity(density.shape, density.device)
    product = (x * y.conj()).real
    cross = tabulated(product if copied is None else product - copied, weight, frequency).table
    power = tabulated(x.abs().square(), weight, frequency).table
    signal = None if noise is None else tabulated(y.abs().square() - noise, weight, frequency).table
    return fitted_amplitude(cross, power, signal)


def fitted_amplitude(cross: Tensor, power: Tensor, signal: Tensor | None) -> SpectralTable:
    """The table a of ``amplitude_table``, from tables of Re( F x conj F y ) - n, of |F x|^2, and of |F y|^2 - sigma^2 or None."""
    power = power.clamp_min(1e-9)
    amplitude = torch.where(power > 1e-9, cross / power, 1.0).clamp(0.0, 2.0)
    if signal is not None:
        amplitude = torch.minimum(amplitude, (signal.clamp_min(0) / power).sqrt())
    return SpectralTable(amplitude)


def _periodograms(density: np.ndarray, patch: tuple[int, int, int], most: int, seed: int, places: Places | None) -> Tensor:
    """Powers (patches, z, y, x // 2 + 1) of up to ``most`` patches at random positions inside the volume."""
    room = [size - side for size, side in zip(density.shape, patch, strict=True)]
    rng = np.random.default_rng(seed)
    if places is None:
        starts = {tuple(int(rng.integers(0, r + 1)) for r in room) for _ in range(most)}
    else:
        starts = places(patch, most, rng)
    cuts = [density[z : z + patch[0], y : y + patch[1], x : x + patch[2]] for z, y, x in sorted(starts)]
    stack = torch.from_numpy(np.stack(cuts).astype(np.float32))
    spectrum = fourier.transform(stack)
    return spectrum.real.square() + spectrum.imag.square()


def estimate_noise(
    density: np.ndarray,
    halves: tuple[np.ndarray, np.ndarray] | None,
    tilts: TiltGeometry,
    side: int = 32,
    seed: int = 0,
    device: torch.device | None = None,
    window: Tensor | None = None,
    places: Places | None = None,
) -> NoiseSpectrum:
    """The noise spectrum of a density, from its halves where there are any, else from its quietest patches.

    Args:
        density: (z, y, x).
        halves: two independent reconstructions of its shape, or None.
        tilts: the tilt geometry; only measured bins are used.
        side: side of the patches in voxels.
        seed: of the positions of the patches.
        device: where the spectrum of the difference of the halves is computed.
        window: (z, y, x) of mean square 1 through which the difference of the halves is seen, or None for all of it.
        places: draws the positions of patches, from their sides, their number and random numbers; None for anywhere.
    """
    if halves is None:
        return _noise_of_patches(density, tilts, side, seed, places)
    first, second = (torch.from_numpy(half.astype(np.float32)).to(device) for half in halves)
    difference = (first - second) / 2
    if window is not None:
        difference *= window.to(difference.device)
    # Of the volume, not of patches: a patch smears the edge of the wedge, which cost 5 % of the variance.
    k = fourier.frequencies(difference.shape, device)
    measured = volume_mask(difference.shape, tilts, device=device) == 1
    weight = measured * fourier.multiplicity(difference.shape, device)
    weight[0, 0, 0] = 0.0
    return NoiseSpectrum(tabulated(fourier.transform(difference).abs().square(), weight, k).table.clamp_min(1e-6), HALVES)


def _noise_of_patches(density: np.ndarray, tilts: TiltGeometry, side: int, seed: int, places: Places | None) -> NoiseSpectrum:
    """The mean power of the patches with the least power between 0.03 and 0.25 cycles per voxel."""
    nz, ny, nx = (min(side, size) for size in density.shape)
    patch = (nz, ny, nx)
    weight = patch_mask(patch, tilts) * fourier.multiplicity(patch)
    weight = weight * (weight > 0.5)
    weight[0, 0, 0] = 0.0
    powers = _periodograms(density, patch, 400, seed, places)
    radius = fourier.radius(patch)
    content = (powers * (weight * ((radius > 0.03) & (radius < 0.25)))).sum((1, 2, 3))
    quiet = powers[content.argsort()[: max(8, len(powers) // 20)]].mean(0)
    table = tabulated(quiet, weight, fourier.frequencies(patch)).table.clamp_min(1e-6)
    return NoiseSpectrum(_without_signal(table), QUIET)


def _without_signal(table: Tensor) -> Tensor:
    """A table of quiet patches, lowered to the line through its outer shells where it rises above that.

    A crowded volume has no patch without signal; signal is strong at low frequency and almost absent at the rim.
    """
    radius = (torch.arange(TABLE_SHELLS) + 0.5) / TABLE_SHELLS * TABLE_RADIUS
    rim = (radius > RIM[0]) & (radius < RIM[1])
    level = table.mean((1, 2)).log()
    slope, start = np.polyfit(radius[rim].numpy(), level[rim].numpy(), 1)
    line = torch.where(radius < RIM[0], torch.exp(float(start) + float(slope) * radius - level), 1.0)
    return table * line.clamp(max=1.0).view(-1, 1, 1)
