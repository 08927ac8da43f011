"""One pass over a whole volume: the size is kept, and where it does not fit tiles give nearly the same."""

import pytest
import torch

from cryovae import fourier
from cryovae.physics.wedge import smeared_mask
from cryovae.posterior import one_pass
from cryovae.posterior.one_pass import predicted_volume
from cryovae.posterior.tiles import TilePredictor
from cryovae.tomogram import TiltGeometry

RANGE = TiltGeometry.from_range(-60, 60)
CPU = torch.device("cpu")


def _data(shape, seed=0):
    return fourier.filtered(torch.randn(shape, generator=torch.Generator().manual_seed(seed)), smeared_mask(shape, RANGE))


@pytest.mark.parametrize("shape", [(16, 24, 20), (17, 23, 9), (3, 16, 16)])
@pytest.mark.parametrize("orientations", [1, 4])
def test_the_size_is_kept(shape, orientations, ladder):
    assert predicted_volume(ladder, _data(shape), RANGE, 16, CPU, orientations).shape == shape


def test_a_volume_of_one_tile_is_predicted_as_the_tile_is(ladder):
    data = _data((16, 16, 16))
    data = data - data.mean()
    tile = TilePredictor(ladder, 16, 1, 0, CPU, lambda tiles: None).predict(data, RANGE)
    torch.testing.assert_close(predicted_volume(ladder, data, RANGE, 16, CPU), tile, atol=1e-4, rtol=1e-3)


def test_without_memory_it_goes_tile_by_tile(ladder, monkeypatch):
    data = _data((24, 20, 36))
    monkeypatch.setattr(one_pass, "free_on", lambda device: 1.0)
    expected = TilePredictor(ladder, 16, 2, 0, CPU, lambda tiles: None).predict(data, RANGE)
    torch.testing.assert_close(predicted_volume(ladder, data, RANGE, 16, CPU), expected)
