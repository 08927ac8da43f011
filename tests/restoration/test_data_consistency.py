"""Filters that make the restored volume of means, samples and data."""

import pytest
import torch

from cryovae import fourier
from cryovae.calibration.factors import Factors
from cryovae.calibration.fitted import Fitted, MeasuredPowers, Part, bounded, of_samples
from cryovae.calibration.hidden_bins import SHELLS
from cryovae.physics.wedge import volume_mask
from cryovae.posterior.volume_data import VolumeData
from cryovae.restoration.data_consistency import FourierBins, MeasuredPowerSums, combined, filters, fourier_bins
from cryovae.tomogram import TiltGeometry

RANGE = TiltGeometry.from_range(-60, 60)
SHAPE = (24, 36, 28)
ONE = torch.ones(SHELLS)


def _random(seed):
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed))


def _factors(scale=1.0, amplitude=1.0, weight=0.0):
    return Factors(*(value * ONE for value in (scale, 0.0, amplitude, weight)))


def _flat(noise=1.0):
    return fourier_bins(SHAPE, RANGE, lambda k: torch.full(k.shape[1:], noise))


def _applied(tables, means, data):
    parts = [*(f * fourier.transform(m) for f, m in zip(tables.means, means, strict=True)), tables.data * fourier.transform(data)]
    return torch.stack(parts).sum(0)


def test_each_kind_of_bins_has_its_own_mean():
    means, data, mask = [_random(n) for n in range(3)], _random(9), volume_mask(SHAPE, RANGE)
    wedge = Part(torch.tensor([1.0, 0.0, 0.0]), _factors(amplitude=0.5))
    measured = Part(torch.tensor([0.0, 0.0, 1.0]), _factors(weight=0.25))
    spectrum = _applied(filters(_flat(), Fitted(wedge, measured), MeasuredPowers(ONE, ONE)), means, data)
    empty, full = mask == 0, mask == 1
    full[0, 0, 0] = False
    torch.testing.assert_close(spectrum[empty], 0.5 * fourier.transform(means[0])[empty], atol=1e-4, rtol=1e-4)
    expected = 0.75 * fourier.transform(means[2]) + 0.25 * fourier.transform(data)
    torch.testing.assert_close(spectrum[full], expected[full], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(spectrum[0, 0, 0], fourier.transform(data)[0, 0, 0], atol=1e-4, rtol=1e-4)


def test_a_bin_of_more_noise_leaves_its_data_less_weight():
    """As near a zero of the contrast transfer: P / (P + sigma^2) for the P that gives a half at the mean noise."""
    bins = _flat()
    noisy = FourierBins(bins.frequency, bins.mask, torch.full_like(bins.mask, 3.0), bins.multiplicity)
    fit = Fitted(Part(torch.ones(1), _factors()), Part(torch.ones(1), _factors(weight=0.5)))
    tables = filters(noisy, fit, MeasuredPowers(ONE, ONE))
    full = bins.mask == 1
    full[0, 0, 0] = False
    torch.testing.assert_close(tables.data[full], torch.full_like(tables.data[full], 0.25))
    torch.testing.assert_close(tables.means[0][full], torch.full_like(tables.data[full], 0.75))


def test_samples_vary_about_the_mean_by_the_factor():
    samples, mean, mask = [_random(n) for n in range(8)], 3 * _random(20), volume_mask(SHAPE, RANGE)
    volume = VolumeData(_random(9), RANGE, lambda k: torch.full(k.shape[1:], 50.0), 1.0)
    fit = Fitted(Part(torch.ones(1), _factors(scale=4.0)), Part(torch.ones(1), _factors(scale=0.25)))
    drawn = combined([mean], samples, volume, fit)
    torch.testing.assert_close(torch.stack(drawn).mean(0), mean - mean.mean() + volume.data.mean(), atol=1e-4, rtol=1e-4)
    variance = torch.stack([fourier.transform(sample - mean).abs().square() for sample in drawn]).mean(0)
    for bins, expected in ((mask == 0, 4.0), (mask == 1, 0.25)):
        assert float(variance[bins].mean()) == pytest.approx(expected, rel=0.03)


def test_no_error_of_measured_bins_is_larger_than_the_noise():
    """Samples of variance 1 where the noise has 0.3: the data alone would be nearer."""
    sums = MeasuredPowerSums()
    sums.add(_flat(0.3), fourier.transform(_random(0)))
    powers = sums.powers()
    wide, narrow = (Fitted(*[Part(torch.ones(1), _factors(scale=scale))] * 2) for scale in (2.0, 0.01))
    assert float(bounded(wide, powers).measured.factors.scale[4:12].mean()) == pytest.approx(0.3, rel=0.1)
    torch.testing.assert_close(bounded(narrow, powers).measured.factors.scale[4:12], torch.full((8,), 0.01))
    assert torch.equal(bounded(wide, powers).wedge.factors.scale, 2 * ONE)


def test_without_hidden_bins_the_weight_is_that_of_wiener():
    """Variances of 1 of the samples and 3 of the noise: a quarter of the data, and an error of 3 / 4."""
    fit = of_samples(("completion",), MeasuredPowers(3 * ONE, ONE))
    torch.testing.assert_close(fit.measured.factors.weight, 0.25 * ONE)
    torch.testing.assert_close(fit.measured.factors.scale, 0.75 * ONE)
    assert torch.equal(fit.wedge.factors.scale, ONE)


def test_powers_of_parts_are_those_of_the_whole_spectrum():
    spectrum = fourier.transform(_random(0))
    results = []
    for parts in ([slice(None)], [slice(0, 5), slice(5, 36)]):
        sums = MeasuredPowerSums()
        for rows in parts:
            sums.add(fourier_bins(SHAPE, RANGE, lambda k: 1 + k.square().sum(0), rows), spectrum[:, rows])
        results.append(sums.powers())
    torch.testing.assert_close(results[0].noise, results[1].noise)
    torch.testing.assert_close(results[0].spread, results[1].spread)
