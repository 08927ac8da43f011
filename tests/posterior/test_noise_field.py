import numpy as np
import pytest
import torch

from cryovae.posterior.noise_field import NoiseField, _mix


def test_tiles_that_overlap_share_their_noise():
    field = NoiseField(seed=3, sample=1)
    one = field.tile((0, 8, 16), (3, 16, 16, 16), 0)
    two = field.tile((8, 0, 16), (3, 16, 16, 16), 0)
    assert torch.equal(one[:, 8:, :8], two[:, :8, 8:])
    coarse, next_ = field.tile((0, 0, 0), (4, 6, 6, 6), 2), field.tile((8, 0, 0), (4, 6, 6, 6), 2)
    assert torch.equal(coarse[:, 2:], next_[:, :4])


def test_it_is_standard_normal_and_independent():
    field = NoiseField(0, 0)
    a = field.tile((0, 0, 0), (6, 32, 32, 32), 0)
    assert float(a.mean()) == pytest.approx(0, abs=0.01)
    assert float(a.var()) == pytest.approx(1, abs=0.02)
    assert float(a.pow(4).mean()) == pytest.approx(3, abs=0.1)
    others = [
        NoiseField(0, 1).tile((0, 0, 0), (6, 32, 32, 32), 0),
        NoiseField(1, 0).tile((0, 0, 0), (6, 32, 32, 32), 0),
        field.tile((0, 0, 0), (6, 32, 32, 32), 1),
        a.roll(1, 1), a.roll(1, 2), a.roll(1, 3), a.roll(1, 0), a.roll(3, 0),
    ]  # fmt: skip
    for other in others:
        assert abs(float((a * other).mean())) < 0.015


def test_a_tile_off_the_latent_grid_is_refused():
    with pytest.raises(ValueError, match="multiples of the latent stride 4"):
        NoiseField(0, 0).tile((2, 0, 0), (1, 4, 4, 4), 2)


def lowbias32(x):
    """The hash as it was published, on unsigned numbers."""
    x = x ^ (x >> np.uint32(16))
    x = x * np.uint32(0x7FEB352D)
    x = x ^ (x >> np.uint32(15))
    x = x * np.uint32(0x846CA68B)
    return x ^ (x >> np.uint32(16))


def test_signed_numbers_are_hashed_as_unsigned_ones():
    words = np.random.default_rng(0).integers(0, 2**32, 10_000, dtype=np.uint32)
    words[:3] = 0, 2**31, 2**32 - 1
    mixed = _mix(torch.from_numpy(words.view(np.int32)))
    assert np.array_equal(mixed.numpy().view(np.uint32), lowbias32(words))


def test_tiles_in_a_batch_are_those_one_by_one():
    field = NoiseField(5, 2)
    positions = [(0, 16, 48), (1024, 8, 0)]
    for level, channels in ((0, 3), (3, 4)):
        one = torch.stack([field.tile(at, (channels, 8, 4, 6), level) for at in positions])
        assert torch.equal(field.tiles(positions, (channels, 8, 4, 6), level), one)
