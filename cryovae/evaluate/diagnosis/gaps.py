"""The amortisation gap: what the encoder loses by answering at once instead of searching for each patch.

    gap = max over q* of L[q*] - L[q]          q*: means and log-variances free for each patch and latent, weights frozen

(Cremer, Li, Duvenaud 2018.) q* starts at q, so that the gap is not below 0 but for the scatter of what it is estimated from: the
search, the choice of its best step, and the report each have random numbers of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from math import cos, pi

import torch
from torch import Tensor

from cryovae.evaluate.diagnosis.problem import Move, Moves, Problem, drawn, terms
from cryovae.models.distributions import DiagonalGaussian, Posterior

# Of the steps after which the best is looked for, and the draws by which it is.
CHECKS, JUDGED_BY = 5, 4


def unmoved(problem: Problem) -> Moves:
    """The posterior as it is."""
    with torch.no_grad():
        means: dict[int, Tensor] = {}

        def choose(level: int, prior: DiagonalGaussian, state: Tensor) -> tuple[Posterior, Tensor]:
            q = problem.posterior(level, prior, state)
            means[level] = q.mean
            return q, q.mean

        problem.descend(choose)
    return {level: Move(torch.zeros_like(mean), torch.zeros_like(mean)) for level, mean in means.items()}


def optimised(
    problem: Problem, steps: int, rate: float = 0.05, seed: int = 0, watch: Callable[[int], None] = lambda step: None
) -> Moves:
    """The moves of the posterior that raise the bound of each patch, by Adam; of each patch the best of a few checks.

    The weights of a model must be frozen by the caller. watch: is told the number of each step.
    """
    moves = unmoved(problem)
    free = [part.requires_grad_(True) for move in moves.values() for part in (move.shift, move.widen)]
    optimiser = torch.optim.Adam(free, lr=rate)
    generator = torch.Generator().manual_seed(seed)
    best, reached = _copied(moves), _judged(problem, moves, seed)
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = rate * (0.05 + 0.95 * 0.5 * (1 + cos(pi * step / steps)))
        optimiser.zero_grad(set_to_none=True)
        (-terms(problem, generator, moves).bound.sum()).backward()
        optimiser.step()
        if (step + 1) % max(1, steps // CHECKS) == 0 or step + 1 == steps:
            now = _judged(problem, moves, seed)
            best = _better(now > reached, moves, best)
            reached = torch.maximum(now, reached)
        watch(step + 1)
    return best


def _judged(problem: Problem, moves: Moves, seed: int) -> Tensor:
    return drawn(problem, JUDGED_BY, seed + 1, moves).bound_mean


def _copied(moves: Moves) -> Moves:
    return {level: Move(move.shift.detach().clone(), move.widen.detach().clone()) for level, move in moves.items()}


def _better(rows: Tensor, new: Moves, old: Moves) -> Moves:
    chosen = rows.view(-1, 1, 1, 1, 1)
    return {
        level: Move(
            torch.where(chosen, new[level].shift.detach(), old[level].shift),
            torch.where(chosen, new[level].widen.detach(), old[level].widen),
        )
        for level in old
    }
