"""Filters from statistics of spectra and a calibration."""

import numpy as np
import torch

from cryovae import fourier
from cryovae.calibration.variance import SHELLS, VarianceCalibration
from cryovae.physics.noise import NoiseSpectrum
from cryovae.physics.wedge import volume_mask
from cryovae.restoration.data_consistency import FourierBins, SpectrumStats, SpectrumStatsSums, filters

ONE = torch.ones(SHELLS)
FLAT = NoiseSpectrum(torch.ones(24, 4, 4), "flat")


def _bins(shape, mask=None, noise=1.0, rows=slice(None)):
    k = fourier.frequencies(shape, rows=rows)
    mask = torch.zeros(k.shape[1:]) if mask is None else mask[:, rows]
    full = torch.ones(k.shape[1:])
    return FourierBins(k, mask, noise * full, fourier.multiplicity(shape), 2.5 * full)


def test_errors_of_patches_hold_for_the_volume_whatever_its_samples():
    """A volume's samples, twice as wide in variance as those that held-out bins were compared with, are widened half as much."""
    calibration = VarianceCalibration(3 * ONE, 2 * ONE, ONE, 0.2, 1.5 * ONE, 0.5 * ONE, 0.5 * ONE, FLAT)
    spread = filters(_bins((12, 14, 10)), SpectrumStats(FLAT, FLAT, 4 * ONE), calibration, False).spread
    assert torch.allclose(spread.square(), torch.full_like(spread, 3 * 2 / 4) * torch.tensor(0.2).exp(), rtol=1e-4)


def test_without_calibration_the_weight_is_that_of_wiener(tilts):
    shape = (12, 14, 10)
    mask = volume_mask(shape, tilts)
    tables = filters(_bins(shape, mask, noise=3.0), SpectrumStats(FLAT, FLAT, ONE), None, False)
    assert torch.allclose(tables.weight, mask / (1 + 3.0))
    # Where all was measured, samples deviate by the posterior of a Gaussian: P sigma^2 / (P + sigma^2).
    variance = (tables.spread.square() + tables.noise.square())[mask == 1]
    assert torch.allclose(variance, torch.full_like(variance, 3 / 4), rtol=1e-4)
    assert torch.equal(tables.spread[mask == 0], torch.ones(int((mask == 0).sum())))


def test_raw_samples_are_left_as_they_are_without_a_calibration():
    tables = filters(_bins((6, 8, 10)), SpectrumStats(FLAT, FLAT, ONE), None, True)
    assert (tables.amplitude, tables.weight, tables.spread, tables.noise) == (None, None, None, None)


def test_statistics_of_parts_are_those_of_the_whole_spectrum(tilts):
    shape = (12, 14, 10)
    generator = torch.Generator().manual_seed(0)
    spectra = [fourier.transform(torch.randn(shape, generator=generator)) for _ in range(3)]
    mask = volume_mask(shape, tilts)
    stats = []
    for parts in ([slice(None)], [slice(0, 5), slice(5, 14)]):
        sums = SpectrumStatsSums(None, True, torch.float64, torch.device("cpu"))
        for rows in parts:
            sums.add(_bins(shape, mask, rows=rows), *(spectrum[:, rows] for spectrum in spectra))
        stats.append(sums.stats())
    one, two = stats
    assert np.allclose(one.amplitude.table, two.amplitude.table, atol=1e-6)
    assert np.allclose(one.sample_power.table, two.sample_power.table, atol=1e-6)
    assert torch.allclose(one.wedge_variance, two.wedge_variance, atol=1e-6)
    assert torch.allclose(one.shell_noise, two.shell_noise, atol=1e-6)


def test_noise_that_the_mean_repeats_is_no_agreement():
    """A mean of half the data, signal and noise of variance 1 each, fits the signal with an amplitude of 1."""
    shape = (24, 32, 28)
    data = 2**0.5 * torch.randn(shape, generator=torch.Generator().manual_seed(0))
    half = NoiseSpectrum(torch.full((24, 4, 4), 0.5), "flat")
    calibration = VarianceCalibration(ONE, ONE, ONE, 0.0, ONE, ONE, ONE, half)
    sums = SpectrumStatsSums(calibration, False, torch.float64, torch.device("cpu"))
    bins = _bins(shape, torch.ones(24, 32, 15))
    spectrum = fourier.transform(data)
    sums.add(bins, 0.5 * spectrum, spectrum, spectrum)
    inner = (bins.radius > 0.1) & (bins.radius < 0.45)
    assert abs(float(sums.stats().amplitude(bins.frequency)[inner].mean()) - 1) < 0.05


def test_samples_that_are_too_wide_are_narrowed_and_still_get_their_share_of_noise():
    """A deviation of (1 - w)^2 v = 1/4 and noise of w^2 sigma^2 = 1/4 share an error of 0.1 in this proportion."""
    calibration = VarianceCalibration(ONE, ONE, ONE, 0.0, ONE, 0.5 * ONE, 0.1 * ONE, FLAT)
    tables = filters(_bins((6, 8, 10), torch.ones(6, 8, 6)), SpectrumStats(FLAT, FLAT, ONE), calibration, False)
    half = torch.full_like(tables.spread, 0.05)
    assert torch.allclose(tables.spread.square(), half, rtol=1e-4)
    assert torch.allclose(tables.noise.square(), half, rtol=1e-4)
