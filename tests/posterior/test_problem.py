"""The terms of the bound: their definitions, their common mean, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from cryovae.data.prepare import prepare
from cryovae.data.sampling import cube_rotated, freely_rotated
from cryovae.models.distributions import Move, kl_divergence
from cryovae.models.ladder import Q, R
from cryovae.physics.likelihood import log_likelihood, scored_bins
from cryovae.physics.rotation import random_rotation
from cryovae.posterior.problem import drawn, problem_of, terms
from tests.helpers.linear_gaussian import LinearGaussian

SIDE = 16


@pytest.fixture(scope="module")
def measurement(small):
    return cube_rotated(prepare(small, SIDE), [(2, 3, 4), (8, 20, 9)], [0, 7], SIDE, None)


@pytest.mark.parametrize("role", [Q, R])
def test_terms_are_those_of_the_formula(ladder, measurement, role):
    m = measurement
    problem = problem_of(ladder, m, role)
    posterior = ladder.posterior(ladder.encode(m.input_masked if role == R else m.input_full, role), role)
    sampled = posterior.sample(posterior.draw_noise(torch.Generator().manual_seed(3)))
    draw = terms(problem, torch.Generator().manual_seed(3))
    score = log_likelihood(sampled.density, m.data, m.mask, m.scored_variance, m.support, m.mask)
    assert torch.equal(draw.log_likelihood, score)
    for kl, output in zip(draw.kl, sampled.levels, strict=True):
        assert torch.allclose(kl, kl_divergence(output.posterior, output.prior))
    ratio = sum(
        o.prior.log_prob(o.latent).sum((1, 2, 3, 4)) - o.posterior.log_prob(o.latent).sum((1, 2, 3, 4)) for o in sampled.levels
    )
    assert torch.allclose(draw.log_weight.float(), score + ratio, rtol=1e-4)
    assert torch.equal(problem.bins, scored_bins(m.mask, m.data.shape, m.support))


def test_both_estimates_of_the_bound_have_one_mean():
    problem = LinearGaussian().repeated(4000).problem(0.3, 0.5)
    draw = drawn(problem, 1, 0)
    bound, weight = draw.bound[0].view(4000, -1), draw.log_weight[0].view(4000, -1)
    assert torch.allclose(bound.double().mean(0), weight.mean(0), atol=0.2)


def test_the_bound_is_differentiable_in_the_moves(ladder, measurement):
    problem = problem_of(ladder, measurement, Q)
    moves = {o.level: Move(torch.zeros_like(o.latent), torch.zeros_like(o.latent)) for o in problem.posterior.mean().levels}
    still, moved = (terms(problem, torch.Generator().manual_seed(0), each).bound for each in (None, moves))
    assert torch.equal(still, moved)
    free = {level: Move(*(part.detach().requires_grad_(True) for part in (m.shift, m.widen))) for level, m in moves.items()}
    terms(problem, torch.Generator().manual_seed(0), free).bound.sum().backward()
    assert all(bool(part.grad.any()) for move in free.values() for part in (move.shift, move.widen))


def test_only_the_scored_bins_count(ladder, measurement):
    half = measurement.mask * (measurement.target_mask == 0)
    problem = problem_of(ladder, measurement, R, half)
    changed = replace(measurement, mask=half)
    assert torch.equal(problem.bins, scored_bins(half, measurement.data.shape, measurement.support))
    density = torch.randn_like(measurement.data)
    expected = log_likelihood(density, changed.data, half, changed.scored_variance, changed.support, measurement.mask)
    assert torch.equal(problem.score(density), expected)


def test_patches_rotated_off_the_grid_are_refused(ladder, small):
    m = freely_rotated(prepare(small, SIDE), [(5, 6, 7)], [random_rotation(np.random.default_rng(3))], SIDE, None)
    with pytest.raises(ValueError, match="expected cube rotations"):
        problem_of(ladder, m)
