"""Tiles at once by the memory that is free."""

from cryovae.models.ladder_config import LadderConfig
from cryovae.posterior.tile_memory import bytes_of_tile, fitting


def test_tiles_at_once_follow_the_memory_that_is_free():
    config = LadderConfig((16, 32), (4, 8), 1)
    one = bytes_of_tile(config, 48)
    assert fitting(config, 48, 8, 3.5 * one) == 3
    assert fitting(config, 48, 8, 0.1 * one) == 1
    assert fitting(config, 48, 8, float("inf")) == 8
