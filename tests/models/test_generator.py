"""The generative model: latents of the flow have mean 0 and variance 1, and come back as they were."""

import torch

from tests.helpers.generative import tiny_generator


def test_measured_latents_have_mean_0_and_variance_1():
    generator, rng = tiny_generator(), torch.Generator().manual_seed(0)
    density = 3 * torch.randn(64, 8, 16, 8, generator=rng) + 1
    generator.measure_latents(density)
    with torch.no_grad():
        noise = torch.randn(64, *generator.vae.latent_shape((8, 16, 8)), generator=rng)
        latents = generator.latents(density, noise)
    assert latents.mean((0, 2, 3, 4)).abs().max() < 0.1
    assert (latents.var((0, 2, 3, 4)) - 1).abs().max() < 0.1
    assert generator.latent_mean.abs().max() > 0.05


@torch.no_grad()
def test_the_variance_of_q_counts():
    generator = tiny_generator()
    density = torch.zeros(2, 8, 8, 16)
    q = generator.vae.encode(density)
    generator.measure_latents(density)
    expected = (q.mean.var((0, 2, 3, 4), correction=0) + q.log_variance.exp().mean((0, 2, 3, 4))).sqrt()
    assert torch.allclose(generator.latent_scale, expected, rtol=1e-4)


@torch.no_grad()
def test_standardised_latents_decode_as_those_of_the_vae():
    generator = tiny_generator()
    generator.latent_mean.copy_(torch.tensor([0.5, -1.0, 2.0]))
    generator.latent_scale.copy_(torch.tensor([2.0, 0.5, 3.0]))
    latents = torch.randn(2, 3, 2, 4, 6)
    decoded = generator.decode(generator.standardised(latents))
    assert decoded.shape == (2, 8, 16, 24)
    assert torch.allclose(decoded, generator.vae.decode(latents), atol=1e-4)
    assert not torch.allclose(decoded, generator.vae.decode(generator.standardised(latents)), atol=1e-2)


def test_channels_weigh_by_what_they_contribute_to_a_density():
    generator = tiny_generator()
    with torch.no_grad():
        generator.vae.expand.weight.copy_(
            torch.eye(64)[:, :3].view(64, 3, 1, 1, 1) * torch.tensor([1.0, 2.0, 4.0]).view(3, 1, 1, 1)
        )
        generator.latent_scale.copy_(torch.tensor([4.0, 2.0, 4.0]))
    # Effects 4, 4, 16; their roots 2, 2, 4.
    assert torch.allclose(generator.channel_weights(), torch.tensor([0.75, 0.75, 1.5]))
    assert not generator.channel_weights().requires_grad
