"""Bounds where the evidence is known."""

import pytest
import torch

from cryovae.evaluate.diagnosis.ais import annealed
from cryovae.evaluate.diagnosis.gaps import optimised
from cryovae.evaluate.diagnosis.importance import effective_sample_size, importance_bounds
from cryovae.evaluate.diagnosis.problem import drawn
from cryovae.evaluate.diagnosis.small import drawn_codes, ends
from cryovae.models.distributions import DiagonalGaussian, kl_divergence
from tests.evaluate.diagnosis.toy import LinearGaussian

TOY = LinearGaussian()


def test_kl_has_the_known_value_and_that_of_monte_carlo():
    q = DiagonalGaussian(torch.ones(1, 1, 1, 1, 1), 2 * torch.tensor(0.5).log().expand(1, 1, 1, 1, 1))
    p = DiagonalGaussian(torch.zeros(1, 1, 1, 1, 1), torch.zeros(1, 1, 1, 1, 1))
    assert float(kl_divergence(q, p)) == pytest.approx(0.8181, abs=5e-5)
    z = torch.distributions.Normal(1.0, 0.5).sample((400_000,))
    ratio = torch.distributions.Normal(1.0, 0.5).log_prob(z) - torch.distributions.Normal(0.0, 1.0).log_prob(z)
    assert float(ratio.mean()) == pytest.approx(float(kl_divergence(q, p)), abs=0.01)


def test_the_bound_is_the_evidence_at_its_optimum():
    found = drawn(TOY.problem(), 2000, 0)
    assert torch.allclose(found.bound_mean, TOY.evidence(), atol=0.1)
    # One draw is enough for the weights: with the exact posterior each is the evidence.
    assert torch.allclose(found.log_weight[0], TOY.evidence(), atol=1e-9)


@pytest.mark.parametrize(("shift", "widen"), [(0.5, 0.0), (0.0, 1.0), (-0.4, -1.0)])
def test_the_bound_lies_below_elsewhere_by_the_divergence_to_the_exact_posterior(shift, widen):
    q = TOY.problem(shift, widen).posterior(0, None, None)
    exact = TOY.problem().posterior(0, None, None)
    found = drawn(TOY.problem(shift, widen), 4000, 0)
    assert (found.bound_mean < TOY.evidence()).all()
    assert torch.allclose(TOY.evidence() - found.bound_mean, kl_divergence(q, exact).double(), atol=0.2)
    assert torch.allclose(found.log_weight.mean(0), found.bound_mean, atol=0.3)


def test_the_importance_bound_grows_with_k_and_reaches_the_evidence():
    weights = drawn(TOY.problem(0.3, 0.6), 4096, 0).log_weight
    bounds = [w.bound.mean() for w in importance_bounds(weights)]
    assert all(later > earlier - 1e-6 for earlier, later in zip(bounds, bounds[1:], strict=False))
    assert float(bounds[-1]) == pytest.approx(float(TOY.evidence().mean()), abs=0.05)
    assert float(bounds[0]) < float(TOY.evidence().mean()) - 0.2


def test_effective_sample_size_counts():
    even, one = torch.zeros(8, 1), torch.tensor([[0.0]] + [[-80.0]] * 7)
    assert float(effective_sample_size(even)) == pytest.approx(8)
    assert float(effective_sample_size(one)) == pytest.approx(1)


def test_the_search_finds_the_optimum_and_leaves_it_alone():
    off, exact = TOY.problem(0.5, 1.0), TOY.problem()
    moved = drawn(off, 2000, 9, optimised(off, 300)).bound_mean
    assert (moved > drawn(off, 2000, 9).bound_mean + 0.3).all()
    assert torch.allclose(moved, TOY.evidence(), atol=0.1)
    stayed = drawn(exact, 2000, 9, optimised(exact, 100)).bound_mean - drawn(exact, 2000, 9).bound_mean
    assert float(stayed.abs().max()) < 0.05


def test_annealing_finds_the_evidence_of_a_gaussian_to_a_tenth_of_a_nat():
    """The chains begin at a posterior that is off, and at the prior."""
    toy = LinearGaussian(latents=6, coefficients=10, batch=1)
    repeated = LinearGaussian(latents=6, coefficients=10, batch=1)
    repeated.y = toy.y.expand(200, -1)
    for problem, start_at_prior in ((repeated.problem(0.5, 0.7), False), (repeated.problem(), True)):
        generator = torch.Generator().manual_seed(1)
        start = drawn_codes(problem, generator)[0].flatten(1)
        start = torch.randn(start.shape, generator=generator, dtype=start.dtype) if start_at_prior else start

        def both(flat, problem=problem, prior=start_at_prior):
            first, last = ends(problem, {0: flat.view(*flat.shape, 1, 1, 1)})
            return (-0.5 * flat.square().sum(1) if prior else first), last

        found = annealed(start, both, 100, generator)
        assert found.evidence == pytest.approx(float(toy.evidence()[0]), abs=0.1)
        assert found.converged
        assert 0.3 < found.accepted <= 1
