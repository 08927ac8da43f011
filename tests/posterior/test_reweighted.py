"""Reweighted candidates against the posterior and the evidence of a linear-Gaussian model."""

import pytest
import torch

from cryovae.posterior.reweighted import Candidates, candidates
from tests.helpers.linear_gaussian import LinearGaussian, correlated, tempered_posterior

COUNT = 40_000


def _drawn(toy, count, shift, widen, temperature=1.0):
    """All candidates in one pass, as rows of repeated data."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(len(toy.y) * count, toy.w.shape[1], 1, 1, 1, generator=generator, dtype=torch.float64)
    weighted = candidates(toy.repeated(count).problem(shift, widen), [[noise]], temperature)
    return Candidates(weighted.densities[0].unflatten(0, (count, -1)), weighted.log_weights.view(count, -1))


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_the_mean_is_that_of_the_posterior_though_candidates_are_off(temperature):
    toy = correlated()
    weighted = _drawn(toy, COUNT, 0.2, 0.7, temperature)
    expected = toy.w @ tempered_posterior(toy, temperature)[0]
    # What is averaged is decoded.
    assert torch.allclose(weighted.mean()[0], expected, atol=0.02)
    assert not torch.allclose(weighted.densities.mean(0)[0], expected, atol=0.02)


def test_the_evidence_is_that_of_the_model():
    toy = correlated()
    assert float(_drawn(toy, COUNT, 0.2, 0.7).evidence[0]) == pytest.approx(float(toy.evidence()[0]), abs=0.03)


def test_the_effective_sample_size_is_its_formula():
    weights = torch.tensor([[0.5, 1.0], [0.25, 0.0], [0.25, 0.0]], dtype=torch.float64)
    weighted = Candidates(torch.zeros(3, 2, 1, 1, 1), weights.clamp_min(1e-300).log() + torch.tensor([800.0, -3.0]))
    assert torch.allclose(weighted.effective, 1 / weights.square().sum(0))
    assert torch.allclose(weighted.weights, weights)
    # With the exact posterior all of them count.
    assert _drawn(LinearGaussian(), 64, 0.0, 0.0).effective.min() > 63.9


def test_candidates_are_drawn_as_often_as_they_weigh():
    toy = correlated()
    weighted = _drawn(toy, 200, 0.2, 0.7)
    places = torch.rand(20_000, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    drawn = weighted.drawn(places)[:, 0]
    assert torch.allclose(drawn.mean(0), weighted.mean()[0], atol=0.03)
    spread = (weighted.weights[:, 0, None] * (weighted.densities[:, 0] - weighted.mean()[0]).square()).sum(0)
    assert torch.allclose(drawn.var(0), spread, rtol=0.1)
