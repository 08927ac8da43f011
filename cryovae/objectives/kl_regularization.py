"""Regularisation of the KL against latents that collapse to the prior: what the loss uses instead of the sum of the KL.

    free bits    sum_g max( lambda, KL_g )        g: groups of channels of a level, KL_g the mean over the batch
    balance      sum_l gamma_l KL_l               gamma_l ~ KL_l / n_l, of mean 1, without gradient; n_l: latents of level l

Free bits (Kingma et al. 2016, IAF): a group below lambda has no gradient, so nothing drives it to the prior. Balance (Vahdat,
Kautz 2020, NVAE) weights a level by its nats for each latent, so a level with little information is penalised little. It is used
during the warm-up alone, as there is no bound with weights other than 1. Both change the loss and no reported figure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cryovae.models.ladder import LevelOutput
from cryovae.objectives.aggregate import aggregated

# Nats per latent that are added to every level before levels are compared, so that all may be zero.
MIN_NATS = 1e-6


@dataclass(frozen=True)
class KLRegularization:
    """Regularisation of the KL.

    Attributes:
        free_bits: Nats per patch that a group of channels has for free.
        group: Channels of a group.
        balance: Weight levels by their nats for each latent.
        aggregate: Distance that replaces the KL of the coarsest level (aggregate.py), or '' for none.
        weight: Weight of that distance.
        certain: The latents of the coarsest level are q's means and not drawn.
    """

    free_bits: float = 0.0
    group: int = 1
    balance: bool = False
    aggregate: str = ""
    weight: float = 10.0
    certain: bool = False

    @property
    def any(self) -> bool:
        """Whether the loss differs from the plain sum."""
        return self.free_bits > 0 or self.balance or bool(self.aggregate)


def regularized_kl(
    outputs: Sequence[LevelOutput], kl_regularization: KLRegularization, generator: torch.Generator | None = None
) -> Tensor:
    """The regularised KL in nats, summed over the batch; outputs: coarse to fine; generator: of draws from the prior."""
    if kl_regularization.aggregate:
        finer = [output.kl().sum() for output in outputs[1:]]
        return torch.stack(
            [kl_regularization.weight * aggregated(outputs[0], kl_regularization.aggregate, generator), *finer]
        ).sum()
    by_channel = [output.nats().sum((2, 3, 4)) for output in outputs]
    levels = torch.stack([_above_free(nats, kl_regularization).sum() for nats in by_channel])
    if not kl_regularization.balance:
        return levels.sum()
    sizes = levels.new_tensor([output.prior.mean[0].numel() for output in outputs])
    weights = torch.stack([nats.sum().abs() / len(nats) for nats in by_channel]).detach() / sizes + MIN_NATS
    return (levels * weights / weights.mean()).sum()


def _above_free(by_channel: Tensor, kl_regularization: KLRegularization) -> Tensor:
    """Nats (batch, channels) to the regularised KL of each group of channels, summed over the batch."""
    groups = torch.stack([part.sum() for part in by_channel.split(kl_regularization.group, 1)])
    return groups.clamp_min(kl_regularization.free_bits * len(by_channel)) if kl_regularization.free_bits else groups
