"""Data consistency: how much of the data and how much of the model each Fourier bin of the restored density takes.

    x_dc = F^-1[ w F y + (1 - w) a F x ],     w = M P / (P + sigma^2)

P is measured on held-out patches, between the two halves or between two noisier copies of one volume (calibration/). Without a
calibration P is the variance of the model's samples, and w is the Wiener weight. In measured bins a is the amplitude with which x
fits the data, less the noise that x copied from its input. In the wedge a is the amplitude with which it predicts held-out bins.

The deviations of samples from their mean are scaled to the errors that held-out bins show. What a scale of at most MAX_SCALE
cannot reach is added as independent noise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cryovae import fourier
from cryovae.calibration.variance import VarianceCalibration, at_noise, by_shell, pooled, shells
from cryovae.data.prepare import PreparedTomogram
from cryovae.physics.depth import depth_at
from cryovae.physics.noise import TABLE_SHELLS, SpectralTable, Tabulation, fine_shell, fitted_amplitude
from cryovae.physics.wedge import volume_edge, wedge_mask

# Largest factor on the deviation of samples, and on the ratio of variances between held-out patches and the volume.
MAX_SCALE = 4.0
# Below this mask a bin counts as not measured.
MEASURED_ABOVE = 0.01
# Largest difference of log c^2 with depth from its mean over a shell.
MAX_DEPTH_CHANGE = 1.0


@dataclass(frozen=True)
class FourierBins:
    """Bins (...) of the half spectrum of a volume.

    Attributes:
        frequency: (3, ...) in cycles per voxel.
        mask: M (...), 1 in measured bins.
        noise: sigma^2 (...).
        multiplicity: how often each column counts, (x // 2 + 1,).
        depth: distance to the nearest measured bin (...), in bins of a patch.
    """

    frequency: Tensor
    mask: Tensor
    noise: Tensor
    multiplicity: Tensor
    depth: Tensor

    @property
    def radius(self) -> Tensor:
        """|k| (...) in cycles per voxel."""
        return self.frequency.square().sum(0).sqrt()


def fourier_bins(
    prepared: PreparedTomogram, shape: tuple[int, int, int], depths: Tensor, rows: slice, device: torch.device
) -> FourierBins:
    """The bins of some rows y of a spectrum; depths: ``depth_table`` of a patch."""
    k = fourier.frequencies(shape, device, rows)
    mask = wedge_mask(k, prepared.tilts, volume_edge(shape, prepared.tilts))
    return FourierBins(k, mask, prepared.noise(k), fourier.multiplicity(shape, device), depth_at(depths, k))


@dataclass(frozen=True)
class SpectrumStats:
    """What the spectra of a volume say; tables by shell are those of calibration/variance.py.

    Attributes:
        amplitude: a in measured bins.
        sample_power: power of a sample's deviation from the mean.
        wedge_variance: the same over sigma^2 in the wedge, by shell, 0 where a shell has no such bins.
        shell_noise: mean of sigma^2 in measured bins by fine shell; None where sigma^2 varies little within a shell.
    """

    amplitude: SpectralTable
    sample_power: SpectralTable
    wedge_variance: Tensor
    shell_noise: Tensor | None = None


class SpectrumStatsSums:
    """The sums behind ``SpectrumStats`` over parts of the spectra.

    Args:
        calibration: what held-out bins say, or None.
        uneven: whether sigma^2 varies within shells, as it does around the zeros of a contrast transfer.
        dtype: of the sums; float64 for a volume that comes in parts.
        device: of the spectra.
    """

    def __init__(self, calibration: VarianceCalibration | None, uneven: bool, dtype: torch.dtype, device: torch.device) -> None:
        self.calibration, self.uneven = calibration, uneven
        self._measured, self._all = (Tabulation(powers, dtype, device) for powers in (3, 1))
        self._wedge = torch.zeros(2, len(VarianceCalibration.frequency()), dtype=torch.float64)
        self._noise, self._bins = (torch.zeros(2 * TABLE_SHELLS + 1, dtype=dtype, device=device) for _ in range(2))

    def add(self, bins: FourierBins, raw: Tensor, data: Tensor, deviation: Tensor) -> None:
        """Add some bins of the spectra of the model's mean, the data, and half the difference of a pair, (z, y, x) each."""
        product = (raw * data.conj()).real
        if self.calibration is not None:
            # The mean was made from the data, and shares some of their noise.
            product = product - self.calibration.noise_gain(bins.frequency) * bins.noise
        weight = bins.mask * bins.multiplicity
        self._measured.add(bins.frequency, weight, product, raw.abs().square(), data.abs().square() - bins.noise)
        power = deviation.abs().square()
        self._all.add(bins.frequency, bins.multiplicity.expand_as(power), power)
        self._wedge += _wedge_sums(bins, power)
        if self.uneven:
            shell = fine_shell(bins.radius)
            for sums, values in ((self._noise, bins.noise * bins.mask), (self._bins, bins.mask)):
                fourier.add_shell_sums(sums[None], values[None], shell)

    def stats(self) -> SpectrumStats:
        """The statistics of all parts together."""
        cross, power, signal = self._measured.tables()
        amplitude = fitted_amplitude(cross, power, None if self.calibration is None else signal)
        noise = (self._noise.float() / self._bins.float().clamp_min(1e-9)).clamp_min(1e-12).cpu() if self.uneven else None
        total, count = pooled(self._wedge)
        wedge_variance = (total / count.clamp_min(1e-9) * (count >= 1)).float()
        return SpectrumStats(amplitude, SpectralTable(self._all.tables()[0]), wedge_variance, noise)


def _wedge_sums(bins: FourierBins, power: Tensor) -> Tensor:
    """Sums over the bins that were not measured, by shell: of a power over sigma^2, and of the bins, (2, shells) float64."""
    weight = ((bins.mask < MEASURED_ABOVE) * bins.multiplicity).expand_as(power)
    return by_shell(torch.stack((weight * power / bins.noise.clamp_min(1e-12), weight)), shells(bins.radius))


@dataclass(frozen=True)
class DataConsistencyFilters:
    """Filters on the half spectrum that make raw samples data-consistent; None leaves what it would filter as it is.

    Attributes:
        amplitude: a.
        weight: w of the data in the mean.
        spread: factor on a sample's deviation from the mean.
        noise: amplitude spectrum of the noise that is added to a sample.
    """

    amplitude: Tensor | None = None
    weight: Tensor | None = None
    spread: Tensor | None = None
    noise: Tensor | None = None


def filters(
    bins: FourierBins, stats: SpectrumStats, calibration: VarianceCalibration | None, raw: bool
) -> DataConsistencyFilters:
    """The filters at some bins; raw: leave out the data-consistent step."""
    mask, noise, radius, at = bins.mask, bins.noise, bins.radius, VarianceCalibration.at
    wedge_spread = torch.ones(()) if calibration is None else _wedge_scale(bins, calibration, stats).sqrt()
    if raw:
        return DataConsistencyFilters() if calibration is None else DataConsistencyFilters(spread=wedge_spread)
    wedge_amplitude = torch.ones(()) if calibration is None else at(calibration.wedge_amplitude, radius)
    amplitude = wedge_amplitude + mask * (stats.amplitude(bins.frequency) - wedge_amplitude)
    variance = amplitude.square() * stats.sample_power(bins.frequency)
    if calibration is None:
        weight = error = variance / (variance + noise)
    else:
        # Noise that varies within a shell counts relative to the mean of its shell.
        level = None if stats.shell_noise is None else stats.shell_noise.to(radius.device)[fine_shell(radius)]
        relative = torch.ones(()) if level is None else noise / level
        weight, error = (at_noise(at(table, radius), relative) for table in (calibration.data_weight, calibration.error))
    weight, error = mask * weight, noise * error
    # A sample deviates by its own variance, scaled as far as allowed, and by noise for the rest of the error.
    own = (1 - weight).square() * variance
    factor = (error / (own + weight.square() * noise).clamp_min(1e-12)).sqrt().clamp(max=MAX_SCALE)
    return DataConsistencyFilters(
        amplitude=amplitude,
        weight=weight,
        spread=wedge_spread + mask * (amplitude * (1 - weight) * factor - wedge_spread),
        noise=mask * (error - factor.square() * own).clamp_min(0).sqrt(),
    )


def _wedge_scale(bins: FourierBins, calibration: VarianceCalibration, stats: SpectrumStats) -> Tensor:
    """c^2 in the wedge, by shell and depth."""
    radius, at = bins.radius, VarianceCalibration.at
    deeper = calibration.depth_slope * (bins.depth - at(calibration.reference_depth, radius))
    scale = at(calibration.wedge_scale * variance_ratio(calibration, stats), radius)
    return scale * deeper.clamp(-MAX_DEPTH_CHANGE, MAX_DEPTH_CHANGE).exp()


def variance_ratio(calibration: VarianceCalibration, stats: SpectrumStats) -> Tensor:
    """By shell, the variance of the samples of held-out patches over that of the samples of the whole volume in its wedge.

    Samples of a volume, with one wedge missing and many tiles, may vary more or less than those of a held-out patch. The
    calibration measured how large the errors are, and that size is kept.
    """
    known = (calibration.sample_variance > 0) & (stats.wedge_variance > 0)
    if not known.any():
        return torch.ones_like(calibration.wedge_scale)
    ratio = (calibration.sample_variance / stats.wedge_variance.clamp_min(1e-12)).clamp(1 / MAX_SCALE, MAX_SCALE)
    at = np.interp(np.arange(len(ratio)), np.flatnonzero(known.numpy()), ratio[known].numpy())
    return torch.from_numpy(at).to(ratio)
