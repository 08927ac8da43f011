"""Semi-amortised inference: gradient steps on the posterior of each patch, starting from that of the encoder.

    q*  =  argmax over shift, widen of L[ q moved ]          mean and log-variance of each latent are free, weights are frozen
    gap =  L[q*] - L[q]                                      the amortisation gap: the loss from inference in one pass

(Kim et al., Semi-amortized variational autoencoders, 2018, without its steps in training; Cremer, Li, Duvenaud 2018 for the gap.)
L is the exact bound of the measured bins. q* starts at q, so the gap is not negative except for the variance of its estimate: the
optimisation, the choice of the best step and the reported gap use different random numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import cos, pi

import torch
from torch import Tensor

from cryovae.models.distributions import Move
from cryovae.posterior.problem import Moves, Problem, drawn, terms

# Number of checks for the best step, and draws for each of them.
CHECKS, CHECK_DRAWS = 5, 4
RATE = 0.05


@torch.no_grad()
def unmoved(problem: Problem) -> Moves:
    """Moves of zero, for the posterior as the encoder gives it."""
    levels = problem.posterior.mean().levels
    return {o.level: Move(torch.zeros_like(o.latent), torch.zeros_like(o.latent)) for o in levels}


def is_check(step: int, steps: int) -> bool:
    """Whether the bound is checked after this step, counted from 1."""
    return step % max(1, steps // CHECKS) == 0 or step == steps


def refinement_steps(problem: Problem, steps: int, rate: float = RATE, seed: int = 0) -> Iterator[tuple[int, Moves]]:
    """Adam steps on the moves of the posterior that raise the bound of each patch; yields the step, from 1, and the moves.

    The caller must freeze the weights of the model. The yielded moves are changed in place by the next step.
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
    """The moves that raise the bound of each patch, the best of a few checks and of the start.

    Args:
        problem: The patches.
        steps: Steps over which the learning rate decays.
        rate: Initial learning rate.
        seed: Of the random numbers.
        watch: Called with the number of each step.
        stop: Stop after this step, or after ``steps`` if None.
    """
    best = unmoved(problem)
    best_bound = _bound(problem, best, seed)
    for step, moves in refinement_steps(problem, steps, rate, seed):
        if is_check(step, steps) or step == stop:
            bound = _bound(problem, moves, seed)
            best = _better(bound > best_bound, moves, best)
            best_bound = torch.maximum(bound, best_bound)
        watch(step)
        if step == stop:
            break
    return best


def _bound(problem: Problem, moves: Moves, seed: int) -> Tensor:
    return drawn(problem, CHECK_DRAWS, seed + 1, moves).bound_mean


def _better(rows: Tensor, new: Moves, old: Moves) -> Moves:
    rows = rows.view(-1, 1, 1, 1, 1)
    return {
        level: Move(
            torch.where(rows, new[level].shift.detach(), old[level].shift),
            torch.where(rows, new[level].widen.detach(), old[level].widen),
        )
        for level in old
    }
