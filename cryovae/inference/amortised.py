"""Amortised sampling: z ~ r(z | u), x = G(z), in pairs of opposite noise.

A pair z = m + s e and m - s e has the mean of r at every level of a linear ladder, so an average over pairs holds far less
Monte-Carlo error than one over independent samples.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cryovae.inference.noise_field import NoiseField
from cryovae.models.ladder import Ladder
from cryovae.physics.rotation import CubeRotation


@torch.no_grad()
def sample_pair(
    ladder: Ladder, partial: Tensor, positions: Sequence[Sequence[int]], turn: CubeRotation, field: NoiseField
) -> tuple[Tensor, Tensor]:
    """Two densities (batch, z, y, x) drawn with opposite noise, for tiles (batch, z, y, x) at ``positions``.

    The tiles and their noise are turned by ``turn`` on the way in and back on the way out.
    """
    features = ladder.encode(turn(partial), 1)
    shapes = ladder.latent_shapes(partial.shape[-3:])
    noise = [
        turn(torch.stack([field.tile(position, shape, level) for position in positions]))
        for level, shape in enumerate(shapes)
    ]
    plus = ladder.restore(features, noise)
    minus = ladder.restore(features, [-e for e in noise])
    back = turn.inverse
    return back(plus), back(minus)


@torch.no_grad()
def decode_mean(ladder: Ladder, partial: Tensor, turn: CubeRotation) -> Tensor:
    """The density (batch, z, y, x) decoded from the means of r, in the orientation ``turn``."""
    return turn.inverse(ladder.restore(ladder.encode(turn(partial), 1), None))
