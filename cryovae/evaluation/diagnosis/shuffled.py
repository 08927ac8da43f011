"""The latent-shuffle ablation: the loss from giving each patch the latents of another, one level at a time.

    loss_l = ( log p(y_i | G(e_i)) - log p(y_i | G(e_i, e_l from patch i + 1)) ) / bins          e: codes of the posterior's means

Codes are in units of the prior, so that the other levels keep theirs. A level whose posterior is the prior has the code 0 for all
patches, and its loss is exactly 0.
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
    """Nats per coefficient, (batch,), by level, 0 the finest; of the measured bins for q, of the target bins for r."""
    mask = m.target_mask if role == R else m.mask
    bins = scored_bins(mask, m.data.shape, m.support).clamp_min(1)
    prior = ladder.prior(m.data.shape[-3:], len(m.data))
    own = posterior_of(ladder, m, role).at([None] * len(ladder.levels))
    codes = {output.level: standardised(output.posterior.mean, output.prior) for output in own.levels}

    def scored(density: Tensor) -> Tensor:
        return log_likelihood(density, m.data, mask, m.scored_variance, m.support, m.mask)

    own_score = scored(own.density)
    return {level: (own_score - scored(prior.at(codes | {level: codes[level].roll(1, 0)}).density)) / bins for level in codes}
