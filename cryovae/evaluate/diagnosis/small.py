"""The evidence of models that are small enough for annealed importance sampling: one level of latents, or few of them.

Latents are taken in units of the prior, z = m + s e, so that log p(e) is N(0, I) whatever the coarser levels are; chains start
from the posterior of the encoder, which is far nearer than the prior.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from cryovae.data.measurement import Measurement
from cryovae.evaluate.diagnosis.ais import Ends, annealed
from cryovae.evaluate.diagnosis.patches import repeated, rows
from cryovae.models.distributions import DiagonalGaussian, Posterior, standardised
from cryovae.models.ladder import Ladder
from cryovae.posterior.problem import Problem, problem_of

# Latents of a patch, above which a chain would have to be longer than a training.
MOST = 20_000


@dataclass(frozen=True)
class Evidence:
    """log p(y) in nats a measured coefficient, by patch, with errors; the smallest ESS of the chains; whether it is enough."""

    nats: list[float]
    errors: list[float]
    effective: float
    accepted: float
    converged: bool


def latents_of(ladder: Ladder, m: Measurement) -> int:
    """How many latents a patch has."""
    return sum(prod(shape) for shape in ladder.latent_shapes(m.data.shape[-3:]))


def small_enough(ladder: Ladder, m: Measurement) -> bool:
    """Whether chains can walk through the latents of a patch."""
    return latents_of(ladder, m) <= MOST


def evidence_of(ladder: Ladder, m: Measurement, role: int, temperatures: int, chains: int, seed: int) -> Evidence:
    """By patch, ``chains`` of them at a time in memory."""
    found = []
    bins = []
    for number in range(len(m.data)):
        one = repeated(rows(m, slice(number, number + 1)), chains)
        problem = problem_of(ladder, one, role)
        generator = torch.Generator().manual_seed(seed + number)
        start = drawn_codes(problem, generator)
        shapes = {level: part.shape[1:] for level, part in start.items()}
        flat = torch.cat([part.flatten(1) for part in start.values()], 1)
        found.append(annealed(flat, _walked(problem, shapes), temperatures, generator))
        bins.append(float(problem.bins[0]))
    return Evidence(
        [one.evidence / count for one, count in zip(found, bins, strict=True)],
        [one.error / count for one, count in zip(found, bins, strict=True)],
        min(one.effective for one in found),
        sum(one.accepted for one in found) / len(found),
        all(one.converged for one in found),
    )


@torch.no_grad()
def drawn_codes(problem: Problem, generator: torch.Generator) -> dict[int, Tensor]:
    """A draw of the posterior in units of the prior, by level, coarse to fine."""
    codes: dict[int, Tensor] = {}

    def choose(level: int, prior: DiagonalGaussian, state: Tensor) -> tuple[Posterior, Tensor]:
        q = problem.posterior(level, prior, state)
        z = q.sample(torch.randn(prior.mean.shape, generator=generator, dtype=prior.mean.dtype).to(prior.mean.device))
        codes[level] = standardised(z, prior)
        return q, z

    problem.top_down(choose)
    return codes


def ends(problem: Problem, codes: dict[int, Tensor]) -> tuple[Tensor, Tensor]:
    """log q(e) and log p(e) + log p(y | G(e)), (batch,) each, less the same constant of 1/2 log 2 pi a latent."""
    posterior: list[Tensor] = []
    prior_of: list[Tensor] = []

    def choose(level: int, prior: DiagonalGaussian, state: Tensor) -> tuple[Posterior, Tensor]:
        q, z = problem.posterior(level, prior, state), prior.sample(codes[level])
        # A density of e: what the change of units from z to e costs is the width of the prior.
        posterior.append((q.log_densities(z) + 0.5 * prior.log_variance).sum((1, 2, 3, 4)))
        prior_of.append(-0.5 * codes[level].square().sum((1, 2, 3, 4)))
        return q, z

    density, _ = problem.top_down(choose)
    return torch.stack(posterior).sum(0), torch.stack(prior_of).sum(0) + problem.score(density)


def _walked(problem: Problem, shapes: dict[int, torch.Size]) -> Ends:
    def at(flat: Tensor) -> tuple[Tensor, Tensor]:
        parts = flat.split([prod(shape) for shape in shapes.values()], 1)
        return ends(problem, {level: part.unflatten(1, shapes[level]) for level, part in zip(shapes, parts, strict=True)})

    return at
