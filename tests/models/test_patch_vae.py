"""The VAE of patches: exact folding, principal components at the start, latents that move with the density."""

import pytest
import torch

from cryovae.errors import InputError
from cryovae.models.distributions import DiagonalGaussian, kl_divergence
from cryovae.models.patch_vae import PatchVAE, PatchVAEConfig, folded, unfolded
from tests.helpers.generative import randomised


def _vae(stride, channels=5):
    torch.manual_seed(0)
    return PatchVAE(PatchVAEConfig(stride, channels, width=8, fine_width=4, blocks=1))


def _smooth(count, shape, seed=1):
    rng = torch.Generator().manual_seed(seed)
    white = torch.randn(count, 1, *(n + 4 for n in shape), generator=rng)
    return torch.nn.functional.avg_pool3d(white, 5, 1).squeeze(1) * 8


def test_unfolding_is_the_inverse_of_folding():
    density = torch.randn(2, 3, 4, 8, 6)
    assert folded(density).shape == (2, 24, 2, 4, 3)
    assert torch.equal(unfolded(folded(density)), density)
    features = torch.randn(1, 16, 3, 2, 5)
    assert torch.equal(folded(unfolded(features)), features)


def test_the_channels_of_a_place_are_the_voxels_of_its_cube():
    density = torch.randn(1, 1, 6, 8, 4)
    cube = density[0, 0, 2:4, 6:8, 0:2].flatten()
    assert torch.equal(folded(density)[0, :, 1, 3, 0], cube)


@pytest.mark.parametrize("stride", [2, 4])
def test_a_new_vae_reconstructs_as_well_as_principal_components(stride):
    vae, channels = _vae(stride), 5
    density = _smooth(40, (16, 8, 24))
    vae.start_from(density)
    with torch.no_grad():
        q = vae.encode(density)
        error = float((density - vae.decode(q.mean)).square().mean())
    blocks = density.unfold(1, stride, stride).unfold(2, stride, stride).unfold(3, stride, stride).flatten(4).flatten(0, 3)
    power = torch.linalg.eigvalsh(blocks.double().T @ blocks.double() / len(blocks)).flip(0)
    expected = float(power[channels:].sum() / stride**3)
    assert 0 < expected < 0.8 * float(density.square().mean())
    assert error == pytest.approx(expected, rel=0.01)
    # Its latents have mean square 1, and the width that is exact for a linear Gaussian model, but for the soft limits.
    assert q.mean.square().mean((0, 2, 3, 4)).tolist() == pytest.approx([1.0] * channels, rel=0.02)
    variance = vae.config.model_variance
    exact = torch.log(variance / (power[:channels] + variance)).float()
    assert torch.allclose(q.log_variance[0, :, 0, 0, 0], 9 * torch.tanh(exact / 9), atol=1e-3)


@pytest.mark.parametrize("stride", [2, 4])
def test_a_shift_by_the_stride_shifts_the_latents(stride):
    vae = randomised(_vae(stride))
    wide = _smooth(1, (80, 48, 56), seed=3)
    with torch.no_grad():
        here = vae.encode(wide[:, : 80 - stride]).mean
        there = vae.encode(wide[:, stride:]).mean
    middle = [n // 2 for n in here.shape[2:]]
    place, before = (0, slice(None), *middle), (0, slice(None), middle[0] - 1, *middle[1:])
    # Borders are more than the reach of the convolutions away.
    assert torch.allclose(here[place], there[before], atol=1e-4)
    assert not torch.allclose(here[place], there[place], atol=1e-2)


@pytest.mark.parametrize("stride", [2, 4])
def test_densities_that_are_not_cubes_keep_their_shape(stride):
    vae = randomised(_vae(stride))
    density = _smooth(2, (8, 16, 24))
    latents = vae.encode(density)
    assert latents.mean.shape[1:] == vae.latent_shape((8, 16, 24))
    assert vae.decode(latents.mean).shape == density.shape


def test_the_closed_kl_is_the_mean_over_samples():
    rng = torch.Generator().manual_seed(0)
    mean, log_variance = torch.randn(2, 1, 3, 2, 2, 3, generator=rng).unbind()
    q, p = DiagonalGaussian(mean, log_variance), DiagonalGaussian(torch.zeros_like(mean), torch.zeros_like(mean))
    noise = torch.randn(4000, *mean.shape[1:], generator=rng)
    z = q.sample(noise)
    sampled = (q.log_prob(z) - p.log_prob(z)).sum((1, 2, 3, 4))
    assert float(kl_divergence(q, p)) == pytest.approx(float(sampled.mean()), abs=4 * float(sampled.std()) / 4000**0.5)
    assert float(kl_divergence(p, p)) == 0


@pytest.mark.parametrize("bad", [{"stride": 3}, {"channels": 0}, {"model_variance": 0.0}, {"width": 2}, {"blocks": 99}])
def test_sizes_out_of_range_are_refused(bad):
    with pytest.raises(InputError, match=next(iter(bad))):
        PatchVAEConfig(**bad)
