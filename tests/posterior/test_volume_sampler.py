"""Samples of a whole volume: one state for all tiles, noise of the absolute place, no variance lost where tiles overlap."""

from itertools import pairwise

import pytest
import torch

from cryovae import fourier
from cryovae.generator_file import load_base
from cryovae.physics.observation import RandomNoise, observed
from cryovae.posterior.noise_field import NoiseField
from cryovae.posterior.patch_sampler import PatchSampler
from cryovae.posterior.volume_data import VolumeData
from cryovae.posterior.volume_sampler import VolumeSampler, local_power, patches_in
from cryovae.tomogram import TiltGeometry
from tests.helpers.generative import tiny_generator

RANGE = TiltGeometry.from_range(-60, 54)
NOISE = RandomNoise(0.5, 0.3, 0.0, 0.1)
SIDE, MOST = 16, 32


def _data(shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _volume(data, most=MOST, generator=None, scale=1.0, **settings):
    """The data, in units of the standard deviation of the signal."""
    volume = VolumeData(data * scale, RANGE, lambda k: scale**2 * NOISE(k), scale)
    return VolumeSampler(PatchSampler(generator or tiny_generator()), volume, SIDE, most, **settings)


def _density(volume, latents):
    return torch.cat([slab for _, slab in volume.slabs(latents)])


@pytest.fixture
def of_places(monkeypatch):
    """A flow whose velocity at a place depends on that place alone: its draws are half the noise, whatever the tiles are."""
    generator = tiny_generator()

    def velocity(state, time, context):
        # d/dt of z_t = (0.5 (1 - t) + t) e.
        return state * 0.5 / (0.5 + 0.5 * time.view(-1, 1, 1, 1, 1))

    monkeypatch.setattr(generator.flow, "forward", velocity)
    return generator


def test_a_volume_of_one_tile_is_a_patch():
    data = _data((SIDE, SIDE, SIDE))
    volume = _volume(data)
    drawn = volume.latents(3, seed=5, steps=4)
    sampler = PatchSampler(tiny_generator(), steps=4)
    noise = NoiseField(5, 3).tile((0, 0, 0), tuple(drawn.shape), 0)[None]
    context = sampler.context(observed(data[None], RANGE, NOISE))
    expected = sampler._drawn(noise, lambda part: context, lambda done, total: None)
    # The conditions are kept in half precision.
    torch.testing.assert_close(drawn, expected[0], atol=2e-3, rtol=2e-3)
    torch.testing.assert_close(_density(volume, drawn), sampler.decoded(drawn[None])[0])


@pytest.mark.parametrize("most", [16, 32, 64])
def test_boxes_that_overlap_lose_no_variance(most, of_places):
    volume = _volume(_data((40, 24, 48)), most, of_places)
    drawn = volume.latents(0, seed=1, steps=12)
    noise = NoiseField(1, 0).tile((0, 0, 0), tuple(drawn.shape), 0)
    torch.testing.assert_close(drawn, 0.5 * noise, atol=3e-3, rtol=3e-3)


def test_the_same_number_and_seed_give_the_same_sample():
    volume = _volume(_data((24, 16, 40)))
    first = volume.latents(0, seed=2, steps=3)
    assert torch.equal(first, volume.latents(0, seed=2, steps=3))
    for number, seed in ((1, 2), (0, 3)):
        assert not torch.allclose(first, volume.latents(number, seed, steps=3), atol=0.1)


def test_progress_counts_all_boxes_of_all_passes():
    """In patches of training: the conditions once, the flow twice a step, the decoder once."""
    patches = []
    volume = _volume(_data((24, 24, 48)), advance=patches.append)
    _density(volume, volume.latents(0, seed=0, steps=3))
    assert len(volume.boxes) == 2
    assert sum(patches) == patches_in(volume.boxes, SIDE) * (1 + 2 * 3 + 1) == volume.done


def test_local_power_is_the_mean_square_of_a_patch_and_of_the_cube_about_a_place_of_more():
    data = _data((1, 16, 16, 16))
    torch.testing.assert_close(local_power(data, 16, 4), data.square().mean().expand_as(data))
    more = _data((1, 24, 16, 48))
    power = local_power(more, 16, 4)
    assert power.shape == more.shape
    # The place that holds voxels 20 to 24 along x, and the cube from 12 to 28 about its first voxel.
    assert float(power[0, 9, 3, 21]) == pytest.approx(float(more[0, 0:16, :, 12:28].square().mean()), rel=1e-5)
    assert float(power[0, 0, 3, 47]) == pytest.approx(float(more[0, 0:16, :, 32:48].square().mean()), rel=1e-5)


def test_the_density_has_the_shape_of_the_data():
    volume = _volume(_data((21, 30, 17)))
    assert _density(volume, volume.latents(0, seed=0, steps=2)).shape == (21, 30, 17)


def test_slabs_are_the_density_of_all_boxes(monkeypatch):
    generator = tiny_generator()

    def decoded(latents):
        density = latents[:, 0]
        for axis in (1, 2, 3):
            density = density.repeat_interleave(4, axis)
        return density

    monkeypatch.setattr(generator, "decode", decoded)
    volume = _volume(_data((45, 30, 40)), 16, generator)
    assert all(len(volume.boxes.starts(axis)) > 2 for axis in range(3))
    latents = _data(volume._shape)
    slabs = list(volume.slabs(latents))
    assert [first for first, _ in slabs] == volume.boxes.starts(0)
    torch.testing.assert_close(torch.cat([slab for _, slab in slabs]), decoded(latents[None])[0][:45, :30, :40])


def test_standardised_data_give_the_sample_in_their_units():
    data = _data((21, 30, 17))
    one, two = _volume(data), _volume(data, scale=0.3)
    drawn = one.latents(0, seed=0, steps=2)
    torch.testing.assert_close(two.latents(0, seed=0, steps=2), drawn, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(_density(two, drawn), 0.3 * _density(one, drawn))


def test_conditions_in_files_are_those_in_memory(tmp_path):
    data = _data((24, 16, 48))
    one, two = _volume(data), _volume(data, folder=tmp_path)
    assert torch.equal(one.latents(0, seed=2, steps=2), two.latents(0, seed=2, steps=2))
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.slow
def test_seams_have_the_variance_of_what_lies_between_them():
    """Samples by the base of noise alone, in boxes and in one, from the same noise: variances agree in overlaps, within 2 %."""
    noise, shape = RandomNoise(4.0, 0.0, 0.0, 0.0), (48, 48, 224)
    data = fourier.filtered(_data(shape), noise(fourier.frequencies(shape)).sqrt())
    sampler, volume = PatchSampler(load_base().generator), VolumeData(data, RANGE, noise, 1.0)
    variances = []
    for most in (224, 112):
        of_boxes = VolumeSampler(sampler, volume, 64, most)
        drawn = [_density(of_boxes, of_boxes.latents(number, seed=0, steps=4)) for number in range(4)]
        variances.append(torch.stack(drawn).var(0).mean((0, 1)))
    starts, x = of_boxes.boxes.starts(2), torch.arange(224)
    assert len(starts) == 3
    overlap = sum((x >= b) & (x < a + of_boxes.boxes.sides[2]) for a, b in pairwise(starts)) > 0
    one, some = variances
    for where in (overlap, ~overlap):
        assert float(some[where].mean() / one[where].mean()) == pytest.approx(1, abs=0.02)


def test_what_a_sample_is_depends_little_on_the_boxes():
    """Boxes of 112 voxels and one box, by the base: the border of a box has no weight."""
    noise, shape = RandomNoise(1.0, 0.0, 0.0, 0.0), (32, 32, 160)
    data = fourier.filtered(_data(shape), noise(fourier.frequencies(shape)).sqrt()) + _data(shape, 1)
    sampler, volume = PatchSampler(load_base().generator), VolumeData(data, RANGE, noise, 1.0)
    one, some = (VolumeSampler(sampler, volume, 64, most) for most in (160, 112))
    assert len(one.boxes) == 1
    assert len(some.boxes) > 1
    first, second = (_density(v, v.latents(0, seed=0, steps=2)) for v in (one, some))
    assert float((first - second).square().mean().sqrt()) < 0.05 * float(first.std())
