"""The noise spectrum sigma^2(k), by shell and by the angles to the beam and to the tilt axis.

    halves:   sigma^2(k) = 1/4 < |F(y0 - y1)(k)|^2 >          the noise of their mean
    one map:  sigma^2(k) = < |F y (k)|^2 > over the quietest patches, an upper bound where no patch is empty, and at low
              frequency no more than log sigma^2 = a + b |k|, fitted where there is next to no signal, says

Fixed before training, never learned: a learned sigma pays a blurry decoder to stay blurry.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from cryovae import fourier
from cryovae.errors import InputError
from cryovae.physics.ctf import inverse_transfer
from cryovae.physics.wedge import patch_mask, volume_mask
from cryovae.tomogram import TiltGeometry, Transfer

SHELLS, ANGLES = 24, 4
# Cycles per voxel between which a tomogram is taken to be noise alone.
RIM = (0.32, 0.5)


@dataclass(frozen=True)
class NoiseSpectrum:
    """sigma^2 in a table (shells, angles to the beam, angles to the tilt axis), for orthonormal spectra.

    The shells divide 0 to sqrt(3)/2 cycles per voxel; the angles divide |cos| in 0 to 1.
    method: 'halves' or 'quiet patches', for the record. transfer: the contrast transfer C by which the data were divided, so that
    their noise is sigma^2 / C^2 where they say something; the table is that of the data as they were. None for none.
    """

    table: Tensor
    method: str
    transfer: Transfer | None = None

    def __call__(self, frequency: Tensor) -> Tensor:
        """sigma^2 (...) at frequencies (3, ...) in cycles per voxel, linear between shells."""
        shell, beam, axis = _coordinates(frequency)
        below = shell.floor().clamp(0, SHELLS - 1).long()
        above = (below + 1).clamp(max=SHELLS - 1)
        part = (shell - below).clamp(0, 1)
        table = self.table.to(frequency.device)
        found = table[below, beam, axis] * (1 - part) + table[above, beam, axis] * part
        return found if self.transfer is None else found * inverse_transfer(frequency, self.transfer).square().clamp_min(1.0)

    def simplified(self, detail: str) -> NoiseSpectrum:
        """The same with less detail: 'angular' as it is, 'radial' one variance a shell, 'white' one for all."""
        if detail == "angular":
            return self
        if detail == "radial":
            return replace(self, table=self.table.mean((1, 2), keepdim=True).expand_as(self.table).clone())
        if detail != "white":
            raise InputError(f"noise '{detail}' found, expected angular, radial or white")
        radius = (torch.arange(SHELLS) + 0.5) / SHELLS
        volume = (radius.square() * (radius < 0.5 / (3**0.5 / 2))).view(-1, 1, 1)
        mean = (self.table * volume).sum() / (volume.sum() * ANGLES**2)
        return replace(self, table=torch.full_like(self.table, float(mean)))

    def signal(self, density: Tensor, mask: Tensor) -> NoiseSpectrum:
        """Power of the signal by shell: that of a whole (z, y, x) density where ``mask`` is 1, less this noise; never below 0."""
        k = fourier.frequencies(density.shape)
        weight = (mask == 1) * fourier.multiplicity(density.shape)
        weight[0, 0, 0] = 0.0
        power = _tabulate(fourier.transform(density).abs().square() - self(k), weight, k)
        radial = power.mean((1, 2), keepdim=True).clamp_min(0)
        return NoiseSpectrum(radial.expand_as(power).clone(), "signal")

    def scaled(self, factor: float) -> NoiseSpectrum:
        """The spectrum of noise whose variance is ``factor`` times as large."""
        return replace(self, table=self.table * factor)


def _coordinates(frequency: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    length = frequency.square().sum(0).sqrt()
    shell = length / (3**0.5 / 2) * SHELLS - 0.5
    cosines = frequency.abs() / length.clamp_min(1e-9)
    beam, axis = ((cosines[i] * ANGLES).long().clamp(0, ANGLES - 1) for i in (0, 1))
    return shell.clamp_min(0), beam, axis


def _tabulate(power: Tensor, weight: Tensor, frequency: Tensor) -> Tensor:
    """Means of ``power`` (z, y, x // 2 + 1) in the bins of the table, on the CPU; thin bins lean on their shell's mean."""
    index, size = _bin_of(frequency), SHELLS * ANGLES * ANGLES
    total, count = (_summed(values, index, size).cpu().view(SHELLS, -1) for values in (power * weight, weight))
    return _means(total, count)


def _summed(values: Tensor, index: Tensor, size: int) -> Tensor:
    """Sums (size,) of values over the bins of an index of their shape, float32."""
    # A GPU sums in any order; of sums in double precision single precision shows nothing of it.
    kind = torch.float32 if values.device.type == "cpu" else torch.float64
    return fourier.shell_sums(values[None], index, size, kind)[0].float()


def _bin_of(frequency: Tensor) -> Tensor:
    """The bin of the table (...) that holds each of the frequencies (3, ...)."""
    shell, beam, axis = _coordinates(frequency)
    return (shell.round().long().clamp(0, SHELLS - 1) * ANGLES + beam) * ANGLES + axis


def _means(total: Tensor, count: Tensor) -> Tensor:
    """A table from sums (shells, angles) of values and of their weights."""
    per_shell = total.sum(1) / count.sum(1).clamp_min(1e-6)
    known = count.sum(1) > 8
    radial = torch.from_numpy(np.interp(np.arange(SHELLS), np.flatnonzero(known), per_shell[known].numpy())).float()
    prior = 200.0
    table = (total + prior * radial[:, None]) / (count + prior)
    return table.view(SHELLS, ANGLES, ANGLES)


class Tabulation:
    """Sums behind the tables of several powers of one spectrum, added up part by part: for volumes that are not held at once."""

    def __init__(self, powers: int) -> None:
        self.total = torch.zeros(powers, SHELLS * ANGLES * ANGLES, dtype=torch.float64)
        self.count = torch.zeros(SHELLS * ANGLES * ANGLES, dtype=torch.float64)

    def add(self, frequency: Tensor, weight: Tensor, *powers: Tensor) -> None:
        """Take in bins (...) at frequencies (3, ...)."""
        index = _bin_of(frequency)
        fourier.add_shell_sums(self.count[None], weight.expand(index.shape)[None], index)
        for total, power in zip(self.total, powers, strict=True):
            fourier.add_shell_sums(total[None], (power * weight)[None], index)

    def tables(self) -> list[Tensor]:
        """A table (shells, angles, angles) for each power."""
        count = self.count.float().view(SHELLS, -1)
        return [_means(total.float().view(SHELLS, -1), count) for total in self.total]


def spectrum_table(density: Tensor, frequency: Tensor) -> NoiseSpectrum:
    """The power of a whole (z, y, x) density in the bins of a noise spectrum: how a model's spread is set beside the noise."""
    power = fourier.transform(density).abs().square()
    weight = fourier.multiplicity(density.shape, density.device).expand_as(power)
    return NoiseSpectrum(_tabulate(power, weight, frequency), "spread")


def tabulated(values: Tensor, weight: Tensor, frequency: Tensor, method: str) -> NoiseSpectrum:
    """Means of values (z, y, x // 2 + 1) at frequencies (3, z, y, x // 2 + 1) in the bins of a spectrum's table."""
    return NoiseSpectrum(_tabulate(values, weight, frequency), method)


def spectrum_mean(variance: Tensor, mask: Tensor, radius: Tensor) -> Tensor:
    """The mean of a spectrum over what ``mask`` leaves of its shell, in every bin; all (z, y, x // 2 + 1), radius |k|."""
    shell = fine_shell(radius)
    total, count = (_summed(values, shell, int(shell.max()) + 1) for values in (variance * mask, mask))
    return (total / count.clamp_min(1e-9)).clamp_min(1e-12)[shell]


def fine_shell(radius: Tensor) -> Tensor:
    """The shell of ``spectrum_mean``, half as wide as those of the table, that holds |k| (...): 0 to 2 SHELLS."""
    return (radius / (3**0.5 / 2) * 2 * SHELLS).round().long()


def amplitude_table(
    density: Tensor, data: Tensor, mask: Tensor, frequency: Tensor, noise: Tensor | None = None, copied: Tensor | None = None
) -> NoiseSpectrum:
    """By what each bin of a spectrum's table must be multiplied for a (z, y, x) density to fit what was measured, less noise.

    a = ( sum Re( F x conj F y ) - n ) / sum |F x|^2, within 0 to 2, where ``mask`` is 1. copied: n, (z, y, x // 2 + 1), what
    the noise of y adds to the product, because x was made from y; with it left in, noise would be restored as signal. noise:
    sigma^2, likewise; a x then has no more power than y less its noise.
    """
    x, y = fourier.transform(density), fourier.transform(data)
    weight = mask * fourier.multiplicity(density.shape, density.device)
    product = (x * y.conj()).real
    cross = _tabulate(product if copied is None else product - copied, weight, frequency)
    power = _tabulate(x.abs().square(), weight, frequency)
    signal = None if noise is None else _tabulate(y.abs().square() - noise, weight, frequency)
    return fitted_amplitude(cross, power, signal)


def fitted_amplitude(cross: Tensor, power: Tensor, signal: Tensor | None) -> NoiseSpectrum:
    """The table a of ``amplitude_table``, from tables of Re( F x conj F y ) - n, of |F x|^2, and of |F y|^2 - sigma^2 or None."""
    power = power.clamp_min(1e-9)
    found = torch.where(power > 1e-9, cross / power, 1.0).clamp(0.0, 2.0)
    if signal is not None:
        found = torch.minimum(found, (signal.clamp_min(0) / power).sqrt())
    return NoiseSpectrum(found, "amplitude")


def _periodograms(density: np.ndarray, patch: tuple[int, int, int], most: int, seed: int) -> Tensor:
    """Powers (patches, z, y, x // 2 + 1) of up to ``most`` patches that lie inside the volume, drawn without order."""
    room = [size - side for size, side in zip(density.shape, patch, strict=True)]
    rng = np.random.default_rng(seed)
    starts = {tuple(int(rng.integers(0, r + 1)) for r in room) for _ in range(most)}
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
) -> NoiseSpectrum:
    """The noise spectrum of a (z, y, x) density, from its halves when there are any, else from its quietest patches.

    device: where the transform of a whole volume is worked out.
    """
    if halves is not None:
        first, second = (torch.from_numpy(half.astype(np.float32)).to(device) for half in halves)
        difference = (first - second) / 2
        # Of the whole volume, not of patches: a patch smears the edge of the wedge, which cost 5 % of the variance.
        k = fourier.frequencies(difference.shape, device)
        seen = volume_mask(difference.shape, tilts, device=device) == 1
        weight = seen * fourier.multiplicity(difference.shape, device)
        weight[0, 0, 0] = 0.0
        return NoiseSpectrum(_tabulate(fourier.transform(difference).abs().square(), weight, k).clamp_min(1e-6), "halves")
    nz, ny, nx = (min(side, size) for size in density.shape)
    patch = (nz, ny, nx)
    frequency = fourier.frequencies(patch)
    weight = patch_mask(patch, tilts) * fourier.multiplicity(patch)
    weight = weight * (weight > 0.5)
    weight[0, 0, 0] = 0.0
    powers = _periodograms(density, patch, 400, seed)
    middle = weight * ((fourier.radius(patch) > 0.03) & (fourier.radius(patch) < 0.25))
    content = (powers * middle).sum((1, 2, 3))
    quiet = powers[content.argsort()[: max(8, len(powers) // 20)]].mean(0)
    table = _without_signal(_tabulate(quiet, weight, frequency).clamp_min(1e-6))
    return NoiseSpectrum(table, "quiet patches")


def _without_signal(table: Tensor) -> Tensor:
    """Lower a table of quiet patches where it rises over the line through its outer shells: crowded volumes have no patch
    without signal, which is strong at low frequency and next to nothing at the rim.
    """
    radius = (torch.arange(SHELLS) + 0.5) / SHELLS * (3**0.5 / 2)
    rim = (radius > RIM[0]) & (radius < RIM[1])
    level = table.mean((1, 2)).log()
    slope, start = np.polyfit(radius[rim].numpy(), level[rim].numpy(), 1)
    line = torch.where(radius < RIM[0], torch.exp(float(start) + float(slope) * radius - level), 1.0)
    return table * line.clamp(max=1.0).view(-1, 1, 1)
