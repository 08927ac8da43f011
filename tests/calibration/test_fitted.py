"""How a volume is restored from fits: what noise changes, and what is left without a fit."""

import pytest
import torch

from cryovae.calibration.fitted import fitted, plain
from cryovae.calibration.hidden_bins import ADDED_NOISE, SHELLS
from cryovae.calibration.scores import HeldOutSums
from cryovae.posterior.volume_data import AVERAGE, COMPLETION
from tests.calibration.test_factors import _sums


def _held_out(**settings):
    return HeldOutSums(_sums(**settings), _sums(seed=1, **settings), (COMPLETION,), 8, 0.05, 4)


def test_the_weight_of_the_data_is_that_of_their_noise():
    """The mean errs by 1 and what the model saw by 1, 1 + a^2 times the noise of the tomogram."""
    held_out = _held_out(error=1.0, noise=1.0)
    own = 1 / (1 + ADDED_NOISE)
    for noise in (1.0, 2.0):
        weight = float(fitted(held_out, 4, noise).measured.factors.weight.mean())
        assert weight == pytest.approx(1 / (1 + noise * own), abs=0.04)
    assert not fitted(held_out, 4).wedge.factors.weight.any()


def test_raw_leaves_the_data_out():
    fit = fitted(_held_out(error=1.0), 4).raw()
    assert not fit.measured.factors.weight.any()
    assert torch.equal(fit.wedge.factors.scale, fitted(_held_out(error=1.0), 4).wedge.factors.scale)


@pytest.mark.parametrize(("names", "expected"), [((COMPLETION, AVERAGE), [0.0, 1.0]), ((COMPLETION,), [1.0])])
def test_without_a_fit_the_average_is_the_mean_or_else_the_first(names, expected):
    fit = plain(names)
    assert fit.wedge.weights.tolist() == fit.measured.weights.tolist() == expected
    assert torch.equal(fit.measured.factors.scale, torch.ones(SHELLS))
