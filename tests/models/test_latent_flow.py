"""The latent flow: no velocity at the start, no condition is a condition of 0, patches do not see each other."""

from dataclasses import replace

import pytest
import torch

from cryovae.errors import InputError
from cryovae.models.latent_flow import LatentFlow, LatentFlowConfig, waves
from tests.helpers.generative import FLOW, randomised, tiny_generator, tiny_observation

SHAPE = (3, 3, 2, 4, 6)


def _flow(stride=4):
    torch.manual_seed(0)
    return LatentFlow(FLOW, 3, stride).eval()


@pytest.fixture
def flow():
    return randomised(_flow())


@pytest.fixture
def context(flow):
    seen = tiny_observation(3, (8, 16, 24))
    with torch.no_grad():
        return flow.context(seen.data, seen.linear, seen.information)


def test_the_velocity_is_zero_before_training():
    flow = _flow()
    latents = torch.randn(SHAPE)
    assert not flow(latents, torch.tensor([0.0, 0.4, 1.0]), flow.no_context(SHAPE, latents)).any()


def test_a_dropped_condition_is_none(flow, context):
    none = flow.no_context(SHAPE, context.features)
    dropped = context.kept(torch.tensor([0.0, 1.0, 0.0]))
    for part in ("features", "mean", "embedding"):
        kept = getattr(dropped, part)
        assert torch.equal(kept[0], getattr(none, part)[0])
        assert torch.equal(kept[2], getattr(none, part)[2])
        assert torch.equal(kept[1], getattr(context, part)[1])
        assert getattr(context, part)[0].abs().max() > 0


@torch.no_grad()
def test_condition_and_time_change_the_velocity_each_by_itself(flow, context):
    latents, time = torch.randn(SHAPE), torch.tensor([0.3, 0.5, 0.7])
    with_condition = flow(latents, time, context)
    assert not torch.allclose(with_condition, flow(latents, time, flow.no_context(SHAPE, latents)), atol=1e-4)
    assert not torch.allclose(with_condition, flow(latents, time + 0.2, context), atol=1e-4)
    assert with_condition.shape == SHAPE


@torch.no_grad()
def test_each_patch_is_for_itself(flow, context):
    latents, time = torch.randn(SHAPE), torch.tensor([0.3, 0.5, 0.7])
    velocity = flow(latents, time, context)
    for i in range(3):
        alone = flow(latents[i : i + 1], time[i : i + 1], context.rows(slice(i, i + 1)))
        assert torch.allclose(alone, velocity[i : i + 1], atol=1e-5)


def test_a_repeated_condition_is_each_patch_in_a_row(context):
    twice = context.repeated(2)
    assert torch.equal(twice.features[0], twice.features[1])
    assert torch.equal(twice.mean[2], context.mean[1])
    assert torch.equal(twice.embedding[5], context.embedding[2])


@torch.no_grad()
@pytest.mark.parametrize("stride", [2, 4])
def test_a_condition_has_the_places_of_the_latents(stride):
    flow = randomised(_flow(stride))
    seen = tiny_observation(2, (8, 16, 24))
    context = flow.context(seen.data, seen.linear, seen.information)
    assert context.features.shape == (2, 8, 8 // stride, 16 // stride, 24 // stride)
    assert context.mean.shape == (2, 3, 8 // stride, 16 // stride, 24 // stride)


def test_times_have_different_waves():
    codes = waves(torch.linspace(0, 1, 200))
    distance = torch.cdist(codes, codes) + 10 * torch.eye(200)
    assert codes.shape == (200, 32)
    assert distance.min() > 0.1


@pytest.mark.parametrize("bad", [{"width": 4}, {"blocks": 0}, {"embedding": 10**6}, {"entries": 0}, {"coarse_width": 1.5}])
def test_sizes_out_of_range_are_refused(bad):
    with pytest.raises(InputError, match=next(iter(bad))):
        LatentFlowConfig(**bad)


def test_a_flow_that_takes_estimates_begins_as_the_flow_that_it_was():
    """The prior is the same; the mean of the latents is that of the estimate, until it is trained."""
    generator = tiny_generator()
    taking = generator.taking_estimates()
    latents, time = torch.randn(2, 3, 4, 6, 4), torch.tensor([0.3, 0.8])
    before = generator.flow(latents, time, generator.flow.no_context(latents.shape, latents))
    torch.testing.assert_close(taking.flow(latents, time, taking.flow.no_context(latents.shape, latents)), before)
    seen = tiny_observation(2, (16, 24, 16))
    estimate = torch.randn(2, 16, 24, 16)
    context = taking.context(replace(seen, estimate=estimate))
    torch.testing.assert_close(context.mean, taking.standardised(taking.vae.encode(estimate).mean))
    torch.testing.assert_close(context.features, generator.context(seen).features)


def test_an_estimate_is_of_use_to_a_flow_that_takes_one_alone():
    generator, seen = tiny_generator(), tiny_observation(1, (16, 16, 16))
    with_estimate = replace(seen, estimate=torch.randn(1, 16, 16, 16))
    torch.testing.assert_close(generator.context(with_estimate).mean, generator.context(seen).mean)
    taking = generator.taking_estimates()
    with torch.no_grad():
        taking.flow.observe.weight.normal_()
    other = replace(seen, estimate=torch.randn(1, 16, 16, 16))
    assert not torch.allclose(taking.context(with_estimate).features, taking.context(other).features)
