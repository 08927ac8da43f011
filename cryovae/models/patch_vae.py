"""A compact VAE of clean patches: spatial latents at a stride of 2 or 4, an encoder, a decoder, and a fixed model variance.

    q(z | x) = N( A x + m(x), s(x)^2 ),        p(x | z) = N( B z + g(z), v ),        v the model variance, white

A and B are linear maps of blocks of stride^3 voxels, which begin as their principal components; m and g are networks, which begin
at 0, so that training begins with a good reconstruction. The mean of p(x | z) is called G(z).

Densities are folded into channels first (space to depth), so that no convolution runs on more than an eighth of the voxels of a
patch. There is no skip connection from the input and no normalisation, so patches of any size have the same latents.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from cryovae.models.distributions import DiagonalGaussian, soft_clamp
from cryovae.models.layers import Blocks, convolution, zeroed
from cryovae.ranges import OneOf, Range, check_fields

# Initial log-variance of q, and limits of its log-variance and mean.
FIRST_LOG_VARIANCE, LOG_VARIANCE_LIMIT, MEAN_LIMIT = -4.0, 9.0, 30.0


@dataclass(frozen=True)
class PatchVAEConfig:
    """Sizes of a patch VAE.

    Attributes:
        stride: voxels along each axis of one place of the latents.
        channels: latent channels.
        width: channels of the convolutions at the stride of the latents.
        fine_width: channels at half of that stride, if it is 4.
        blocks: residual blocks at each stride.
        model_variance: v, relative to the variance of a specimen.
    """

    stride: Annotated[int, OneOf((2, 4))] = 4
    channels: Annotated[int, Range(1, 256)] = 16
    width: Annotated[int, Range(4, 1024)] = 64
    fine_width: Annotated[int, Range(4, 1024)] = 24
    blocks: Annotated[int, Range(1, 16)] = 2
    model_variance: Annotated[float, Range(0, 1, above=True)] = 0.02

    def __post_init__(self) -> None:
        check_fields(self)


def folded(density: Tensor) -> Tensor:
    """(batch, channels, z, y, x) to (batch, 8 channels, z / 2, y / 2, x / 2): cubes of 2 voxels become channels."""
    b, c, z, y, x = density.shape
    parts = density.reshape(b, c, z // 2, 2, y // 2, 2, x // 2, 2).permute(0, 1, 3, 5, 7, 2, 4, 6)
    return parts.reshape(b, 8 * c, z // 2, y // 2, x // 2)


def unfolded(features: Tensor) -> Tensor:
    """The inverse of ``folded``."""
    b, c, z, y, x = features.shape
    parts = features.reshape(b, c // 8, 2, 2, 2, z, y, x).permute(0, 1, 5, 2, 6, 3, 7, 4)
    return parts.reshape(b, c // 8, 2 * z, 2 * y, 2 * x)


class PatchVAE(nn.Module):
    """Encoder and decoder of densities (batch, z, y, x), whose sides are multiples of the stride.

    Attributes:
        config: Sizes.
    """

    def __init__(self, config: PatchVAEConfig) -> None:
        super().__init__()
        self.config = config
        width, fine, is_coarse = config.width, config.fine_width, config.stride == 4
        self.enter = convolution(config.stride**3, width)
        self.encoding = Blocks(width, config.blocks)
        self.moments = zeroed(convolution(width, 2 * config.channels, 1))
        self.project = nn.Conv3d(config.stride**3, config.channels, 1, bias=False)
        self.expand = nn.Conv3d(config.channels, config.stride**3, 1, bias=False)
        self.start = convolution(config.channels, width)
        self.decoding = Blocks(width, config.blocks)
        if is_coarse:
            self.raise_up = convolution(width, 8 * fine, 1)
            self.finishing = Blocks(fine, 1)
        self.leave = zeroed(convolution(fine if is_coarse else width, 8))

    @torch.no_grad()
    def start_from(self, density: Tensor) -> None:
        """Set the linear maps, and the width of q, from the principal components of patches (n, z, y, x)."""
        blocks = self._blocks(density).movedim(1, -1).flatten(0, -2).double()
        power, vectors = torch.linalg.eigh(blocks.T @ blocks / len(blocks))
        power, vectors = power.flip(0)[: self.config.channels], vectors.flip(1)[:, : self.config.channels]
        scale, variance = power.clamp_min(1e-6).sqrt(), self.config.model_variance
        self.project.weight.copy_((vectors / scale).T[:, :, None, None, None])
        self.expand.weight.copy_((vectors * scale)[:, :, None, None, None])
        # The exact posterior of a linear Gaussian model.
        half = self.config.channels
        self.moments.bias[half:] = torch.log(variance / (power + variance)) - FIRST_LOG_VARIANCE  # type: ignore[index]

    def encode(self, density: Tensor) -> DiagonalGaussian:
        """q(z | x), (batch, channels, z / stride, ...)."""
        blocks = self._blocks(density)
        state = nnf.silu(self.features(density))
        mean, log_variance = self.moments(state).float().chunk(2, 1)
        mean = self.project(blocks).float() + mean
        return DiagonalGaussian(soft_clamp(mean, MEAN_LIMIT), soft_clamp(log_variance + FIRST_LOG_VARIANCE, LOG_VARIANCE_LIMIT))

    def features(self, density: Tensor) -> Tensor:
        """The encoder's features of densities, from which q is computed, (batch, width, z / stride, ...)."""
        return self.encoding(self.enter(self._blocks(density)))  # type: ignore[no-any-return]

    def decode(self, latents: Tensor) -> Tensor:
        """G(z), (batch, z, y, x)."""
        state = self.decoding(self.start(latents))
        blocks = self.expand(latents).float()
        if self.config.stride == 4:
            state = self.finishing(unfolded(self.raise_up(nnf.silu(state))))
            blocks = unfolded(blocks)
        return unfolded(blocks + self.leave(nnf.silu(state)).float()).squeeze(1)

    def _blocks(self, density: Tensor) -> Tensor:
        features = density.unsqueeze(1)
        for _ in range(self.config.stride.bit_length() - 1):
            features = folded(features)
        return features

    def latent_shape(self, shape: tuple[int, int, int]) -> tuple[int, int, int, int]:
        """(channels, z, y, x) of the latents of densities of ``shape``."""
        stride = self.config.stride
        return self.config.channels, shape[0] // stride, shape[1] // stride, shape[2] // stride
