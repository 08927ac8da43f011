"""A learned distribution over latents: flow matching, with an optional condition on an observed patch.

    z_t = (1 - t) z + t e,    e ~ N(0, I),    t in 0 to 1             loss  E | v(z_t, t, c) - (e - z) |^2,   z sampled
    dz/dt = v(z, t, c)        from t = 1, noise, to t = 0, latents    c empty: the prior p(z);  c of a patch y: p(z | y)

(Lipman et al. 2023, "Flow matching for generative modeling"; Liu et al. 2023, "Rectified flow".) The condition is a network's
features of the patch, its linear estimate and what was measured of it. It is dropped in a share of the batch, so one network is
both. The flow of one tomogram may be given the estimate of a network that was trained on it, too; the mean of the latents is then
predicted relative to the latents of that estimate. All layers are convolutions or act on places alone, so latents of any size
have the same law away from their borders.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import log, pi
from typing import Annotated, cast

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from cryovae.models.layers import convolution, zeroed
from cryovae.models.patch_vae import folded
from cryovae.ranges import Range, check_fields

# Wave numbers of the embedding of t, and the largest of them.
WAVES, FASTEST = 16, 200.0
# Added to the mean square of the data of a patch before they are brought to one scale.
DATA_FLOOR = 0.5


@dataclass(frozen=True)
class LatentFlowConfig:
    """Sizes of a latent flow.

    Attributes:
        width: channels at the places of the latents.
        coarse_width: channels at half as many places along each axis.
        blocks: residual blocks before, at and after the coarse places.
        condition_width: channels of the features of an observed patch.
        condition_blocks: residual blocks that find them.
        embedding: channels of the embedding of t and of what was measured.
        entries: numbers that say what was measured.
        estimates: 1 if the condition holds an estimate of the density by another network, else 0.
    """

    width: Annotated[int, Range(8, 2048)] = 80
    coarse_width: Annotated[int, Range(8, 2048)] = 128
    blocks: Annotated[int, Range(1, 32)] = 2
    condition_width: Annotated[int, Range(8, 1024)] = 64
    condition_blocks: Annotated[int, Range(1, 32)] = 2
    embedding: Annotated[int, Range(8, 4096)] = 128
    entries: Annotated[int, Range(1, 10**5)] = 231
    estimates: Annotated[int, Range(0, 1)] = 0

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class Context:
    """The condition of the flow, from observed patches; all 0 for the prior.

    Attributes:
        features: (n, condition_width, z, y, x).
        mean: predicted mean of the latents, (n, channels, z, y, x).
        embedding: of what was measured, (n, embedding).
    """

    features: Tensor
    mean: Tensor
    embedding: Tensor

    def rows(self, index: Tensor | slice) -> Context:
        """Some of the patches."""
        return Context(self.features[index], self.mean[index], self.embedding[index])

    def map(self, change: Callable[[Tensor], Tensor]) -> Context:
        """The same with ``change`` applied to each tensor."""
        return Context(change(self.features), change(self.mean), change(self.embedding))

    @staticmethod
    def joined(parts: Sequence[Context]) -> Context:
        """The patches of several in one."""
        return Context(*(torch.cat([getattr(p, name) for p in parts]) for name in ("features", "mean", "embedding")))

    def repeated(self, count: int) -> Context:
        """Each patch ``count`` times in a row."""
        return Context(*(part.repeat_interleave(count, 0) for part in (self.features, self.mean, self.embedding)))

    def kept(self, is_kept: Tensor) -> Context:
        """The condition is removed from the patches where ``is_kept`` (n,) is 0."""
        spatial = is_kept.view(-1, 1, 1, 1, 1)
        return Context(self.features * spatial, self.mean * spatial, self.embedding * is_kept.view(-1, 1))


@dataclass(frozen=True)
class Estimate:
    """Another network's estimate of observed patches.

    Attributes:
        density: (n, z, y, x), in units of the standard deviation of the signal.
        latents: its standardised latents, (n, channels, z, y, x).
    """

    density: Tensor
    latents: Tensor


def channel_normalised(x: Tensor) -> Tensor:
    """Each place divided by the root mean square of its channels, (n, channels, z, y, x)."""
    return x * torch.rsqrt(x.square().mean(1, keepdim=True) + 1e-6)


class ModulatedBlock(nn.Module):
    """x + conv(silu(norm(conv(silu(norm(x) (1 + a) + b))))), with a and b from an embedding.

    Args:
        width: Channels.
        embedding: Channels of the embedding.
    """

    def __init__(self, width: int, embedding: int) -> None:
        super().__init__()
        self.modulation = nn.Linear(embedding, 2 * width)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)
        self.first = convolution(width, width)
        self.second = zeroed(convolution(width, width))

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        scale, shift = self.modulation(embedding)[:, :, None, None, None].chunk(2, 1)
        inner = self.first(nnf.silu(channel_normalised(x) * (1 + scale) + shift))
        return x + self.second(nnf.silu(channel_normalised(inner)))


class ModulatedBlocks(nn.ModuleList):
    """Residual blocks that share an embedding."""

    def __init__(self, width: int, count: int, embedding: int) -> None:
        super().__init__(ModulatedBlock(width, embedding) for _ in range(count))

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        for block in self:
            x = block(x, embedding)
        return x


class LatentFlow(nn.Module):
    """The velocity v(z_t, t, c), a U-Net of two scales, and the network of its condition.

    Attributes:
        config: Sizes.
        channels: Latent channels.
        stride: Voxels of the densities along each axis of one place of the latents, 2 or 4.
        edges: Names of the convolutions at inputs and outputs.
    """

    edges = ("observe", "predicted", "enter", "leave")

    def __init__(self, config: LatentFlowConfig, channels: int, stride: int) -> None:
        super().__init__()
        self.config, self.channels, self.stride = config, channels, stride
        width, coarse, condition, size = config.width, config.coarse_width, config.condition_width, config.embedding
        self.of_time = nn.Sequential(nn.Linear(2 * WAVES, size), nn.SiLU(), nn.Linear(size, size))
        self.of_information = nn.Sequential(nn.Linear(config.entries, size), nn.SiLU(), nn.Linear(size, size))
        self.observe = convolution((2 + config.estimates) * stride**3, condition)
        self.observed = ModulatedBlocks(condition, config.condition_blocks, size)
        self.predicted = convolution(condition, channels)
        self.enter = convolution(2 * channels + condition, width)
        self.before = ModulatedBlocks(width, config.blocks, size)
        self.down = nn.Conv3d(width, coarse, 2, stride=2)
        self.middle = ModulatedBlocks(coarse, config.blocks, size)
        self.up = convolution(coarse, width, 1)
        self.merge = convolution(2 * width, width, 1)
        self.after = ModulatedBlocks(width, config.blocks, size)
        self.leave = zeroed(convolution(width, channels))
        with torch.no_grad():
            self.predicted.weight.mul_(0.1)

    def condition_parts(self) -> tuple[nn.Module, ...]:
        """The layers of the network of the condition."""
        return self.of_information, self.observe, self.observed, self.predicted

    def context(
        self,
        data: Tensor,
        linear: Tensor,
        information: Tensor,
        estimate: Estimate | None = None,
        power: Tensor | None = None,
    ) -> Context:
        """The condition of observed patches.

        Args:
            data: y, (n, z, y, x).
            linear: its linear estimate, (n, z, y, x).
            information: what was measured how well, (n, entries).
            estimate: that of another network, for a flow that takes one.
            power: local mean square of the data, (n, z, y, x), or None for that of each patch.
        """
        power = data.square().mean((1, 2, 3), keepdim=True) if power is None else power
        scale = torch.rsqrt(power + DATA_FLOOR)
        densities = [data * scale, linear] + ([] if estimate is None else [estimate.density])
        features = torch.stack(densities, 1)
        for _ in range(self.stride.bit_length() - 1):
            features = folded(features)
        embedding = self.of_information(information)
        features = self.observed(self.observe(features), nnf.silu(embedding))
        mean = self.predicted(nnf.silu(channel_normalised(features)))
        return Context(features, mean if estimate is None else mean + estimate.latents, embedding)

    @torch.no_grad()
    def taking_estimates(self) -> LatentFlow:
        """This flow with an estimate in its condition, from which the mean of the latents is then predicted; to be trained on."""
        taking = LatentFlow(replace(self.config, estimates=1), self.channels, self.stride)
        weights = self.state_dict()
        seen = weights["observe.weight"]
        # What is folded of a density are channels that follow each other.
        weights["observe.weight"] = torch.cat((seen, torch.zeros_like(seen[:, : self.stride**3])), 1)
        weights["predicted.weight"] = torch.zeros_like(weights["predicted.weight"])
        weights["predicted.bias"] = torch.zeros_like(weights["predicted.bias"])
        taking.load_state_dict(weights)
        return taking

    def no_context(self, shape: tuple[int, ...], like: Tensor) -> Context:
        """The condition of the prior, for latents (n, channels, z, y, x) of ``shape``."""
        n, _, *places = shape
        return Context(
            like.new_zeros(n, self.config.condition_width, *places),
            like.new_zeros(n, self.channels, *places),
            like.new_zeros(n, self.config.embedding),
        )

    def forward(self, latents: Tensor, time: Tensor, context: Context) -> Tensor:
        """v, (n, channels, z, y, x), at latents z_t of that shape and times t (n,)."""
        embedding = nnf.silu(self.of_time(waves(time)) + context.embedding)
        state = self.enter(torch.cat((latents, context.mean.to(latents.dtype), context.features.to(latents.dtype)), 1))
        fine = self.before(state, embedding)
        coarse = self.middle(self.down(fine), embedding)
        raised = nnf.interpolate(self.up(coarse), scale_factor=2.0, mode="nearest")
        state = self.after(self.merge(torch.cat((fine, raised), 1)), embedding)
        return cast(Tensor, self.leave(nnf.silu(channel_normalised(state))).float())


def waves(time: Tensor) -> Tensor:
    """Sines and cosines (n, 2 WAVES) of times (n,) in 0 to 1."""
    rates = torch.exp(torch.linspace(0, log(FASTEST), WAVES, device=time.device))
    phases = time[:, None] * rates * pi
    return torch.cat((torch.sin(phases), torch.cos(phases)), 1)
