"""A volume restored by a ladder in one pass or in boxes: sizes, orientations, samples, and what happens at seams."""

import logging
from math import prod

import pytest
import torch

from cryovae import fourier
from cryovae.data.prepare import prepare
from cryovae.models.ladder_config import LadderConfig
from cryovae.physics.rotation import symmetry_rotations
from cryovae.physics.wedge import smeared_mask
from cryovae.posterior.ladder_boxes import LadderBoxes
from cryovae.posterior.noise_field import NoiseField
from cryovae.posterior.tile_memory import side_of
from cryovae.tiling.boxes import boxes_within
from cryovae.tiling.grid import cut
from cryovae.tomogram import TiltGeometry

SIDE, CPU = 16, torch.device("cpu")
RANGE = TiltGeometry.from_range(-60, 60)


@pytest.fixture
def prepared(small):
    return prepare(small, SIDE, held_out=False)


def _boxes(ladder, seed=0, voxels=None, advance=lambda patches: None):
    return LadderBoxes(ladder, SIDE, CPU, seed, advance, voxels=voxels)


def _data(shape, seed=0):
    return fourier.filtered(torch.randn(shape, generator=torch.Generator().manual_seed(seed)), smeared_mask(shape, RANGE))


@pytest.mark.parametrize(("patch", "side"), [(1, 8), (8, 8), (9, 16), (40, 40)])
def test_half_a_tile_is_a_multiple_of_the_coarsest_stride(patch, side):
    assert side_of(LadderConfig((4, 6, 8), (2, 3, 4), 1), patch) == side


@pytest.mark.parametrize("shape", [(16, 24, 20), (17, 23, 9), (3, 16, 16), (40, 19, 33)])
@pytest.mark.parametrize("orientations", [1, 4])
@pytest.mark.parametrize("voxels", [None, 1.0, 3000.0])
def test_the_size_is_kept(shape, orientations, voxels, ladder):
    boxes = _boxes(ladder, voxels=voxels)
    assert boxes.predict(_data(shape), RANGE, orientations).shape == shape
    assert boxes.pair(_data(shape), RANGE, 0).shape == (2, *shape)


@pytest.mark.parametrize("voxels", [None, 4000.0])
def test_all_boxes_are_reported_as_patches(ladder, prepared, voxels):
    reported = []
    boxes = _boxes(ladder, voxels=voxels, advance=reported.append)
    boxes.predict(prepared.density, prepared.tilts, 2)
    assert sum(reported) == 2 * boxes.patches(prepared.density.shape)
    assert len(reported) == len(boxes.boxes(prepared.density.shape))
    assert (len(reported) > 1) == (voxels is not None)


def test_boxes_grow_with_the_memory_that_they_may_take(ladder):
    shape, last = (64, 200, 120), 0
    for voxels in (1e4, 1e5, 1e6, 1e7):
        boxes = _boxes(ladder, voxels=voxels).boxes(shape)
        assert last < prod(boxes.sides) <= voxels
        last = prod(boxes.sides)
    assert len(boxes) == 1


def test_orientations_are_averaged(ladder, prepared):
    boxes, data = _boxes(ladder), prepared.density
    rotations = symmetry_rotations(prepared.tilts)[:2]
    one, two = (boxes.mean(data[None], prepared.tilts, [rotation]) for rotation in rotations)
    assert not torch.allclose(one, two, atol=1e-3)
    assert torch.allclose(boxes.mean(data[None], prepared.tilts, rotations), (one + two) / 2, atol=1e-5)


def test_a_restored_box_keeps_its_mean_and_ignores_the_wedge(ladder, prepared):
    boxes = _boxes(ladder)
    rotations = symmetry_rotations(prepared.tilts)[:1]
    box = cut(prepared.density, (4, 8, 8), SIDE)[None]
    restored, raised = (boxes.mean(each, prepared.tilts, rotations) for each in (box, box + 3.0))
    assert torch.allclose(raised, restored + 3.0, atol=1e-4)
    # The plane wave along z lies in the missing wedge: adding it changes nothing.
    wave = torch.cos(torch.arange(SIDE) * 2 * torch.pi * 4 / SIDE).view(1, -1, 1, 1).expand_as(box)
    assert torch.allclose(boxes.mean(box + wave, prepared.tilts, rotations), restored, atol=1e-2)


def test_samples_depend_on_the_seed_and_their_number(ladder, prepared):
    data, tilts = prepared.density, prepared.tilts
    first = _boxes(ladder).pair(data, tilts, 0)
    assert torch.equal(first, _boxes(ladder).pair(data, tilts, 0))
    others = (first[1], _boxes(ladder, seed=1).pair(data, tilts, 0)[0], _boxes(ladder).pair(data, tilts, 1)[0])
    assert not any(torch.allclose(first[0], other, atol=1e-3) for other in others)


@pytest.mark.parametrize("number", [0, 1, 3])
def test_one_sample_is_the_first_of_a_pair(ladder, prepared, number):
    data, tilts = prepared.density, prepared.tilts
    assert torch.allclose(_boxes(ladder).sample(data, tilts, number), _boxes(ladder).pair(data, tilts, number)[0], atol=1e-4)


class Copying(torch.nn.Module):
    """Stands in for a ladder: returns what it sees, and in a pair the finest noise added to it.

    Args:
        room: voxels above which it has no memory.
    """

    def __init__(self, room=10**9):
        super().__init__()
        self.config, self.room, self.seen = LadderConfig((4, 4), (1, 1), 1), room, []

    def latent_shapes(self, shape):
        return [(1, *shape), (1, *(n // 2 for n in shape))]

    def encode(self, density, role):
        if density.numel() > self.room:
            raise RuntimeError("DefaultCPUAllocator: not enough memory")
        self.seen.append(tuple(density.shape[-3:]))
        return [density]

    def restore(self, features, noise):
        return features[0] + (0 if noise is None else noise[0][:, 0])

    def restore_pair(self, features, noise):
        return torch.stack((features[0] + noise[0][:, 0], features[0] - noise[0][:, 0]))


def test_boxes_are_rotated_back_and_have_lost_their_wedge_alone(prepared):
    """A model that copies gives back the measured part of each box, in every orientation."""
    boxes, box = _boxes(Copying()), prepared.density[None, :20, 2:34, 8:24]
    level = box.mean((-3, -2, -1), keepdim=True)
    expected = fourier.filtered(box - level, smeared_mask(box.shape[-3:], prepared.tilts)) + level
    assert float((expected - box).abs().max()) > 0.1
    rotations = symmetry_rotations(prepared.tilts)
    assert len(rotations) > 1
    for rotation in rotations:
        assert torch.allclose(boxes.mean(box, prepared.tilts, [rotation]), expected, atol=1e-4)


def test_the_noise_of_a_sample_is_that_of_its_place_in_every_orientation(prepared):
    """It is rotated with the box and back, so that boxes of all orientations share it where they overlap."""
    boxes, position = _boxes(Copying()), (4, 8, 8)
    box = cut(prepared.density, position, (16, 12, 20))[None]
    for number in range(len(symmetry_rotations(prepared.tilts))):
        plus, minus = boxes.sampled(box, position, prepared.tilts, number)
        noise = NoiseField(0, number, CPU).tiles([position], (1, 16, 12, 20), 0)[0, 0]
        assert torch.allclose((plus - minus) / 2, noise, atol=1e-4), number


def test_noise_does_not_average_out_where_boxes_overlap():
    """Half the difference of a pair is the noise of the place, the same in one piece and in boxes."""
    shape = (24, 40, 32)
    data = _data(shape)
    pieces = [_boxes(Copying(), voxels=voxels).pair(data, RANGE, 0) for voxels in (None, 4000)]
    noises = [(plus - minus) / 2 for plus, minus in pieces]
    assert torch.allclose(*noises, atol=1e-4)


def test_where_memory_runs_out_boxes_become_smaller_and_the_log_says_so(caplog):
    shape = (24, 40, 32)
    data = _data(shape)
    model = Copying(room=10000)
    with caplog.at_level(logging.WARNING, logger="cryovae"):
        boxes = _boxes(model)
        pair = boxes.pair(data, RANGE, 0)
    assert "memory ran out with a box of 24 x 40 x 32 voxels" in caplog.text
    assert max(prod(seen) for seen in model.seen) <= 10000
    assert boxes.voxels <= prod(shape) / 2
    expected = _boxes(Copying()).pair(data, RANGE, 0)
    assert torch.allclose((pair[0] - pair[1]) / 2, (expected[0] - expected[1]) / 2, atol=1e-4)


def test_an_error_of_another_kind_is_not_taken_for_lack_of_memory():
    class Broken(Copying):
        def encode(self, density, role):
            raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes do not match"):
        _boxes(Broken()).predict(_data((16, 16, 16)), RANGE)


def test_a_volume_for_which_the_smallest_box_is_too_large_fails():
    with pytest.raises(RuntimeError, match="not enough memory"):
        _boxes(Copying(room=1)).predict(_data((16, 16, 16)), RANGE)


@pytest.mark.parametrize("shape", [(64, 64, 64), (16, 256, 128), (8, 8, 8)])
@pytest.mark.parametrize("voxels", [1, 1e4, 1e5])
def test_boxes_cover_the_volume_once_and_stay_within_their_voxels(shape, voxels):
    boxes = boxes_within(shape, 8, 32, voxels)
    assert sum(float(boxes.window(position).sum()) for position in boxes) == pytest.approx(_covered(boxes), rel=1e-4)
    smallest = boxes_within(shape, 8, 32, 1)
    assert prod(boxes.sides) <= max(voxels, prod(smallest.sides))


def _covered(boxes):
    """Voxels of the volume and of what the last boxes hang over."""
    return prod(boxes.starts(axis)[-1] + boxes.sides[axis] for axis in range(3))
