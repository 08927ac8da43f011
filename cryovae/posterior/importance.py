"""Importance-weighted bounds on the evidence, and how many of their draws count.

    L_K = E log 1/K sum_k w_k          K = 1 is the ELBO, and L_K grows to log p(y)          (Burda, Grosse, Salakhutdinov 2016)
    ESS = (sum w)^2 / sum w^2          of all draws

With the tens of thousands of latents of a patch one draw outweighs all others, ESS is 1, and L_K is only a loose lower bound of
the evidence: below an ESS of MIN_EFFECTIVE it is reported as "not converged".
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log

import torch
from torch import Tensor

MIN_EFFECTIVE = 5.0


@dataclass(frozen=True)
class ImportanceBound:
    """L_K of ``draws`` = K draws; ``bound`` in nats per patch, (batch,)."""

    draws: int
    bound: Tensor


def importance_bounds(log_weights: Tensor) -> list[ImportanceBound]:
    """L_K for K = 1, 2, 4, ... up to all draws, from log-weights (draws, batch): each averaged over all groups of K draws."""
    bounds = []
    count = 1
    while count <= len(log_weights):
        groups = len(log_weights) // count
        grouped = log_weights[: groups * count].view(groups, count, -1)
        bounds.append(ImportanceBound(count, (torch.logsumexp(grouped, 1) - log(count)).mean(0)))
        count *= 2
    return bounds


def effective_sample_size(log_weights: Tensor) -> Tensor:
    """ESS, (batch,), from 1 to the number of draws, for log-weights (draws, batch)."""
    return torch.exp(2 * torch.logsumexp(log_weights, 0) - torch.logsumexp(2 * log_weights, 0))


def standard_error(values: Tensor) -> float:
    """Standard error of the mean over patches (batch,); NaN for a single one."""
    return float(values.double().std() / len(values) ** 0.5)
