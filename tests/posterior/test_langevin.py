"""Langevin chains against the posterior of a linear-Gaussian model, whose latents are correlated."""

import copy

import pytest
import torch

from cryovae.posterior.langevin import TARGET_ACCEPTANCE, chains, start, target
from tests.helpers.linear_gaussian import correlated, tempered_posterior

CHAINS, STEPS = 4000, 60


def walked(toy, temperature, steps=STEPS, shift=0.4):
    problem = toy.problem(shift, 0.3)
    generator = torch.Generator().manual_seed(1)

    def noise(_):
        return {0: torch.randn(len(toy.y), 3, 1, 1, 1, generator=generator, dtype=torch.float64)}

    codes, scale = start(problem, [noise(0)[0]], temperature)
    return list(chains(target(problem, temperature), codes, scale, steps, noise, generator, first=0.5))


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_chains_have_the_mean_and_covariance_of_the_posterior(temperature):
    """At the step to which they anneal, whatever it is: an unadjusted chain of such steps would be too wide."""
    toy = correlated(CHAINS)
    steps = walked(toy, temperature)
    mean, covariance = tempered_posterior(toy, temperature)
    z = steps[-1].state.codes[0].flatten(1)
    error = covariance.diagonal().sqrt() / CHAINS**0.5
    assert ((z.mean(0) - mean).abs() < 4.5 * error).all()
    assert torch.allclose(torch.cov(z.T), covariance, atol=0.12 * float(covariance.diagonal().max()))
    kept = torch.stack([step.accepted for step in steps if step.kept])
    # The step falls by half over those that are kept, so that more are accepted than at the one that was fitted.
    assert TARGET_ACCEPTANCE - 0.05 < float(kept.mean()) < 0.95


def test_a_step_that_falls_short_of_the_posterior_is_seen_to_climb():
    """Started far off, the log-density still rises: what the record of a restoration warns of."""
    steps = walked(correlated(400), 1.0, steps=8, shift=25.0)
    values = torch.stack([step.state.value.mean() for step in steps if step.kept])
    assert float(values[-1] - values[0]) > 1.0


def test_weights_and_posterior_are_left_alone():
    toy = correlated(4)
    before = copy.deepcopy(toy.w)
    first, again = (walked(toy, 1.0, steps=6)[-1].state.codes[0] for _ in range(2))
    assert torch.equal(first, again)
    assert torch.equal(before, toy.w)
