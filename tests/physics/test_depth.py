"""How deep in the wedge a bin lies: against the distance to two planes, and read at any frequency."""

import math

import pytest
import torch

from cryovae import fourier
from cryovae.physics.depth import depth, depth_at, depth_table
from cryovae.physics.wedge import smeared_mask, volume_mask
from cryovae.tomogram import TiltGeometry

SIDE = 40
TILTS = TiltGeometry.from_range(-50, 65)


def analytic(k):
    """Distance to the nearer of the planes that bound the wedge, in bins, negative outside."""
    low, high = math.radians(50), math.radians(65)
    sign = torch.where(k[0] < 0, -1.0, 1.0)
    z, x = k[0] * sign, k[2] * sign
    return SIDE * torch.minimum(z * math.cos(high) - x * math.sin(high), z * math.cos(low) + x * math.sin(low))


@pytest.mark.parametrize("side", [SIDE, 41])
def test_depth_is_the_distance_to_the_edge_of_the_wedge(side):
    depths = depth(smeared_mask((side,) * 3, TILTS))
    k = fourier.frequencies((side,) * 3)
    exact = torch.minimum(analytic(k), analytic(k * torch.tensor([-1.0, 1, -1]).view(3, 1, 1, 1))) * side / SIDE
    core = (exact > 1.5) & (k.abs().amax(0) < 0.4)
    assert core.any()
    assert float((depths - exact)[core].abs().max()) < 1.0
    assert float((depths - exact)[core].mean().abs()) < 0.5
    assert float(depths[volume_mask((side,) * 3, TILTS, 1e-6) > 0.99].max()) <= 1


def test_depth_is_read_on_the_grid_of_a_volume():
    table = depth_table(smeared_mask((SIDE,) * 3, TILTS))
    assert torch.allclose(depth_at(table, fourier.frequencies((SIDE,) * 3)), depth(smeared_mask((SIDE,) * 3, TILTS)), atol=1e-3)
    k = fourier.frequencies((72, 60, 50))
    exact = analytic(k)
    core = (exact > 1.5) & (k.abs().amax(0) < 0.4)
    assert float((depth_at(table, k) - exact)[core].abs().max()) < 1.0


def test_where_nothing_was_given_all_is_infinitely_deep():
    assert torch.isinf(depth(torch.zeros(8, 8, 5))).all()
    assert not depth(torch.ones(8, 8, 5)).any()
