"""N(0, I) for latents, indexed by absolute place: any two tiles that share a latent share its noise.

Averaging overlapping tiles then averages one sample with itself, and does not shrink the standard deviation. The numbers
are a hash of (seed, sample, level, channel, z, y, x) through Box and Muller's transform, so nothing is stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import pi

import numpy as np
import torch
from torch import Tensor


def _mix(x: np.ndarray) -> np.ndarray:
    """A 32-bit integer hash (lowbias32), on uint32, whose products wrap."""
    x = x ^ (x >> np.uint32(16))
    x *= np.uint32(0x7FEB352D)
    x ^= x >> np.uint32(15)
    x *= np.uint32(0x846CA68B)
    x ^= x >> np.uint32(16)
    return x


def _mix_there(x: Tensor) -> Tensor:
    """The same on int32 of the same bits, wherever they lie: shifts of negative numbers bring ones in, which are taken out."""
    x = x ^ ((x >> 16) & 0xFFFF)
    x = x * _signed(0x7FEB352D)
    x = x ^ ((x >> 15) & 0x1FFFF)
    x = x * _signed(0x846CA68B)
    return x ^ ((x >> 16) & 0xFFFF)


def _signed(word: int) -> int:
    return word - 2**32 if word >= 2**31 else word


class NoiseField:
    """The noise of one posterior sample over a whole tomogram, at every level of the ladder."""

    def __init__(self, seed: int, sample: int, device: torch.device | None = None) -> None:
        self.device = device
        self._key = _mix(_mix(_word(seed)) + _word(0x9E3779B9 * (sample + 1)))

    def tiles(self, positions: Sequence[Sequence[int]], shape: Sequence[int], level: int) -> Tensor:
        """``tile`` of each of the positions, (batch, channels, z, y, x); on a GPU worked out there, and all at once."""
        if self.device is None or self.device.type == "cpu":
            return torch.stack([self.tile(position, shape, level) for position in positions])
        return self.hashed(positions, shape, level)

    def hashed(self, positions: Sequence[Sequence[int]], shape: Sequence[int], level: int) -> Tensor:
        """``tiles``, by torch."""
        stride = 2**level
        if any(start % stride for position in positions for start in position):
            raise ValueError(f"tiles at {list(positions)} found, expected multiples of the latent stride {stride}")
        starts = torch.tensor([[0, *(start // stride for start in position)] for position in positions]).to(self.device)
        key = int(_mix(self._key + _word(0x51ED270B * (level + 1)))[0])
        hashed = torch.full((len(positions),), _signed(key), dtype=torch.int32, device=self.device)
        for axis, size in enumerate((-(-shape[0] // 2), *shape[1:])):
            place = (starts[:, axis, None] + torch.arange(size, device=self.device)).to(torch.int32)
            index = _mix_there(place * _signed(0x27D4EB2F) + axis).view(len(positions), *[1] * axis, size)
            hashed = _mix_there(hashed[..., None] ^ index)
        radius = (-2 * torch.log(_uniform(hashed))).sqrt_()
        angle = _uniform(_mix_there(hashed + _signed(0x68E31DA4))).mul_(2 * pi)
        return torch.cat((radius * torch.cos(angle), radius * torch.sin(angle)), 1)[:, : shape[0]]

    def tile(self, position: Sequence[int], shape: Sequence[int], level: int) -> Tensor:
        """Noise (channels, z, y, x) of the latents at stride 2^level; ``position`` is the tile's first voxel (z, y, x)."""
        stride = 2**level
        if any(start % stride for start in position):
            raise ValueError(f"tile at {tuple(position)} found, expected multiples of the latent stride {stride}")
        hashed = _mix(self._key + _word(0x51ED270B * (level + 1)))
        starts = (0, *(start // stride for start in position))
        # Channels come in pairs: one hash gives the radius and the angle of Box and Muller's two numbers.
        sizes = (-(-shape[0] // 2), *shape[1:])
        for axis, (start, size) in enumerate(zip(starts, sizes, strict=True)):
            index = _mix(np.arange(start, start + size).astype(np.uint32) * np.uint32(0x27D4EB2F) + np.uint32(axis))
            hashed = _mix(hashed[..., None] ^ index)
        hashed = hashed.squeeze(0)
        first = torch.from_numpy(hashed.view(np.int32)).to(self.device)
        second = torch.from_numpy(_mix(hashed + np.uint32(0x68E31DA4)).view(np.int32)).to(self.device)
        radius = (-2 * torch.log(_uniform(first))).sqrt_()
        angle = _uniform(second).mul_(2 * pi)
        return torch.cat((radius * torch.cos(angle), radius * torch.sin(angle)))[: shape[0]]


def _word(number: int) -> np.ndarray:
    return np.array([number & 0xFFFFFFFF], dtype=np.uint32)


def _uniform(word: Tensor) -> Tensor:
    """Signed 32-bit words to (0, 1), float32, never 0."""
    return word.float().mul_(2.0**-32).add_(0.5).clamp_(2.0**-33, 1.0)
