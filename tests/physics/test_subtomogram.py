"""A particle reconstructed from its images: what lies off the centre comes back to its place, whatever the axis."""

import numpy as np
import pytest
import torch

from cryovae.physics.projection import project, weighted_back_projection
from cryovae.physics.subtomogram import axis_upright, halves_of_stack

N = 24
ANGLES = tuple(range(-60, 61, 3))


def images_of_points(points, angles, axis):
    """Gaussian spots where RELION's matrices, R_z(axis) R_y(angle), put points (x, y, z) from pixel n // 2; analytic."""
    y, x = np.mgrid[:N, :N] - N // 2
    a, stack = np.radians(axis), []
    for angle in np.radians(angles):
        image = np.zeros((N, N))
        for px, py, pz in points:
            u = px * np.cos(angle) + pz * np.sin(angle)
            at = np.cos(a) * u - np.sin(a) * py, np.sin(a) * u + np.cos(a) * py
            image += np.exp(-((x - at[0]) ** 2 + (y - at[1]) ** 2) / (2 * 1.5**2))
        stack.append(image)
    return np.stack(stack).astype(np.float32)


@pytest.mark.parametrize("axis", [0.0, 85.3, -93.5, 12.7])
def test_points_come_back_to_their_places(axis):
    points = [(5, -3, 2), (-4, 4, -5)]
    order = np.random.default_rng(0).permutation(len(ANGLES))
    angles = [ANGLES[i] for i in order]
    halves = halves_of_stack(images_of_points(points, angles, axis), angles, [axis] * len(angles))
    density = (halves[0] + halves[1]) / 2
    for x, y, z in points:
        corner = [slice(int((N - 1) / 2 + c) - 2, int((N - 1) / 2 + c) + 4) for c in (z, y, x)]
        patch = density[tuple(corner)].clamp_min(0)
        where = [float((patch.sum([d for d in range(3) if d != k]) * torch.arange(6)).sum() / patch.sum()) for k in range(3)]
        reconstructed = [w + s.start - (N - 1) / 2 for w, s in zip(where, corner, strict=True)]
        assert reconstructed == pytest.approx([z, y, x], abs=0.4)
        assert float(density[tuple(corner)].max()) > 0.8 * float(density.max())


def test_an_upright_axis_on_an_odd_grid_needs_no_change():
    images = np.random.default_rng(1).normal(size=(3, 9, 9)).astype(np.float32)
    assert torch.allclose(axis_upright(images, [0, 0, 0]), torch.from_numpy(images), atol=1e-5)


def test_halves_are_of_every_other_tilt():
    density = torch.randn(15, 15, 15, generator=torch.Generator().manual_seed(0))
    angles = [-40.0, -20.0, -1.0, 20.0, 40.0]
    first, second = halves_of_stack(project(density, angles).numpy(), angles, [0.0] * 5)
    expected = weighted_back_projection(project(density, angles[::2]), angles[::2], (15, 15, 15))
    assert torch.allclose(first, expected, atol=1e-3)
    assert not torch.allclose(first, second, atol=1e-1)
