"""Steps in the latents of a volume: the slope of a posterior that is known, refined means, and Langevin chains."""

import logging
from dataclasses import replace
from math import prod

import pytest
import torch
import torch.nn.functional as nnf
from torch import nn

from cryovae import fourier
from cryovae.config import preset
from cryovae.data.prepare import prepare
from cryovae.errors import InputError
from cryovae.physics.wedge import volume_mask
from cryovae.posterior import langevin
from cryovae.posterior.codes import fast_convolutions
from cryovae.posterior.flow_posterior import FlowPosterior
from cryovae.posterior.langevin import walk
from cryovae.posterior.latent_slope import BLUR, LatentSlope
from cryovae.posterior.patch_sampler import PatchSampler
from cryovae.posterior.search import LANGEVIN, SearchConfig
from cryovae.posterior.volume_data import VolumeData
from cryovae.posterior.volume_sampler import VolumeSampler
from cryovae.restoration.config import RestoreConfig
from cryovae.restoration.restorer import Restorer
from cryovae.tiling.grid import cut
from cryovae.workflows.streaming import streams_flow
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


WIDTH = (1 - BLUR) ** 2 + BLUR**2


def _sampler(volume, most=64):
    generator = tiny_generator()
    generator.flow = _KnownFlow(generator.flow)
    return VolumeSampler(PatchSampler(generator, CPU, 4), volume, 16, most)


def _state(sampler, seed):
    return torch.randn(sampler._shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def volume(small):
    return VolumeData.of(prepare(small, 16))


@pytest.mark.parametrize("most", [64, 16])
def test_without_data_the_slope_is_that_of_the_blurred_prior(volume, most):
    """In one box and in several: at u that of N(0, (1 - t)^2 + t^2)."""
    slope = LatentSlope(_sampler(replace(volume, noise=lambda k: torch.full(k.shape[1:], 1e12)), most))
    state = _state(slope.sampler, 1)
    gradient, _ = slope(state)
    assert torch.allclose(gradient, -state / WIDTH, atol=1e-4)
    assert torch.allclose(slope.latents(state), (1 - BLUR) * state / WIDTH, atol=1e-4)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_the_slope_of_the_likelihood_is_that_of_finite_differences(volume, temperature):
    slope = LatentSlope(_sampler(volume), temperature)
    state, way, step = _state(slope.sampler, 2), _state(slope.sampler, 3), 1e-2
    of_prior = -state / WIDTH
    (_, above), (_, below) = slope(state + step * way), slope(state - step * way)
    expected = (above - below) * slope._count / (2 * step) / temperature
    assert float(((slope(state)[0] - of_prior) * way).sum()) == pytest.approx(expected, rel=0.02)


def test_the_log_likelihood_is_that_of_the_measured_bins(volume):
    """Of the data as they are, whatever the model predicts in the wedge."""
    slope = LatentSlope(_sampler(volume))
    data = cut(volume.data, (0, 0, 0), slope.sampler.boxes.sides) / volume.scale
    shape = data.shape
    mask = volume_mask(shape, volume.tilts) * fourier.below_nyquist(shape)
    variance = (
        volume.noise(fourier.frequencies(shape)) / volume.scale**2 + slope.sampler.sampler.generator.vae.config.model_variance
    )
    latents = _state(slope.sampler, 4)
    density = slope.sampler.sampler.generator.decode(latents[None])[0].detach()
    residual = fourier.transform(data - density).abs().square()
    weight = mask * fourier.multiplicity(shape)
    expected = -0.5 * float((weight * residual / variance).sum() / weight.sum())
    assert slope((1 - BLUR) * latents)[1] == pytest.approx(expected, rel=1e-4)


def test_the_curvature_is_the_largest_of_the_likelihood(volume):
    """Of a linear decoder: the largest eigenvalue of A^T F^-1 W F A, in the middle cube."""
    slope = LatentSlope(_sampler(volume))
    slope._decode = lambda latents: nnf.interpolate(latents[:, :1], scale_factor=slope.sampler.stride, mode="nearest")[:, 0]
    state = _state(slope.sampler, 5)
    stride = slope.sampler.stride
    side = [min(32 // stride, n) for n in state.shape[1:]]
    precision = slope._precision_of([n * stride for n in side], CPU)
    units = torch.eye(prod(side)).view(-1, 1, *side)
    raised = slope._decode(units)
    weighted = fourier.filtered(raised, precision)
    matrix = (raised.flatten(1) @ weighted.flatten(1).T).double()
    assert slope.curvature(state) == pytest.approx(float(torch.linalg.eigvalsh(matrix)[-1]), rel=0.15)


def test_refining_goes_up_the_posterior_and_stops_where_steps_are_too_long(volume, monkeypatch):
    slope = LatentSlope(_sampler(volume))
    latents = 0.1 * _state(slope.sampler, 6)
    _, before = slope(slope.start(latents))
    _, after = slope(slope.start(langevin.refined(slope, latents)))
    assert after > before
    monkeypatch.setattr(langevin, "FASTER", 1e4)
    kept = langevin.refined(slope, latents)
    assert torch.allclose(kept, slope.latents(slope.start(latents)))


def test_a_step_that_is_too_long_is_taken_back_and_said(volume, monkeypatch, caplog):
    slope = LatentSlope(_sampler(volume))
    monkeypatch.setattr(langevin, "FASTER", 1e4)
    with caplog.at_level(logging.WARNING, "cryovae"):
        langevin.refined(slope, 0.1 * _state(slope.sampler, 6))
    assert "too long" in caplog.text


def test_the_slope_of_several_boxes_is_that_of_one_in_the_middle(volume):
    """With the likelihood of data, by the convolutions of production: what is far from the borders of boxes agrees."""
    wide = replace(volume, data=torch.randn(16, 16, 128, generator=torch.Generator().manual_seed(7)))
    one, several = (LatentSlope(_sampler(wide, most)) for most in (128, 80))
    assert len(several.sampler.boxes) > 1
    state = _state(one.sampler, 8)
    with fast_convolutions():
        single, blended = one(state)[0], several(state)[0]
    near = single[..., :3], blended[..., :3]
    assert torch.corrcoef(torch.stack([part.flatten() for part in near]))[0, 1] > 0.95


def test_chains_start_from_samples_of_the_flow_and_say_how_far_they_came(volume, ladder):
    def posterior(search):
        return FlowPosterior(tiny_generator().taking_estimates(), ladder, 16, CPU, 2, 0, search=search)

    plain, chained = posterior(None), posterior(SearchConfig(sampler=LANGEVIN, chain=4))
    estimate = plain.estimate(volume)
    flow, chain = plain.samples(volume, estimate), chained.samples(volume, estimate)
    starts, ends = [flow.latents(n) for n in (0, 1)], []
    for number in (0, 1):
        ends.append(chain.latents(number))
        assert (chain.chains.moved is None) == (number == 0)
    assert not torch.equal(starts[0], ends[0])
    expected = (ends[1] - starts[1]).square().mean() / (ends[1] - ends[0]).square().mean()
    assert chain.chains.moved == pytest.approx(float(expected), rel=1e-4)
    assert torch.equal(ends[0], chained.samples(volume, estimate).latents(0))


def test_chains_without_a_flow_are_refused(small, ladder):
    with pytest.raises(InputError, match=r"no flow was fitted.*--sampler amortised"):
        Restorer(ladder, 16, RestoreConfig(samples=2, sampler=LANGEVIN), CPU)


def test_chains_for_which_memory_is_too_small_are_refused():
    config = preset("quick")
    config = replace(config, restoration=replace(config.restoration, sampler=LANGEVIN, temperature=3.0))
    with pytest.raises(InputError, match="give more --memory"):
        streams_flow((256, 512, 512), None, config, CPU, 10**9)


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
