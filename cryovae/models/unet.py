"""A deterministic U-Net with the encoder of the ladder: f(u) = u + D(E(u)), with skip connections at every stride.

IsoNet, DeepDeWedge and Icecream train such networks. This one has the widths and blocks of the ladder, so that objectives can be
compared on the same architecture.
"""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from cryovae.models.encoder import Encoder
from cryovae.models.ladder_config import LadderConfig
from cryovae.models.layers import Blocks, convolution, zeroed


class UNet(nn.Module):
    """Maps densities (batch, z, y, x) to densities; sides are multiples of the coarsest stride.

    The coarsest stride has twice the blocks, which gives as many parameters as one pass of the ladder (3.6 million, quick).

    Args:
        config: Sizes; ``latents`` is not used.
        normalised: Whether blocks have instance normalisation.
    """

    def __init__(self, config: LadderConfig, normalised: bool = True) -> None:
        super().__init__()
        self.config = config
        widths = config.widths
        self.encoder = Encoder(widths, config.blocks, normalised)
        self.middle = Blocks(widths[-1], 2 * config.blocks, normalised)
        self.up = nn.ModuleList(convolution(coarse, fine, 1) for fine, coarse in itertools.pairwise(widths))
        self.merge = nn.ModuleList(convolution(2 * width, width) for width in widths[:-1])
        self.blocks = nn.ModuleList(Blocks(width, config.blocks, normalised) for width in widths[:-1])
        self.out = zeroed(convolution(widths[0], 1))

    def forward(self, density: Tensor) -> Tensor:
        features = self.encoder(density, torch.zeros(len(density), dtype=torch.long, device=density.device))
        state = self.middle(features[-1])
        for level in range(len(features) - 2, -1, -1):
            state = nnf.interpolate(self.up[level](state), scale_factor=2.0, mode="nearest")
            state = self.blocks[level](self.merge[level](nnf.silu(torch.cat((state, features[level]), 1))))
        return density + self.out(nnf.silu(state)).squeeze(1).float()
