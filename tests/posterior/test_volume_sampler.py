"""Samples of a whole volume: one state for all tiles, noise of the absolute place, no variance lost where tiles overlap."""

import pytest
import torch

from cryovae import fourier
from cryovae.generator_file import load_base
from cryovae.physics.observation import RandomNoise, observed
from cryovae.posterior.noise_field import NoiseField
from cryovae.posterior.patch_sampler import PatchSampler
from cryovae.posterior.volume_data import VolumeData
from cryovae.posterior.volume_sampler import VolumeSampler
from cryovae.tiling.batching import Batches
from cryovae.tomogram import TiltGeometry
from tests.helpers.generative import tiny_generator

RANGE = TiltGeometry.from_range(-60, 54)
NOISE = RandomNoise(0.5, 0.3, 0.0, 0.1)
SIDE, STRIDE = 16, 4


def _data(shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _volume(data, step=SIDE // 2, generator=None, scale=1.0, **settings):
    """The data, in units of the standard deviation of the signal."""
    volume = VolumeData(data * scale, RANGE, lambda k: scale**2 * NOISE(k), scale)
    return VolumeSampler(PatchSampler(generator or tiny_generator()), volume, SIDE, step, **settings)


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
    volume = _volume(_data((40, 24, 48)), step, of_places)
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


def test_standardised_data_give_the_sample_in_their_units():
    data = _data((21, 30, 17))
    one, two = _volume(data), _volume(data, scale=0.3)
    drawn = one.latents(0, seed=0, steps=2)
    torch.testing.assert_close(two.latents(0, seed=0, steps=2), drawn, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(two.density(drawn), 0.3 * one.density(drawn))


def test_conditions_in_files_are_those_in_memory(tmp_path):
    data = _data((24, 16, 40))
    one, two = _volume(data), _volume(data, folder=tmp_path)
    assert torch.equal(one.latents(0, seed=2, steps=2), two.latents(0, seed=2, steps=2))
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.slow
@pytest.mark.xfail(strict=True, reason="1.20 was measured: at its border a tile knows less of the data around it")
def test_seams_have_the_variance_of_what_lies_between_them():
    """Of samples by the base of noise alone, tiles of 64 voxels 48 apart: where tiles overlap as elsewhere, within 2 %."""
    noise = RandomNoise(4.0, 0.0, 0.0, 0.0)
    data = fourier.filtered(_data((64, 64, 256)), noise(fourier.frequencies((64, 64, 256))).sqrt())
    volume = VolumeSampler(PatchSampler(load_base().generator), VolumeData(data, RANGE, noise, 1.0), 64, 48)
    drawn = torch.stack([volume.density(volume.latents(number, seed=0, steps=4)) for number in range(8)])
    variance = drawn.var(0).mean((0, 1))
    x = torch.arange(256)
    inner, overlap = (x >= 48) & (x < 208), x % 48 < 16
    ratio = variance[inner & overlap].mean() / variance[inner & ~overlap].mean()
    assert float(ratio) == pytest.approx(1, abs=0.02)
