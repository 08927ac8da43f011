"""Bounds of the evidence, and measures as a whole, with a tiny model of random weights."""

import math

import pytest
import torch

from cryovae import fourier
from cryovae.evaluation.generative.classifier import separation
from cryovae.evaluation.generative.evidence import clean_evidence, noisy_evidence, spectrum_of
from cryovae.evaluation.generative.report import GenerativeMeasureConfig, as_measured, measure_on_scenes, octants, of_shells
from cryovae.models.latent_flow import LatentFlow
from cryovae.physics.wedge import patch_mask
from cryovae.posterior.patch_sampler import PatchSampler
from cryovae.simulation.patches import Pairs, PatchConfig
from cryovae.tomogram import TiltGeometry
from tests.helpers.generative import RANGE, made_up_pairs, tiny_generator, tiny_observation

SIDE = 16


@pytest.fixture(scope="module")
def sampler():
    return PatchSampler(tiny_generator(), steps=3)


class Still(torch.nn.Module):
    """A flow whose velocity is that of latents N(0, I): prior and posterior are the same."""

    def __init__(self, of: LatentFlow) -> None:
        super().__init__()
        self.of, self.config = of, of.config

    def forward(self, latents, time, context):
        t = time.view(-1, 1, 1, 1, 1)
        return (2 * t - 1) * latents / ((1 - t).square() + t.square())

    def context(self, *parts):
        return self.of.context(*parts)

    def no_context(self, shape, like):
        return self.of.no_context(shape, like)


@pytest.fixture
def still(sampler):
    before = sampler.generator.flow
    sampler.generator.flow = Still(before)
    yield sampler
    sampler.generator.flow = before


def white(count, seed=0):
    return torch.randn(count, SIDE, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))


def test_the_spectrum_of_white_patches_is_flat():
    spectrum = spectrum_of(3 * white(30))
    assert spectrum.shape == (SIDE, SIDE, SIDE // 2 + 1)
    radius = fourier.radius((SIDE,) * 3)
    assert torch.allclose(spectrum[(radius > 0.1) & (radius < 0.7)], torch.tensor(9.0), rtol=0.15)


def test_the_gaussian_of_clean_patches_has_the_known_log_likelihood(sampler):
    variance = sampler.generator.vae.config.model_variance
    evidence = clean_evidence(sampler, white(3, seed=8), torch.ones(SIDE, SIDE, SIDE // 2 + 1), draws=2)
    known = -0.5 * (math.log(2 * math.pi * (1 + variance)) + 1)
    assert evidence.gaussian == pytest.approx(known, abs=0.03)
    assert evidence.gain == pytest.approx(evidence.elbo - evidence.gaussian)
    assert evidence.weighted >= evidence.elbo
    assert evidence.draws == 2


def test_the_kl_of_clean_patches_is_that_of_two_gaussians(still):
    """With latents N(0, I) as prior, log q - log p is on average the KL in closed form."""
    clean = 0.5 * white(2, 1)
    evidence = clean_evidence(still, clean, torch.ones(SIDE, SIDE, SIDE // 2 + 1), draws=64)
    with torch.no_grad():
        q = still.generator.vae.encode(clean)
    scale = still.generator.latent_scale.view(1, -1, 1, 1, 1)
    mean, variance = still.generator.standardised(q.mean), q.log_variance.exp() / scale**2
    kl = 0.5 * (mean.square() + variance - 1 - variance.log()).sum((1, 2, 3, 4))
    bins = (fourier.below_nyquist((SIDE,) * 3) * fourier.multiplicity((SIDE,) * 3)).sum()
    assert evidence.kl == pytest.approx(float((kl / bins).mean()), rel=0.03)


def test_a_posterior_that_is_the_prior_costs_no_nats(still):
    """log q and log p are of the same flow then, whatever the patch."""
    mask = patch_mask((SIDE,) * 3, RANGE)
    evidence = noisy_evidence(still, tiny_observation(2, (SIDE,) * 3), mask, torch.full_like(mask, 0.5), torch.ones_like(mask))
    # Each of the two log-densities has the error of its own probes.
    assert abs(evidence.kl) < 4 * evidence.trace_error + 1e-4


def test_only_measured_bins_are_scored(still):
    mask = patch_mask((SIDE,) * 3, RANGE)
    observation = tiny_observation(2, (SIDE,) * 3)
    spoiled = fourier.filtered(white(2, 9), (mask < 0.5).float()) * 100
    other = type(observation)(observation.data + spoiled, observation.linear, observation.information)
    settings = (mask, torch.full_like(mask, 0.5), torch.ones_like(mask), 2)
    assert noisy_evidence(still, observation, *settings).gaussian == pytest.approx(
        noisy_evidence(still, other, *settings).gaussian, rel=1e-4
    )


def test_measured_draws_have_the_noise_and_no_wedge():
    mask = patch_mask((SIDE,) * 3, RANGE)
    seen = as_measured(torch.zeros(40, SIDE, SIDE, SIDE), mask, torch.full_like(mask, 4.0), torch.Generator().manual_seed(0))
    power = fourier.transform(seen).abs().square().mean(0)
    assert float(power[mask == 0].max()) < 1e-6
    assert float(power[mask == 1].mean()) == pytest.approx(4, rel=0.05)


def test_octants_of_a_measured_field_have_the_wedge_of_patches_of_a_tomogram():
    """Both are cut after the wedge, which is not empty then; in a field that is measured as a patch it is."""
    tilts, rng = TiltGeometry.from_range(-50, 50), torch.Generator().manual_seed(0)
    spectrum = 40 * torch.exp(-((fourier.radius((16,) * 3) / 0.15) ** 2))

    def measured(count, side):
        field = fourier.filtered(torch.randn(count, side, side, side, generator=rng), of_shells(spectrum, side).sqrt())
        return as_measured(field, patch_mask((side,) * 3, tilts), torch.full((side, side, side // 2 + 1), 0.2), rng)

    def in_wedge(patches):
        return float(fourier.transform(patches).abs().square().mean(0)[patch_mask((16,) * 3, tilts) == 0].mean())

    volume = measured(1, 128)[0]
    starts = torch.randint(0, 112, (200, 3), generator=rng).tolist()
    data = torch.stack([volume[z : z + 16, y : y + 16, x : x + 16] for z, y, x in starts])
    parts = octants(measured(25, 32))
    assert parts.shape == (200, 16, 16, 16)
    assert in_wedge(parts) == pytest.approx(in_wedge(data), rel=0.5)
    assert in_wedge(measured(200, 16)) < 1e-6
    assert separation(data, parts).auc < 0.65


def test_a_power_by_shell_is_the_same_for_larger_cubes():
    power = of_shells(torch.arange(9.0)[(fourier.radius((16,) * 3) * 16).round().long().clamp(max=8)], 32)
    assert power.shape == (32, 32, 17)
    assert power[0, 0, ::2].tolist() == list(range(9))


def test_all_measures_of_a_small_model(sampler):
    pairs = Pairs.joined([made_up_pairs(PatchConfig(side=SIDE), number) for number in range(2)])
    shrunk = pairs.clean[:, :SIDE, :SIDE, :SIDE]
    observation = pairs.observation.map(lambda part: part[:, :SIDE, :SIDE, :SIDE] if part.ndim == 4 else part)
    pairs = Pairs(shrunk, observation, pairs.scenes, pairs.tilts)
    config = GenerativeMeasureConfig(
        patches=12, posterior_patches=3, samples=2, evidence_patches=2, evidence_draws=1, training_patches=4
    )
    measures, drawn = measure_on_scenes(sampler, pairs, pairs.masks(), shrunk[:4], config)
    assert drawn.draws.shape == drawn.data.shape == drawn.gaussian.shape == (12, SIDE, SIDE, SIDE)
    # Four of the patches are training patches themselves.
    assert sorted(measures.nearest_of_data)[-4:] == pytest.approx([1.0] * 4, abs=1e-4)
    assert len(measures.prior.nearest) == 12
    assert set(measures.posterior) == {"wedge", "measured"}
    assert math.isfinite(measures.evidence.gain)
