"""Active units: the latent channels that say something of the data, by level.

    channel c is active if  Var_u E_r[ z_c | u ] > 0.01  in units of the prior's variance     (Burda, Grosse, Salakhutdinov 2016)

The variance is taken over patches and over the places within them, as the latents are spatial.
"""

from __future__ import annotations

import torch
from torch import Tensor

from cryovae.models.distributions import DiagonalGaussian, Posterior
from cryovae.models.ladder import Ladder, R

LEAST_VARIANCE = 0.01


@torch.no_grad()
def active_units(ladder: Ladder, partial: Tensor) -> dict[str, int]:
    """Active channels of each level, by its number, 0 the finest; from inputs (batch, z, y, x) as r sees them."""
    features = ladder.encode(partial, R)
    found: dict[str, int] = {}

    def choose(level: int, prior: DiagonalGaussian, state: Tensor) -> tuple[Posterior, Tensor]:
        r = ladder.level(level).masked_posterior(state, features[level], prior)
        shift = ((r.mean - prior.mean) * torch.exp(-0.5 * prior.log_variance)).transpose(0, 1).flatten(1)
        found[str(level)] = int((shift.var(1) > LEAST_VARIANCE).sum())
        return r, r.mean

    ladder.top_down(partial.shape[-3:], len(partial), choose)
    return dict(sorted(found.items(), key=lambda item: int(item[0])))
