"""Bounds where the evidence is known."""

from itertools import pairwise

import pytest
import torch

from cryovae.evaluation.diagnosis.ais import annealed
from cryovae.evaluation.diagnosis.small import drawn_codes, log_densities
from cryovae.models.distributions import DiagonalGaussian, kl_divergence
from cryovae.posterior.importance import effective_sample_size, importance_bounds
from cryovae.posterior.problem import drawn
from cryovae.posterior.refinement import optimised
from tests.helpers.linear_gaussian import LinearGaussian

COUNT = 4096
TOY = LinearGaussian()
# The same data many times over: a draw for each in one pass.
MANY = TOY.repeated(COUNT)


def _mean(values):
    return values.view(COUNT, -1).mean(0)


def test_kl_has_the_known_value_and_that_of_monte_carlo():
    q = DiagonalGaussian(torch.ones(1, 1, 1, 1, 1), 2 * torch.tensor(0.5).log().expand(1, 1, 1, 1, 1))
    p = DiagonalGaussian(torch.zeros(1, 1, 1, 1, 1), torch.zeros(1, 1, 1, 1, 1))
    assert float(kl_divergence(q, p)) == pytest.approx(0.8181, abs=5e-5)
    torch.manual_seed(0)
    z = torch.distributions.Normal(1.0, 0.5).sample((200_000,))
    ratio = torch.distributions.Normal(1.0, 0.5).log_prob(z) - torch.distributions.Normal(0.0, 1.0).log_prob(z)
    assert float(ratio.mean()) == pytest.approx(float(kl_divergence(q, p)), abs=0.01)


def test_the_bound_is_the_evidence_at_its_optimum():
    terms = drawn(MANY.problem(), 1, 0)
    assert torch.allclose(_mean(terms.bound_mean), TOY.evidence(), atol=0.1)
    # One draw is enough for the weights: with the exact posterior each is the evidence.
    assert torch.allclose(terms.log_weight[0], MANY.evidence(), atol=1e-9)


@pytest.mark.parametrize(("shift", "widen"), [(0.5, 0.0), (0.0, 1.0), (-0.4, -1.0)])
def test_the_bound_is_lower_by_the_divergence_to_the_exact_posterior(shift, widen):
    q, exact = TOY.q(shift, widen), TOY.q()
    terms = drawn(MANY.problem(shift, widen), 1, 0)
    below = TOY.evidence() - _mean(terms.bound_mean)
    assert (below > 0).all()
    assert torch.allclose(below, kl_divergence(q, exact).double(), atol=0.2)
    assert torch.allclose(_mean(terms.log_weight[0]), _mean(terms.bound_mean), atol=0.3)


def test_the_importance_bound_grows_with_k_and_reaches_the_evidence():
    weights = drawn(MANY.problem(0.3, 0.6), 1, 0).log_weight.view(COUNT, -1)
    bounds = [w.bound.mean() for w in importance_bounds(weights)]
    assert all(later > earlier - 1e-6 for earlier, later in pairwise(bounds))
    assert float(bounds[-1]) == pytest.approx(float(TOY.evidence().mean()), abs=0.05)
    assert float(bounds[0]) < float(TOY.evidence().mean()) - 0.2


def test_effective_sample_size_counts():
    even, one = torch.zeros(8, 1), torch.tensor([[0.0]] + [[-80.0]] * 7)
    assert float(effective_sample_size(even)) == pytest.approx(8)
    assert float(effective_sample_size(one)) == pytest.approx(1)


def test_the_search_finds_the_optimum_and_leaves_it_alone():
    """Each of the many copies is searched for by itself."""
    toy = TOY.repeated(100)
    off, exact = toy.problem(0.5, 1.0), toy.problem()
    before, after = (drawn(off, 4, 9, moves).bound_mean for moves in (None, optimised(off, 120, rate=0.1)))
    assert (after - before).mean() > 0.5
    assert float(after.mean()) == pytest.approx(float(TOY.evidence().mean()), abs=0.1)
    stayed = drawn(exact, 4, 9, optimised(exact, 20)).bound_mean - drawn(exact, 4, 9).bound_mean
    assert float(stayed.mean()) == pytest.approx(0, abs=0.05)


@pytest.mark.parametrize("prior", [True, False])
def test_annealing_finds_the_evidence_of_a_gaussian_to_a_tenth_of_a_nat(prior):
    """The chains begin at the prior, or at a posterior that is off."""
    toy = LinearGaussian(latents=6, coefficients=10, batch=1).repeated(200)
    problem, generator = toy.problem(0.5, 0.7), torch.Generator().manual_seed(1)
    start = drawn_codes(problem, generator)[0].flatten(1)
    start = torch.randn(start.shape, generator=generator, dtype=start.dtype) if prior else start

    def both(flat):
        first, last = log_densities(problem, {0: flat.view(*flat.shape, 1, 1, 1)})
        return (-0.5 * flat.square().sum(1) if prior else first), last

    result = annealed(start, both, 40, generator, step=0.3)
    assert result.evidence == pytest.approx(float(toy.evidence()[0]), abs=0.1)
    assert result.converged
    assert 0.3 < result.accepted <= 1
