from itertools import pairwise

import numpy as np
import pytest
import torch

from cryovae.tiling.grid import Blender, PatchGrid, cut, inside, levels


@pytest.mark.parametrize("side", [16, 32, 48])
@pytest.mark.parametrize("shape", [(90, 31, 40), (126, 17, 33), (131, 20, 48), (9, 64, 50)])
def test_identity_comes_back_exactly_without_seams(shape, side):
    volume = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    grid = PatchGrid(shape, side, side // 2)
    blender = Blender(grid)
    for position in grid:
        blender.add(position, cut(volume, position, side))
    assert np.allclose(blender.blended().numpy(), volume, atol=2e-6)


@pytest.mark.parametrize("size", [90, 126, 131, 48, 20])
def test_every_voxel_lies_in_a_tile_and_tiles_overlap_by_half(size):
    grid = PatchGrid((size, size, size), 48, 24)
    starts = grid.starts(0)
    assert starts[0] == 0
    assert starts[-1] + 48 >= size
    assert all(b - a == 24 for a, b in pairwise(starts))
    assert all(weights.min() > 0 for weights in grid.weights())


def test_past_the_volume_a_patch_mirrors_it_and_knows_so():
    volume = np.arange(5 * 6 * 7, dtype=np.float32).reshape(5, 6, 7)
    patch = cut(volume, (2, -2, 0), 8)
    assert patch[2, 2, 6] == volume[4, 0, 6]
    assert patch[3, 2, 0] == volume[3, 0, 0]
    assert patch[2, 0, 0] == volume[4, 2, 0]
    real = inside((2, -2, 0), 8, volume.shape)
    assert real.sum() == 3 * 6 * 7
    index = np.argwhere(real.numpy())
    assert all(patch[tuple(i)] == volume[i[0] + 2, i[1] - 2, i[2]] for i in index)


def test_patches_of_integers_are_floats():
    assert cut(np.ones((4, 4, 4), dtype=np.int16), (0, 0, 0), 4).dtype == torch.float32


def test_a_step_past_the_side_is_refused():
    with pytest.raises(ValueError, match="expected 1 to the side"):
        PatchGrid((10, 10, 10), 8, 9)


def test_levels_are_the_means_of_patches():
    patches = torch.randn(3, 4, 6, 8) + torch.tensor([1.0, 2.0, 3.0]).view(3, 1, 1, 1)
    assert levels(patches).shape == (3, 1, 1, 1)
    assert torch.allclose((patches - levels(patches)).mean((1, 2, 3)), torch.zeros(3), atol=1e-6)
