from dataclasses import replace

import pytest
import torch

from cryovae.errors import InputError
from cryovae.models.ladder import Ladder, LadderConfig, Q, R

SHAPE = (8, 16, 12)


def _noise(ladder, batch):
    return [torch.randn(batch, *shape) for shape in ladder.latent_shapes(SHAPE)]


def test_densities_come_out_on_the_grid_they_went_in(ladder):
    y = torch.randn(2, *SHAPE)
    assert ladder.restore(ladder.encode(y, R), None).shape == y.shape
    assert [tuple(s) for s in ladder.latent_shapes(SHAPE)] == [(2, 8, 16, 12), (3, 4, 8, 6), (4, 2, 4, 3)]


def test_there_is_no_way_from_the_input_to_x_but_through_z(ladder):
    """With z given, the density is the same whatever the encoder saw."""
    latents = _noise(ladder, 1)

    def given(level, prior, state):
        return prior, latents[level]

    one = ladder.top_down(SHAPE, 1, given)[0]
    ladder.encode(torch.randn(1, *SHAPE), Q)
    assert torch.equal(one, ladder.top_down(SHAPE, 1, given)[0])


def test_a_pair_of_samples_shares_its_middle(ladder):
    features = ladder.encode(torch.randn(1, *SHAPE), R)
    noise = _noise(ladder, 1)
    pair = ladder.restore_pair(features, noise)
    assert torch.allclose(pair[0], ladder.restore(features, noise), atol=1e-5)
    assert torch.allclose(pair[1], ladder.restore(features, [-e for e in noise]), atol=1e-5)
    assert not torch.allclose(pair[0], pair[1], atol=1e-3)


def test_q_can_be_taught_what_r_knows(ladder):
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


def test_untrained_ladder_answers_next_to_nothing():
    torch.manual_seed(1)
    fresh = Ladder(LadderConfig((8, 16), (4, 4), 1))
    assert fresh.restore(fresh.encode(torch.randn(1, *SHAPE), R), None).abs().max().item() < 0.05


def test_levels_without_latents_make_a_flat_vae(small_config):
    torch.manual_seed(0)
    flat = Ladder(replace(small_config, latents=(0, 5, 0)))
    assert [shape[0] for shape in flat.latent_shapes(SHAPE)] == [0, 5, 0]
    features = flat.encode(torch.randn(2, *SHAPE), R)
    density, outputs = flat.top_down(SHAPE, 2, lambda level, prior, state: (prior, prior.mean))
    assert density.shape == (2, *SHAPE)
    assert [output.prior.mean.shape[1] for output in outputs] == [5]
    flat.init_q_from_r()
    pair = flat.restore_pair(features, _noise(flat, 2))
    assert pair.shape == (2, 2, *SHAPE)
    pair.sum().backward()
    assert all(p.grad is not None for p in flat.spread_parameters())


def test_a_ladder_without_any_latent_is_refused(small_config):
    with pytest.raises(InputError, match="latents on one level at least"):
        replace(small_config, latents=(0, 0, 0))


def test_in_bfloat16_the_answer_is_nearly_the_same_and_what_is_summed_stays_float32():
    torch.manual_seed(0)
    ladder = Ladder(LadderConfig(widths=(8, 16), latents=(2, 3), blocks=1))
    with torch.no_grad():
        for p in ladder.parameters():
            p.add_(0.05 * torch.randn_like(p))
    y = torch.randn(2, *SHAPE)

    def passed():
        features = ladder.encode(y, Q)

        def choose(level, prior, state):
            q = ladder.level(level).posterior(state, features[level], prior)
            return q, q.mean

        return ladder.top_down(SHAPE, 2, choose)

    density, outputs = passed()
    ladder.mixed = True
    other, mixed = passed()
    assert ladder.encode(y, Q)[0].dtype == torch.bfloat16
    assert not torch.equal(density, other)
    assert (density - other).square().mean() < 1e-3 * density.square().mean()
    for one, two in zip(outputs, mixed, strict=True):
        for value in (two.prior.mean, two.prior.log_variance, two.chosen.mean, two.chosen.log_variance, two.kl(), other):
            assert value.dtype == torch.float32
        assert torch.allclose(one.kl(), two.kl(), rtol=0.03)


def test_samples_of_r_are_no_wider_than_the_prior(ladder):
    """However wide r was matched: what is drawn then is what the prior draws about r's mean."""
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
