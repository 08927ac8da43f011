"""KL regularisation changes the loss by its formula, and never the reported figures."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from cryovae.config import RunConfig
from cryovae.data.prepare import prepare
from cryovae.data.sampling import cube_rotated, step_generator
from cryovae.errors import InputError
from cryovae.models.distributions import DiagonalGaussian, kl_divergence
from cryovae.models.ladder import LevelOutput, R
from cryovae.objectives.elbo import ObjectiveConfig, numbers, one_encoder_bound, two_encoder_bound
from cryovae.objectives.kl_regularization import KLRegularization, regularized_kl
from cryovae.objectives.schedules import beta_at

SIDE = 16
SHAPES = ((3, 2, 1, 2), (5, 4, 2, 4))


def _levels(scales, shapes=SHAPES):
    """Two levels, a batch of two, posteriors off the prior by ``scales``."""
    torch.manual_seed(0)
    outputs = []
    for scale, shape in zip(scales, shapes, strict=True):
        prior = DiagonalGaussian(torch.randn(2, *shape), 0.3 * torch.randn(2, *shape))
        moved = scale * torch.randn(2, *shape)
        q = DiagonalGaussian((prior.mean + moved).requires_grad_(), prior.log_variance + moved.abs())
        outputs.append(LevelOutput(1 - len(outputs), prior, q, q.mean))
    return outputs


@pytest.fixture(scope="module")
def measurement(small):
    return cube_rotated(prepare(small, SIDE), [(2, 3, 4), (8, 20, 9)], [0, 7], SIDE, None)


def test_nothing_asked_for_is_the_plain_sum():
    outputs = _levels((1.0, 0.5))
    plain = sum(kl_divergence(output.posterior, output.prior).sum() for output in outputs)
    assert regularized_kl(outputs, KLRegularization()).item() == pytest.approx(plain.item(), rel=1e-6)
    assert not KLRegularization().any
    assert RunConfig().objective.kl_regularization(0.5) == KLRegularization()


def test_free_bits_are_free_by_group_of_channels():
    outputs = _levels((0.8, 0.3))
    free = 1.5
    expected = 0.0
    for output in outputs:
        nats = output.nats().detach().mean(0).sum((1, 2, 3))
        # Groups of two, the last one of what is left.
        expected += 2 * sum(max(free, float(nats[i : i + 2].sum())) for i in range(0, len(nats), 2))
    assert regularized_kl(outputs, KLRegularization(free, 2)).item() == pytest.approx(expected, rel=1e-5)


def test_only_above_its_free_bits_a_level_is_driven_to_the_prior():
    """Gradient descent on the KL alone ends at what is free, or where a channel began if that is less, not at nothing."""
    for free in (0.0, 3.0):
        outputs = _levels((1.0, 1.0))
        begun = _nats_by_channel(outputs)
        optimiser = torch.optim.SGD([output.posterior.mean for output in outputs], lr=0.05)
        for _ in range(120):
            optimiser.zero_grad()
            regularized_kl(outputs, KLRegularization(free)).backward()
            optimiser.step()
        # The widths are left as they are, and cost what they cost.
        least = _nats_by_channel([replace(r, posterior=replace(r.posterior, mean=r.prior.mean)) for r in outputs])
        expected = torch.maximum(least, begun.clamp_max(free))
        assert torch.allclose(_nats_by_channel(outputs), expected, atol=0.3)
        assert bool((begun > expected + 1).any())


def _nats_by_channel(outputs):
    return torch.cat([output.nats().detach().sum((2, 3, 4)).mean(0) for output in outputs])


def test_balance_weights_levels_by_nats_per_latent_with_mean_one():
    outputs = _levels((1.0, 0.1))
    raw = [output.nats().sum().item() for output in outputs]
    each = [nats / output.prior.mean.numel() for nats, output in zip(raw, outputs, strict=True)]
    weights = [2 * e / sum(each) for e in each]
    total = regularized_kl(outputs, KLRegularization(balance=True))
    assert total.item() == pytest.approx(sum(w * n for w, n in zip(weights, raw, strict=True)), rel=1e-3)
    assert weights[1] < 0.1
    total.backward()
    unweighted = torch.autograd.grad(outputs[1].nats().sum(), outputs[1].posterior.mean)[0]
    assert torch.allclose(outputs[1].posterior.mean.grad, weights[1] * unweighted, rtol=1e-2, atol=1e-5)


def test_balance_stands_with_a_level_that_says_nothing():
    outputs = _levels((0.0, 0.0))
    total = regularized_kl(outputs, KLRegularization(balance=True))
    total.backward()
    assert total.item() == pytest.approx(0, abs=1e-5)
    assert torch.isfinite(outputs[0].posterior.mean.grad).all()


def test_balance_is_for_the_warm_up_alone():
    objective = ObjectiveConfig(balance=True, beta=0.7)
    assert objective.kl_regularization(0.3).balance
    assert not objective.kl_regularization(0.7).balance


@pytest.mark.parametrize("bound_of", [one_encoder_bound, two_encoder_bound])
def test_the_bound_is_reported_whatever_the_regularisation(ladder, measurement, bound_of):
    features = ladder.encode(measurement.input_masked, R)
    plain, mended = (
        bound_of(ladder, measurement, features, step_generator(0, 0), kl_regularization)
        for kl_regularization in (KLRegularization(), KLRegularization(1e5, 2, True))
    )
    assert numbers(plain.figures()) == numbers(mended.figures())
    assert mended.loss(1.0) > plain.loss(1.0) + 1


def test_the_weight_of_the_kl_rises_in_cycles_and_ends_at_its_height():
    values = [beta_at(step, 400, 0.8, 0.2, 0.4, 4) for step in range(400)]
    falls = [step for step, (one, two) in enumerate(pairwise(values), 1) if two < one]
    assert falls == [160, 240, 320]
    assert all(values[step] == 0 for step in falls)
    assert values[119] == pytest.approx(0.8 * 39 / 40)
    assert set(values[120:160]) == set(values[360:]) == {0.8}
    assert not any(values[:81])


def test_settings_that_cannot_be_are_refused():
    for settings, words in (
        ({"cycles": 0}, "cycles 0"),
        ({"free_bits": -1.0}, "free_bits -1"),
        ({"free_group": 0}, "free_group 0"),
    ):
        with pytest.raises(InputError, match=f"{words} found, expected .* from [01]"):
            RunConfig(objective=ObjectiveConfig(**settings))
    with pytest.raises(InputError, match="each cycle has to reach beta"):
        RunConfig(objective=ObjectiveConfig(cycles=4, completion_fraction=0.5, warmup=0.6))
