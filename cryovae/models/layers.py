"""Building blocks of the encoder and the decoder.

The ladder has no normalisation, because InstanceNorm removes the amplitude that the likelihood needs. Residual branches are
initialised to zero instead. Deterministic networks may use instance normalisation, as DeepDeWedge does.
"""

from __future__ import annotations

import torch.nn.functional as nnf
from torch import Tensor, nn


def zeroed(layer: nn.Conv3d) -> nn.Conv3d:
    """Set the weights and the bias of a layer to zero, so that its initial output is zero."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def convolution(inputs: int, outputs: int, kernel: int = 3) -> nn.Conv3d:
    """A 3D convolution with zero padding that keeps the size of the grid."""
    layer = nn.Conv3d(inputs, outputs, kernel, padding=kernel // 2)
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return layer


class ResidualBlock(nn.Module):
    """x + conv(silu(conv(silu(x)))), x of shape (batch, width, z, y, x).

    Args:
        width: Channels.
        normalised: Whether instance normalisation precedes each activation.
    """

    def __init__(self, width: int, normalised: bool = False) -> None:
        super().__init__()
        self.first = convolution(width, width)
        self.second = zeroed(convolution(width, width))
        self.before, self.between = (nn.InstanceNorm3d(width, affine=True) if normalised else nn.Identity() for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(nnf.silu(self.between(self.first(nnf.silu(self.before(x))))))


class Blocks(nn.Sequential):
    """A sequence of residual blocks."""

    def __init__(self, width: int, count: int, normalised: bool = False) -> None:
        super().__init__(*(ResidualBlock(width, normalised) for _ in range(count)))
