"""The latent-shuffle ablation: what it costs to give each patch the latents of another, one level at a time.

    loss_l = ( log p(y_i | G(e_i)) - log p(y_i | G(e_i, e_l from patch i + 1)) ) / bins          e: codes of the posterior's means

Codes are in units of the prior, so that the other levels keep theirs, and a level that is the prior has the code 0 for all
patches and costs exactly nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor

from cryovae.data.measurement import Measurement
from cryovae.models.distributions import DiagonalGaussian, Posterior, standardised
from cryovae.models.ladder import Choice, Ladder, Q, R
from cryovae.physics.likelihood import log_likelihood, scored_bins


@torch.no_grad()
def shuffle_losses(ladder: Ladder, m: Measurement, role: int = Q) -> dict[int, Tensor]:
    """By level, 0 the finest: nats a coefficient, (batch,). Of q all measured bins count, of r those that were hidden from it."""
    features = ladder.encode(m.input_masked if role == R else m.input_full, role)
    shape, batch = m.data.shape[-3:], len(m.data)
    codes: dict[int, Tensor] = {}

    def inferred(level: int, prior: DiagonalGaussian, state: Tensor) -> tuple[Posterior, Tensor]:
        block = ladder.level(level)
        q = (block.masked_posterior if role == R else block.posterior)(state, features[level], prior)
        codes[level] = standardised(q.mean, prior)
        return q, prior.sample(codes[level])

    input_full = _scored(m, ladder.top_down(shape, batch, inferred)[0], role)
    bins = scored_bins(m.target_mask if role == R else m.mask, m.data.shape, m.support).clamp_min(1)
    found: dict[int, Tensor] = {}
    for level in codes:
        others = codes | {level: codes[level].roll(1, 0)}
        found[level] = (input_full - _scored(m, ladder.top_down(shape, batch, _taken_from(others))[0], role)) / bins
    return found


def _taken_from(codes: dict[int, Tensor]) -> Choice:
    def choose(level: int, prior: DiagonalGaussian, state: Tensor) -> tuple[Posterior, Tensor]:
        return prior, prior.sample(codes[level])

    return choose


def _scored(m: Measurement, density: Tensor, role: int) -> Tensor:
    mask = m.target_mask if role == R else m.mask
    return log_likelihood(density, m.data, mask, m.scored_variance, m.support, m.mask)
