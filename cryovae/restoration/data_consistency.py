"""Filters on spectra that make the restored volume of means, samples and data, as calibration/fitted.py says.

    F x = (1 - M) b_w sum_i w_wi F x_i + M (1 - v) b_m sum_i w_mi F x_i + M v F y          M the mask of measured bins

v is that of the noise of each bin: P / (P + sigma^2), P the power that gives v at the mean noise of a shell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cryovae import fourier
from cryovae.calibration.factors import at, at_noise
from cryovae.calibration.fitted import Fitted, MeasuredPowers, bounded
from cryovae.calibration.hidden_bins import FULL, SHELL_WIDTH, SHELLS
from cryovae.physics.noise import NoiseSpectrum
from cryovae.physics.observation import NoiseFunction
from cryovae.physics.wedge import volume_edge, wedge_mask
from cryovae.posterior.volume_data import VolumeData
from cryovae.tomogram import TiltGeometry


@dataclass(frozen=True)
class FourierBins:
    """Bins (...) of the half spectrum of a volume.

    Attributes:
        frequency: (3, ...) in cycles per voxel.
        mask: M (...), 1 in measured bins.
        noise: sigma^2 (...).
        multiplicity: how often each column counts, (x // 2 + 1,).
    """

    frequency: Tensor
    mask: Tensor
    noise: Tensor
    multiplicity: Tensor

    @property
    def radius(self) -> Tensor:
        """|k| (...) in cycles per voxel."""
        return self.frequency.square().sum(0).sqrt()


def fourier_bins(
    shape: tuple[int, int, int],
    tilts: TiltGeometry,
    noise: NoiseSpectrum | NoiseFunction,
    rows: slice = slice(None),
    device: torch.device | None = None,
) -> FourierBins:
    """The bins of some rows y of the half spectrum of a volume (z, y, x)."""
    k = fourier.frequencies(shape, device, rows)
    mask = wedge_mask(k, tilts, volume_edge(shape, tilts))
    return FourierBins(k, mask, noise(k), fourier.multiplicity(shape, device))


class MeasuredPowerSums:
    """The sums behind ``MeasuredPowers`` over parts of a spectrum."""

    def __init__(self) -> None:
        self._sums = torch.zeros(3, SHELLS, dtype=torch.float64)

    def add(self, bins: FourierBins, deviation: Tensor) -> None:
        """Add bins of the spectrum of the deviation of a sample, with its variance."""
        weight = (bins.mask > FULL) * bins.multiplicity
        shell = (bins.radius / SHELL_WIDTH).long().clamp(max=SHELLS)
        terms = torch.stack((weight, weight * bins.noise, weight * deviation.abs().square()))
        self._sums += fourier.shell_sums(terms, shell, SHELLS + 1)[:, :SHELLS].cpu()

    def powers(self) -> MeasuredPowers:
        """The powers of all parts together."""
        count, noise, spread = self._sums
        return MeasuredPowers((noise / count.clamp_min(1)).float(), (spread / count.clamp_min(1)).float())


@dataclass(frozen=True)
class Filters:
    """Factors on the bins of spectra.

    Attributes:
        means: on each mean.
        data: on the data.
        spread: on the deviations of samples.
    """

    means: list[Tensor]
    data: Tensor
    spread: Tensor


def filters(bins: FourierBins, fit: Fitted, powers: MeasuredPowers) -> Filters:
    """The filters at some bins."""
    mask, radius = bins.mask, bins.radius
    wedge, measured = fit.wedge.factors, fit.measured.factors
    level = at(powers.noise, radius)
    relative = torch.where(level > 0, bins.noise / level.clamp_min(1e-12), torch.ones_like(level))
    weight = at_noise(at(measured.weight, radius), relative)
    in_wedge = (1 - mask) * at(wedge.amplitude, radius)
    in_measured = mask * (1 - weight) * at(measured.amplitude, radius)
    weights = zip(fit.wedge.weights.tolist(), fit.measured.weights.tolist(), strict=True)
    means = [w * in_wedge + m * in_measured for w, m in weights]
    data = mask * weight
    # Every tilt measures the mean of the volume.
    zero = radius == 0
    means, data = [mean.masked_fill(zero, 0.0) for mean in means], data.masked_fill(zero, 1.0)
    outer, inner = (at(factors.scale, radius).sqrt() for factors in (wedge, measured))
    return Filters(means, data, (outer + mask * (inner - outer)).masked_fill(zero, 0.0))


def combined(means: Sequence[Tensor], samples: Sequence[Tensor], volume: VolumeData, fit: Fitted) -> list[Tensor]:
    """Samples (z, y, x) about the mean with the data, of a volume in memory.

    Args:
        means: of its posterior, (z, y, x) each.
        samples: of it, independent of each other, two at least.
        volume: its data.
        fit: how they are combined.
    """
    z, y, x = volume.data.shape
    bins = fourier_bins((z, y, x), volume.tilts, volume.noise)
    average = torch.stack(list(samples)).mean(0)
    factor = (len(samples) / (len(samples) - 1)) ** 0.5
    deviations = [factor * (sample - average) for sample in samples]
    sums = MeasuredPowerSums()
    sums.add(bins, fourier.transform(deviations[0]))
    powers = sums.powers()
    tables = filters(bins, bounded(fit, powers), powers)
    spectrum = tables.data * fourier.transform(volume.data)
    for factors, mean in zip(tables.means, means, strict=True):
        spectrum = spectrum + factors * fourier.transform(mean)
    restored = fourier.inverse(spectrum, volume.data.shape)
    return [restored + fourier.filtered(deviation, tables.spread) for deviation in deviations]
