"""Semi-amortised inference: the posterior of each patch moved by steps of its own, from where the encoder put it.

    q*  =  argmax over shift, widen of L[ q moved ]          means and log-variances free for each latent, weights frozen
    gap =  L[q*] - L[q]                                      the amortisation gap: what the encoder loses by answering at once

(Kim et al., Semi-amortized variational autoencoders, 2018, less its steps in training; Cremer, Li, Duvenaud 2018 for the gap.)
The bound L is the exact one of the measured bins. q* starts at q, so that the gap is not below 0 but for the scatter of what it
is estimated from: the search, the choice of its best step, and the report each have random numbers of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import cos, pi

import torch
from torch import Tensor

from cryovae.models.distributions import DiagonalGaussian, Posterior
from cryovae.posterior.problem import Move, Moves, Problem, drawn, terms

# Of the steps after which the best is looked for, and the draws by which it is.
CHECKS, JUDGED_BY = 5, 4
RATE = 0.05


def unmoved(problem: Problem) -> Moves:
    """The posterior as it is."""
    with torch.no_grad():
        means: dict[int, Tensor] = {}

        def choose(level: int, prior: DiagonalGaussian, state: Tensor) -> tuple[Posterior, Tensor]:
            q = problem.posterior(level, prior, state)
            means[level] = q.mean
            return q, q.mean

        problem.top_down(choose)
    return {level: Move(torch.zeros_like(mean), torch.zeros_like(mean)) for level, mean in means.items()}


def is_check(step: int, steps: int) -> bool:
    """Whether the best is looked for after this step, counted from 1."""
    return step % max(1, steps // CHECKS) == 0 or step == steps


def trail(problem: Problem, steps: int, rate: float = RATE, seed: int = 0) -> Iterator[tuple[int, Moves]]:
    """Adam's steps on the moves of the posterior that raise the bound of each patch; the number of each, from 1, and the moves.

    The weights of a model must be frozen by the caller. What is yielded changes with the next step.
    """
    moves = unmoved(problem)
    free = [part.requires_grad_(True) for move in moves.values() for part in (move.shift, move.widen)]
    optimiser = torch.optim.Adam(free, lr=rate)
    generator = torch.Generator().manual_seed(seed)
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = rate * (0.05 + 0.95 * 0.5 * (1 + cos(pi * step / steps)))
        with torch.enable_grad():
            optimiser.zero_grad(set_to_none=True)
            (-terms(problem, generator, moves).bound.sum()).backward()
        optimiser.step()
        yield step + 1, moves


def optimised(
    problem: Problem,
    steps: int,
    rate: float = RATE,
    seed: int = 0,
    watch: Callable[[int], None] = lambda step: None,
    stop: int | None = None,
) -> Moves:
    """The moves that raise the bound of each patch; of each patch the best of a few checks, the start among them.

    watch: is told the number of each step. stop: leave off after this many of the ``steps``, by which the rate falls.
    """
    best = unmoved(problem)
    reached = _judged(problem, best, seed)
    for step, moves in trail(problem, steps, rate, seed):
        if is_check(step, steps) or step == stop:
            now = _judged(problem, moves, seed)
            best = _better(now > reached, moves, best)
            reached = torch.maximum(now, reached)
        watch(step)
        if step == stop:
            break
    return best


def _judged(problem: Problem, moves: Moves, seed: int) -> Tensor:
    return drawn(problem, JUDGED_BY, seed + 1, moves).bound_mean


def _better(rows: Tensor, new: Moves, old: Moves) -> Moves:
    chosen = rows.view(-1, 1, 1, 1, 1)
    return {
        level: Move(
            torch.where(chosen, new[level].shift.detach(), old[level].shift),
            torch.where(chosen, new[level].widen.detach(), old[level].widen),
        )
        for level in old
    }
