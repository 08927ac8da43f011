import pytest
import torch

from cryovae import fourier
from cryovae.physics.rotation import (
    Sampled,
    cube_rotations,
    random_rotation,
    rotate,
    rotated_frequencies,
    sampled,
    symmetry_rotations,
    training_rotations,
)
from cryovae.physics.wedge import patch_mask, wedge_mask
from cryovae.tomogram import TiltGeometry


def test_there_are_24_proper_rotations_and_each_has_its_inverse():
    rotations = cube_rotations()
    assert len(set(rotations)) == 24
    x = torch.randn(3, 3, 3)
    for g in rotations:
        assert torch.linalg.det(g.matrix) == pytest.approx(1.0)
        assert torch.equal(g.inverse(g(x)), x)
        assert g.inverse in rotations


@pytest.mark.parametrize("side", [7, 8])
def test_rotating_a_density_rotates_its_spectrum(side):
    """|F out (k)| = |F in (g^-1 k)|: what the masks of rotated patches rely on, even sizes included."""
    x = torch.randn(side, side, side, dtype=torch.float64)
    k = fourier.frequencies((side,) * 3)
    full = torch.fft.fftn(x, norm="ortho").abs()
    kept = fourier.below_nyquist((side,) * 3) > 0
    for g in cube_rotations():
        source = (rotated_frequencies(k, g.matrix) * side).round().long() % side
        expected = full[source[0], source[1], source[2]]
        assert torch.allclose(fourier.transform(g(x)).abs()[kept], expected[kept])


@pytest.mark.parametrize("side", [8, 9])
def test_mask_then_rotate_is_rotate_then_rotated_mask(side, tilts):
    x = torch.randn(side, side, side)
    for g in cube_rotations():
        left = g(fourier.filtered(x, patch_mask((side,) * 3, tilts)))
        right = fourier.filtered(g(x), patch_mask((side,) * 3, tilts, g.matrix))
        assert torch.allclose(left, right, atol=1e-5)


def test_interpolation_agrees_with_exact_cube_rotations():
    x = torch.randn(1, 1, 9, 9, 9)
    for g in cube_rotations():
        assert torch.allclose(rotate(x, g.matrix), g(x), atol=1e-4)


def test_rotation_there_and_back_keeps_a_smooth_density():
    import numpy as np

    axis = torch.arange(24.0) - 11.5
    blob = torch.exp(-((axis[:, None, None] - 3) ** 2 + (axis[None, :, None] + 2) ** 2 + axis[None, None, :] ** 2) / 18)
    rotation = random_rotation(np.random.default_rng(5))
    restored = rotate(rotate(blob[None, None], rotation), rotation.T)[0, 0]
    assert float((restored - blob).abs().max()) < 0.06


def test_rotations_that_keep_the_wedge_are_not_trained_on(tilts):
    trained, kept = training_rotations(tilts), symmetry_rotations(tilts)
    assert (len(trained), len(kept)) == (20, 4)
    assert not set(trained) & set(kept)
    k = fourier.frequencies((12, 12, 12))
    for g in kept:
        same = wedge_mask(rotated_frequencies(k, g.matrix), tilts, 1e-6)
        assert torch.equal(same, wedge_mask(k, tilts, 1e-6))


@pytest.mark.parametrize(("low", "high"), [(-45, 63), (-57, 63)])
def test_asymmetric_range_is_kept_by_180_degrees_about_the_tilt_axis(low, high):
    kept = symmetry_rotations(TiltGeometry.from_range(low, high))
    assert [g.matrix.diagonal().tolist() for g in kept] == [[1, 1, 1], [-1, 1, -1]]


def test_gradients_of_a_rotated_density_are_those_of_torch():
    """What a GPU uses in place of torch's own, whose sums are in any order."""
    x, weight = torch.randn(2, 1, 7, 9, 8), torch.randn(2, 1, 6, 8, 10)
    grid = 1.3 * (2 * torch.rand(2, 6, 8, 10, 3) - 1)
    gradients = []
    for sampler in (sampled, Sampled.apply):
        density = x.clone().requires_grad_(True)
        (sampler(density, grid) * weight).sum().backward()
        gradients.append(density.grad)
    assert torch.allclose(*gradients, atol=1e-5)
