"""Metropolis-adjusted Langevin steps in the latents of a patch (CryoWGEN-II).

    pi(e)  ~  exp( log p(y | G(e)) / T ) N(e; 0, I)                       e: latents in units of the prior, z = m + s e
    e'     =  e + eta/2 P grad log pi(e) + sqrt(eta P) xi                 xi ~ N(0, I)
    accepted with probability  min( 1, pi(e') q(e | e') / ( pi(e) q(e' | e) ) )

(Roberts and Tweedie 1996; drift and noise as on open-cryo's page on Langevin.) Chains start from a draw of the amortised
posterior. P is diagonal: the variance of that posterior in units of the prior, widened by T; it is constant along the chain. The
first half of a chain is discarded; in it the step size is adapted to an acceptance of TARGET_ACCEPTANCE by ever smaller changes.
In the second half it falls to LAST of that by a fixed schedule, so that pi is invariant. Without the acceptance test the chains
would have a bias of order eta.

Step, schedule, chains and score of the published sampler are not available. This is a reconstruction with the score of the
trained ladder. At T = 1 pi is the Bayes posterior; any other T is a tempered one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from cryovae.models.ladder import ByLevel
from cryovae.posterior.problem import Moves, Problem

# The best acceptance in many dimensions (Roberts and Rosenthal 1998), the share of the step size at the end, and the first step.
TARGET_ACCEPTANCE, LAST = 0.574, 0.5
FIRST = 0.05

# By level: (batch, channels, z, y, x).
Codes = dict[int, Tensor]
# Codes to log pi, (batch,), and the decoded densities, (batch, z, y, x).
Density = Callable[[Codes], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class State:
    """The state of the chains, one a row.

    Attributes:
        codes: Latents in units of the prior, by level.
        value: log pi without a constant, (batch,).
        slope: The gradient of log pi, by level.
        decoded: Densities, (batch, z, y, x).
    """

    codes: Codes
    value: Tensor
    slope: Codes
    decoded: Tensor


@dataclass(frozen=True)
class Step:
    """A step of the chains.

    Attributes:
        state: The state after the step.
        accepted: 1 where the proposal was accepted, else 0, (batch,).
        size: eta, (batch,).
        kept: Whether the step is in the second half.
    """

    state: State
    accepted: Tensor
    size: Tensor
    kept: bool


def target(problem: Problem, temperature: float = 1.0) -> Density:
    """log pi of the patches, without a constant."""

    def at(codes: Codes) -> tuple[Tensor, Tensor]:
        density = problem.prior.at(codes).density
        log_prior = torch.stack([-0.5 * part.double().square().flatten(1).sum(1) for part in codes.values()]).sum(0)
        return problem.score(density).double() / temperature + log_prior, density

    return at


@torch.no_grad()
def start(problem: Problem, noise: ByLevel, temperature: float = 1.0, moves: Moves | None = None) -> tuple[Codes, Codes]:
    """A draw of the posterior in units of the prior, and its variance there, P; by level."""
    levels = problem.posterior.moved(moves).sample(noise).levels
    codes = {output.level: output.code() for output in levels}
    scale = {}
    for output in levels:
        # The width of a flow posterior is that of its base.
        precision = torch.exp(output.prior.log_variance - output.posterior.base.log_variance).clamp_min(1.0)
        scale[output.level] = 1 / (1 + (precision - 1) / temperature)
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
    """Steps of a chain for each patch.

    Args:
        density: log pi.
        codes: Start of the chains, by level.
        scale: P, by level.
        steps: Number of steps.
        noise: Number of a step to its N(0, I), by level.
        generator: Of the acceptance tests.
        first: Step size of the first step.

    The caller must freeze the weights of the model, or their gradients are computed for nothing.
    """
    state = _at(density, codes)
    log_size = torch.full_like(state.value, first).log()
    half = steps // 2
    for number in range(steps):
        kept = number >= half
        size = log_size.exp() * (LAST ** ((number - half) / max(steps - half, 1)) if kept else 1.0)
        state, probability, accepted = _moved(density, state, scale, size, noise(number), generator)
        if not kept:
            log_size = log_size + 2.0 * (probability - TARGET_ACCEPTANCE) / (1 + number) ** 0.5
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
    """The next state, the acceptance probability of the proposal, and 1 if it was accepted, (batch,) each."""
    proposal = {
        level: code + _drift(state.slope[level], scale[level], size) + (_rows(size, code) * scale[level]).sqrt() * noise[level]
        for level, code in state.codes.items()
    }
    new = _at(density, proposal)
    log_probability = new.value - state.value + _log_move(new, state, scale, size) - _log_move(state, new, scale, size)
    # A proposal without a finite density is rejected.
    probability = torch.nan_to_num(log_probability, nan=-torch.inf).clamp(max=0).exp()
    uniform = torch.rand(len(probability), generator=generator, dtype=torch.float64).to(probability)
    accepted = uniform < probability
    state = State(
        {level: _where(accepted, new.codes[level], code) for level, code in state.codes.items()},
        torch.where(accepted, new.value, state.value),
        {level: _where(accepted, new.slope[level], slope) for level, slope in state.slope.items()},
        _where(accepted, new.decoded, state.decoded),
    )
    return state, probability, accepted.to(probability)


def _drift(slope: Tensor, scale: Tensor, size: Tensor) -> Tensor:
    return 0.5 * _rows(size, slope) * scale * slope


def _log_move(start: State, end: State, scale: Codes, size: Tensor) -> Tensor:
    """log q(end | start), (batch,), without the terms that are the same both ways."""
    total = torch.zeros_like(size)
    for level, code in start.codes.items():
        residual = end.codes[level] - code - _drift(start.slope[level], scale[level], size)
        total = total - 0.5 * (residual.square() / scale[level]).double().flatten(1).sum(1) / size
    return total


def _rows(values: Tensor, like: Tensor) -> Tensor:
    return values.to(like).view(-1, *(1,) * (like.ndim - 1))


def _where(rows: Tensor, new: Tensor, old: Tensor) -> Tensor:
    return torch.where(rows.view(-1, *(1,) * (old.ndim - 1)), new, old)
