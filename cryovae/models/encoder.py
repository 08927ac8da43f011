"""The bottom-up network: maps a patch to features at every stride of the ladder. Both encoders, q and r, share it."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

from cryovae.models.layers import Blocks, convolution


class Encoder(nn.Module):
    """Maps densities (batch, z, y, x) and roles (batch,), 0 for q and 1 for r, to features, fine to coarse.

    features[i] is (batch, widths[i], z / 2^i, y / 2^i, x / 2^i).

    Args:
        widths: Channels at strides 1, 2, 4, ...
        blocks: Residual blocks of each level.
        normalised: Whether blocks have instance normalisation.
    """

    def __init__(self, widths: tuple[int, ...], blocks: int, normalised: bool = False) -> None:
        super().__init__()
        self.stem = convolution(1, widths[0])
        self.role = nn.Parameter(torch.zeros(2, widths[0]))
        self.levels = nn.ModuleList(Blocks(width, blocks, normalised) for width in widths)
        self.down = nn.ModuleList(nn.Conv3d(fine, coarse, 2, stride=2) for fine, coarse in itertools.pairwise(widths))

    def forward(self, density: Tensor, role: Tensor) -> list[Tensor]:
        x = self.stem(density.unsqueeze(1))
        x = x + self.role[role].to(x.dtype).view(len(role), -1, 1, 1, 1)
        features = []
        for level, blocks in enumerate(self.levels):
            if level:
                x = self.down[level - 1](x)
            x = blocks(x)
            features.append(x)
        return features
