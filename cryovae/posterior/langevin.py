"""Langevin steps through the latents of a patch, each accepted or not (CryoWGEN-II).

    pi(e)  ~  exp( log p(y | G(e)) / T ) N(e; 0, I)                       e: latents in units of the prior, z = m + s e
    e'     =  e + eta/2 P grad log pi(e) + sqrt(eta P) xi                 xi ~ N(0, I)
    taken with probability  min( 1, pi(e') q(e | e') / ( pi(e) q(e' | e) ) )

(Roberts and Tweedie 1996; drift and noise as open-cryo's page on Langevin has them.) Chains start from a draw of the amortised
posterior. P is diagonal: the variance of that posterior in units of the prior, as T widens it; it does not change with the
chain. The step anneals: over the first half it is fitted to an acceptance of ACCEPTED, by ever smaller changes, and what is
drawn there is thrown away; over the second half it falls to LAST of that by a fixed schedule, so that the moves leave pi as it
is whatever the step. Without the acceptance the chains would have a bias of order eta.

The published sampler's step, schedule, chains and source of the score could not be found: this is a reconstruction, with the
score of the trained ladder. At T = 1 pi is the Bayes posterior; any other T is a tempered one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from cryovae.models.distributions import DiagonalGaussian, Posterior, standardised
from cryovae.models.flow import FlowPosterior
from cryovae.posterior.problem import Moves, Problem

# The acceptance that is best in many dimensions (Roberts and Rosenthal 1998), and the share of the step that is left at the end.
ACCEPTED, LAST = 0.574, 0.5
FIRST = 0.05

# By level: (batch, channels, z, y, x).
Codes = dict[int, Tensor]
# Codes to log pi, (batch,), and what they are decoded to, (batch, z, y, x).
Density = Callable[[Codes], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class State:
    """Where chains are, one a row: codes, log pi (batch,), its gradient by level, and what is decoded (batch, z, y, x)."""

    codes: Codes
    value: Tensor
    slope: Codes
    decoded: Tensor


@dataclass(frozen=True)
class Step:
    """A step of chains: where they are after it, the share that was accepted, (batch,), the step's size, (batch,), and whether it
    is past the first half.
    """

    state: State
    accepted: Tensor
    size: Tensor
    kept: bool


def target(problem: Problem, temperature: float = 1.0) -> Density:
    """log pi of a ladder's patches, less a constant."""

    def at(codes: Codes) -> tuple[Tensor, Tensor]:
        def choose(level: int, prior: DiagonalGaussian, state: Tensor) -> tuple[Posterior, Tensor]:
            return prior, prior.sample(codes[level])

        density, _ = problem.top_down(choose)
        prior_of = torch.stack([-0.5 * part.double().square().flatten(1).sum(1) for part in codes.values()]).sum(0)
        return problem.score(density).double() / temperature + prior_of, density

    return at


@torch.no_grad()
def begun(problem: Problem, noise: Sequence[Tensor], temperature: float = 1.0, moves: Moves | None = None) -> tuple[Codes, Codes]:
    """A draw of the posterior in units of the prior, and its variance there, as a preconditioner; by level."""
    codes: Codes = {}
    scale: Codes = {}

    def choose(level: int, prior: DiagonalGaussian, state: Tensor) -> tuple[Posterior, Tensor]:
        q = problem.posterior(level, prior, state)
        q = q if moves is None else moves[level].of(q)
        z = q.sample(noise[level])
        codes[level] = standardised(z, prior)
        # Of one that a flow pushed, what it pushes.
        base = q if isinstance(q, DiagonalGaussian) else cast(FlowPosterior, q).base
        precision = torch.exp(prior.log_variance - base.log_variance).clamp_min(1.0)
        scale[level] = 1 / (1 + (precision - 1) / temperature)
        return q, z

    problem.top_down(choose)
    return codes, scale


def chains(
    density: Density,
    codes: Codes,
    scale: Codes,
    steps: int,
    noise: Callable[[int], Codes],
    generator: torch.Generator,
    first: float = FIRST,
) -> Iterator[Step]:
    """``steps`` moves of each row of ``codes``. scale: P by level. noise: of a step, N(0, I) by level. first: size of the first.

    Weights of a model must be frozen by the caller, or their gradients are computed for nothing.
    """
    state = _at(density, codes)
    log_size = torch.full_like(state.value, first).log()
    half = steps // 2
    for number in range(steps):
        kept = number >= half
        size = log_size.exp() * (LAST ** ((number - half) / max(steps - half, 1)) if kept else 1.0)
        state, share, accepted = _moved(density, state, scale, size, noise(number), generator)
        if not kept:
            log_size = log_size + 2.0 * (share - ACCEPTED) / (1 + number) ** 0.5
        yield Step(state, accepted, size, kept)


def _at(density: Density, codes: Codes) -> State:
    at = {level: part.detach().requires_grad_(True) for level, part in codes.items()}
    with torch.enable_grad():
        value, decoded = density(at)
        slopes = torch.autograd.grad(value.sum(), list(at.values()))
    slope = dict(zip(at, slopes, strict=True))
    return State({level: part.detach() for level, part in at.items()}, value.detach(), slope, decoded.detach())


def _moved(
    density: Density, state: State, scale: Codes, size: Tensor, noise: Codes, generator: torch.Generator
) -> tuple[State, Tensor, Tensor]:
    """The next state, the probability with which the proposal was to be accepted, and whether it was, (batch,) each."""
    proposal = {
        level: code + _drift(state.slope[level], scale[level], size) + (_rows(size, code) * scale[level]).sqrt() * noise[level]
        for level, code in state.codes.items()
    }
    new = _at(density, proposal)
    log_share = new.value - state.value + _log_move(new, state, scale, size) - _log_move(state, new, scale, size)
    # A step into nowhere is turned down.
    share = torch.nan_to_num(log_share, nan=-torch.inf).clamp(max=0).exp()
    drawn = torch.rand(len(share), generator=generator, dtype=torch.float64).to(share)
    taken = drawn < share
    joined = State(
        {level: _where(taken, new.codes[level], code) for level, code in state.codes.items()},
        torch.where(taken, new.value, state.value),
        {level: _where(taken, new.slope[level], slope) for level, slope in state.slope.items()},
        _where(taken, new.decoded, state.decoded),
    )
    return joined, share, taken.to(share)


def _drift(slope: Tensor, scale: Tensor, size: Tensor) -> Tensor:
    return 0.5 * _rows(size, slope) * scale * slope


def _log_move(start: State, end: State, scale: Codes, size: Tensor) -> Tensor:
    """log q(end | start), (batch,), less what is the same both ways."""
    total = torch.zeros_like(size)
    for level, code in start.codes.items():
        rest = end.codes[level] - code - _drift(start.slope[level], scale[level], size)
        total = total - 0.5 * (rest.square() / scale[level]).double().flatten(1).sum(1) / size
    return total


def _rows(values: Tensor, like: Tensor) -> Tensor:
    return values.to(like).view(-1, *(1,) * (like.ndim - 1))


def _where(rows: Tensor, new: Tensor, old: Tensor) -> Tensor:
    return torch.where(rows.view(-1, *(1,) * (old.ndim - 1)), new, old)
