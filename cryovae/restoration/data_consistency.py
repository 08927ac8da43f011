"""From raw samples to the answer: how much of the data and how much of the model, bin by bin.

    x_dc = F^-1[ w F y + (1 - w) a F x ],     w = M P / (P + sigma^2)

P is found between halves, or between two noisier copies of one volume, on held-out patches (foretold.py); not calibrated, it is
the model's own variance, and w the Wiener weight. a is the amplitude with which x fits what was measured, by shell and angle,
less the noise that x passes on from its input, and in the wedge that with which held-out bins are foretold, by shell: an input
at test has one wedge missing, in training it has two, and what was given is never scored.

The samples' deviations from the mean are scaled, apart for the wedge and for measured bins, to the errors that held-out measured
bins show; what their scaling cannot reach is noise of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from cryovae import fourier
from cryovae.calibration.variance import VarianceCalibration, at_noise, by_shell, pooled, shells
from cryovae.data.prepare import PreparedTomogram
from cryovae.physics.depth import depth_at, depth_table
from cryovae.physics.noise import (
    TABLE_SHELLS,
    SpectralTable,
    Tabulation,
    amplitude_table,
    fine_shell,
    fitted_amplitude,
    spectrum_mean,
    spectrum_table,
)
from cryovae.physics.wedge import volume_mask

# Width in voxels of the Gaussian by which the variance of the samples is smoothed.
SMOOTH = 1.5
# By how much the spread may be scaled, in measured bins to the error that held-out bins show, in the wedge to what they know of.
FARTHEST = 4.0
# A mask below which a bin counts as not measured.
EMPTY = 0.01
# By how much log c^2 may differ with depth from its mean by shell.
DEEPEST = 1.0


@dataclass(frozen=True)
class DataConsistencyFilters:
    """How raw samples become the answer, as filters on the half spectrum; None leaves what it would filter as it is.

    amplitude: a. weight: w of the data in the mean. spread: what multiplies a sample's deviation from the mean, with the
    widening by what held-out bins showed. noise: amplitude spectrum of the noise that a sample's data get.
    """

    amplitude: Tensor | None = None
    weight: Tensor | None = None
    spread: Tensor | None = None
    noise: Tensor | None = None

    def mean(self, density: Tensor, data: Tensor) -> Tensor:
        """x_dc for a mean (z, y, x)."""
        if self.amplitude is None or self.weight is None:
            return density
        fitted = fourier.filtered(density, self.amplitude)
        return fitted + fourier.filtered(data - fitted, self.weight)

    def deviating(self, density: Tensor, white: Tensor) -> Tensor:
        """A sample (z, y, x) whose differences from others like it are those of the answer; their mean is not the answer's."""
        found = density if self.spread is None else fourier.filtered(density, self.spread)
        return found if self.noise is None else found + fourier.filtered(white, self.noise)


class SampleMoments:
    """Mean and variance of samples that come in opposite pairs, without keeping them: three volumes."""

    def __init__(self, shape: tuple[int, ...], device: torch.device | None = None) -> None:
        self.total, self.within, self.between = (torch.zeros(shape, device=device) for _ in range(3))
        self.pairs = 0

    def add(self, plus: Tensor, minus: Tensor) -> None:
        """Take in one pair, (z, y, x) each."""
        middle = (plus + minus) / 2
        self.total += middle
        self.between += middle.square()
        self.within += ((plus - minus) / 2).square()
        self.pairs += 1

    def mean(self) -> Tensor:
        """Of all pairs: (z, y, x)."""
        return self.total / self.pairs

    def std(self) -> Tensor:
        """Unbiased, and its variance smoothed over SMOOTH voxels: of one voxel a few pairs know little."""
        variance = self.within / self.pairs
        if self.pairs > 1:
            variance += (self.between / self.pairs - self.mean().square()).clamp_min(0) * (self.pairs / (self.pairs - 1))
        return smoothed_root(variance)


def smoothed_root(variance: Tensor) -> Tensor:
    """The root of a variance (z, y, x), smoothed over SMOOTH voxels; on the CPU."""
    return torch.from_numpy(gaussian_filter(variance.cpu().numpy(), SMOOTH, mode="nearest")).clamp_min(0).sqrt()


@dataclass(frozen=True)
class SpectrumStats:
    """What the spectra of a whole volume say: a in measured bins; the power of a sample's deviation; the same over sigma^2 in the
    wedge by shell, 0 where there is none; and the mean of sigma^2 in measured bins by fine shell, where it varies within shells.
    """

    amplitude: SpectralTable
    spread: SpectralTable
    unseen: Tensor
    level: Tensor | None = None


class SpectrumStatsSums:
    """The sums behind ``SpectrumStats`` over parts of the spectra, for volumes that are not held at once."""

    def __init__(self, calibrated: bool, uneven: bool) -> None:
        self.calibrated, self.uneven = calibrated, uneven
        self._measured, self._all = Tabulation(3), Tabulation(1)
        self._unseen = torch.zeros(2, len(VarianceCalibration.frequency()), dtype=torch.float64)
        self._levels = torch.zeros(2, 2 * TABLE_SHELLS + 1, dtype=torch.float64)

    def add(self, bins: FourierBins, raw: Tensor, data: Tensor, deviation: Tensor, known: VarianceCalibration | None) -> None:
        """Take in some bins of the spectra of the raw answer, the data, and half the difference of a pair, (z, y, x) each."""
        copied = 0.0 if known is None else known.copied(bins.frequency) * bins.noise
        signal = data.abs().square() - bins.noise
        weight = bins.mask * bins.multiplicity
        self._measured.add(bins.frequency, weight, (raw * data.conj()).real - copied, raw.abs().square(), signal)
        power = deviation.abs().square()
        self._all.add(bins.frequency, bins.multiplicity.expand_as(bins.noise), power)
        self._unseen += unseen_sums(bins, power)
        if self.uneven:
            fourier.add_shell_sums(self._levels, torch.stack((bins.noise * bins.mask, bins.mask)), fine_shell(bins.radius))

    def fitted(self) -> SpectrumStats:
        """What all parts together say."""
        cross, power, signal = self._measured.tables()
        amplitude = fitted_amplitude(cross, power, signal if self.calibrated else None)
        level = (self._levels[0] / self._levels[1].clamp_min(1e-9)).clamp_min(1e-12).float() if self.uneven else None
        return SpectrumStats(amplitude, SpectralTable(self._all.tables()[0]), mean_of(self._unseen), level)


@dataclass(frozen=True)
class FourierBins:
    """Bins of a half spectrum: frequency (3, ...) in cycles per voxel, mask M, noise sigma^2 (...), multiplicity, and depth (...)
    in the wedge, in bins of a patch.
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


def data_consistency_filters(
    prepared: PreparedTomogram, raw: Tensor, deviation: Tensor, known: VarianceCalibration | None, is_raw: bool = False
) -> DataConsistencyFilters:
    """Filters from the raw answer (z, y, x), half the difference of a pair of samples, the noise, and what held-out bins say.

    is_raw: leave out the data-consistent step.
    """
    data, tilts, device = prepared.density, prepared.tilts, prepared.density.device
    if is_raw and known is None:
        return DataConsistencyFilters()
    k = fourier.frequencies(data.shape, device)
    deep = depth_at(depth_table(prepared.orientations.input_mask), k)
    mask, counted = volume_mask(data.shape, tilts, device=device), fourier.multiplicity(data.shape, device)
    bins = FourierBins(k, mask, prepared.noise(k), counted, deep)
    # Not calibrated, nothing says how much of the noise the answer holds, and an answer of data and noise alike is kept.
    limits = (None, None) if known is None else (bins.noise, known.copied(k) * bins.noise)
    level = None if tilts.transfer is None else spectrum_mean(bins.noise, bins.mask, bins.radius)
    unseen = mean_of(unseen_sums(bins, fourier.transform(deviation).abs().square()))
    fitted = SpectrumStats(amplitude_table(raw, data, bins.mask, k, *limits), spectrum_table(deviation, k), unseen)
    return filters(bins, fitted, level, known, is_raw)


def unseen_sums(bins: FourierBins, power: Tensor) -> Tensor:
    """Sums over the bins that were not measured, by shell: of a power over sigma^2, and of the bins, (2, shells) float64."""
    weight = ((bins.mask < EMPTY) * bins.multiplicity).expand_as(power)
    return by_shell(torch.stack((weight * power / bins.noise.clamp_min(1e-12), weight)), shells(bins.radius))


def mean_of(sums: Tensor) -> Tensor:
    """The mean by shell, of those and their neighbours, 0 where there are no bins: float32."""
    total, count = pooled(sums)
    return (total / count.clamp_min(1e-9) * (count >= 1)).float()


def narrower(known: VarianceCalibration, fitted: SpectrumStats) -> Tensor:
    """By shell, the variance of samples that held-out bins were compared with, over that of the whole volume's in its wedge.

    With two wedges missing, from one tile, a model may be surer than of what it restores, or less sure: what was found out is how
    large its errors are, and that holds.
    """
    both = (known.reference > 0) & (fitted.unseen > 0)
    if not both.any():
        return torch.ones_like(known.hidden)
    ratio = (known.reference / fitted.unseen.clamp_min(1e-12)).clamp(1 / FARTHEST, FARTHEST)
    at = np.interp(np.arange(len(ratio)), np.flatnonzero(both.numpy()), ratio[both].numpy())
    return torch.from_numpy(at).to(ratio)


def _widening(bins: FourierBins, known: VarianceCalibration, fitted: SpectrumStats) -> Tensor:
    """c^2 in the wedge, by shell and depth."""
    radius = bins.radius
    deeper = known.slope * (bins.depth - VarianceCalibration.at(known.middle, radius))
    return VarianceCalibration.at(known.hidden * narrower(known, fitted), radius) * deeper.clamp(-DEEPEST, DEEPEST).exp()


def filters(
    bins: FourierBins, fitted: SpectrumStats, level: Tensor | None, known: VarianceCalibration | None, is_raw: bool = False
) -> DataConsistencyFilters:
    """The answer's filters at some bins. level: the mean of sigma^2 over the shell of each bin, or None where it is even."""
    mask, noise, radius = bins.mask, bins.noise, bins.radius
    hidden = torch.ones(()) if known is None else _widening(bins, known, fitted).sqrt()
    if is_raw:
        return DataConsistencyFilters() if known is None else DataConsistencyFilters(spread=hidden)
    unseen = torch.ones(()) if known is None else VarianceCalibration.at(known.amplitude, radius)
    amplitude = unseen + mask * (fitted.amplitude(bins.frequency) - unseen)
    spread = amplitude.square() * fitted.spread(bins.frequency)
    plain = spread / (spread + noise)
    # Noise that varies within a shell, as it does around the zeroes of a contrast transfer, against the mean of the shell.
    uneven = torch.ones(()) if level is None else noise / level
    weight = mask * (plain if known is None else at_noise(VarianceCalibration.at(known.weight, radius), uneven))
    error = noise * (plain if known is None else at_noise(VarianceCalibration.at(known.error, radius), uneven))
    # A sample deviates by its own spread, scaled as far as may be, and by noise for what is left of the error.
    own = (1 - weight).square() * spread
    factor = (error / (own + weight.square() * noise).clamp_min(1e-12)).sqrt().clamp(max=FARTHEST)
    return DataConsistencyFilters(
        amplitude=amplitude,
        weight=weight,
        spread=hidden + mask * (amplitude * (1 - weight) * factor - hidden),
        noise=mask * (error - factor.square() * own).clamp_min(0).sqrt(),
    )
