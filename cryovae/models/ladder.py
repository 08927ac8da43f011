"""The ladder VAE: spatial latents from coarse to fine, a learned prior, and two encoders over the same states.

    z_L .. z_1 ~ p(z_L) prod p(z_l | z_>l),        x = G(z)

The decoder's state h_l is a function of z_>l alone, so there is no path from the input to x but through z. From h_l come
the prior p(z_l | z_>l), and, with the features of what an encoder saw, the posterior q and the partial posterior r.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from cryovae.errors import InputError
from cryovae.models.distributions import (
    DiagonalGaussian,
    Posterior,
    divergence,
    elementwise_divergence,
    relative_to,
    soft_clamp,
)
from cryovae.models.encoder import Encoder
from cryovae.models.flow import CouplingFlow, FlowPosterior
from cryovae.models.layers import Blocks, convolution, zeroed

# Where the log-variances of q and r start, against the prior's; and how far the prior's may go from 0. Unbounded, a large
# state widens the prior, which widens the samples, which enlarges the state: it ran off to infinity within 150 steps.
FIRST_LOG_VARIANCE, PRIOR_LIMIT = -2.5, 2.0
Q, R = 0, 1
GAUSSIAN, FLOW = "gaussian", "flow"


@dataclass(frozen=True)
class LadderConfig:
    """Sizes of the ladder: channels at strides 1, 2, 4, ..., latent channels at the same, residual blocks a level.

    Without latent channels a level has blocks alone; with latents on one level only the ladder is a flat VAE.
    posterior: 'gaussian', or 'flow': pushed by a flow on the ``flow_levels`` coarsest levels with latents (models/flow.py).
    """

    widths: tuple[int, ...] = (32, 64, 128, 256, 256)
    latents: tuple[int, ...] = (4, 8, 16, 16, 16)
    blocks: int = 2
    posterior: str = GAUSSIAN
    flow_levels: int = 2

    def __post_init__(self) -> None:
        if len(self.widths) != len(self.latents):
            raise InputError(
                f"widths has {len(self.widths)} levels and latents {len(self.latents)}, expected one latent count for each width"
            )
        if min(self.latents) < 0 or not any(self.latents):
            raise InputError(f"latents {list(self.latents)} found, expected counts from 0, and latents on one level at least")
        if self.posterior not in (GAUSSIAN, FLOW):
            raise InputError(f"posterior '{self.posterior}' found, expected {GAUSSIAN} or {FLOW}")
        if self.posterior == FLOW and (self.flow_levels < 1 or min(self.latents[level] for level in self.pushed) < 2):
            raise InputError(
                f"posterior {FLOW} on {self.flow_levels} levels with latents {list(self.latents)} found, expected 1 level or "
                "more with 2 latents or more each: half of them are moved by the other half"
            )

    @property
    def pushed(self) -> list[int]:
        """The levels whose posterior goes through a flow."""
        stochastic = [level for level, latents in enumerate(self.latents) if latents]
        return stochastic[-self.flow_levels :] if self.posterior == FLOW else []

    @property
    def stride(self) -> int:
        """The coarsest stride in voxels; patches are multiples of it."""
        return int(2 ** (len(self.widths) - 1))


@dataclass(frozen=True)
class LevelOutput:
    """One level of a pass down the ladder: the prior over z_l, the distribution that z_l was taken from, and z_l."""

    prior: DiagonalGaussian
    chosen: Posterior
    latent: Tensor

    def kl(self) -> Tensor:
        """KL(chosen || prior) in nats, (batch,)."""
        return divergence(self.chosen, self.prior, self.latent)

    def nats(self) -> Tensor:
        """The same of each latent, (batch, channels, z, y, x)."""
        return elementwise_divergence(self.chosen, self.prior, self.latent)


Choice = Callable[[int, DiagonalGaussian, Tensor], tuple[Posterior, Tensor]]


class Head(nn.Module):
    """State and features to a posterior over z_l, relative to the prior; starts at its mean, and narrower.

    Started as wide as the prior, a latent would be all noise, and the decoder would learn to ignore it before it carries
    anything.
    """

    def __init__(self, width: int, latents: int, kernel: int, pushed: bool) -> None:
        super().__init__()
        self.merge = convolution(2 * width, width, kernel)
        self.shift = zeroed(convolution(width, latents, 1))
        self.scale = zeroed(convolution(width, latents, kernel))
        nn.init.constant_(self.scale.bias, FIRST_LOG_VARIANCE)  # type: ignore[arg-type]
        self.flow = CouplingFlow(width, latents) if pushed else None

    def forward(self, state: Tensor, features: Tensor, prior: DiagonalGaussian) -> Posterior:
        merged = nnf.silu(self.merge(nnf.silu(torch.cat((state, features), 1))))
        base = relative_to(prior, self.shift(merged).float(), self.scale(merged).float())
        if self.flow is None:
            return base
        with torch.autocast(merged.device.type, enabled=False):
            return FlowPosterior(base, self.flow(merged.float()))


class Level(nn.Module):
    """One stride of the decoder: state, latent if there is one, blocks. pushed: Q or R, whose posterior goes through a flow."""

    def __init__(self, width: int, latents: int, blocks: int, kernel: int, pushed: int | None = None) -> None:
        super().__init__()
        self.latents = latents
        if latents:
            self.prior = zeroed(convolution(width, 2 * latents, 1))
            self.posterior = Head(width, latents, kernel, pushed == Q)
            self.masked_posterior = Head(width, latents, kernel, pushed == R)
            self.enter = convolution(latents, width, 1)
        self.blocks = Blocks(width, blocks)

    def prior_given(self, state: Tensor) -> DiagonalGaussian:
        mean, log_variance = self.prior(nnf.silu(state)).float().chunk(2, 1)
        return DiagonalGaussian(mean, soft_clamp(log_variance, PRIOR_LIMIT))

    def forward(self, state: Tensor, latent: Tensor | None) -> Tensor:
        return self.blocks(state if latent is None else state + self.enter(latent))


class Ladder(nn.Module):
    """The generative model p(z), x = G(z), and its encoders. Densities are (batch, z, y, x), sides multiples of ``stride``.

    encoders: 2 for q and r, 1 where r alone is the posterior. It says which of them a flow pushes, if one does: the one that
    the bound trains. With two, r stays Gaussian, as its mean is what completion made it.

    ``mixed``: whether convolutions run in bfloat16. Means, log-variances, latents and densities are float32 in any case, and so
    are the weights.
    """

    mixed = False

    def __init__(self, config: LadderConfig, encoders: int = 2) -> None:
        super().__init__()
        self.config = config
        pushed = R if encoders == 1 else Q
        widths = config.widths
        self.encoder = Encoder(widths, config.blocks)
        self.levels = nn.ModuleList(
            Level(width, latents, config.blocks, 1 if index == 0 else 3, pushed if index in config.pushed else None)
            for index, (width, latents) in enumerate(zip(widths, config.latents, strict=True))
        )
        self.up = nn.ModuleList(convolution(coarse, fine, 1) for fine, coarse in itertools.pairwise(widths))
        self.top = nn.Parameter(torch.zeros(widths[-1]))
        self.out = convolution(widths[0], 1)
        with torch.no_grad():
            self.out.weight.mul_(0.02)

    def level(self, index: int) -> Level:
        """The level at stride 2^index."""
        return cast(Level, self.levels[index])

    def init_q_from_r(self) -> None:
        """Let q start from what r has learned: the same head, the same role. From then on each learns for itself."""
        with torch.no_grad():
            self.encoder.role[Q] = self.encoder.role[R]
        for index in self._stochastic():
            # A flow has only one of them.
            self.level(index).posterior.load_state_dict(
                self.level(index).masked_posterior.state_dict(), index not in self.config.pushed
            )

    def posterior_parameters(self) -> list[nn.Parameter]:
        """The parameters of q's heads, which the bound trains."""
        return [p for index in self._stochastic() for p in self.level(index).posterior.parameters()]

    def spread_parameters(self) -> list[nn.Parameter]:
        """What says how sure r is, which posterior matching trains; the rest of r's heads says where it lies."""
        return [p for index in self._stochastic() for p in self.level(index).masked_posterior.scale.parameters()]

    def _stochastic(self) -> list[int]:
        """The levels that have latents, fine to coarse."""
        return [index for index, latents in enumerate(self.config.latents) if latents]

    def latent_shapes(self, shape: Sequence[int]) -> list[tuple[int, int, int, int]]:
        """(channels, z, y, x) of the latents, fine to coarse, for densities of ``shape``."""
        return [
            (latents, shape[0] >> level, shape[1] >> level, shape[2] >> level)
            for level, latents in enumerate(self.config.latents)
        ]

    def top_down(self, shape: Sequence[int], batch: int, choose: Choice) -> tuple[Tensor, list[LevelOutput]]:
        """Go down the ladder: at each level ``choose(level, prior, state)`` gives a distribution and z_l.

        Returns x (batch, *shape) and the rungs, coarse to fine.
        """
        with self._autocast():
            return self._top_down(shape, batch, choose)

    def _top_down(self, shape: Sequence[int], batch: int, choose: Choice) -> tuple[Tensor, list[LevelOutput]]:
        coarsest = len(self.levels) - 1
        side = [size >> coarsest for size in shape]
        state = self.top.view(1, -1, 1, 1, 1).expand(batch, -1, *side)
        outputs: list[LevelOutput] = []
        for level in range(coarsest, -1, -1):
            block = self.level(level)
            if level < coarsest:
                state = nnf.interpolate(self.up[level](state), scale_factor=2.0, mode="nearest")
            latent = None
            if block.latents:
                prior = block.prior_given(state)
                chosen, latent = choose(level, prior, state)
                outputs.append(LevelOutput(prior, chosen, latent))
            state = block(state, latent)
        return self.out(nnf.silu(state)).squeeze(1).float(), outputs

    def encode(self, density: Tensor, role: int) -> list[Tensor]:
        """Features fine to coarse, for the encoder Q or R."""
        with self._autocast():
            return list(self.encoder(density, torch.full((len(density),), role, device=density.device)))

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.top.device.type, torch.bfloat16, enabled=self.mixed)

    def restore(self, features: list[Tensor], noise: Sequence[Tensor] | None) -> Tensor:
        """x (batch, z, y, x) decoded from r: a sample, given N(0, I) ``noise`` fine to coarse, or without it r's means.

        A sample is drawn no wider than p(z_l | z_>l) is: who has seen a part of a patch knows no less than who has seen nothing.
        Matching may have found r wider, by 1000 in variance, where q's means lie far from r's; drawn so wide, latents are none
        that the decoder has met, and there its samples are garbage.
        """

        def choose(level: int, prior: DiagonalGaussian, state: Tensor) -> tuple[Posterior, Tensor]:
            r = self.level(level).masked_posterior(state, features[level], prior)
            if noise is None:
                return r, r.mean
            return r, (r.within(prior) if isinstance(r, DiagonalGaussian) else r).sample(noise[level])

        return self.top_down(features[0].shape[-3:], len(features[0]), choose)[0]

    def restore_pair(self, features: list[Tensor], noise: Sequence[Tensor]) -> Tensor:
        """Two samples of opposite noise, (2, batch, z, y, x), in one pass."""
        twice = [torch.cat((f, f)) for f in features]
        opposite = [torch.cat((e, -e)) for e in noise]
        return self.restore(twice, opposite).unflatten(0, (2, len(features[0])))
