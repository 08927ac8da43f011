"""The variance in the wedge from sums over held-out bins: with depth, bounded by the specimen's power."""

import pytest
import torch

from cryovae.calibration.variance import (
    BINS,
    CROSS,
    DEPTHS,
    MISFIT,
    MODEL,
    SHELLS,
    VARIANCE,
    fit_depth,
    fit_wedge,
    noise_factor,
)

ONE = torch.ones(SHELLS)


def _sums(bins, error, variance):
    """Of a mean whose error is as given over sigma^2, and whose amplitude is right."""
    sums = torch.zeros(6, *bins.shape, dtype=torch.float64)
    sums[BINS], sums[MISFIT], sums[VARIANCE] = bins, bins * (1 + error), bins * variance
    sums[CROSS] = sums[MODEL] = 3 * bins
    return sums


def _measured(own, bins, noise):
    """Of a mean that does not see its data, whose error has power ``own`` over the noise of b; ``noise`` of a likewise."""
    x = torch.full((SHELLS,), 5.0, dtype=torch.float64)
    # a = x + e + n_a, b = x + e + n_b
    sums = [x + own + noise, x + own, x + own + 1, x, x, x, 0 * x, x / x]
    return bins * torch.stack(sums)


def test_less_noise_gains_a_gaussian_nothing_more():
    """Its S is constant; where it falls by half from 4 sigma^2 to 2 sigma^2, the error does as much again."""
    same = noise_factor(_measured(0.8, 5000.0, 1.0), _measured(0.8, 5000.0, 2.0))
    assert torch.allclose(same, ONE, atol=0.01)
    less = noise_factor(_measured(0.4, 5000.0, 1.0), _measured(0.8, 5000.0, 2.0))
    assert torch.allclose(less, ONE * (0.4 / 1.4) / (0.8 / 1.8), atol=0.01)
    # Noise alone is no gain.
    assert torch.allclose(noise_factor(_measured(1e-4, 100.0, 1.0), _measured(2e-4, 100.0, 2.0)), ONE, atol=0.05)


@pytest.mark.parametrize("slope", [0.0, 0.15, 0.3])
def test_the_slope_with_depth_is_recovered(slope):
    bins = torch.full((SHELLS, DEPTHS), 400.0, dtype=torch.float64)
    depth = torch.arange(DEPTHS) + 0.5
    deep = _sums(bins, 2.0 * (slope * (depth - 6)).exp(), torch.tensor(2.0))
    fitted, middle = fit_depth(deep, ONE, ONE)
    assert fitted == pytest.approx(slope, abs=0.01)
    # In the mean over depths c^2 is as it was.
    assert float((fitted * (depth - middle[5])).exp().mean()) == pytest.approx(1, abs=0.01)


def test_a_slope_that_does_not_stand_out_of_noise_is_none():
    bins = torch.full((SHELLS, DEPTHS), 30.0, dtype=torch.float64)
    wild = torch.randn(SHELLS, DEPTHS, generator=torch.Generator().manual_seed(0)).double() * (2 / 30) ** 0.5
    slope, _ = fit_depth(_sums(bins, 0.05 + wild, torch.tensor(0.05)), ONE, ONE)
    assert slope < 0.03
    assert fit_depth(0 * _sums(bins, wild, torch.tensor(1.0)), ONE, ONE)[0] == 0


def test_the_spread_is_no_larger_than_the_specimen():
    """Where next to nothing is there, held-out bins show no error, and a model's spread may be ten times the specimen's power."""
    bins = torch.full((SHELLS,), 3000.0, dtype=torch.float64)
    nothing = _sums(bins, 0.0, torch.tensor(0.2))
    assert torch.allclose(fit_wedge(nothing, 100 * ONE)[0], ONE)
    assert torch.allclose(fit_wedge(nothing, 0.02 * ONE)[0], 0.1 * ONE, atol=1e-4)
