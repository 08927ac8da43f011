"""Measures of draws beside data: spectrum, moments, low pass, nearest patches, and the Gaussian field."""

import pytest
import torch

from cryovae import fourier
from cryovae.evaluation.generative.prior import (
    gaussian_field,
    low_passed,
    moments,
    nearest,
    power_by_shell,
    prior_measures,
)
from cryovae.physics.rotation import cube_rotations


def noise(count, side, seed):
    return torch.randn(count, side, side, side, generator=torch.Generator().manual_seed(seed))


def bodies(count, side=16, seed=0):
    """Patches with a few dark cubes each."""
    rng = torch.Generator().manual_seed(seed)
    density = 0.05 * torch.randn(count, side, side, side, generator=rng)
    for patch in density:
        for _ in range(3):
            z, y, x = (int(torch.randint(side - 4, (1,), generator=rng)) for _ in range(3))
            patch[z : z + 4, y : y + 3, x : x + 4] -= 2
    return density


def test_moments_of_known_laws():
    rng = torch.Generator().manual_seed(0)
    exponential = -torch.empty(4, 40, 40, 40).exponential_(1.0, generator=rng)
    assert moments(exponential).skewness == pytest.approx(-2, abs=0.1)
    assert moments(exponential).kurtosis == pytest.approx(6, abs=0.6)
    gaussian = moments(3 * noise(4, 40, 1) + 5)
    assert gaussian.deviation == pytest.approx(3, rel=0.01)
    assert abs(gaussian.skewness) < 0.02
    assert abs(gaussian.kurtosis) < 0.05


def test_low_passed_densities_have_no_power_above_the_limit():
    shape = (2, 20, 24, 18)
    density = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    power = fourier.transform(low_passed(density, 0.2)).abs().square()
    radius = fourier.radius(shape[1:])
    assert float(power[:, radius > 0.2 + 1 / 24 + 1e-6].max()) < 1e-9
    below = radius < 0.2 - 1 / 24 - 1e-6
    assert torch.allclose(power[:, below], fourier.transform(density).abs().square()[:, below], rtol=1e-3, atol=1e-4)


def test_white_noise_has_the_same_power_in_all_shells():
    frequency, power = power_by_shell(2 * noise(20, 24, 0))
    assert frequency[0] == 0
    assert frequency[-1] == pytest.approx(0.5)
    assert torch.allclose(power[1:], torch.full_like(power[1:], 4.0), rtol=0.1)


def test_a_gaussian_field_has_the_power_of_the_data_and_no_skewness():
    data = bodies(40)
    field = gaussian_field(data, 200, 1)
    assert torch.allclose(power_by_shell(field)[1][1:], power_by_shell(data)[1][1:], rtol=0.1)
    assert moments(data).skewness < -3
    assert abs(moments(field).skewness) < 0.1


def test_a_rotated_copy_of_a_training_patch_is_seen():
    training = bodies(20, seed=1)
    copy = cube_rotations()[13](training[7:8])
    likeness, other = nearest(torch.cat((copy, bodies(1, seed=2))), training)
    assert float(likeness) == pytest.approx(1, abs=1e-4)
    assert float(other) < 0.95


def test_patches_of_almost_no_contrast_are_no_copies_of_each_other():
    training = bodies(20, seed=1)
    training[3] = 1e-3 * noise(1, 16, 5)[0]
    assert float(nearest(2 * training[3:4], training)) < 0.1


def test_measures_of_draws_of_the_same_law():
    data = bodies(24, seed=3)
    measures = prior_measures(data, bodies(24, seed=4), training=bodies(10, seed=5))
    within = [ratio for k, ratio in zip(measures.frequency, measures.power, strict=True) if 0 < k <= 0.2]
    assert all(0.6 < ratio < 1.6 for ratio in within)
    assert measures.moments.skewness == pytest.approx(moments(low_passed(data)).skewness, rel=0.3)
    assert len(measures.nearest) == 24
    assert prior_measures(data, gaussian_field(data, 24, 0)).nearest == ()
