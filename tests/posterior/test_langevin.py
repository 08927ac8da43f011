"""Langevin chains: against the posterior of a linear-Gaussian model, and of a flow whose prior is known."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from cryovae.data.prepare import prepare
from cryovae.posterior.flow_posterior import FlowPosterior
from cryovae.posterior.langevin import BLUR, VolumeLangevin, walk
from cryovae.posterior.patch_sampler import PatchSampler
from cryovae.posterior.search import LANGEVIN, SearchConfig
from cryovae.posterior.volume_data import VolumeData
from cryovae.posterior.volume_sampler import VolumeSampler
from cryovae.restoration.config import RestoreConfig
from cryovae.restoration.restorer import Restorer
from tests.helpers.generative import tiny_generator

CPU = torch.device("cpu")
CHAINS = 4000


def test_a_walk_ends_in_the_posterior_of_a_linear_gaussian_model():
    """Latents N(0, I), seen through a matrix with noise: the mean and the covariance of the posterior are known."""
    rng = torch.Generator().manual_seed(0)
    matrix, data, variance = torch.tensor([[1.0, 0.6], [-0.3, 0.8]]), torch.tensor([1.2, -0.4]), 0.3
    precision = torch.eye(2) + matrix.T @ matrix / variance
    covariance = precision.inverse()
    mean = covariance @ matrix.T @ data / variance

    def slope(z):
        residual = data - z @ matrix.T
        return residual @ matrix / variance - z, -0.5 * float(residual.square().sum() / variance)

    start = 3 + torch.zeros(CHAINS, 2)
    ended = walk(start, slope, 400, 0.02, lambda step: torch.randn(CHAINS, 2, generator=rng))
    error = covariance.diagonal().sqrt() / CHAINS**0.5
    assert ((ended.end.mean(0) - mean).abs() < 4.5 * error).all()
    # A step of 0.02 widens the chain by 2 %.
    assert torch.allclose(torch.cov(ended.end.T), covariance, atol=0.08 * float(covariance.diagonal().max()))
    assert abs(ended.climb) < 0.02 * CHAINS


def test_a_walk_that_is_still_on_its_way_is_seen_to_climb():
    ended = walk(torch.full((1, 2), 30.0), lambda z: (-z, -0.5 * float(z.square().sum())), 8, 0.1, lambda step: torch.zeros(1, 2))
    assert ended.climb > 1.0


class _KnownFlow(nn.Module):
    """The velocity of the flow whose prior is N(0, I), with and without a condition."""

    def __init__(self, flow):
        super().__init__()
        self.config, self.context, self.no_context = flow.config, flow.context, flow.no_context

    def forward(self, latents, time, context):
        t = time.view(-1, 1, 1, 1, 1)
        return (2 * t - 1) * latents / ((1 - t) ** 2 + t**2)


def _known(volume):
    generator = tiny_generator()
    generator.flow = _KnownFlow(generator.flow)
    return VolumeSampler(PatchSampler(generator, CPU, 4), volume, 16, 64)


@pytest.fixture
def volume(small):
    return VolumeData.of(prepare(small, 16))


def test_the_score_of_the_prior_is_that_of_its_blurred_density(volume):
    """Without data the slope at u is that of N(0, (1 - t)^2 + t^2)."""
    chain = VolumeLangevin(_known(replace(volume, noise=lambda k: torch.full(k.shape[1:], 1e12))), volume, 0)
    chain._precision = torch.zeros_like(chain._precision)
    state = torch.randn(chain.sampler._shape, generator=torch.Generator().manual_seed(1))
    slope, _ = chain.slope(state)
    assert torch.allclose(slope, -state / ((1 - BLUR) ** 2 + BLUR**2), atol=1e-4)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_the_slope_of_the_likelihood_is_that_of_finite_differences(volume, temperature):
    chain = VolumeLangevin(_known(volume), volume, 0, temperature)
    rng = torch.Generator().manual_seed(2)
    state, way = (torch.randn(chain.sampler._shape, generator=rng) for _ in range(2))
    slope, _ = chain.slope(state)
    of_prior = -state / ((1 - BLUR) ** 2 + BLUR**2)
    step = 1e-2
    (_, above), (_, below) = chain.slope(state + step * way), chain.slope(state - step * way)
    expected = (above - below) * chain._bins / (2 * step) / temperature
    assert float(((slope - of_prior) * way).sum()) == pytest.approx(expected, rel=0.02)


def test_boxes_pull_back_as_one_piece_does(volume):
    """The gradient of the blended density of several boxes, in the latents of the whole, by finite differences."""
    generator = tiny_generator()
    boxes = VolumeSampler(PatchSampler(generator, CPU, 4), volume, 16, 16)
    assert len(boxes.boxes) > 1
    rng = torch.Generator().manual_seed(3)
    latents, way = (torch.randn(boxes._shape, generator=rng) for _ in range(2))
    slope = torch.randn(volume.data.shape, generator=rng)
    step = 1e-2
    above, below = (boxes.density(latents + sign * step * way) / boxes.scale for sign in (1, -1))
    expected = float(((above - below) * slope).double().sum()) / (2 * step)
    assert float((boxes.pulled_back(latents, slope) * way).sum()) == pytest.approx(expected, rel=0.02)


def test_chains_start_from_samples_of_the_flow_and_keep_figures(volume, ladder):
    def posterior(search):
        return FlowPosterior(tiny_generator().taking_estimates(), ladder, 16, CPU, 2, 0, search=search)

    plain, chained = posterior(None), posterior(SearchConfig(sampler=LANGEVIN, chain=4))
    estimate = plain.estimate(volume)
    first, moved = plain.samples(volume, estimate), chained.samples(volume, estimate)
    assert torch.equal(first.predicted(), moved.predicted())
    samples = [moved(0), moved(1)]
    assert not torch.equal(first(0), samples[0])
    assert torch.equal(samples[0], chained.samples(volume, estimate)(0))
    figures = chained.record.figures(chained.search, 0)["langevin"]
    assert figures["steps"] == 4
    assert figures["moved"] > 0


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_a_restoration_by_chains_keeps_to_its_progress_and_tells_of_its_target(small, ladder, temperature):
    """A tempered one is not fitted to hidden bins, which would bring it back to the Bayes posterior."""
    config = RestoreConfig(
        samples=2, samples_out=2, sampler=LANGEVIN, temperature=temperature, flow_steps=2, chain=4, halves=False
    )
    reports = []
    flow = tiny_generator().taking_estimates()
    restorer = Restorer(ladder, 16, config, CPU, lambda done, total: reports.append((done, total)), flow)
    restored = restorer(small)
    assert restored.search["langevin"]["steps"] == 4
    assert restored.search["tempered"] == (temperature != 1)
    assert (restored.held_out is None) == (temperature != 1)
    done = [done for done, _ in reports]
    assert done == sorted(done)
    # The last report sets the total; the one before says what was counted.
    assert done[-2] == pytest.approx(reports[-1][1], rel=0.02)
