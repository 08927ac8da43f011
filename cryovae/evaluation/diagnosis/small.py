"""Evidence of models with few latents, by annealed importance sampling.

Latents are in units of the prior, z = m + s e, so that p(e) = N(0, I) for any value of the coarser levels. Chains start from the
posterior of the encoder, which is much closer to the target than the prior.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from cryovae.data.measurement import Measurement
from cryovae.evaluation.diagnosis.ais import LogDensities, annealed
from cryovae.evaluation.diagnosis.patches import repeated
from cryovae.models.ladder import Ladder
from cryovae.posterior.problem import Problem, problem_of

# Largest number of latents of a patch; with more, a chain would take longer than training.
MAX_LATENTS = 20_000


@dataclass(frozen=True)
class Evidence:
    """Evidence of some patches.

    Attributes:
        nats: log p(y) of each patch, in nats per measured coefficient.
        errors: Standard error of each, in nats per measured coefficient.
        effective: The smallest effective number of chains.
        accepted: Mean share of accepted moves.
        converged: Whether enough chains are effective for every patch.
    """

    nats: list[float]
    errors: list[float]
    effective: float
    accepted: float
    converged: bool


def latents_of(ladder: Ladder, m: Measurement) -> int:
    """Number of latents of a patch."""
    return sum(prod(shape) for shape in ladder.latent_shapes(m.data.shape[-3:]))


def small_enough(ladder: Ladder, m: Measurement) -> bool:
    """Whether a patch has few enough latents for annealed importance sampling."""
    return latents_of(ladder, m) <= MAX_LATENTS


def evidence_of(ladder: Ladder, m: Measurement, role: int, temperatures: int, chains: int, seed: int) -> Evidence:
    """Evidence of each patch.

    Args:
        ladder: The model.
        m: Patches.
        role: Q or R, the posterior from which chains start.
        temperatures: Number of temperatures.
        chains: Number of chains of each patch.
        seed: Seed of the first patch; each further patch adds 1.
    """
    results, bins = [], []
    for number in range(len(m.data)):
        problem = problem_of(ladder, repeated(m.rows(slice(number, number + 1)), chains), role)
        generator = torch.Generator().manual_seed(seed + number)
        start = drawn_codes(problem, generator)
        shapes = {level: part.shape[1:] for level, part in start.items()}
        flat = torch.cat([part.flatten(1) for part in start.values()], 1)
        results.append(annealed(flat, _of_flat_codes(problem, shapes), temperatures, generator))
        bins.append(float(problem.bins[0]))
    return Evidence(
        [one.evidence / count for one, count in zip(results, bins, strict=True)],
        [one.error / count for one, count in zip(results, bins, strict=True)],
        min(one.effective for one in results),
        sum(one.accepted for one in results) / len(results),
        all(one.converged for one in results),
    )


@torch.no_grad()
def drawn_codes(problem: Problem, generator: torch.Generator) -> dict[int, Tensor]:
    """A posterior draw in units of the prior, by level, coarse to fine."""
    sampled = problem.posterior.sample(problem.posterior.draw_noise(generator))
    return {output.level: output.code() for output in sampled.levels}


def log_densities(problem: Problem, codes: dict[int, Tensor]) -> tuple[Tensor, Tensor]:
    """log q(e) and log p(e) + log p(y | G(e)), (batch,) each, both without the constant -1/2 log 2 pi of each latent."""
    decoded = problem.posterior.at(codes)
    # q(e) = q(z) s, with the width s of the prior.
    log_q = [(o.posterior.log_prob(o.latent) + 0.5 * o.prior.log_variance).sum((1, 2, 3, 4)) for o in decoded.levels]
    log_p = [-0.5 * codes[o.level].square().sum((1, 2, 3, 4)) for o in decoded.levels]
    return torch.stack(log_q).sum(0), torch.stack(log_p).sum(0) + problem.score(decoded.density)


def _of_flat_codes(problem: Problem, shapes: dict[int, torch.Size]) -> LogDensities:
    def at(flat: Tensor) -> tuple[Tensor, Tensor]:
        parts = flat.split([prod(shape) for shape in shapes.values()], 1)
        return log_densities(problem, {n: part.unflatten(1, shapes[n]) for n, part in zip(shapes, parts, strict=True)})

    return at
