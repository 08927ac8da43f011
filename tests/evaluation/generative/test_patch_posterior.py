"""Measures of a posterior on Gaussians, whose posterior is known: right samples are called right, wrong ones wrong."""

import pytest
import torch

from cryovae import fourier
from cryovae.evaluation.generative.patch_posterior import posterior_measures

SHAPE = (16, 20, 18)


def problem(count=60, samples=6, width=1.0, shift=0.0):
    """Truth m + e and samples m + shift + width e' of a Gaussian posterior whose mean is m and whose errors e are white."""
    rng = torch.Generator().manual_seed(0)
    mean = 2 * torch.randn(count, *SHAPE, generator=rng)
    truth = mean + torch.randn(count, *SHAPE, generator=rng)
    drawn = mean[:, None] * (1 + shift) + width * torch.randn(count, samples, *SHAPE, generator=rng)
    mask = (fourier.frequencies(SHAPE)[0].abs() < 0.15).float().expand(count, -1, -1, -1)
    return truth, drawn, mask


@pytest.mark.parametrize("part", ["wedge", "measured"])
def test_samples_of_the_right_posterior_are_right(part):
    truth, drawn, mask = problem()
    measures = posterior_measures(truth, drawn, mask)[part]
    assert measures.error_over_std == pytest.approx(1, abs=0.02)
    assert measures.factor_two == pytest.approx(2, abs=0.04)
    assert measures.amplitude == pytest.approx(1, abs=0.02)
    assert measures.coverage == pytest.approx(0.9, abs=0.02)
    # Variances 4 of the mean and 5 of the truth.
    assert measures.correlation == pytest.approx(0.8**0.5, abs=0.01)


def test_samples_that_are_too_narrow_are_seen():
    measures = posterior_measures(*problem(width=0.5))["wedge"]
    assert measures.error_over_std == pytest.approx(2, rel=0.03)
    assert measures.factor_two == pytest.approx(1.25, rel=0.03)
    assert measures.coverage < 0.7


def test_samples_that_are_too_wide_are_seen():
    measures = posterior_measures(*problem(width=2.0))["measured"]
    assert measures.error_over_std == pytest.approx(0.5, rel=0.03)
    assert measures.factor_two == pytest.approx(5, rel=0.05)
    assert measures.coverage > 0.97


def test_a_mean_that_is_too_weak_has_an_amplitude_above_one():
    measures = posterior_measures(*problem(shift=-0.2))["wedge"]
    assert measures.amplitude == pytest.approx(1.25, rel=0.02)


def test_the_number_of_samples_does_not_move_the_figures():
    few, many = (posterior_measures(*problem(samples=n))["wedge"] for n in (2, 12))
    assert few.error_over_std == pytest.approx(many.error_over_std, abs=0.03)
    assert few.factor_two == pytest.approx(many.factor_two, abs=0.08)
    assert few.correlation == pytest.approx(many.correlation, abs=0.01)


def test_only_bins_of_the_part_count():
    truth, drawn, mask = problem()
    spoiled = drawn + fourier.filtered(50 * torch.randn(truth.shape), (mask > 0.5).float())[:, None]
    assert posterior_measures(truth, spoiled, mask)["wedge"].factor_two == pytest.approx(2, abs=0.04)
    assert posterior_measures(truth, spoiled, mask)["measured"].factor_two < 1.2


def test_the_prediction_is_scored_beside_the_samples():
    truth, drawn, mask = problem()
    assert posterior_measures(truth, drawn, mask, truth)["wedge"].predicted == pytest.approx(1)
    assert (
        posterior_measures(truth, drawn, mask)["wedge"].predicted
        != posterior_measures(truth, drawn, mask, -truth)["wedge"].predicted
    )
