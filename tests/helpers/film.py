"""A small ladder that takes traits, with random weights, so that traits change what it restores."""

import torch

from cryovae.models.ladder import Ladder
from cryovae.models.ladder_config import LadderConfig


def film_ladder(traits, spread, config=None):
    """A ladder whose parameters were moved by normal numbers of standard deviation ``spread``."""
    torch.manual_seed(0)
    ladder = Ladder(config or LadderConfig((4, 6), (2, 3), 1), traits=traits)
    with torch.no_grad():
        for parameter in ladder.parameters():
            parameter.add_(spread * torch.randn(parameter.shape))
    return ladder.eval()
