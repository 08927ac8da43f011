"""Error bars of one encoder and of two, where the posterior is known: z ~ N(0, 1), y = z w + n, one part of y given, one hidden.

One encoder that sees the given part and scores all of y is, at its optimum, as sure as if it had seen all (the covariance is
(1 + |w|^2)^-1); matched to an encoder that sees all, r is as wide as what is left open: (1 + |w_given|^2)^-1.
"""

from math import sqrt

import pytest
import torch

from cryovae.models.distributions import DiagonalGaussian, kl_divergence

GIVEN, HIDDEN, COUNT = 1.0, sqrt(3.0), 20_000
NOMINAL = 1.6449


@pytest.fixture(scope="module")
def data():
    rng = torch.Generator().manual_seed(0)
    z, noise = torch.randn(COUNT, generator=rng), torch.randn(2, COUNT, generator=rng)
    return z, GIVEN * z + noise[0], HIDDEN * z + noise[1]


def gaussian(mean, log_variance):
    shape = (len(mean), 1, 1, 1, 1)
    return DiagonalGaussian(mean.view(shape), log_variance.expand(len(mean)).view(shape))


PRIOR = gaussian(torch.zeros(COUNT), torch.zeros(1))


def misfit(q, y, weight):
    """- E_q log p(y | z) but for a constant, in nats summed over the data."""
    mean, variance = q.mean.flatten(), q.log_variance.exp().flatten()
    return 0.5 * ((y - weight * mean).square() + weight**2 * variance).sum()


def fitted(loss, parameters):
    optimiser = torch.optim.LBFGS(parameters, max_iter=100, line_search_fn="strong_wolfe")

    def closure():
        optimiser.zero_grad()
        loss_value = loss() / COUNT
        loss_value.backward()
        return loss_value

    optimiser.step(closure)
    return [p.detach() for p in parameters]


def covered(z, q):
    off = (z - q.mean.flatten()).abs()
    return float((off < NOMINAL * (0.5 * q.log_variance.flatten()).exp()).float().mean())


def coefficients(count):
    return [torch.zeros(1, requires_grad=True) for _ in range(count)]


def test_one_encoder_is_too_sure_of_what_it_was_not_given(data):
    z, seen, unseen = data
    slope, width = coefficients(2)

    def bound():
        q = gaussian(slope * seen, width)
        return misfit(q, seen, GIVEN) + misfit(q, unseen, HIDDEN) + kl_divergence(q, PRIOR).sum()

    slope, width = fitted(bound, [slope, width])
    assert float(width.exp()) == pytest.approx(1 / (1 + GIVEN**2 + HIDDEN**2), rel=0.02)
    # The mean is right, of intervals of a nominal 90 % seven in ten hold the truth.
    assert float(slope) == pytest.approx(GIVEN / (1 + GIVEN**2), abs=0.01)
    assert covered(z, gaussian(slope * seen, width)) == pytest.approx(0.70, abs=0.02)


def test_matched_to_one_that_sees_all_it_holds_what_it_says(data):
    z, seen, unseen = data
    first, second, width = coefficients(3)

    def bound():
        q = gaussian(first * seen + second * unseen, width)
        return misfit(q, seen, GIVEN) + misfit(q, unseen, HIDDEN) + kl_divergence(q, PRIOR).sum()

    first, second, width = fitted(bound, [first, second, width])
    q = gaussian(first * seen + second * unseen, width)
    assert covered(z, q) == pytest.approx(0.90, abs=0.01)
    slope, spread = coefficients(2)
    slope, spread = fitted(lambda: kl_divergence(q, gaussian(slope * seen, spread)).sum(), [slope, spread])
    assert float(spread.exp()) == pytest.approx(1 / (1 + GIVEN**2), rel=0.03)
    assert covered(z, gaussian(slope * seen, spread)) == pytest.approx(0.90, abs=0.01)


def test_so_is_the_width_alone_where_the_mean_predicts_best(data):
    """As the ladder is trained: completion moves r's mean, matching how wide it is (objectives/elbo.py)."""
    z, seen, unseen = data
    (slope,) = fitted(lambda: (unseen - HIDDEN * slopes[0] * seen).square().sum(), slopes := coefficients(1))
    exact = 1 / (1 + GIVEN**2 + HIDDEN**2)
    q = gaussian(exact * (GIVEN * seen + HIDDEN * unseen), torch.tensor([exact]).log())
    (spread,) = fitted(lambda: kl_divergence(q, gaussian(slope * seen, widths[0])).sum(), widths := coefficients(1))
    assert float(spread.exp()) == pytest.approx(1 / (1 + GIVEN**2), rel=0.03)
    assert covered(z, gaussian(slope * seen, spread)) == pytest.approx(0.90, abs=0.01)
