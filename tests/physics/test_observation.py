"""The input of a network for a patch: the Wiener estimate, and how much was measured where."""

import numpy as np
import pytest
import torch

from cryovae import fourier
from cryovae.physics.observation import (
    DIRECTIONS,
    EDGE,
    ENTRIES,
    SHELLS,
    Observation,
    RandomNoise,
    described_frequencies,
    information,
    observed,
    random_noise,
    typical_power,
)
from cryovae.physics.wedge import patch_mask
from cryovae.tomogram import TiltGeometry

SHAPE = (16, 24, 20)
WHITE = RandomNoise(0.5, 0.0, 0.0, 0.0)


def _along_beam(frequency):
    """Angle in degrees of frequencies to the plane z = 0 in the z-x plane: what is above 60 was not measured at +-60."""
    return torch.rad2deg(torch.atan2(frequency[0].abs(), frequency[2].abs()))


def test_described_frequencies_are_on_shells_and_spread_over_half_a_sphere():
    k = described_frequencies()
    radius = k.square().sum(0).sqrt().reshape(len(SHELLS), DIRECTIONS)
    assert k.shape == (3, ENTRIES)
    assert torch.allclose(radius, torch.tensor(SHELLS)[:, None].expand(-1, DIRECTIONS), rtol=1e-5)
    directions = k[:, -DIRECTIONS:] / SHELLS[-1]
    assert directions[0].min() >= 0
    # Even: any direction, or its opposite, is close to one of them.
    any_direction = torch.nn.functional.normalize(torch.randn(3, 2000, generator=torch.Generator().manual_seed(0)), dim=0)
    nearest = (any_direction.T @ directions).abs().max(1).values
    assert float(torch.rad2deg(torch.acos(nearest.clamp(-1, 1))).max()) < 25


def test_information_is_0_in_the_wedge_and_that_of_the_noise_elsewhere(tilts):
    noise = RandomNoise(0.5, 1.0, 0.4, 0.2)
    entries, k = information(tilts, noise), described_frequencies()
    far = k.square().sum(0).sqrt() > 3 * EDGE
    missing, measured = far & (_along_beam(k) > 72) & (k[1].abs() < 0.5 * k[0]), far & (_along_beam(k) < 35)
    assert missing.sum() > 5
    assert measured.sum() > 30
    assert entries[missing].max() < 1e-6
    assert torch.allclose(entries[measured], torch.log1p(1 / noise(k))[measured], rtol=1e-5)


def test_a_second_axis_adds_information(tilts):
    both = TiltGeometry(tilts.angles, second=TiltGeometry(tilts.angles, axis_angle=90.0))
    more, less = information(both, WHITE), information(tilts, WHITE)
    assert (more >= less - 1e-6).all()
    assert (more > less + 0.1).sum() > 10


def test_without_noise_information_is_finite(tilts):
    assert torch.isfinite(information(tilts, RandomNoise(0.0, 0.0, 0.0, 0.0))).all()


def test_the_linear_estimate_is_the_wiener_filter(tilts):
    """Of all weights on the spectrum none has a smaller error, for densities of the typical spectrum."""
    rng = torch.Generator().manual_seed(0)
    k = fourier.frequencies(SHAPE)
    power, mask = typical_power(k.square().sum(0).sqrt()), patch_mask(SHAPE, tilts)
    measured = (mask > 0.99).float()
    clean = fourier.filtered(torch.randn(300, *SHAPE, generator=rng), power.sqrt())
    data = fourier.filtered(clean + WHITE(k).sqrt().mean() * torch.randn(300, *SHAPE, generator=rng), measured)
    linear = observed(data, tilts, WHITE).linear

    def error(estimate):
        difference = fourier.transform(estimate - clean).abs().square().mean(0)
        return float((difference * measured * fourier.multiplicity(SHAPE)).sum())

    exact = (power * 0.5 / (power + 0.5) * measured * fourier.multiplicity(SHAPE)).sum()
    assert error(linear) == pytest.approx(float(exact), rel=0.03)
    for factor in (0.9, 1.1):
        assert error(factor * linear) > error(linear)
    # Nothing comes from the wedge.
    assert fourier.transform(observed(torch.randn(2, *SHAPE), tilts, WHITE).linear)[:, mask < 1e-6].abs().max() < 1e-4


@pytest.mark.parametrize("shape", [SHAPE, (8, 8, 8), (9, 11, 14)])
def test_patches_of_any_shape_keep_it(shape, tilts):
    seen = observed(torch.ones(2, *shape), tilts, WHITE)
    assert seen.linear.shape == (2, *shape)
    assert seen.information.shape == (2, ENTRIES)
    assert len(seen) == 2


def test_observations_are_taken_apart_and_joined(tilts):
    seen = observed(torch.randn(5, *SHAPE), tilts, WHITE)
    joined = Observation.joined([seen.rows(slice(0, 2)), seen.rows(torch.tensor([2, 3, 4]))])
    for name in ("data", "linear", "information"):
        assert torch.equal(getattr(joined, name), getattr(seen, name))
        assert torch.equal(getattr(seen.map(lambda part: 2 * part), name), 2 * getattr(seen, name))


def test_the_typical_power_is_that_of_variance_one_and_falls():
    radius = torch.linspace(0, 0.5, 60)
    assert (typical_power(radius).diff() < 0).all()
    grid = fourier.radius((48, 48, 48))
    variance = (typical_power(grid) * fourier.multiplicity((48, 48, 48))).sum() / 48**3
    assert 0.6 < float(variance) < 1.6


def test_random_noise_has_the_variance_that_was_asked_for():
    shape = (32, 48, 40)
    k = fourier.frequencies(shape)
    radius = k.square().sum(0).sqrt()
    weight = ((radius > 0) & (radius <= 0.5)) * fourier.multiplicity(shape)
    levels = []
    for seed in range(20):
        noise = random_noise(np.random.default_rng(seed), 0.25)
        levels.append(float((noise(k) * weight).sum() / weight.sum()))
        assert levels[-1] == pytest.approx(4.0, rel=0.2)
        assert torch.isfinite(noise(k)).all()
    assert np.mean(levels) == pytest.approx(4.0, rel=0.05)
    first, again = (random_noise(np.random.default_rng(3), 1.0) for _ in range(2))
    assert first == again
