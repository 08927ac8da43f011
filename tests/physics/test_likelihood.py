import numpy as np
import pytest
import torch

from cryovae import fourier
from cryovae.physics.likelihood import log_likelihood, scored_bins
from cryovae.physics.wedge import patch_mask


def _dense_operator(shape, weight):
    """The matrix of x -> F^-1 [weight F x]."""
    count = int(np.prod(shape))
    columns = fourier.filtered(torch.eye(count, dtype=torch.float64).view(count, *shape), weight)
    return columns.reshape(count, count).T


@pytest.mark.parametrize("shape", [(4, 3, 5), (3, 4, 4)])
def test_without_a_wedge_it_is_the_density_of_a_gaussian(shape):
    torch.manual_seed(0)
    variance = 0.5 + fourier.radius(shape).double()
    x, y = torch.randn(2, 1, *shape, dtype=torch.float64)
    ours = log_likelihood(x, y, torch.ones_like(variance)[None], variance[None])
    covariance = _dense_operator(shape, variance)
    covariance = (covariance + covariance.T) / 2
    gaussian = torch.distributions.MultivariateNormal(x.flatten(), covariance)
    assert float(ours) == pytest.approx(float(gaussian.log_prob(y.flatten())), abs=1e-9)


def test_with_a_wedge_it_is_the_gaussian_over_the_measured_subspace(tilts):
    shape = (5, 5, 5)
    mask = (patch_mask(shape, tilts) > 0.5).double()
    x, y = torch.randn(2, 1, *shape, dtype=torch.float64)
    basis = torch.linalg.eigh(_dense_operator(shape, mask))
    measured = basis.eigenvectors[:, basis.eigenvalues > 0.5]
    gaussian = torch.distributions.Normal(torch.zeros((), dtype=torch.float64), torch.tensor(0.7).double().sqrt())
    expected = gaussian.log_prob(measured.T @ (x - y).flatten()).sum()
    value = log_likelihood(x, y, mask[None], torch.full_like(mask, float(torch.tensor(0.7)))[None])
    assert float(value) == pytest.approx(float(expected), abs=1e-9)
    assert int(scored_bins(mask[None], shape)) == measured.shape[1]


@pytest.mark.parametrize("supported", [False, True])
def test_no_gradient_reaches_the_wedge(tilts, supported):
    shape = (8, 9, 8)
    mask = (patch_mask(shape, tilts) > 0.5).double()[None]
    x = torch.randn(1, *shape, dtype=torch.float64, requires_grad=True)
    y = torch.randn(1, *shape, dtype=torch.float64)
    support = (torch.rand(1, *shape, dtype=torch.float64) > 0.3).double() if supported else None
    log_likelihood(x, y, mask, torch.ones_like(mask), support).sum().backward()
    wedge = fourier.transform(x.grad) * (1 - mask)
    assert float(wedge.abs().max()) < 1e-12
    assert float((fourier.transform(x.grad) * mask).abs().max()) > 1e-3


def test_what_lies_outside_the_support_is_scored_nowhere(tilts):
    shape = (6, 8, 7)
    mask = patch_mask(shape, tilts)[None]
    support = torch.ones(1, *shape)
    support[:, 4:] = 0
    x, y = torch.randn(2, 1, *shape)
    other = y + 9 * torch.randn_like(y) * (1 - support)
    one, two = (log_likelihood(x, data, mask, torch.ones_like(mask), support) for data in (y, other))
    assert torch.equal(one, two)


def test_scored_parts_add_up(tilts):
    shape = (8, 8, 8)
    mask = patch_mask(shape, tilts)[None]
    part = mask * (torch.rand_like(mask) > 0.5)
    x, y = torch.randn(2, 1, *shape)
    variance = torch.full_like(mask, 1.3)
    full = log_likelihood(x, y, mask, variance)
    parts = log_likelihood(x, y, part, variance) + log_likelihood(x, y, mask - part, variance)
    assert torch.allclose(full, parts, rtol=1e-5)


def test_bins_are_counted_by_the_mean_square_of_a_support(tilts):
    """Half of the voxels, and half of their weight: residuals have a quarter of their power, and an eighth are counted."""
    shape = (6, 8, 7)
    support = torch.zeros(1, *shape)
    support[:, :, :4] = 0.5
    mask, variance = patch_mask(shape, tilts)[None], torch.full((1, *shape[:2], shape[2] // 2 + 1), 2.0)
    count = float((mask * fourier.multiplicity(shape)).sum())
    assert float(scored_bins(mask, shape, support)) == pytest.approx(count / 8, rel=1e-5)
    assert float(scored_bins(mask, shape)) == pytest.approx(count, rel=1e-5)
    zero = torch.zeros(1, *shape)
    constant = -0.5 * count / 8 * np.log(2 * np.pi * 2.0)
    assert float(log_likelihood(zero, zero, mask, variance, support, mask)) == pytest.approx(constant, rel=1e-4)


def test_held_out_voxels_change_no_score_and_nothing_leaks_into_scored_bins():
    """Of two residuals in other bins, or in held-out voxels alone, neither is scored."""
    shape = (12, 14, 10)
    scored_mask = (fourier.radius(shape) < 0.2).float()[None]
    scored = torch.ones(1, *shape)
    scored[:, 4:8, 3:9, 2:7] = 0
    torch.manual_seed(0)
    x, y = torch.randn(2, 1, *shape)
    other = fourier.filtered(torch.randn(1, *shape), 1 - scored_mask)
    measured = torch.ones_like(scored_mask)
    about = scored_mask, torch.ones_like(scored_mask), None, measured, scored
    one, two = (log_likelihood(density, y, *about) for density in (x, x + 5 * other))
    assert torch.allclose(one, two, rtol=1e-4)
    count = scored_bins(scored_mask, shape, scored=scored)
    assert float(count) == pytest.approx(float(scored.mean() * scored_bins(scored_mask, shape)), rel=1e-5)
    # A residual of the scored bins within the held-out voxels counts for little.
    inside = fourier.filtered((1 - scored) * torch.randn(1, *shape), scored_mask)
    none, some = (log_likelihood(y + part, y, *about) for part in (0 * inside, inside))
    outside = log_likelihood(y + fourier.filtered(scored * torch.randn(1, *shape), scored_mask), y, *about)
    assert float(none - some) < 0.2 * float(none - outside)
