import math

import pytest
import torch

from cryovae.models.distributions import DiagonalGaussian, elementwise_kl, kl_divergence, relative_to, soft_clamp


def _gaussian(seed):
    torch.manual_seed(seed)
    return DiagonalGaussian(torch.randn(3, 2, 2, 3, 4), torch.randn(3, 2, 2, 3, 4))


def test_kl_agrees_with_torch_distributions():
    q, p = _gaussian(0), _gaussian(1)
    theirs = torch.distributions.kl_divergence(
        torch.distributions.Normal(q.mean, (q.log_variance / 2).exp()),
        torch.distributions.Normal(p.mean, (p.log_variance / 2).exp()),
    ).sum((1, 2, 3, 4))
    assert torch.allclose(kl_divergence(q, p), theirs, rtol=1e-5)
    assert torch.allclose(kl_divergence(q, q), torch.zeros(3), atol=1e-5)


def test_samples_have_the_mean_and_variance_that_they_say():
    q = _gaussian(2)[slice(0, 1)]
    noise = torch.randn(20000, 2, 2, 3, 4, generator=torch.Generator().manual_seed(0))
    drawn = q.sample(noise)
    assert torch.allclose(drawn.mean(0), q.mean[0], atol=0.1)
    assert torch.allclose(drawn.var(0), q.log_variance[0].exp(), rtol=0.1)


def test_relative_to_nothing_is_the_prior():
    p = _gaussian(3)
    same = relative_to(p, torch.zeros_like(p.mean), torch.zeros_like(p.mean))
    assert torch.equal(same.mean, p.mean)
    assert torch.equal(same.log_variance, p.log_variance)


def test_soft_clamp_is_the_identity_near_zero_and_bounded():
    x = torch.tensor([-1e4, -0.01, 0.0, 0.01, 1e4])
    assert soft_clamp(x, 5.0).tolist() == pytest.approx([-5, -0.01, 0, 0.01, 5], abs=1e-5)


def test_figures_by_latent_add_up_to_those_of_a_patch():
    q, p = _gaussian(0), _gaussian(1)
    assert torch.allclose(elementwise_kl(q, p).sum((1, 2, 3, 4)), kl_divergence(q, p), rtol=1e-5)
    z = torch.randn(3, 2, 2, 3, 4)
    theirs = torch.distributions.Normal(q.mean, (q.log_variance / 2).exp()).log_prob(z)
    assert torch.allclose(q.log_prob(z) - 0.5 * math.log(2 * math.pi), theirs, atol=1e-4)
