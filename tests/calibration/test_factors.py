"""The fit of held-out residuals, on sums of Gaussian numbers whose variances are known."""

from math import log

import pytest
import torch

from cryovae.calibration.factors import Factors, at, figures, fit, log_likelihood, overfitting, stacked, widened
from cryovae.calibration.hidden_bins import SHELLS, MeanSums, shell_centres

VOXELS = 3000


def _sums(signal=4.0, noise=1.0, error=1.0, spread=1.0, amplitude=1.0, means=1, own_noise=0.3, seed=0, voxels=VOXELS):
    """Sums of y = t + n and x_i = (t - e - e_i) / amplitude, e of variance ``error`` and e_i of ``own_noise``; a = t + n'."""
    rng = torch.Generator().manual_seed(seed)

    def drawn(variance):
        return torch.as_tensor(variance, dtype=torch.float64).sqrt().expand(SHELLS)[:, None] * torch.randn(
            SHELLS, voxels, generator=rng, dtype=torch.float64
        )

    shared = drawn(error)
    mean = drawn(signal)
    truth = mean + shared
    y, a = truth + drawn(noise), truth + drawn(noise)
    x = torch.stack([(mean + (drawn(own_noise) if means > 1 else 0)) / amplitude for _ in range(means)])
    count = torch.full((SHELLS,), float(voxels), dtype=torch.float64)
    spread = torch.as_tensor(spread, dtype=torch.float64).expand(SHELLS)
    return MeanSums(
        count=count,
        noise=count * noise,
        yy=(y * y).sum(1),
        ay=(a * y).sum(1),
        aa=(a * a).sum(1),
        spread=count * spread,
        yx=(x * y).sum(2),
        ax=(x * a).sum(2),
        xx=torch.einsum("isv,jsv->ijs", x, x),
        regions=torch.ones(2, 1, dtype=torch.float64),
        kept=torch.stack((y, a, *x)).float(),
    )


ONE = torch.ones(1)


@pytest.mark.parametrize("factor", [0.4, 1.0, 2.5])
def test_the_factor_on_the_variance_is_that_of_the_errors(factor):
    factors = fit(_sums(error=1.0, spread=1.0 / factor).of(ONE))
    assert float(factors.scale.log().mean()) == pytest.approx(log(factor), abs=0.08)
    # The standard error is that of the deviations.
    off = (factors.scale.log() - log(factor)) / factors.error
    assert float(off.abs().max()) < 3


def test_the_amplitude_is_that_of_the_mean():
    factors = fit(_sums(amplitude=0.8).of(ONE))
    assert float(factors.amplitude.mean()) == pytest.approx(0.8, abs=0.02)


def test_factors_follow_the_shells():
    """A factor that rises smoothly with frequency is found, not only its mean."""
    rising = torch.linspace(0.5, 2.0, SHELLS, dtype=torch.float64)
    factors = fit(_sums(error=rising, spread=1.0).of(ONE))
    assert float((factors.scale.double() / rising).log().abs().max()) < 0.25


def test_without_data_nothing_is_corrected():
    empty = _sums(voxels=4)
    nothing = MeanSums(**{name: 0 * value for name, value in vars(empty).items()})
    factors = fit(nothing.of(ONE), blend=True)
    torch.testing.assert_close(factors.scale, torch.ones(SHELLS), atol=1e-3, rtol=0)
    torch.testing.assert_close(factors.amplitude, torch.ones(SHELLS), atol=1e-3, rtol=0)
    assert not factors.weight.any()


def test_shells_without_bins_follow_their_neighbours():
    sums = _sums(error=2.0)
    known = torch.ones(SHELLS, dtype=torch.float64)
    known[8:11] = 0
    some = MeanSums(**{name: value if name in ("kept", "regions") else value * known for name, value in vars(sums).items()})
    factors = fit(some.of(ONE))
    assert float(factors.scale[9]) == pytest.approx(2.0, rel=0.2)
    assert factors.error[9] > factors.error[3]


def test_no_error_is_larger_than_the_power_of_the_specimen():
    """A mean that is far off says nothing about the specimen: an empty one is not farther off than its power."""
    sums = _sums(signal=0.5, error=0.5, spread=0.1, amplitude=0.2)
    factors = fit(sums.of(ONE))
    assert float((factors.scale.double() * sums.spread / sums.count).max()) < 1.3


def test_what_the_model_saw_gets_the_weight_that_its_noise_leaves_it():
    """The mean errs by 1 and the data by 1: half of each. Of a mean that is right nothing is left to the data."""
    assert float(fit(_sums(error=1.0, noise=1.0).of(ONE), blend=True).weight.mean()) == pytest.approx(0.5, abs=0.05)
    assert float(fit(_sums(error=1e-3, noise=1.0).of(ONE), blend=True).weight.mean()) < 0.05


def test_the_weight_at_another_noise_is_that_of_the_same_power():
    factors = Factors(torch.ones(1), torch.zeros(1), torch.ones(1), torch.tensor([0.5]))
    assert float(factors.at_noise(0.5).weight[0]) == pytest.approx(2 / 3)
    assert float(factors.at_noise(1.0).weight[0]) == pytest.approx(0.5)


def test_means_of_independent_errors_are_averaged():
    """Three equal means with errors of their own: equal weights, and a better prediction than each alone."""
    sums = _sums(means=3, own_noise=2.0)
    weights = stacked(sums)
    assert float(weights.max() - weights.min()) < 0.05
    alone = torch.tensor([1.0, 0.0, 0.0])
    assert log_likelihood(sums.of(weights), fit(sums.of(weights))) > log_likelihood(sums.of(alone), fit(sums.of(alone))) + 0.02


def test_a_mean_that_predicts_nothing_gets_no_weight():
    sums = _sums(means=2, own_noise=0.1)
    bad = torch.randn(SHELLS, VOXELS, generator=torch.Generator().manual_seed(9)).double()
    y, a, x, _ = sums.kept.double()
    x = torch.stack((x, bad))
    sums = MeanSums(
        **vars(sums) | {"yx": (x * y).sum(2), "ax": (x * a).sum(2), "xx": torch.einsum("isv,jsv->ijs", x, x)},
    )
    weights = stacked(sums)
    assert float(weights[0]) > 0.9
    assert float(weights[1]) < 0.05


def test_figures_before_and_after_the_fit():
    sums = _sums(error=2.0, spread=0.5).of(ONE)
    made = figures(sums, fit(sums))
    assert made["rms_over_std"] == pytest.approx(2.0, rel=0.05)
    assert made["factor_two"] == pytest.approx(1.25, rel=0.05)
    assert made["chi2_band"] == pytest.approx(1.0, abs=0.05)
    assert made["coverage"]["0.9"] == pytest.approx(0.9, abs=0.01)
    assert made["correlation"] == pytest.approx((4 / 7) ** 0.5, abs=0.02)
    assert made["correlation_ceiling"] == pytest.approx((6 / 7) ** 0.5, abs=0.02)
    assert len(made["spread_error"]) == SHELLS


def test_intervals_of_wrong_variances_do_not_cover():
    sums = _sums(error=2.0, spread=0.2).of(ONE)
    assert figures(sums, Factors.none())["coverage"]["0.9"] < 0.75


def test_the_likelihood_prefers_the_right_variance():
    sums = _sums(error=1.0, spread=1.0).of(ONE)
    right = log_likelihood(sums, Factors.none())
    for scale in (0.2, 5.0):
        wrong = Factors(scale * torch.ones(SHELLS), torch.zeros(SHELLS), torch.ones(SHELLS), torch.zeros(SHELLS))
        assert log_likelihood(sums, wrong) < right
    # Above an empty mean with the power of the specimen, half the log of the ratio of the variances.
    assert right == pytest.approx(0.5 * log(6 / 2), abs=0.03)


def test_tables_are_read_between_shells():
    table = torch.arange(SHELLS).float()
    radius = torch.tensor([0.0, float(shell_centres()[3]), float(shell_centres()[3]) + 0.0125, 0.8])
    torch.testing.assert_close(at(table, radius), torch.tensor([0.0, 3.0, 3.5, SHELLS - 1.0]))


def _regions(ratios):
    """Errors over variances in all other voxels, and in each region."""
    variance = torch.tensor([100.0, *[1.0] * (len(ratios) - 1)], dtype=torch.float64)
    return torch.stack((variance * torch.tensor(ratios, dtype=torch.float64), variance))


def test_errors_that_are_larger_where_nothing_was_trained_widen_the_factors():
    regions = _regions([1.0, 1.9, 2.1, 2.0, 1.95, 2.05, 2.0, 1.9, 2.1])
    ratio, error = overfitting(regions)
    assert ratio == pytest.approx(2.0)
    assert error < 0.03
    assert float(widened(Factors.none(), regions).scale[3]) == pytest.approx(2.0, rel=0.04)


def test_regions_that_scatter_are_not_believed():
    """Eight regions between 0.2 and 3: their mean of 1.3 is within a standard error of 1."""
    regions = _regions([1.0, 0.2, 3.0, 0.5, 2.5, 0.3, 2.4, 0.4, 1.1])
    assert overfitting(regions)[1] == pytest.approx(0.29, abs=0.08)
    assert float(widened(Factors.none(), regions).scale[3]) == pytest.approx(1, abs=0.02)


def test_errors_that_are_smaller_there_change_nothing():
    assert torch.equal(widened(Factors.none(), _regions([1.0, *[0.5] * 8])).scale, torch.ones(SHELLS))


@pytest.mark.parametrize("regions", [_regions([1.0]), _regions([1.0, 2.0]), _regions([-0.1, 1.0, 1.0, 1.0])])
def test_without_regions_or_errors_nothing_is_known(regions):
    assert overfitting(regions) == (1.0, float("inf"))
    assert torch.equal(widened(Factors.none(), regions).scale, torch.ones(SHELLS))


def test_a_mean_of_almost_no_power_is_not_blown_up():
    sums = _sums(amplitude=1000.0)
    assert float(stacked(sums).sum()) <= 1.5
