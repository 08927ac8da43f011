"""Walks and directions in the latents of the generative model."""

import pytest
import torch

from cryovae.physics.observation import RandomNoise, observed
from cryovae.posterior.latent_walk import directions_of, drawn, walk_noise
from cryovae.posterior.patch_sampler import PatchSampler
from cryovae.tomogram import TiltGeometry
from tests.helpers.generators import small_generator

SIDE = 16


@pytest.fixture(scope="module")
def sampler():
    return PatchSampler(small_generator(), steps=2)


def result_of(work):
    """What a generator function yields, and what it returns."""
    yielded = []
    while True:
        try:
            yielded.append(next(work))
        except StopIteration as end:
            return yielded, end.value


def test_draws_are_those_of_the_sampler_with_progress(sampler):
    yielded, latents = result_of(drawn(sampler, 0.8 * sampler.noise(SIDE, 6, 3)))
    assert yielded == [(4, 6), (6, 6)]
    assert torch.allclose(latents, sampler.prior(SIDE, 6, 3, temperature=0.8), atol=1e-5)
    assert not torch.allclose(latents, 0.8 * sampler.noise(SIDE, 6, 3), atol=1e-2)


def test_draws_of_a_posterior_are_those_of_the_sampler(sampler):
    data = torch.randn(1, SIDE, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    observation = observed(data, TiltGeometry.from_range(-60, 50), RandomNoise(1.0, 0.0, 0.0, 0.0))
    _, latents = result_of(drawn(sampler, sampler.noise(SIDE, 5, 2), sampler.context(observation)))
    assert torch.allclose(latents, sampler.posterior(observation, 5, 2)[0], atol=1e-5)
    assert not torch.allclose(latents, sampler.prior(SIDE, 5, 2), atol=1e-3)


def test_a_walk_stays_as_far_from_the_origin_as_its_ends(sampler):
    first, last = sampler.noise(SIDE, 2, 0)
    walk = walk_noise(first, last, 5)
    assert torch.equal(walk[0], first)
    assert torch.equal(walk[-1], last)
    lengths = walk.flatten(1).norm(dim=1)
    assert torch.allclose(lengths, torch.linspace(float(lengths[0]), float(lengths[-1]), 5), rtol=1e-4)
    angles = torch.arccos(torch.cosine_similarity(walk[:-1].flatten(1), walk[1:].flatten(1)))
    assert torch.allclose(angles, angles.mean().expand(4), rtol=1e-3)


def test_directions_are_those_in_which_latents_were_made_to_differ():
    rng = torch.Generator().manual_seed(0)
    shape = (3, 2, 4, 2)
    true, _ = torch.linalg.qr(torch.randn(48, 3, generator=rng))
    amounts = torch.randn(400, 3, generator=rng) * torch.tensor([5.0, 3.0, 2.0])
    centre = torch.randn(shape, generator=rng)
    latents = centre + (amounts @ true.T).unflatten(1, shape) + 0.01 * torch.randn(400, *shape, generator=rng)
    directions = directions_of(latents, 3)
    assert torch.allclose(directions.centre, latents.mean(0), atol=1e-5)
    overlap = (directions.axes.flatten(1) @ true).abs()
    assert torch.allclose(overlap, torch.eye(3), atol=0.12)
    assert torch.allclose(directions.scales, torch.tensor([5.0, 3.0, 2.0]), rtol=0.1)
    assert float(directions.explained.sum()) == pytest.approx(1, abs=1e-3)


def test_latents_move_by_standard_deviations_along_a_direction():
    rng = torch.Generator().manual_seed(0)
    latents = torch.randn(20, 2, 4, 2, 3, generator=rng)
    directions = directions_of(latents, 3)
    start = latents[4]
    assert torch.equal(directions.moved(start, (0, 0, 0)), start)
    change = directions.moved(start, (0, 2.0, -1.0)) - start
    along = (directions.axes * change).sum((1, 2, 3, 4)) / directions.scales
    assert torch.allclose(along, torch.tensor([0.0, 2.0, -1.0]), atol=1e-4)
    assert float(change.norm()) == pytest.approx(float((directions.scales[1:] * torch.tensor([2.0, 1.0])).norm()), rel=1e-4)
