"""Sizes of the ladder VAE, and what they may be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from cryovae.errors import InputError
from cryovae.ranges import Length, OneOf, Range, check_fields

GAUSSIAN, FLOW = "gaussian", "flow"
# Levels and weights of a ladder at most; the largest preset has 60 million weights.
MOST_LEVELS, MOST_WEIGHTS = 10, 10**9


@dataclass(frozen=True)
class LadderConfig:
    """Sizes of the ladder.

    Attributes:
        widths: Channels at strides 1, 2, 4, ...
        latents: Latent channels at the same strides; 0 for a level without latents. One level of latents gives a flat VAE.
        blocks: Residual blocks of each level.
        posterior: 'gaussian', or 'flow' for a normalising flow (models/flow.py).
        flow_levels: Number of levels with a flow, the coarsest ones that have latents.
    """

    widths: Annotated[tuple[int, ...], Length(1, MOST_LEVELS), Range(1, 4096, what="channels")] = (32, 64, 128, 256, 256)
    latents: Annotated[tuple[int, ...], Length(1, MOST_LEVELS), Range(0, 1024, what="channels")] = (4, 8, 16, 16, 16)
    blocks: Annotated[int, Range(1, 64)] = 2
    posterior: Annotated[str, OneOf((GAUSSIAN, FLOW))] = GAUSSIAN
    flow_levels: Annotated[int, Range(1, MOST_LEVELS)] = 2

    def __post_init__(self) -> None:
        check_fields(self)
        if len(self.widths) != len(self.latents):
            raise InputError(
                f"widths has {len(self.widths)} levels and latents {len(self.latents)}, expected one latent count for each width"
            )
        if not any(self.latents):
            raise InputError(f"latents {list(self.latents)} found, expected counts from 0, and latents on one level at least")
        # Encoder and decoder have two convolutions of 27 taps in each block, the heads four more at each level.
        weights = sum(27 * width**2 * (4 * self.blocks + 4) for width in self.widths)
        if weights > MOST_WEIGHTS:
            raise InputError(
                f"widths {list(self.widths)} and blocks {self.blocks} found, about {weights:.1e} weights, expected at most "
                f"{MOST_WEIGHTS:.0e}: take smaller widths"
            )
        if self.posterior == FLOW and min(self.latents[level] for level in self.flow_indices) < 2:
            raise InputError(
                f"posterior {FLOW} on {self.flow_levels} levels with latents {list(self.latents)} found, expected 1 level or "
                "more with 2 latents or more each: half of them are moved by the other half"
            )

    @property
    def flow_indices(self) -> list[int]:
        """The levels whose posterior has a flow."""
        stochastic = [level for level, latents in enumerate(self.latents) if latents]
        return stochastic[-self.flow_levels :] if self.posterior == FLOW else []

    @property
    def stride(self) -> int:
        """The coarsest stride in voxels; side lengths of patches are multiples of it."""
        return int(2 ** (len(self.widths) - 1))
