"""The figures of a diagnosis that need no known evidence: the Gaussian beside it, information, shuffling."""

from dataclasses import replace
from math import log

import pytest
import torch

from cryovae import fourier
from cryovae.data.measurement import MaskingConfig, Measurement
from cryovae.data.prepare import prepare
from cryovae.data.sampling import step_generator
from cryovae.evaluation.diagnosis.diagnose import DiagnosisConfig, bound_on
from cryovae.evaluation.diagnosis.gaussian import error_power, gaussian_log_likelihood, shell_of, signal_power
from cryovae.evaluation.diagnosis.information import by_position, fitted_information, minibatch_information, nats_by_level
from cryovae.evaluation.diagnosis.patches import measurement_of, select_patches
from cryovae.evaluation.diagnosis.rate_distortion import Continuation, trained_on
from cryovae.evaluation.diagnosis.shuffled import shuffle_losses
from cryovae.models.distributions import DiagonalGaussian
from cryovae.models.ladder import Q, R
from cryovae.objectives.elbo import ObjectiveConfig, two_encoder_bound
from cryovae.physics.wedge import patch_mask
from cryovae.training.method import TrainingConfig

SIDE = 16


@pytest.fixture(scope="module")
def prepared(small):
    return prepare(small, SIDE)


@pytest.fixture
def measurement(prepared):
    return measurement_of(prepared, select_patches(prepared, SIDE, 3, 0), SIDE)


def test_the_gaussian_is_that_of_a_dense_covariance():
    shape = (4, 3, 5)
    count = 60
    torch.manual_seed(0)
    signal = torch.rand(int(shell_of(shape).max()) + 1, dtype=torch.float64)
    noise = 0.3 + fourier.radius(shape).double()
    y = torch.randn(2, *shape, dtype=torch.float64)
    all_bins = torch.ones_like(noise).expand(2, -1, -1, -1)
    m = Measurement(y, y, y, all_bins, all_bins, noise.expand(2, -1, -1, -1))
    eye = torch.eye(count, dtype=torch.float64).view(count, *shape)
    covariance = fourier.filtered(eye, signal[shell_of(shape)] + noise).reshape(count, count)
    dense = torch.distributions.MultivariateNormal(torch.zeros(count, dtype=torch.float64), (covariance + covariance.T) / 2)
    assert torch.allclose(gaussian_log_likelihood(m, signal), dense.log_prob(y.flatten(1)), atol=1e-8)


def test_the_spectrum_of_a_stationary_signal_is_estimated():
    shape = (12, 12, 12)
    shell = shell_of(shape)
    torch.manual_seed(0)
    power = torch.exp(-torch.arange(float(shell.max()) + 1) / 3)
    clean = fourier.filtered(torch.randn(200, *shape), power[shell].sqrt())
    y = clean + 0.5 * torch.randn(200, *shape)
    all_bins = torch.ones(200, *shell.shape)
    m = Measurement(y, y, y, all_bins, all_bins, 0.25 * all_bins)
    spectrum = signal_power(m)
    assert torch.allclose(spectrum[1:7], power[1:7], rtol=0.1, atol=0.01)
    # A density with half of the signal leaves a quarter of its power, and predicts more than the spectrum alone.
    error = error_power(m, 0.5 * clean)
    assert torch.allclose(error[1:7], 0.25 * power[1:7], rtol=0.2, atol=0.01)
    by_density, by_spectrum = gaussian_log_likelihood(m, error, True, 0.5 * clean), gaussian_log_likelihood(m, spectrum, True)
    assert float((by_density - by_spectrum).mean()) > 10


def test_information_is_none_without_data_and_full_where_patches_differ():
    torch.manual_seed(0)
    far = DiagonalGaussian(50 * torch.randn(5, 2, 2, 3, 2), torch.zeros(5, 2, 2, 3, 2))
    same = DiagonalGaussian(torch.zeros(5, 2, 2, 3, 2), torch.zeros(5, 2, 2, 3, 2))
    for q, expected in ((far, log(5)), (same, 0.0)):
        z = q.sample(torch.randn(q.mean.shape))
        others = [DiagonalGaussian(q.mean.roll(by, 0), q.log_variance) for by in range(5)]
        assert minibatch_information(z, others) == pytest.approx(expected, abs=1e-6)
    assert fitted_information(same, same.mean) == pytest.approx(0, abs=1e-5)
    assert fitted_information(far, far.mean) > log(5)


def test_the_nats_are_those_of_the_bound_wherever_they_are_added_up(ladder, measurement):
    levels = nats_by_level(ladder, measurement, Q)
    bound = two_encoder_bound(ladder, measurement, ladder.encode(measurement.input_masked, R), step_generator(0, 0))
    assert [2**level.level for level in levels] == [4, 2, 1]
    # The coarsest is given no draw; finer ones depend on it.
    assert 3 * levels[0].rate == pytest.approx(bound.kl[0].item(), rel=1e-4)
    assert all(bool((level.kl_of_mean <= level.kl + 1e-4).all()) for level in levels)
    assert float(by_position(levels, SIDE).sum()) == pytest.approx(3 * sum(level.rate for level in levels), rel=1e-4)
    split = bound_on(ladder, measurement, Q, DiagnosisConfig(draws=3))
    assert split.bound.mean == pytest.approx(-split.distortion.mean - split.rate.mean, rel=1e-5)
    assert split == bound_on(ladder, measurement, Q, DiagnosisConfig(draws=3))
    assert sum(split.rates.values()) == pytest.approx(split.rate.mean, rel=1e-5)


@pytest.mark.parametrize("role", [Q, R])
def test_shuffling_a_level_that_is_the_prior_costs_nothing(ladder, measurement, role):
    head = ladder.level(1).masked_posterior if role == R else ladder.level(1).posterior
    for part in (head.shift, head.scale):
        torch.nn.init.zeros_(part.weight)
        torch.nn.init.zeros_(part.bias)
    lost = shuffle_losses(ladder, measurement, role)
    assert float(lost[1].abs().max()) == 0
    assert float(lost[0].abs().min()) > 0


def test_held_out_patches_are_taken_where_there_are_any(tomogram):
    prepared = prepare(tomogram, SIDE)
    assert prepared.held_out
    selection = select_patches(prepared, SIDE, 4, 0)
    assert selection.held_out
    assert set(selection.positions) <= set(prepared.held_out)
    assert len(set(selection.rotation_indices)) == 4
    without = select_patches(replace(prepared, held_out=()), SIDE, 4, 0)
    assert not without.held_out


def test_what_is_filled_is_the_wedge_alone(ladder, prepared):
    plain, full = (measurement_of(prepared, select_patches(prepared, SIDE, 2, 0), SIDE, by) for by in (None, ladder))
    change = fourier.transform(full.input_full - plain.input_full).abs()
    assert float((change * (plain.mask == 1)).max()) < 1e-4
    assert float((change * (plain.mask == 0)).max()) > 0.01
    assert torch.equal(full.data, plain.data)


def test_a_larger_beta_buys_less_rate(ladder, prepared, measurement):
    """By the same random numbers from the same weights, which stay as they are."""
    before = [p.clone() for p in ladder.parameters()]
    rates = []
    for beta in (0.0, 30.0):
        training = TrainingConfig(patch=SIDE, batch=2, steps=12, learning_rate=3e-3, ema=0.0)
        moved = trained_on(Continuation(ladder, [prepared], training, MaskingConfig(), ObjectiveConfig(), beta))
        rates.append(bound_on(moved, measurement, Q, DiagnosisConfig(draws=2)).rate.mean)
    assert rates[0] > 1.1 * rates[1]
    assert all(torch.equal(p, q) for p, q in zip(before, ladder.parameters(), strict=True))


def test_with_a_wedge_it_is_a_dense_gaussian_over_what_was_measured(tilts):
    """8^3, coloured noise and signal, about an answer: the measured bins span a subspace, and nothing else counts."""
    shape, count = (8, 8, 8), 512
    torch.manual_seed(1)
    mask = (patch_mask(shape, tilts) > 0.5).double()
    noise, spectrum = 0.3 + fourier.radius(shape).double(), torch.rand(int(shell_of(shape).max()) + 1, dtype=torch.float64)
    x, y = torch.randn(2, 1, *shape, dtype=torch.float64)
    m = Measurement(y, y, y, mask[None], mask[None], noise[None])
    eye = torch.eye(count, dtype=torch.float64).view(count, *shape)
    projector, covariance = (fourier.filtered(eye, w).reshape(count, count) for w in (mask, spectrum[shell_of(shape)] + noise))
    values, vectors = torch.linalg.eigh((projector + projector.T) / 2)
    basis = vectors[:, values > 0.5]
    inner = basis.T @ covariance @ basis
    dense = torch.distributions.MultivariateNormal(torch.zeros(len(inner), dtype=torch.float64), (inner + inner.T) / 2)
    expected = dense.log_prob(basis.T @ (y - x).flatten())
    assert float(gaussian_log_likelihood(m, spectrum, restored=x)) == pytest.approx(float(expected), abs=1e-7)
