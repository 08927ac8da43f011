from dataclasses import replace

import numpy as np
import pytest
import torch

from cryovae.data.prepare import prepare
from cryovae.errors import InputError
from cryovae.physics.rotation import IDENTITY
from cryovae.posterior.codes import decoded
from cryovae.posterior.ladder_boxes import LadderBoxes
from cryovae.posterior.latent_map import LatentMap, Patches, mapped, principal_axes, shares_decoded
from cryovae.posterior.tile_memory import side_of
from cryovae.tiling.grid import PatchGrid, cut
from cryovae.tomogram import Tomogram


def drained(work):
    progress = []
    while True:
        try:
            progress.append(next(work))
        except StopIteration as end:
            return end.value, progress


@pytest.fixture
def patches(ladder, small):
    return Patches(ladder, 16, prepare(small, 16, held_out=False))


@pytest.fixture
def plane(patches) -> LatentMap:
    return drained(mapped(patches, finest=1))[0]


def test_the_patches_are_those_of_a_restoration(patches):
    """What their codes decode to is what the model restores of each."""
    data, tilts = patches.prepared.density, patches.prepared.tilts
    boxes = LadderBoxes(patches.ladder, 16, torch.device("cpu"))
    assert patches.grid() == list(PatchGrid(tuple(data.shape), 16, 8))
    for position in patches.grid():
        code, _, level = patches.encoded([position])
        restored = (patches.decoded(code, level)[0] - patches.prepared.mean) / patches.prepared.scale
        expected = boxes.mean(cut(data, position, 16)[None], tilts, [IDENTITY])[0]
        assert torch.allclose(restored, expected, atol=1e-4)


@pytest.mark.parametrize("patch", [8, 16, 20, 40])
def test_the_side_is_that_of_restoring(ladder, small, patch):
    patches = Patches(ladder, patch, prepare(small, 16, held_out=False))
    assert patches.side == side_of(ladder.config, patch)


def test_axes_are_orthonormal_and_the_shares_sorted(plane):
    assert torch.allclose(plane.axes @ plane.axes.T, torch.eye(2), atol=1e-5)
    assert 1 >= plane.explained[0] >= plane.explained[1] > 0
    assert torch.allclose(plane.coordinates.mean(0), torch.zeros(2), atol=1e-4)
    share = plane.coordinates.square().sum(0) / (plane.rows - plane.mean).square().sum()
    assert torch.allclose(share, plane.explained, rtol=1e-3)


def test_axes_are_those_of_a_singular_value_decomposition():
    torch.manual_seed(3)
    rows = torch.randn(30, 400) * torch.linspace(2, 1, 400)
    rows = rows - rows.mean(0)
    axes, explained = principal_axes(rows, 2)
    values, right = torch.linalg.svd(rows.double(), full_matrices=False)[1:]
    assert torch.allclose((axes.double() @ right[:2].T).abs(), torch.eye(2, dtype=torch.float64), atol=1e-4)
    assert torch.allclose(explained.double(), values[:2].square() / values.square().sum(), rtol=1e-4)


def test_patches_that_are_all_alike_have_a_plane_too():
    axes, explained = principal_axes(torch.zeros(5, 40), 2)
    assert torch.isfinite(axes).all()
    assert not explained.any()


def test_a_patch_at_its_own_point_is_its_own_reconstruction(patches, plane):
    position = plane.positions[3]
    code, density, _ = patches.encoded([position])
    point = plane.coordinates[3]
    assert torch.allclose(plane.project(code)[0], point, atol=1e-4)
    assert torch.allclose(decoded(patches.ladder, plane.at(point.tolist(), code)), density, atol=1e-4)
    elsewhere = decoded(patches.ladder, plane.at((point + 3).tolist(), code))
    assert float((elsewhere - density).abs().max()) > 1e-3


def test_a_point_decodes_to_a_patch_that_lies_at_that_point(plane):
    for point in ((0.0, 0.0), (1.5, -0.7)):
        assert torch.allclose(plane.project(plane.at(point))[0], torch.tensor(point), atol=1e-4)


def test_the_patch_about_a_place_has_it_in_its_middle_and_lies_inside(patches):
    assert patches.around((12, 20, 15)) == (4, 12, 7)
    assert patches.around((0, 35, 40)) == (0, 20, 16)


def test_draws_have_the_mean_and_spread_of_the_patches(plane):
    drawn = torch.cat([part.flatten(1) for part in reversed(plane.drawn(4000, 1.0, 7)[1:])], 1)
    error = (drawn.mean(0) - plane.mean).square().mean()
    assert error < 0.01 * (plane.rows - plane.mean).square().mean()
    along = (drawn - plane.mean) @ plane.axes.T
    assert torch.allclose(along.var(0), plane.coordinates.var(0), rtol=0.15)
    same, other = plane.drawn(2, 1.0, 7), plane.drawn(2, 1.0, 8)
    assert torch.equal(same[1], plane.drawn(2, 1.0, 7)[1])
    assert not torch.allclose(same[1], other[1])


def test_the_map_takes_the_levels_that_say_something(patches):
    """The coarsest latents are made idle: what is decoded follows the two finer levels."""
    with torch.no_grad():
        for parameter in patches.ladder.level(2).masked_posterior.shift.parameters():
            parameter.zero_()
    shares = shares_decoded(patches, patches.grid()[:4])
    assert shares[0] == 1
    assert shares[2] < 0.25
    plane = drained(mapped(patches))[0]
    assert plane.finest < 2
    assert plane.shares[plane.finest] >= 0.25
    assert plane.strides == (4, 2**plane.finest)


def test_a_larger_tomogram_is_mapped_by_some_of_its_patches(patches):
    plane, progress = drained(mapped(patches, finest=2, most=5))
    assert len(plane.positions) == 5 == len(set(plane.positions))
    assert plane.of == len(patches.grid()) > 5
    assert progress[-1] == (5, 5)


def test_tomograms_of_two_patches_and_levels_that_are_none_are_refused(ladder, small, patches):
    corner = replace(small, density=small.density[:16, :24, :16], halves=tuple(h[:16, :24, :16] for h in small.halves))
    with pytest.raises(InputError, match="expected 3 for a plane"):
        next(mapped(Patches(ladder, 16, prepare(corner, 16, held_out=False))))
    with pytest.raises(InputError, match="power of two"):
        next(mapped(patches, finest=3))


def test_densities_are_on_the_grey_scale_of_the_tomogram(ladder, small):
    scaled = Tomogram("s", small.density * 50 + 1000, 10.0, small.tilts)
    plain = Tomogram("p", np.asarray(small.density), 10.0, small.tilts)
    densities = []
    for tomogram in (plain, scaled):
        made = Patches(ladder, 16, prepare(tomogram, 16, held_out=False))
        code, _, level = made.encoded([(4, 8, 8)])
        densities.append(made.decoded(code, level))
    assert torch.allclose(densities[1], densities[0] * 50 + 1000, atol=0.1)
