"""Active units: the latent channels that depend on the data, by level.

    channel c is active if  Var_u E_r[ z_c | u ] > 0.01  in units of the prior's variance     (Burda, Grosse, Salakhutdinov 2016)

The variance is taken over patches and over the positions within them, as the latents are spatial.
"""

from __future__ import annotations

import torch
from torch import Tensor

from cryovae.models.ladder import Ladder, R

MIN_ACTIVE_VARIANCE = 0.01


@torch.no_grad()
def active_units(ladder: Ladder, input_masked: Tensor) -> dict[str, int]:
    """Number of active channels by level, 0 the finest, for inputs (batch, z, y, x) as r sees them."""
    levels = ladder.posterior(ladder.encode(input_masked, R), R).mean().levels
    variances = {str(output.level): output.code().transpose(0, 1).flatten(1).var(1) for output in reversed(levels)}
    return {level: int((variance > MIN_ACTIVE_VARIANCE).sum()) for level, variance in variances.items()}
