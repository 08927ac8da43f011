"""The ladder VAE: spatial latents from coarse to fine, a learned prior, and two encoders that share one decoder.

    p(z) = p(z_L) prod_l p(z_l | z_>l),        x = G(z)

Symbols, used in all modules:

    y   measured patch, with noise and missing wedge          x   decoded (restored) density
    v   input of q, all that was measured                     u   input of r, with the canonical wedge removed
    z   latents; z_l at stride 2^l, l = 0 is the finest       e   latents in units of the prior, z = m + s e ("code")
    q   q(z | v), full posterior                              r   r(z | u), masked posterior

The decoder state h_l is a function of z_>l alone: the input affects x only through z. The prior
p(z_l | z_>l) is computed from h_l; the posteriors are computed from h_l and the features of an encoder.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import cast

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from cryovae.models.distributions import (
    DiagonalGaussian,
    Move,
    Posterior,
    divergence,
    elementwise_divergence,
    relative_to,
    soft_clamp,
    standardised,
)
from cryovae.models.encoder import Encoder
from cryovae.models.film import Film, convolutions, fold, modulated
from cryovae.models.flow import CouplingFlow, FlowPosterior
from cryovae.models.ladder_config import LadderConfig
from cryovae.models.layers import Blocks, convolution, zeroed

# Initial log-variance of q and r relative to the prior, and the limit of the prior's own log-variance. Without the limit a large
# state widens the prior, which widens the samples, which enlarges the state: training diverged within 150 steps.
FIRST_LOG_VARIANCE, PRIOR_LIMIT = -2.5, 2.0
Q, R = 0, 1

# One entry for each level, 0 the finest: noise or codes, (batch, channels, z / 2^l, y / 2^l, x / 2^l).
ByLevel = Sequence[Tensor | None] | Mapping[int, Tensor | None]


@dataclass(frozen=True)
class LevelOutput:
    """One level of a pass down the ladder.

    Attributes:
        level: Number of the level, 0 the finest.
        prior: p(z_l | z_>l).
        posterior: The distribution of the pass at this level: q, r, or the prior itself.
        latent: z_l, (batch, channels, z, y, x).
        noise: N(0, I) noise from which z_l was sampled; None if z_l is a mean or was prescribed.
        state: Decoder state h_l, (batch, width, z, y, x), if it was requested.
    """

    level: int
    prior: DiagonalGaussian
    posterior: Posterior
    latent: Tensor
    noise: Tensor | None = None
    state: Tensor | None = None

    def kl(self) -> Tensor:
        """KL(posterior || prior) in nats, (batch,)."""
        return divergence(self.posterior, self.prior, self.latent)

    def nats(self) -> Tensor:
        """KL(posterior || prior) of each latent, (batch, channels, z, y, x)."""
        return elementwise_divergence(self.posterior, self.prior, self.latent)

    def code(self) -> Tensor:
        """The latents in units of the prior, e = (z - m) / s, (batch, channels, z, y, x)."""
        return standardised(self.latent, self.prior)

    def log_ratio(self) -> Tensor:
        """log p(z) - log q(z) of each latent; computed from the noise if q is Gaussian, which is accurate even if q is narrow."""
        if self.noise is None or not isinstance(self.posterior, DiagonalGaussian):
            return self.prior.log_prob(self.latent) - self.posterior.log_prob(self.latent)
        return 0.5 * (self.noise.square() + self.posterior.log_variance - self.code().square() - self.prior.log_variance)


@dataclass(frozen=True)
class LadderPass:
    """A pass down the ladder.

    Attributes:
        density: x, (batch, z, y, x).
        levels: The levels that have latents, coarse to fine.
    """

    density: Tensor
    levels: tuple[LevelOutput, ...]


@dataclass(frozen=True)
class LadderDistribution:
    """The prior p(z), or a posterior q(z | v) or r(z | u), over the latents of all levels.

    Attributes:
        ladder: The model.
        shape: (z, y, x) of the densities.
        batch: Number of patches.
        features: Features of the encoder, fine to coarse; None for the prior.
        role: Encoder whose heads are used, Q or R.
        moves: Move of the posterior of each level, or None.
        within_prior: Whether the width of each Gaussian level is limited to that of the prior.
    """

    ladder: Ladder
    shape: Sequence[int]
    batch: int
    features: Sequence[Tensor] | None = None
    role: int = R
    moves: Mapping[int, Move] | None = None
    within_prior: bool = False

    def moved(self, moves: Mapping[int, Move] | None) -> LadderDistribution:
        """The same posterior with other ``moves`` of its levels."""
        return replace(self, moves=moves)

    def mean(self) -> LadderPass:
        """A pass with the mean of each level as its latents."""
        return self._top_down([None] * len(self.ladder.levels))

    def sample(self, noise: ByLevel, keep_states: bool = False) -> LadderPass:
        """A pass with sampled latents.

        Args:
            noise: N(0, I) noise by level; None for the mean of a level.
            keep_states: Whether the decoder states are kept.
        """
        return self._top_down(noise, keep_states=keep_states)

    def at(self, codes: ByLevel) -> LadderPass:
        """A pass with latents prescribed in units of the prior by level; None for the mean of a level."""
        return self._top_down(codes, are_codes=True)

    def draw_noise(self, generator: torch.Generator) -> list[Tensor]:
        """N(0, I) noise of each level, listed fine to coarse and drawn coarse to fine."""
        return self.ladder.draw_noise(self.shape, self.batch, generator)

    def at_level(self, level: int, state: Tensor, prior: DiagonalGaussian) -> Posterior:
        """The distribution of z_l, given the decoder state h_l and the prior computed from it."""
        if self.features is None:
            return prior
        block = self.ladder.level(level)
        with self.ladder.autocast():
            posterior = (block.masked_posterior if self.role == R else block.posterior)(state, self.features[level], prior)
            posterior = posterior if self.moves is None else posterior.moved(self.moves[level])
            return posterior.within(prior) if self.within_prior else posterior

    def _top_down(self, noise: ByLevel, are_codes: bool = False, keep_states: bool = False) -> LadderPass:
        ladder = self.ladder
        outputs: list[LevelOutput] = []
        with ladder.autocast():
            state = ladder.initial_state(self.shape, self.batch)
            for level in range(len(ladder.levels) - 1, -1, -1):
                block, state = ladder.level(level), ladder.upsampled(state, level)
                latent: Tensor | None = None
                if block.latents:
                    prior = block.prior_of(state)
                    posterior, e = self.at_level(level, state, prior), noise[level]
                    if are_codes:
                        latent, e = prior.sample(standardised(posterior.mean, prior) if e is None else e), None
                    else:
                        latent = posterior.mean if e is None else posterior.sample(e)
                    outputs.append(LevelOutput(level, prior, posterior, latent, e, state if keep_states else None))
                state = block(state, latent)
            return LadderPass(ladder.decoded(state), tuple(outputs))


class Head(nn.Module):
    """Maps state and features to a posterior over z_l, relative to the prior.

    Its initial mean is that of the prior, and its initial width is smaller. With the prior's width, latents would be pure noise
    at first and the decoder would learn to ignore them.

    Args:
        width: Channels of the state, and of the features.
        latents: Channels of the latents.
        kernel: Kernel size of the convolutions, in voxels.
        has_flow: Whether the posterior has a normalising flow.
    """

    def __init__(self, width: int, latents: int, kernel: int, has_flow: bool) -> None:
        super().__init__()
        self.merge = convolution(2 * width, width, kernel)
        self.shift = zeroed(convolution(width, latents, 1))
        self.scale = zeroed(convolution(width, latents, kernel))
        nn.init.constant_(self.scale.bias, FIRST_LOG_VARIANCE)  # type: ignore[arg-type]
        self.flow = CouplingFlow(width, latents) if has_flow else None

    def forward(self, state: Tensor, features: Tensor, prior: DiagonalGaussian) -> Posterior:
        merged = nnf.silu(self.merge(nnf.silu(torch.cat((state, features), 1))))
        base = relative_to(prior, self.shift(merged).float(), self.scale(merged).float())
        if self.flow is None:
            return base
        with torch.autocast(merged.device.type, enabled=False):
            return FlowPosterior(base, self.flow(merged.float()))


class Level(nn.Module):
    """One level of the decoder: its latents, if any, are added to the state, then residual blocks follow.

    Args:
        width: Channels of the state.
        latents: Channels of the latents; 0 for none.
        blocks: Number of residual blocks.
        kernel: Kernel size of the heads, in voxels.
        flow_role: Encoder whose head has a normalising flow, Q or R; None for neither.
    """

    def __init__(self, width: int, latents: int, blocks: int, kernel: int, flow_role: int | None = None) -> None:
        super().__init__()
        self.latents = latents
        if latents:
            self.prior = zeroed(convolution(width, 2 * latents, 1))
            self.posterior = Head(width, latents, kernel, flow_role == Q)
            self.masked_posterior = Head(width, latents, kernel, flow_role == R)
            self.enter = convolution(latents, width, 1)
        self.blocks = Blocks(width, blocks)

    def prior_of(self, state: Tensor) -> DiagonalGaussian:
        """p(z_l | z_>l) from the decoder state h_l."""
        mean, log_variance = self.prior(nnf.silu(state)).float().chunk(2, 1)
        return DiagonalGaussian(mean, soft_clamp(log_variance, PRIOR_LIMIT))

    def forward(self, state: Tensor, latent: Tensor | None) -> Tensor:
        return self.blocks(state if latent is None else state + self.enter(latent))


class Ladder(nn.Module):
    """The generative model p(z), x = G(z), and its encoders. Densities are (batch, z, y, x), sides are multiples of the stride.

    Attributes:
        config: Sizes.
        mixed: Whether convolutions run in bfloat16. Weights, means, log-variances, latents and densities are always float32.
        film: What changes its channels by the traits of a tomogram (physics/traits.py), or None. A ladder that was not
            ``conditioned`` on any works as for traits that nobody knows.

    Args:
        config: Sizes.
        encoders: 2 for q and r, 1 if r is the only posterior. A flow belongs to the posterior that the bound trains: q, or r if
            it is the only one. With two encoders r is Gaussian, because its mean is trained by completion.
        traits: How many traits of a tomogram it can be conditioned on; 0 for none.
    """

    mixed = False

    def __init__(self, config: LadderConfig, encoders: int = 2, traits: int = 0) -> None:
        super().__init__()
        self.config = config
        flow_role = R if encoders == 1 else Q
        widths = config.widths
        self.encoder = Encoder(widths, config.blocks)
        self.levels = nn.ModuleList(
            Level(width, latents, config.blocks, 1 if index == 0 else 3, flow_role if index in config.flow_indices else None)
            for index, (width, latents) in enumerate(zip(widths, config.latents, strict=True))
        )
        self.up = nn.ModuleList(convolution(coarse, fine, 1) for fine, coarse in itertools.pairwise(widths))
        self.top = nn.Parameter(torch.zeros(widths[-1]))
        self.out = convolution(widths[0], 1)
        with torch.no_grad():
            self.out.weight.mul_(0.02)
        self.film = Film(traits, [layer.out_channels for layer in convolutions(self)]) if traits else None

    def conditioned(self, traits: Tensor) -> Ladder:
        """The ladder for a tomogram with these traits (traits,), which takes none itself. Its q is that of r."""
        ladder = copy.deepcopy(self)
        if ladder.film is not None:
            fold(convolutions(ladder), ladder.film, traits)
            ladder.film = None
            ladder.init_q_from_r()
        return ladder

    @contextmanager
    def conditioning(self, traits: Tensor | None) -> Iterator[None]:
        """Within it, the ladder works for patches of tomograms with these traits (batch, traits); None for unknown ones."""
        if self.film is None or traits is None:
            yield
            return
        with modulated(convolutions(self), self.film, traits):
            yield

    def encode(self, density: Tensor, role: int) -> list[Tensor]:
        """Features of the encoder Q or R, fine to coarse."""
        with self.autocast():
            return list(self.encoder(density, torch.full((len(density),), role, device=density.device)))

    def prior(self, shape: Sequence[int], batch: int) -> LadderDistribution:
        """p(z) for ``batch`` densities of ``shape``."""
        return LadderDistribution(self, shape, batch)

    def posterior(self, features: Sequence[Tensor], role: int) -> LadderDistribution:
        """q(z | v) or r(z | u) from the features of the encoder Q or R."""
        return LadderDistribution(self, features[0].shape[-3:], len(features[0]), features, role)

    def restore(self, features: list[Tensor], noise: ByLevel | None) -> Tensor:
        """Decode x (batch, z, y, x) from r: from a sample with N(0, I) ``noise`` by level, or from the means if it is None.

        The width of r is limited to that of p(z_l | z_>l), because data cannot make latents less certain than the prior. Matching
        can make r wider, by 1000 in variance, where the means of q and r differ; the decoder was not trained on such latents.
        """
        r = self.posterior(features, R)
        return (r.mean() if noise is None else replace(r, within_prior=True).sample(noise)).density

    def restore_pair(self, features: list[Tensor], noise: Sequence[Tensor]) -> Tensor:
        """Two samples of x with opposite noise, (2, batch, z, y, x), decoded in one pass."""
        twice = [torch.cat((f, f)) for f in features]
        opposite = [torch.cat((e, -e)) for e in noise]
        return self.restore(twice, opposite).unflatten(0, (2, len(features[0])))

    def latent_shapes(self, shape: Sequence[int]) -> list[tuple[int, int, int, int]]:
        """(channels, z, y, x) of the latents for densities of ``shape``, fine to coarse."""
        return [
            (latents, shape[0] >> level, shape[1] >> level, shape[2] >> level)
            for level, latents in enumerate(self.config.latents)
        ]

    def draw_noise(self, shape: Sequence[int], batch: int, generator: torch.Generator) -> list[Tensor]:
        """N(0, I) noise for ``batch`` densities of ``shape``, listed fine to coarse and drawn coarse to fine."""
        shapes = reversed(self.latent_shapes(shape))
        return [torch.randn((batch, *latent), generator=generator).to(self.top.device) for latent in shapes][::-1]

    def init_q_from_r(self) -> None:
        """Initialise the heads and the role of q with those of r."""
        with torch.no_grad():
            self.encoder.role[Q] = self.encoder.role[R]
        for index in self._stochastic():
            # Only one of the two heads has a flow.
            self.level(index).posterior.load_state_dict(
                self.level(index).masked_posterior.state_dict(), index not in self.config.flow_indices
            )

    def posterior_parameters(self) -> list[nn.Parameter]:
        """The parameters of q's heads, which the bound trains."""
        return [p for index in self._stochastic() for p in self.level(index).posterior.parameters()]

    def spread_parameters(self) -> list[nn.Parameter]:
        """The parameters of r's widths, which posterior matching trains; the rest of r's heads determines its means."""
        return [p for index in self._stochastic() for p in self.level(index).masked_posterior.scale.parameters()]

    def _stochastic(self) -> list[int]:
        """The levels that have latents, fine to coarse."""
        return [index for index, latents in enumerate(self.config.latents) if latents]

    def level(self, index: int) -> Level:
        """The level at stride 2^index."""
        return cast(Level, self.levels[index])

    def initial_state(self, shape: Sequence[int], batch: int) -> Tensor:
        """The state at the coarsest level, (batch, width, z, y, x), constant over positions."""
        side = [size >> (len(self.levels) - 1) for size in shape]
        return self.top.view(1, -1, 1, 1, 1).expand(batch, -1, *side)

    def upsampled(self, state: Tensor, level: int) -> Tensor:
        """The state of the next coarser level on the grid of ``level``; the coarsest level keeps its initial state."""
        if level == len(self.levels) - 1:
            return state
        return nnf.interpolate(self.up[level](state), scale_factor=2.0, mode="nearest")

    def decoded(self, state: Tensor) -> Tensor:
        """x, (batch, z, y, x), from the state after the finest level."""
        return cast(Tensor, self.out(nnf.silu(state)).squeeze(1).float())

    def autocast(self) -> torch.autocast:
        """A context in which convolutions run in bfloat16 if the ladder is ``mixed``."""
        return torch.autocast(self.top.device.type, torch.bfloat16, enabled=self.mixed)
