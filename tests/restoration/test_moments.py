"""Moments of samples without the samples, and the power in the wedge."""

import torch

from cryovae import fourier
from cryovae.physics.wedge import volume_mask
from cryovae.restoration.moments import SampleMoments, WedgePower, smoothed_std


def test_moments_are_the_mean_and_the_unbiased_variance_of_samples():
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(4000, 2, 3, 2, generator=generator)
    moments = SampleMoments.empty((2, 3, 2))
    for e in noise:
        moments.add(5 + 2 * e, 5 - 2 * e)
    assert moments.pairs == 4000
    assert torch.allclose(moments.mean(), torch.full((2, 3, 2), 5.0), atol=1e-4)
    assert torch.allclose(moments.variance(), torch.full((2, 3, 2), 4.0), rtol=0.1)


def test_smoothing_keeps_a_constant_standard_deviation():
    assert torch.allclose(smoothed_std(torch.full((6, 7, 8), 9.0)), torch.full((6, 7, 8), 3.0))


def _ratio(data, restored, tilts):
    power = WedgePower(fourier.multiplicity(data.shape))
    mask = volume_mask(data.shape, tilts, 1e-6)
    power.add(fourier.frequencies(data.shape), mask, fourier.transform(restored), fourier.transform(data))
    return power.figures()["wedge_energy_ratio"]


def test_the_wedge_ratio_of_an_untouched_tomogram_is_nothing(tomogram, tilts):
    data = torch.from_numpy(tomogram.density)
    assert _ratio(data, data, tilts) < 0.02
    assert _ratio(data, data + torch.randn(data.shape) * 2, tilts) > 0.5


def test_the_power_of_the_input_is_its_variance(tomogram, tilts):
    data = torch.from_numpy(tomogram.density)
    power = WedgePower(fourier.multiplicity(data.shape))
    power.add(fourier.frequencies(data.shape), volume_mask(data.shape, tilts), fourier.transform(data), fourier.transform(data))
    assert abs(power.data / float((data - data.mean()).square().sum()) - 1) < 1e-4


def test_few_pairs_that_are_not_opposite_have_an_unbiased_variance_too():
    """Pairs 1, 3 and 5, 9: half differences 1 and 2, and means 2 and 7, whose variance is 12.5."""
    moments = SampleMoments.empty((1, 1, 2))
    for one, two in ((1.0, 3.0), (5.0, 9.0)):
        moments.add(torch.full((1, 1, 2), one), torch.full((1, 1, 2), two))
    assert torch.allclose(moments.variance(), torch.full((1, 1, 2), 2.5 + 12.5))
