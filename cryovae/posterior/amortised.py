"""Amortised sampling: z ~ r(z | u), x = G(z), in pairs of opposite noise.

A pair z = m + s e and m - s e has the mean of r at every level of a linear ladder, so an average over pairs has much less
Monte Carlo error than one over independent samples.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cryovae.models.ladder import Ladder, R
from cryovae.physics.rotation import CubeRotation
from cryovae.posterior.noise_field import NoiseField


@torch.no_grad()
def sample_pair(
    ladder: Ladder, input_masked: Tensor, positions: Sequence[Sequence[int]], rotation: CubeRotation, field: NoiseField
) -> Tensor:
    """Two densities (2, batch, z, y, x) drawn with opposite noise, for tiles (batch, z, y, x) at ``positions``.

    The tiles and their noise are rotated by ``rotation``, and the densities are rotated back.
    """
    shapes = ladder.latent_shapes(input_masked.shape[-3:])
    noise = [rotation(field.tiles(positions, shape, level)) for level, shape in enumerate(shapes)]
    return rotation.inverse(ladder.restore_pair(ladder.encode(rotation(input_masked), R), noise))
