"""The latent-shuffle ablation: log-likelihood lost if one level of latents is replaced by that of another patch.

    loss_l = ( log p(y_i | G(e_i)) - log p(y_i | G(e_i, e_l from patch i + 1)) ) / bins          e: codes of the posterior's means

Codes are latents in units of the prior, so the codes of other levels stay valid. If the posterior of a level equals the prior,
its code is 0 for all patches and its loss is exactly 0.
"""

from __future__ import annotations

import torch
from torch import Tensor

from cryovae.data.measurement import Measurement
from cryovae.models.distributions import standardised
from cryovae.models.ladder import Ladder, Q, R
from cryovae.physics.likelihood import log_likelihood, scored_bins
from cryovae.posterior.problem import posterior_of


@torch.no_grad()
def shuffle_losses(ladder: Ladder, m: Measurement, role: int = Q) -> dict[int, Tensor]:
    """Loss in nats per coefficient, (batch,), by level, 0 the finest; scored on measured bins for q and target bins for r."""
    mask = m.target_mask if role == R else m.mask
    bins = scored_bins(mask, m.data.shape, m.support).clamp_min(1)
    prior = ladder.prior(m.data.shape[-3:], len(m.data))
    own = posterior_of(ladder, m, role).at([None] * len(ladder.levels))
    codes = {output.level: standardised(output.posterior.mean, output.prior) for output in own.levels}

    def scored(density: Tensor) -> Tensor:
        return log_likelihood(density, m.data, mask, m.scored_variance, m.support, m.mask)

    own_score = scored(own.density)
    return {level: (own_score - scored(prior.at(codes | {level: codes[level].roll(1, 0)}).density)) / bins for level in codes}
