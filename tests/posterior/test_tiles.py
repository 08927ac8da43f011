"""A volume restored tile by tile: sides, orientations, batches and pairs of samples."""

import pytest
import torch

from cryovae import fourier
from cryovae.data.prepare import prepare
from cryovae.models.ladder_config import LadderConfig
from cryovae.physics.rotation import symmetry_rotations
from cryovae.physics.wedge import smeared_mask
from cryovae.posterior.noise_field import NoiseField
from cryovae.posterior.tiles import TilePredictor, side_of
from cryovae.tiling.grid import cut

SIDE, CPU = 16, torch.device("cpu")


@pytest.fixture
def prepared(small):
    return prepare(small, SIDE, held_out=False)


def _predictor(ladder, batch=2, seed=0, advance=lambda tiles: None):
    return TilePredictor(ladder, SIDE, batch, seed, CPU, advance)


@pytest.mark.parametrize(("patch", "side"), [(1, 8), (8, 8), (9, 16), (40, 40)])
def test_half_a_tile_is_a_multiple_of_the_coarsest_stride(patch, side):
    assert side_of(LadderConfig((4, 6, 8), (2, 3, 4), 1), patch) == side


def test_the_batch_size_changes_no_voxel_and_all_tiles_are_reported(ladder, prepared):
    reported = []
    one, many = (_predictor(ladder, batch, advance=reported.append) for batch in (1, 5))
    volumes = [each.predict(prepared.density, prepared.tilts) for each in (one, many)]
    assert volumes[0].shape == prepared.density.shape
    assert torch.allclose(*volumes, atol=1e-4)
    assert sum(reported) == 2 * len(list(one.grid(tuple(prepared.density.shape))))


def test_orientations_are_averaged(ladder, prepared):
    predictor = _predictor(ladder)
    tiles = torch.stack([cut(prepared.density, position, SIDE) for position in ((0, 0, 0), (8, 16, 8))])
    rotations = symmetry_rotations(prepared.tilts)[:2]
    both = predictor.predict_tiles(tiles, prepared.tilts, rotations)
    for restored, rotation in zip(both, rotations, strict=True):
        assert torch.allclose(restored, predictor.predict_tiles(tiles, prepared.tilts, [rotation])[0], atol=1e-5)
    assert not torch.allclose(both[0], both[1], atol=1e-3)


def test_the_restored_tile_keeps_its_patch_mean_and_ignores_the_wedge(ladder, prepared):
    predictor = _predictor(ladder)
    rotations = symmetry_rotations(prepared.tilts)[:1]
    tiles = cut(prepared.density, (4, 8, 8), SIDE)[None]
    restored, raised = (predictor.predict_tiles(each, prepared.tilts, rotations) for each in (tiles, tiles + 3.0))
    assert torch.allclose(raised, restored + 3.0, atol=1e-4)
    # The plane wave along z lies in the missing wedge: adding it changes nothing.
    wave = torch.cos(torch.arange(SIDE) * 2 * torch.pi * 4 / SIDE).view(1, -1, 1, 1).expand_as(tiles)
    assert torch.allclose(predictor.predict_tiles(tiles + wave, prepared.tilts, rotations), restored, atol=1e-2)


def test_pairs_depend_on_the_seed_and_their_number(ladder, prepared):
    data, tilts = prepared.density, prepared.tilts
    first = _predictor(ladder).pair(data, tilts, 0)
    assert all(torch.equal(a, b) for a, b in zip(first, _predictor(ladder).pair(data, tilts, 0), strict=True))
    others = (*first[1:], _predictor(ladder, seed=1).pair(data, tilts, 0)[0], _predictor(ladder).pair(data, tilts, 1)[0])
    assert not any(torch.allclose(first[0], other, atol=1e-3) for other in others)


def test_a_tile_is_sampled_as_in_its_volume(ladder, prepared):
    predictor = _predictor(ladder)
    positions = [(0, 8, 8), (8, 16, 8)]
    tiles = torch.stack([cut(prepared.density, position, SIDE) for position in positions])
    both = predictor.sample_tiles(tiles, positions, prepared.tilts, 0)
    alone = predictor.sample_tiles(tiles[1:], positions[1:], prepared.tilts, 0)
    assert torch.allclose(both[:, 1:], alone, atol=1e-5)


class Copying(torch.nn.Module):
    """Stands in for a ladder: returns what it sees, and in a pair the finest noise added to it."""

    def __init__(self):
        super().__init__()
        self.config = LadderConfig((4, 4), (1, 1), 1)

    def latent_shapes(self, shape):
        return [(1, *shape), (1, *(n // 2 for n in shape))]

    def encode(self, density, role):
        return [density]

    def restore(self, features, noise):
        return features[0]

    def restore_pair(self, features, noise):
        return torch.stack((features[0] + noise[0][:, 0], features[0] - noise[0][:, 0]))


def test_tiles_are_rotated_back_and_have_lost_their_wedge_alone(prepared):
    """A model that copies gives back the measured part of each tile, in every orientation."""
    predictor = _predictor(Copying())
    tile = cut(prepared.density, (4, 8, 8), SIDE)[None]
    level = tile.mean((-3, -2, -1), keepdim=True)
    expected = fourier.filtered(tile - level, smeared_mask((SIDE,) * 3, prepared.tilts)) + level
    assert float((expected - tile).abs().max()) > 0.1
    rotations = symmetry_rotations(prepared.tilts)
    assert len(rotations) > 1
    for restored in predictor.predict_tiles(tile, prepared.tilts, rotations):
        assert torch.allclose(restored, expected, atol=1e-4)


def test_the_noise_of_a_sample_lies_in_the_frame_of_the_tomogram_in_every_orientation(prepared):
    """It is rotated with the tile and back, so that tiles of all orientations share it where they overlap."""
    predictor, position = _predictor(Copying()), (4, 8, 8)
    tile = cut(prepared.density, position, SIDE)[None]
    for pair in range(len(symmetry_rotations(prepared.tilts))):
        plus, minus = predictor.sample_tiles(tile, [position], prepared.tilts, pair)[:, 0]
        noise = NoiseField(0, pair, CPU).tiles([position], (1, SIDE, SIDE, SIDE), 0)[0, 0]
        assert torch.allclose((plus - minus) / 2, noise, atol=1e-4), pair
