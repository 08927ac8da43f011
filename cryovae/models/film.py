"""Feature-wise linear modulation: a few numbers about a tomogram as a whole scale and shift the channels of a network.

    o_c  ->  (1 + a_c) o_c + b_c,        a, b = MLP(traits)                        o_c a channel of the output of a convolution

For one tomogram a and b are constants, so they go into the weights and the biases, and the network is a plain one again.
Source: Perez et al. 2018, "FiLM: Visual reasoning with a general conditioning layer".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import cast

import torch
from torch import Tensor, nn

WIDTH = 64


class Film(nn.Module):
    """Maps traits to the scale and the shift of each channel of all convolutions.

    Args:
        traits: how many numbers describe a tomogram.
        channels: output channels of each convolution.
    """

    def __init__(self, traits: int, channels: Sequence[int]) -> None:
        super().__init__()
        self.channels = tuple(channels)
        self.body = nn.Sequential(nn.Linear(traits, WIDTH), nn.SiLU(), nn.Linear(WIDTH, WIDTH), nn.SiLU())
        self.out = nn.Linear(WIDTH, 2 * sum(self.channels))
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    @property
    def traits(self) -> int:
        """How many numbers describe a tomogram."""
        return cast(nn.Linear, self.body[0]).in_features

    def forward(self, traits: Tensor) -> list[tuple[Tensor, Tensor]]:
        """a and b of each convolution, (batch, channels) each, from traits (batch, traits)."""
        parts = self.out(self.body(traits)).split([2 * count for count in self.channels], 1)
        return [cast(tuple[Tensor, Tensor], tuple(part.chunk(2, 1))) for part in parts]


def convolutions(network: nn.Module) -> list[nn.Conv3d]:
    """The convolutions of a network, in the order of its definition."""
    return [layer for layer in network.modules() if isinstance(layer, nn.Conv3d)]


@contextmanager
def modulated(layers: Sequence[nn.Conv3d], film: Film, traits: Tensor) -> Iterator[None]:
    """Within it, the outputs of convolutions are scaled and shifted patch by patch.

    Args:
        layers: the convolutions.
        film: what scales and shifts their outputs.
        traits: of the tomogram of each patch, (batch, traits). They repeat for an output of several times the batch.
    """

    def changed(output: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        times = len(output) // len(scale)
        a, b = (x.repeat(times, 1).to(output.dtype)[..., None, None, None] for x in (scale, shift))
        return output * (1 + a) + b

    hooks = [
        layer.register_forward_hook(lambda _, __, output, scale=scale, shift=shift: changed(output, scale, shift))
        for layer, (scale, shift) in zip(layers, film(traits), strict=True)
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@torch.no_grad()
def fold(layers: Sequence[nn.Conv3d], film: Film, traits: Tensor) -> None:
    """Put the scales and shifts for ``traits`` (traits,) into the weights and biases of convolutions, for good."""
    for layer, (scale, shift) in zip(layers, film(traits[None].to(layers[0].weight.device)), strict=True):
        assert layer.bias is not None
        factor = 1 + scale[0]
        layer.weight.mul_(factor.view(-1, 1, 1, 1, 1))
        layer.bias.copy_(layer.bias * factor + shift[0])
