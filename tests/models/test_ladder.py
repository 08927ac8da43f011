from dataclasses import replace

import pytest
import torch

from cryovae.errors import InputError
from cryovae.models.distributions import Move
from cryovae.models.ladder import Ladder, Q, R
from cryovae.models.ladder_config import LadderConfig
from cryovae.models.precision import precision_of
from cryovae.models.unet import UNet

SHAPE = (8, 16, 12)


def _noise(ladder, batch):
    return [torch.randn(batch, *shape) for shape in ladder.latent_shapes(SHAPE)]


def test_densities_come_out_on_the_grid_they_went_in(ladder):
    y = torch.randn(2, *SHAPE)
    assert ladder.restore(ladder.encode(y, R), None).shape == y.shape
    assert [tuple(s) for s in ladder.latent_shapes(SHAPE)] == [(2, 8, 16, 12), (3, 4, 8, 6), (4, 2, 4, 3)]


def test_x_depends_on_the_input_only_through_the_latents(ladder, small_config):
    """With the latents given, other features change the posterior and not x; in a U-Net, skip connections change the output."""
    noise, codes = _noise(ladder, 1), _noise(ladder, 1)
    first, second = (ladder.posterior(ladder.encode(y, Q), Q) for y in torch.randn(2, 1, *SHAPE))
    assert not torch.allclose(first.sample(noise).density, second.sample(noise).density, atol=1e-3)
    one, two = first.at(codes), second.at(codes)
    for a, b in zip(one.levels, two.levels, strict=True):
        assert not torch.allclose(a.posterior.mean, b.posterior.mean, atol=1e-3)
        assert torch.equal(a.latent, b.latent)
    assert torch.equal(one.density, two.density)
    assert torch.equal(one.density, ladder.prior(SHAPE, 1).sample(codes).density)
    # The same check finds a skip connection: the coarsest features are held fixed, and the output still changes.
    unet = UNet(small_config)
    torch.nn.init.normal_(unet.out.weight)
    unet.middle.register_forward_hook(lambda module, inputs, state: torch.zeros_like(state))
    correction = [unet(y) - y for y in torch.randn(2, 1, *SHAPE)]
    assert not torch.allclose(*correction, atol=1e-3)


def test_a_pass_reports_what_it_was_made_of(ladder):
    """Latents, codes, log-ratio and divergence of each level agree with their definitions."""
    q = ladder.posterior(ladder.encode(torch.randn(2, *SHAPE), Q), Q)
    noise = q.draw_noise(torch.Generator().manual_seed(0))
    sampled = q.sample(noise)
    assert [output.level for output in sampled.levels] == [2, 1, 0]
    for output in sampled.levels:
        assert torch.equal(output.latent, output.posterior.sample(noise[output.level]))
        assert torch.allclose(output.prior.sample(output.code()), output.latent, atol=1e-5)
        densities = output.prior.log_prob(output.latent) - output.posterior.log_prob(output.latent)
        assert torch.allclose(output.log_ratio(), densities, atol=1e-4)
        assert torch.allclose(output.nats().sum((1, 2, 3, 4)), output.kl(), rtol=1e-4)
    codes = {output.level: output.code() for output in sampled.levels}
    assert torch.allclose(q.at(codes).density, sampled.density, atol=1e-5)
    assert torch.allclose(q.at([None] * 3).density, q.mean().density, atol=1e-5)


def test_a_posterior_is_moved_level_by_level(ladder):
    q = ladder.posterior(ladder.encode(torch.randn(1, *SHAPE), Q), Q)
    still = {o.level: Move(torch.zeros_like(o.latent), torch.zeros_like(o.latent)) for o in q.mean().levels}
    assert torch.equal(q.moved(still).mean().density, q.mean().density)
    shifted = still | {2: Move(still[2].shift + 1.0, still[2].widen + 0.5)}
    before, after = (each.mean().levels[0].posterior for each in (q, q.moved(shifted)))
    assert torch.allclose(after.mean, before.mean + torch.exp(0.5 * before.log_variance))
    assert torch.allclose(after.log_variance, before.log_variance + 0.5)


def test_draws_of_the_prior_need_no_input(ladder):
    noise = _noise(ladder, 2)
    prior = ladder.prior(SHAPE, 2)
    sampled = prior.sample(noise)
    assert sampled.density.shape == (2, *SHAPE)
    assert all(output.kl().abs().max().item() == 0 for output in sampled.levels)
    # Noise of the prior is a code.
    assert torch.equal(prior.at(noise).density, sampled.density)


def test_a_pair_of_samples_shares_its_middle(ladder):
    features = ladder.encode(torch.randn(1, *SHAPE), R)
    noise = _noise(ladder, 1)
    pair = ladder.restore_pair(features, noise)
    assert torch.allclose(pair[0], ladder.restore(features, noise), atol=1e-5)
    assert torch.allclose(pair[1], ladder.restore(features, [-e for e in noise]), atol=1e-5)
    assert not torch.allclose(pair[0], pair[1], atol=1e-3)


def test_q_can_start_from_r(ladder):
    y = torch.randn(1, *SHAPE)
    with torch.no_grad():
        ladder.encoder.role[R] += 1
    ladder.init_q_from_r()
    assert torch.equal(ladder.encode(y, Q)[0], ladder.encode(y, R)[0])
    for level in ladder.levels:
        for mine, theirs in zip(level.posterior.parameters(), level.masked_posterior.parameters(), strict=True):
            assert torch.equal(mine, theirs)
            assert mine is not theirs


def test_levels_without_latents_are_refused():
    with pytest.raises(InputError, match="expected one latent count for each width"):
        LadderConfig(widths=(8, 16), latents=(4,))


def test_an_untrained_ladder_restores_almost_nothing():
    torch.manual_seed(1)
    fresh = Ladder(LadderConfig((8, 16), (4, 4), 1))
    assert fresh.restore(fresh.encode(torch.randn(1, *SHAPE), R), None).abs().max().item() < 0.05


def test_levels_without_latents_make_a_flat_vae(small_config):
    torch.manual_seed(0)
    flat = Ladder(replace(small_config, latents=(0, 5, 0)))
    assert [shape[0] for shape in flat.latent_shapes(SHAPE)] == [0, 5, 0]
    features = flat.encode(torch.randn(2, *SHAPE), R)
    mean = flat.prior(SHAPE, 2).mean()
    assert mean.density.shape == (2, *SHAPE)
    assert [output.prior.mean.shape[1] for output in mean.levels] == [5]
    flat.init_q_from_r()
    pair = flat.restore_pair(features, _noise(flat, 2))
    assert pair.shape == (2, 2, *SHAPE)
    pair.sum().backward()
    assert all(p.grad is not None for p in flat.spread_parameters())


def test_a_ladder_without_any_latent_is_refused(small_config):
    with pytest.raises(InputError, match="latents on one level at least"):
        replace(small_config, latents=(0, 0, 0))


def test_in_bfloat16_densities_are_close_and_sums_stay_float32():
    torch.manual_seed(0)
    ladder = Ladder(LadderConfig(widths=(8, 16), latents=(2, 3), blocks=1))
    with torch.no_grad():
        for p in ladder.parameters():
            p.add_(0.05 * torch.randn_like(p))
    y = torch.randn(2, *SHAPE)

    def mean():
        restored = ladder.posterior(ladder.encode(y, Q), Q).mean()
        return restored.density, restored.levels

    density, outputs = mean()
    with precision_of(ladder, True):
        other, mixed = mean()
        assert ladder.encode(y, Q)[0].dtype == torch.bfloat16
    assert not ladder.mixed
    assert not torch.equal(density, other)
    assert (density - other).square().mean() < 1e-3 * density.square().mean()
    for one, two in zip(outputs, mixed, strict=True):
        for value in (two.prior.mean, two.prior.log_variance, two.posterior.mean, two.posterior.log_variance, two.kl(), other):
            assert value.dtype == torch.float32
        assert torch.allclose(one.kl(), two.kl(), rtol=0.03)


def test_samples_of_r_are_no_wider_than_the_prior(ladder):
    """A wider r is sampled with the width of the prior about its mean."""
    features = ladder.encode(torch.randn(1, *SHAPE), R)
    noise = _noise(ladder, 1)
    with torch.no_grad():
        for level in ladder.levels:
            level.masked_posterior.scale.weight.zero_()
            level.masked_posterior.scale.bias.fill_(0.0)
        as_prior = ladder.restore(features, noise)
        for level in ladder.levels:
            level.masked_posterior.scale.bias.fill_(6.0)
        assert torch.equal(ladder.restore(features, noise), as_prior)
        for level in ladder.levels:
            level.masked_posterior.scale.bias.fill_(-3.0)
        assert not torch.allclose(ladder.restore(features, noise), as_prior, atol=1e-3)
