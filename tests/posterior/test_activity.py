"""Latents that say nothing are not counted."""

import torch

from cryovae.models.ladder import Ladder
from cryovae.models.ladder_config import LadderConfig
from cryovae.posterior.activity import active_units


def test_only_channels_that_vary_with_the_data_are_active():
    """Heads start at the prior: none is active, until one channel of one level is made to follow its features."""
    torch.manual_seed(0)
    ladder = Ladder(LadderConfig((8, 16, 24), (4, 6, 8), 1))
    patches = torch.randn(3, 16, 24, 8)
    assert active_units(ladder, patches) == {"0": 0, "1": 0, "2": 0}
    with torch.no_grad():
        ladder.level(1).masked_posterior.shift.weight[2].normal_()
    assert active_units(ladder, patches) == {"0": 0, "1": 1, "2": 0}


def test_a_level_without_latents_has_none():
    ladder = Ladder(LadderConfig((8, 16), (0, 4), 1))
    assert active_units(ladder, torch.randn(2, 8, 8, 16)) == {"1": 0}
