"""Remedies for latents that collapse to the prior: what the loss charges for the KL in place of its plain sum.

    free bits    sum_g max( lambda, KL_g )        g: groups of channels of a level, KL_g the mean over the batch
    balance      sum_l gamma_l KL_l               gamma_l ~ KL_l / n_l, of mean 1, without gradient; n_l: latents of level l

Free bits (Kingma et al. 2016, IAF) charge nothing more for a group that costs less than lambda, so that nothing drives it to the
prior. Balance (Vahdat, Kautz 2020, NVAE) charges a level by the nats that a latent of it has: one that says little pays little;
for the warm-up alone, as with other weights than 1 there is no bound. Both change the loss and never what is reported of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cryovae.models.ladder import LevelOutput
from cryovae.objectives.aggregate import aggregated

# Nats a latent that are added to every level before they are compared, so that all may be zero.
LEAST = 1e-6


@dataclass(frozen=True)
class KLRegularization:
    """free_bits: nats a patch that each group of ``group`` channels has for nothing. balance: levels by their nats a latent.
    aggregate: the distance that is charged instead on the coarsest level, times ``weight`` (aggregate.py), or none. certain: its
    latents are q's means, and not drawn.
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
    """What the loss charges for the KL of a batch, in nats summed over it; outputs: coarse to fine. generator: of draws from p."""
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
    dear = torch.stack([nats.sum().abs() / len(nats) for nats in by_channel]).detach() / sizes + LEAST
    return (levels * dear / dear.mean()).sum()


def _above_free(by_channel: Tensor, kl_regularization: KLRegularization) -> Tensor:
    """Nats (batch, channels) to what is charged for each group of channels, summed over the batch."""
    groups = torch.stack([part.sum() for part in by_channel.split(kl_regularization.group, 1)])
    return groups.clamp_min(kl_regularization.free_bits * len(by_channel)) if kl_regularization.free_bits else groups
