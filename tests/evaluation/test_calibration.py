import numpy as np
import pytest
import torch

from cryovae import fourier
from cryovae.evaluation.calibration import (
    NOMINAL,
    calibration,
    calibration_by_part,
    calibration_of_error,
    crps,
    part_std,
    reliability,
)
from cryovae.evaluation.fsc import regions

SHAPE = (32, 40, 36)


def draws(count, seed=0):
    return torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def honest():
    """A standard deviation from 0.2 to 1.2 and errors drawn from it."""
    std = 0.2 + torch.rand(SHAPE, generator=torch.Generator().manual_seed(9))
    return draws(1)[0] * std, std


def test_exact_draws_are_calibrated(honest):
    error, std = honest
    fit = calibration_of_error(error, std)
    for share in NOMINAL:
        assert fit.coverage[share] == pytest.approx(share, abs=4 * (share * (1 - share) / error.numel()) ** 0.5)
    assert fit.error_ratio == pytest.approx(1, abs=0.02)
    assert fit.reliability.slope == pytest.approx(1, abs=0.04)
    assert fit.reliability.offset == pytest.approx(0, abs=0.03)
    # The expectation of the CRPS of a Gaussian under itself is std / sqrt(pi).
    assert fit.crps == pytest.approx(float(std.mean()) / np.pi**0.5, rel=0.01)
    assert fit.crps_share == pytest.approx(0.5**0.5, abs=0.01)


def test_a_standard_deviation_that_is_halved_is_caught(honest):
    error, std = honest
    honest_one, sure = calibration_of_error(error, std), calibration_of_error(error, std / 2)
    assert sure.error_ratio == pytest.approx(2, abs=0.03)
    assert sure.reliability.slope == pytest.approx(2, abs=0.08)
    assert sure.coverage[0.9] == pytest.approx(0.589, abs=0.02)
    assert sure.crps > 1.03 * honest_one.crps
    assert calibration_of_error(error, 2 * std).crps > 1.03 * honest_one.crps


def test_a_misplaced_standard_deviation_has_the_right_size_and_no_slope(honest):
    error, std = honest
    moved = std.roll(7, 2)
    fit = reliability(error, moved)
    assert abs(fit.slope) < 0.1
    assert calibration_of_error(error, moved).error_ratio == pytest.approx(1, abs=0.02)
    assert calibration_of_error(error, moved).crps > 1.01 * calibration_of_error(error, std).crps


def test_one_standard_deviation_for_all_has_no_line(honest):
    fit = reliability(honest[0], torch.full(SHAPE, 0.7))
    assert np.isnan(fit.slope)
    assert np.isnan(fit.offset)


def test_crps_is_the_integral_that_defines_it():
    """Integral of ( Phi(x) - [x >= value] )^2, by the trapezoid rule; and the absolute error where there is no spread."""
    grid = torch.linspace(-30, 30, 600_001, dtype=torch.float64)
    for value, std in ((0.0, 1.0), (1.7, 0.6), (-2.5, 2.0)):
        below = 0.5 * (1 + torch.erf(grid / std / 2**0.5))
        direct = torch.trapezoid((below - (grid >= value).double()).square(), grid)
        assert float(crps(torch.tensor(value), torch.tensor(std))) == pytest.approx(float(direct), abs=1e-4)
    assert crps(torch.tensor([1.5, 0.2]), torch.tensor([0.0, 1e-9])) == pytest.approx([1.5, 0.2], abs=1e-3)


def part_weights(tilts):
    return [(part > 0).float() for part in regions(SHAPE, tilts)]


@pytest.mark.parametrize("pairs", [1, 2, 4])
def test_the_standard_deviation_of_a_part_is_unbiased_for_few_samples(tilts, pairs):
    """Opposite pairs about a mean, and independent draws: of a part that holds the share s of all bins the variance is s."""
    wedge, _ = part_weights(tilts)
    share = float((wedge * fourier.multiplicity(SHAPE)).sum()) / np.prod(SHAPE)
    deviations = draws(2 * pairs, seed=3)
    opposite = [sample for d in deviations[:pairs] for sample in (5 + d, 5 - d)]
    assert float(part_std(opposite, wedge).square().mean()) == pytest.approx(share, rel=0.05)
    if pairs > 1:
        assert float(part_std(list(deviations), wedge).square().mean()) == pytest.approx(share, rel=0.05)


def test_a_sample_without_its_partner_is_left_out(tilts):
    wedge, _ = part_weights(tilts)
    samples = list(draws(3))
    assert torch.equal(part_std(samples, wedge), part_std(samples[:2], wedge))
    with pytest.raises(ValueError, match="pairs"):
        part_std(samples[:1], wedge)


def test_each_part_has_a_calibration_of_its_own(tilts):
    """Samples that are honest where measured and too sure by 3 in the wedge: each part says so for itself."""
    wedge, measured = part_weights(tilts)
    truth, *noise = draws(10, seed=4)
    error = noise[0]

    def sampled(deviation):
        return fourier.filtered(deviation, measured + wedge / 3)

    mean = truth + error
    samples = [mean + sign * sampled(deviation) for deviation in noise[1:] for sign in (1, -1)]
    std = torch.stack([sampled(deviation) for deviation in noise[1:]]).square().mean(0).sqrt()
    fits = calibration_by_part(mean, std, truth, tilts, samples)
    assert fits["measured"].error_ratio == pytest.approx(1, abs=0.05)
    assert fits["wedge"].error_ratio == pytest.approx(3, abs=0.15)
    assert fits["wedge"].coverage[0.9] < 0.5 < 0.85 < fits["measured"].coverage[0.9]
    assert 1 < fits["volume"].error_ratio < 3


def test_without_samples_nothing_is_said_of_the_parts(tilts):
    truth, error = draws(2)
    fits = calibration_by_part(truth + error, torch.ones(SHAPE), truth, tilts)
    assert fits["wedge"] is None
    assert fits["measured"] is None
    assert fits["volume"].error_ratio == pytest.approx(1, abs=0.02)


def test_grey_levels_are_no_errors(honest):
    """No tilt restores the mean of a box: those of the mean and of the truth are taken off first."""
    error, std = honest
    truth = draws(1, seed=4)[0]
    one, two = (calibration(truth + error + level, std, truth + level / 3) for level in (0.0, 60.0))
    assert two.error_ratio == pytest.approx(one.error_ratio, rel=1e-3)
    assert one.error_ratio == pytest.approx(1, abs=0.02)
