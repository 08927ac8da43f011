"""Draws and log-densities of flows whose velocity and distribution are known."""

import math

import pytest
import torch

from cryovae.models.flow_ode import draw_latents, log_density

SHAPE = (3, 2, 4, 3)


class GaussianFlow(torch.nn.Module):
    """The exact velocity of latents N(0, s^2): E[ e - z | z_t ] = (t - (1 - t) s^2) / ((1 - t)^2 s^2 + t^2) z_t."""

    def __init__(self, deviation):
        super().__init__()
        self.variance = deviation**2

    def forward(self, latents, time, context):
        t = time.view(-1, 1, 1, 1, 1)
        return latents * (t - (1 - t) * self.variance) / ((1 - t) ** 2 * self.variance + t**2)


class MixingFlow(torch.nn.Module):
    """dz/dt = A z, A a matrix over the channels."""

    def __init__(self):
        super().__init__()
        self.matrix = torch.tensor([[0.2, 0.9, -0.4], [0.5, -0.6, 0.7], [-0.8, 0.3, 0.1]])

    def forward(self, latents, time, context):
        return torch.einsum("ij,njzyx->nizyx", self.matrix, latents)


def _log_normal(values, deviation=1.0):
    return (-0.5 * (values.double() / deviation).square() - math.log(deviation) - 0.5 * math.log(2 * math.pi)).sum((1, 2, 3, 4))


@pytest.mark.parametrize("deviation", [0.5, 1.0, 2.0])
def test_draws_of_a_gaussian_have_its_variance(deviation):
    noise = torch.randn(4, *SHAPE, generator=torch.Generator().manual_seed(0))
    drawn = draw_latents(GaussianFlow(deviation), noise, None)
    assert torch.allclose(drawn, deviation * noise, rtol=0.03, atol=0.01)


def test_more_steps_are_more_exact_in_second_order():
    noise = torch.ones(1, *SHAPE)
    errors = [float((draw_latents(GaussianFlow(0.6), noise, None, steps) - 0.6 * noise).abs().max()) for steps in (8, 16, 32)]
    assert errors[0] > 3 * errors[1] > 9 * errors[2]


def test_each_step_of_a_draw_is_reported():
    steps = []
    draw_latents(GaussianFlow(1.0), torch.ones(1, *SHAPE), None, 3, lambda done, total: steps.append((done, total)))
    assert steps == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize("deviation", [0.5, 2.0])
def test_the_log_density_of_a_gaussian_is_its_own(deviation):
    latents = deviation * torch.randn(3, *SHAPE, generator=torch.Generator().manual_seed(1))
    result = log_density(GaussianFlow(deviation), latents, None, torch.Generator().manual_seed(0), steps=60)
    assert torch.allclose(result.value, _log_normal(latents, deviation), atol=0.3)
    # All signs see the same divergence.
    assert result.error.max() < 1e-6


def test_a_mixing_flow_has_the_log_density_of_its_matrix_within_the_error():
    flow, rng = MixingFlow(), torch.Generator().manual_seed(2)
    latents = torch.randn(6, *SHAPE, generator=rng)
    moved = torch.einsum("ij,njzyx->nizyx", torch.linalg.matrix_exp(flow.matrix), latents)
    exact = _log_normal(moved) + float(flow.matrix.trace()) * math.prod(SHAPE[1:])
    few, many = (log_density(flow, latents, None, rng, probes) for probes in (8, 128))
    assert ((many.value - exact).abs() < 4 * many.error + 0.02).all()
    assert 0.15 < float(many.error.mean() / few.error.mean()) < 0.4
    assert few.error.min() > 0.1


def test_a_single_probe_states_no_error():
    result = log_density(MixingFlow(), torch.ones(2, *SHAPE), None, torch.Generator().manual_seed(0), probes=1)
    assert torch.isfinite(result.value).all()
    assert result.error.isnan().all()
