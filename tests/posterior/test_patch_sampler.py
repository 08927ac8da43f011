"""Draws of patches: the same on any batch size, of the patch that they belong to, in the units of the tomogram."""

import numpy as np
import pytest
import torch

from cryovae.data.prepare import prepare
from cryovae.errors import InputError
from cryovae.physics.observation import EDGE, described_frequencies
from cryovae.physics.wedge import wedge_mask
from cryovae.posterior import patch_sampler
from cryovae.posterior.patch_sampler import PatchSampler, observed_patches, signal_scale
from cryovae.tiling.grid import cut
from cryovae.tomogram import Tomogram
from tests.helpers.generative import tiny_generator, tiny_observation

SIDE = 16


@pytest.fixture
def sampler():
    return PatchSampler(tiny_generator(), steps=3)


@pytest.fixture(scope="module")
def prepared(small):
    return prepare(small, SIDE)


def test_the_first_draws_of_many_are_those_of_few(sampler):
    many, few = sampler.prior(SIDE, 5, seed=1), sampler.prior(SIDE, 2, seed=1)
    assert many.shape == (5, 3, 4, 4, 4)
    assert torch.allclose(many[:2], few, atol=1e-5)
    assert not torch.allclose(many[0], many[1], atol=0.1)
    assert not torch.allclose(sampler.prior(SIDE, 2, seed=2), few, atol=0.1)


def test_draws_do_not_depend_on_how_many_are_made_at_once(sampler, monkeypatch):
    seen = tiny_observation(3, (SIDE,) * 3)
    prior, posterior = sampler.prior(SIDE, 5, seed=1), sampler.posterior(seen, 3, seed=1)
    decoded, predicted = sampler.decoded(posterior), sampler.predicted(seen)
    monkeypatch.setattr(patch_sampler, "BATCH", 2)
    assert torch.allclose(sampler.prior(SIDE, 5, seed=1), prior, atol=1e-4)
    assert torch.allclose(sampler.posterior(seen, 3, seed=1), posterior, atol=1e-4)
    assert torch.allclose(sampler.decoded(posterior), decoded, atol=1e-4)
    assert torch.allclose(sampler.predicted(seen), predicted, atol=1e-4)


def test_each_patch_has_its_own_condition(sampler):
    seen = tiny_observation(3, (SIDE,) * 3)
    latents = sampler.posterior(seen, 2, seed=1)
    assert latents.shape == (3, 2, 3, 4, 4, 4)
    for i in range(3):
        alone = sampler.posterior(seen.rows(slice(i, i + 1)), 2, seed=1)
        assert torch.allclose(alone[0], latents[i], atol=1e-4)
    assert not torch.allclose(latents[0], latents[1], atol=1e-3)
    assert not torch.allclose(latents[0, 0], sampler.prior(SIDE, 1, seed=1)[0], atol=1e-3)


def test_a_temperature_of_0_has_one_draw(sampler):
    still = sampler.prior(SIDE, 3, seed=1, temperature=0.0)
    assert torch.allclose(still[0], still[2], atol=1e-5)
    assert not torch.allclose(sampler.prior(SIDE, 1, seed=1, temperature=0.5), sampler.prior(SIDE, 1, seed=1), atol=0.05)


def test_densities_have_the_leading_shape_of_their_latents(sampler):
    latents = torch.randn(2, 3, 3, 4, 2, 6)
    densities = sampler.decoded(latents)
    assert densities.shape == (2, 3, 16, 8, 24)
    assert torch.allclose(densities[1, 2], sampler.decoded(latents[1, 2][None])[0], atol=1e-5)


@torch.no_grad()
def test_encoded_patches_are_the_standardised_means(sampler):
    generator = sampler.generator
    generator.latent_mean.fill_(0.5)
    generator.latent_scale.fill_(2.0)
    density = torch.randn(20, 8, 16, 24, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(sampler.encoded(density), (generator.vae.encode(density).mean - 0.5) / 2, atol=1e-5)
    seen = tiny_observation(2, (8, 16, 24))
    assert torch.allclose(sampler.predicted(seen), sampler.decoded(sampler.context(seen).mean), atol=1e-5)


def test_progress_counts_steps_of_all_batches(sampler, monkeypatch):
    monkeypatch.setattr(patch_sampler, "BATCH", 2)
    counts = []
    sampler.prior(SIDE, 5, seed=1, watch=lambda done, total: counts.append((done, total)))
    # Three batches, each of as many steps as a draw takes.
    total = 3 * sampler.steps
    assert counts == [(done, total) for done in range(1, total + 1)]


def test_patches_of_a_tomogram_are_in_units_of_its_signal(prepared):
    positions = [(0, 4, 8), (5, 20, 16)]
    patches = observed_patches(prepared, positions, SIDE)
    assert patches.scale == signal_scale(prepared)
    for data, position in zip(patches.observation.data, positions, strict=True):
        assert torch.allclose(data * patches.scale, cut(prepared.density, position, SIDE), atol=1e-5)
    # The noise is that of the tomogram in these units.
    k = described_frequencies()
    noise = prepared.noise(k) / patches.scale**2
    assert torch.allclose(patches.observation.information[1], torch.log1p(wedge_mask(k, prepared.tilts, EDGE) / noise), rtol=1e-4)
    assert abs(patches.scale - 1) > 0.1
    # Grey values are those of the tomogram again.
    grey = patches.grey(patches.observation.data)
    expected = cut(prepared.density, positions[0], SIDE) * prepared.scale + prepared.mean
    assert torch.allclose(grey[0], expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


def _made(signal, noise, shape=(40, 56, 48)):
    """A tomogram of a smooth signal and white noise of these standard deviations, without a wedge's worth of structure."""
    rng = np.random.default_rng(0)
    k = np.sqrt(sum(f**2 for f in np.meshgrid(*[np.fft.fftfreq(n) for n in shape], indexing="ij")))
    smooth = np.fft.ifftn(np.fft.fftn(rng.normal(size=shape)) * np.exp(-((k / 0.15) ** 2))).real
    smooth *= signal / smooth.std() if signal else 0.0
    halves = tuple((smooth + rng.normal(scale=noise * 2**0.5, size=shape)).astype(np.float32) for _ in range(2))
    return halves


@pytest.mark.parametrize(("signal", "noise"), [(1.0, 1.0), (1.0, 0.3), (0.5, 1.0)])
def test_the_scale_is_the_standard_deviation_of_the_signal(signal, noise, tilts):
    halves = _made(signal, noise)
    # Measured nearly everywhere: tilts to 88 degrees leave a thin wedge.
    tilts = type(tilts).from_range(-88, 88)
    prepared = prepare(Tomogram("made", (halves[0] + halves[1]) / 2, 10.0, tilts, halves), SIDE)
    assert signal_scale(prepared) * prepared.scale == pytest.approx(signal, rel=0.12)


@pytest.mark.parametrize("shape", [(40, 56, 48), (24, 36, 32)])
def test_noise_alone_is_refused(tilts, shape):
    halves = _made(0.0, 1.0, shape)
    prepared = prepare(Tomogram("noise", (halves[0] + halves[1]) / 2, 10.0, tilts, halves), SIDE)
    with pytest.raises(InputError, match="noise alone, so there is nothing to draw"):
        signal_scale(prepared)


def test_a_weak_signal_is_accepted(tilts):
    halves = _made(0.2, 1.0)
    prepared = prepare(Tomogram("weak", (halves[0] + halves[1]) / 2, 10.0, tilts, halves), SIDE)
    assert 0.05 < signal_scale(prepared) < 0.6
