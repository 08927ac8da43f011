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
    VarianceCalibration,
    at_noise,
    error_power,
    fit_depth,
    fit_measured,
    fit_wedge,
    noise_factor,
    one_wedge_factor,
    pooled,
    power_limit,
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


def test_the_error_of_a_scaled_mean_is_that_of_its_residual():
    rng = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, 500, SHELLS, generator=rng, dtype=torch.float64)
    y = x + y
    amplitude = torch.linspace(0.1, 1, SHELLS, dtype=torch.float64)
    sums = torch.zeros(6, SHELLS, dtype=torch.float64)
    sums[BINS], sums[CROSS], sums[MODEL], sums[MISFIT] = 500, (x * y).sum(0), (x * x).sum(0), ((y - x) ** 2).sum(0)
    assert torch.allclose(error_power(sums, amplitude), ((y - amplitude * x) ** 2).sum(0) - 500)


def test_a_second_wedge_takes_its_share_of_what_is_left_of_the_mean():
    """Scaled by b, a mean loses b^2 of the power that it loses to a second wedge."""
    bins = torch.full((SHELLS,), 4000.0, dtype=torch.float64)
    sums = torch.zeros(6, SHELLS, dtype=torch.float64)
    sums[BINS], sums[MODEL], sums[CROSS], sums[MISFIT] = bins, 4 * bins, 2 * bins, 4 * bins
    factor = one_wedge_factor(sums, 0.5 * ONE, torch.ones(SHELLS, dtype=torch.float64))
    # |y - x / 2|^2 - noise: 4 + 2 - 3 - 1 a bin, of which 1/4 is due to the second wedge.
    assert torch.allclose(factor, ONE - 0.25 / 2)


def test_shells_are_read_at_their_middles_and_pooled_with_both_neighbours():
    middles = VarianceCalibration.frequency()
    assert torch.allclose(middles[:3], torch.tensor([0.0125, 0.0375, 0.0625]))
    radius = torch.tensor([0.02, 0.111, 0.37])
    assert torch.allclose(VarianceCalibration.at(3 * middles, radius), 3 * radius, atol=1e-5)
    values = torch.zeros(SHELLS)
    values[4], values[7] = 2.0, 6.0
    assert pooled(values)[3:9].tolist() == [1, 2, 1, 3, 6, 3]


def test_weights_at_another_noise_are_of_the_same_power():
    """P is 1, 3 and beyond any noise; at three times the noise P / (P + 3)."""
    assert at_noise(torch.tensor([0.5, 0.75, 1.0]), torch.tensor(3.0)).tolist() == pytest.approx([0.25, 0.5, 1.0])


def test_the_bound_of_the_power_allows_for_two_deviations_of_its_noise():
    bins = torch.full((SHELLS,), 50.0)
    inner = power_limit(1.5 * bins, bins)[1:-1]
    assert torch.allclose(inner, torch.full_like(inner, 1.5 + 2 / 100**0.5))


@pytest.mark.parametrize(("bins", "scale"), [(1e6, 1.0), (1e6, 2.0), (3.0, 2.0)])
@pytest.mark.parametrize("seen", [False, True])
def test_data_and_error_of_a_gaussian_are_carried_over_to_half_the_noise(bins, scale, seen):
    """Signal of the power of the noise of a half: of the mean it has twice that of the noise, and its posterior 2/3.

    A mean that has not seen the data leaves them the Wiener weight 2/3; one that is the posterior mean leaves them none.
    """
    if seen:
        aa, ab, ax, bx, xx = 2.0, 1.0, 1.0, 0.5, 0.5
        spread = 0.5
    else:
        known = 3.0
        aa, ab, ax, bx, xx = known + 2, known + 1, known, known, known
        spread = 1.0
    rows = torch.tensor([aa, ab, aa, scale * ax, scale * bx, scale**2 * xx, scale**2 * spread, 1.0], dtype=torch.float64)
    weight, error = fit_measured(bins * rows[:, None].expand(8, SHELLS))
    if bins > 100:
        assert torch.allclose(weight, (0.0 if seen else 2 / 3) * ONE, atol=1e-3)
        assert torch.allclose(error, 2 / 3 * ONE, atol=1e-3)
    elif not seen:
        # Few bins: the weight that the spread of the samples gives, which is the same.
        assert torch.allclose(weight, 2 / 3 * ONE, atol=1e-3)
