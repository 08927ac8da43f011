"""Samples of a whole volume: one state for all tiles, noise of the absolute place, no variance lost where tiles overlap."""

import pytest
import torch

from cryovae.physics.observation import RandomNoise, observed
from cryovae.posterior.noise_field import NoiseField
from cryovae.posterior.patch_sampler import PatchSampler
from cryovae.posterior.volume_sampler import VolumeSampler
from cryovae.tiling.batching import Batches
from cryovae.tomogram import TiltGeometry
from tests.helpers.generative import tiny_generator

RANGE = TiltGeometry.from_range(-60, 54)
NOISE = RandomNoise(0.5, 0.3, 0.0, 0.1)
SIDE, STRIDE = 16, 4


def _data(shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _volume(data, step=SIDE // 2, **settings):
    return VolumeSampler(PatchSampler(tiny_generator()), data, RANGE, NOISE, SIDE, step, **settings)


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
    torch.testing.assert_close(volume.density(drawn), sampler.decoded(drawn[None])[0])


@pytest.mark.parametrize("step", [8, 16])
def test_tiles_that_overlap_lose_no_variance(step, of_places):
    volume = VolumeSampler(PatchSampler(of_places), _data((40, 24, 48)), RANGE, NOISE, SIDE, step)
    drawn = volume.latents(0, seed=1, steps=12)
    noise = NoiseField(1, 0).tile((0, 0, 0), tuple(drawn.shape), 0)
    torch.testing.assert_close(drawn, 0.5 * noise, atol=3e-3, rtol=3e-3)


def test_the_same_number_and_seed_give_the_same_sample_with_any_batch():
    data = _data((24, 16, 40))
    volume, again = _volume(data), _volume(data)
    again.batches = Batches(3)
    first = volume.latents(0, seed=2, steps=3)
    assert torch.equal(first, volume.latents(0, seed=2, steps=3))
    torch.testing.assert_close(first, again.latents(0, seed=2, steps=3), atol=1e-5, rtol=1e-5)
    for number, seed in ((1, 2), (0, 3)):
        assert not torch.allclose(first, volume.latents(number, seed, steps=3), atol=0.1)


def test_a_place_far_from_others_depends_on_the_data_near_it_alone():
    data = _data((16, 16, 64))
    changed = data.clone()
    changed[:, :, 48:] += 3.0
    first, second = (_volume(d, step=16).latents(0, seed=0, steps=3) for d in (data, changed))
    assert torch.equal(first[..., :12], second[..., :12])
    assert not torch.allclose(first[..., 12:], second[..., 12:], atol=1e-3)


def test_progress_counts_all_tiles_of_all_passes():
    tiles = []
    volume = _volume(_data((24, 24, 32)), advance=tiles.append)
    volume.density(volume.latents(0, seed=0, steps=3))
    assert sum(tiles) == len(volume.grid) * (1 + volume.passes(3))


def test_the_density_has_the_shape_of_the_data():
    volume = _volume(_data((21, 30, 17)))
    assert volume.density(volume.latents(0, seed=0, steps=2)).shape == (21, 30, 17)
