"""N(0, I) for latents, indexed by absolute position: two tiles that share a latent share its noise.

Averaging overlapping tiles then averages one sample with itself and does not reduce the standard deviation. The numbers are a
hash of (seed, sample, level, channel, z, y, x) passed through the Box-Muller transform. Nothing is stored, and the numbers are
the same on every device except for rounding in the transform.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import pi

import torch
from torch import Tensor


def _mix(x: Tensor) -> Tensor:
    """The 32-bit hash lowbias32 on int32, whose products wrap around; the masks remove the sign bits that shifts bring in."""
    x = x ^ ((x >> 16) & 0xFFFF)
    x = x * _signed(0x7FEB352D)
    x = x ^ ((x >> 15) & 0x1FFFF)
    x = x * _signed(0x846CA68B)
    return x ^ ((x >> 16) & 0xFFFF)


def _signed(word: int) -> int:
    """The low 32 bits of a number as a signed integer."""
    return (word & 0xFFFFFFFF) - 2**32 * ((word >> 31) & 1)


class NoiseField:
    """The noise of one posterior sample over a whole tomogram, at every level of the ladder."""

    def __init__(self, seed: int, sample: int, device: torch.device | None = None) -> None:
        self.device = device
        self._key = _mix(_mix(_word(seed)) + _word(0x9E3779B9 * (sample + 1)))

    def tile(self, position: Sequence[int], shape: Sequence[int], level: int) -> Tensor:
        """Noise (channels, z, y, x) of the latents at stride 2^level; ``position`` is the tile's first voxel (z, y, x)."""
        return self.tiles([position], shape, level)[0]

    def tiles(self, positions: Sequence[Sequence[int]], shape: Sequence[int], level: int) -> Tensor:
        """``tile`` of each of the positions, (batch, channels, z, y, x)."""
        stride = 2**level
        off = [tuple(position) for position in positions if any(start % stride for start in position)]
        if off:
            raise ValueError(f"tile at {off[0]} found, expected multiples of the latent stride {stride}")
        starts = torch.tensor([[0, *(start // stride for start in position)] for position in positions]).to(self.device)
        key = int(_mix(self._key + _word(0x51ED270B * (level + 1))))
        hashed = torch.full((len(positions),), key, dtype=torch.int32, device=self.device)
        # Channels come in pairs: one hash gives the radius and the angle of the two numbers of the Box-Muller transform.
        for axis, size in enumerate((-(-shape[0] // 2), *shape[1:])):
            coordinate = (starts[:, axis, None] + torch.arange(size, device=self.device)).to(torch.int32)
            index = _mix(coordinate * _signed(0x27D4EB2F) + axis).view(len(positions), *[1] * axis, size)
            hashed = _mix(hashed[..., None] ^ index)
        radius = (-2 * torch.log(_uniform(hashed))).sqrt_()
        angle = _uniform(_mix(hashed + _signed(0x68E31DA4))).mul_(2 * pi)
        return torch.cat((radius * torch.cos(angle), radius * torch.sin(angle)), 1)[:, : shape[0]]


def _word(number: int) -> Tensor:
    return torch.tensor(_signed(number), dtype=torch.int32)


def _uniform(word: Tensor) -> Tensor:
    """Signed 32-bit words to (0, 1), float32, never 0."""
    return word.float().mul_(2.0**-32).add_(0.5).clamp_(2.0**-33, 1.0)
