from dataclasses import replace

import numpy as np
import pytest
import torch

from cryovae.data.measurement import MaskingConfig
from cryovae.data.prepare import prepare
from cryovae.data.sampling import cube_rotated, freely_rotated, step_generator
from cryovae.models.ladder import Ladder, Q, R
from cryovae.models.ladder_config import FLOW
from cryovae.objectives.elbo import _noise, completion, numbers, one_encoder_bound, two_encoder_bound
from cryovae.objectives.schedules import beta_at, learning_rate_at, refill_steps
from cryovae.objectives.validation import validation_scores
from cryovae.physics.likelihood import log_likelihood, scored_bins
from cryovae.physics.rotation import random_rotation, rotate

SIDE = 16


@pytest.fixture(scope="module")
def measurement(tomogram):
    return cube_rotated(prepare(tomogram, SIDE, held_out=False), [(2, 3, 4), (10, 20, 9)], [0, 7], SIDE, None)


def test_figures_are_in_nats_per_measured_coefficient(ladder, measurement):
    features = ladder.encode(measurement.input_masked, R)
    bound = two_encoder_bound(ladder, measurement, features, step_generator(0, 0))
    figures = numbers(bound.figures())
    total = bound.log_likelihood - torch.stack(bound.kl).sum() - bound.matching
    assert bound.loss(beta=1.0).item() == pytest.approx(-total.item() / bound.bins.item(), rel=1e-5)
    half = total + 0.5 * torch.stack(bound.kl).sum()
    assert bound.loss(beta=0.5).item() == pytest.approx(-half.item() / bound.bins.item(), rel=1e-5)
    assert figures["kl"] == pytest.approx(sum(figures[f"kl_{level}"] for level in range(3)))
    assert min(figures[f"kl_{level}"] for level in range(3)) > 0


def test_completion_is_the_likelihood_of_the_target_bins(ladder, measurement):
    features = ladder.encode(measurement.input_masked, R)
    completed = completion(ladder, measurement, features)
    density = ladder.restore(features, None)
    expected = log_likelihood(density, measurement.data, measurement.target_mask, measurement.variance).sum()
    assert torch.allclose(completed.log_likelihood, expected)


def test_losses_are_per_measured_coefficient_and_figures_per_hidden_one(ladder, measurement):
    completed = completion(ladder, measurement, ladder.encode(measurement.input_masked, R))
    shape = measurement.data.shape
    measured, target = (float(scored_bins(mask, shape).sum()) for mask in (measurement.mask, measurement.target_mask))
    assert target < 0.6 * measured
    assert completed.loss().item() == pytest.approx(-completed.log_likelihood.item() / measured, rel=1e-5)
    assert completed.figures()["completion"].item() == pytest.approx(completed.log_likelihood.item() / target, rel=1e-5)


def test_the_bound_scores_all_measured_bins_of_a_draw_of_q(ladder, tomogram):
    """q has seen the whole patch, and residuals have the variance of the noise and of the model's own error."""
    m = cube_rotated(
        prepare(tomogram, SIDE, held_out=False, masking=MaskingConfig(tolerance=0.5)),
        [(2, 3, 4), (10, 20, 9)],
        [0, 7],
        SIDE,
        None,
    )
    bound = two_encoder_bound(ladder, m, ladder.encode(m.input_masked, R), step_generator(0, 0))
    noise = _noise(ladder, m, step_generator(0, 0))
    full, masked = (ladder.posterior(ladder.encode(x, Q), Q).sample(noise) for x in (m.input_full, m.input_masked))
    expected = log_likelihood(full.density, m.data, m.mask, m.variance + m.model_variance).sum()
    assert bound.log_likelihood.item() == pytest.approx(expected.item(), rel=1e-5)
    kl, other = (torch.stack([output.kl().sum() for output in each.levels]) for each in (full, masked))
    assert not torch.allclose(kl, other, rtol=1e-4)
    assert torch.allclose(torch.stack(bound.kl), kl, rtol=1e-6)


def test_freely_rotated_densities_are_rotated_back_onto_the_data(ladder, tomogram):
    rotation = random_rotation(np.random.default_rng(3))
    m = freely_rotated(prepare(tomogram, SIDE, held_out=False), [(5, 6, 7)], [rotation], SIDE, None)
    features = ladder.encode(m.input_masked, R)
    density = rotate(ladder.restore(features, None)[None], rotation.T)[0]
    expected = log_likelihood(density, m.data, m.target_mask, m.variance, m.support, m.mask).sum()
    assert completion(ladder, m, features).log_likelihood.item() == pytest.approx(expected.item(), rel=1e-5)


def test_completion_does_not_reward_copying_the_input_of_r(ladder, measurement):
    """Changing the data in the bins of r's input changes no score."""
    from cryovae import fourier

    input_bins = measurement.mask * (measurement.target_mask == 0)
    noisy = replace(measurement, data=measurement.data + fourier.filtered(torch.randn_like(measurement.data), input_bins))
    features = ladder.encode(measurement.input_masked, R)
    one, two = (completion(ladder, m, features).log_likelihood for m in (measurement, noisy))
    assert torch.allclose(one, two, rtol=1e-4)


def test_matching_moves_how_wide_r_is_and_not_where_it_lies(ladder, measurement):
    features = ladder.encode(measurement.input_masked, R)
    bound = two_encoder_bound(ladder, measurement, features, step_generator(0, 0))
    bound.matching.backward()
    own = {
        id(p)
        for level in ladder.levels
        for p in (*level.masked_posterior.merge.parameters(), *level.masked_posterior.scale.parameters())
    }
    for parameter in ladder.parameters():
        moved = parameter.grad is not None and bool(parameter.grad.any())
        assert moved <= (id(parameter) in own)
    assert all(p.grad.any() for p in ladder.spread_parameters())


def test_one_encoder_is_a_switch_of_the_same_ladder(ladder, measurement):
    features = ladder.encode(measurement.input_masked, R)
    bound = one_encoder_bound(ladder, measurement, features, step_generator(0, 0))
    assert bound.matching == 0
    bound.loss(1.0).backward()
    assert all(p.grad is None for p in ladder.posterior_parameters())
    assert all(level.masked_posterior.shift.weight.grad.any() for level in ladder.levels)


def test_freely_rotated_patches_have_a_bound_too(ladder, tomogram):
    m = freely_rotated(
        prepare(tomogram, SIDE, held_out=False), [(5, 6, 7)], [random_rotation(np.random.default_rng(3))], SIDE, None
    )
    bound = two_encoder_bound(ladder, m, ladder.encode(m.input_masked, R), step_generator(0, 0))
    bound.loss(1.0).backward()
    assert torch.isfinite(bound.log_likelihood)
    assert ladder.out.weight.grad.any()


@pytest.mark.parametrize(("encoders", "bound_of"), [(2, two_encoder_bound), (1, one_encoder_bound)])
def test_the_bound_trains_the_flow_and_matching_does_not(small_config, measurement, encoders, bound_of):
    torch.manual_seed(0)
    ladder = Ladder(replace(small_config, posterior=FLOW), encoders)
    features = ladder.encode(measurement.input_masked, R)
    bound = bound_of(ladder, measurement, features, step_generator(0, 0))
    flows = [p for name, p in ladder.named_parameters() if name.endswith(".2.weight") and ".flow." in name]
    assert len(flows) == 8
    if encoders == 2:
        bound.matching.backward(retain_graph=True)
        assert all(p.grad is None for p in flows)
        # r is trained from the draw if q has no closed form.
        assert all(level.masked_posterior.scale.weight.grad.any() for level in ladder.levels[1:])
    bound.loss(1.0).backward()
    assert all(p.grad.any() for p in flows)


def test_predicting_nothing_gains_nothing(ladder, measurement):
    with torch.no_grad():
        ladder.out.weight.zero_()
        ladder.out.bias.zero_()
    scores = validation_scores(ladder, [measurement])
    assert scores.gain == pytest.approx(0, abs=1e-6)
    assert scores.correlation == pytest.approx(0, abs=1e-6)


def test_beta_reaches_exactly_one_and_stays():
    values = [beta_at(step, 100, 1.0, 0.2, 0.3) for step in range(100)]
    assert values[20] == 0
    assert values[35] == pytest.approx(0.5)
    assert set(values[50:]) == {1.0}
    assert beta_at(0, 100, 0.7, 0.0, 0.0) == 0.7


def test_learning_rate_rises_then_falls():
    rates = [learning_rate_at(step, 400, 1e-3) for step in range(400)]
    assert max(rates) == pytest.approx(1e-3, rel=0.1)
    assert rates[0] < 1e-4
    assert rates[-1] < 2e-5


def test_refill_steps_are_shares_of_the_run():
    assert refill_steps(1000, 0.5, 0.2) == {500, 700, 900}
    assert refill_steps(1000, 1.0, 0.2) == set()
