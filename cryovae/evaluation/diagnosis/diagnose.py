"""Diagnosis of a model on some patches: bounds of q and r, their gaps, nats by level, and comparison with a Gaussian model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from cryovae.data.measurement import Measurement
from cryovae.evaluation.diagnosis.gaussian import gaussian_log_likelihood
from cryovae.evaluation.diagnosis.information import LevelNats, nats_by_level
from cryovae.evaluation.diagnosis.patches import groups
from cryovae.evaluation.diagnosis.shuffled import shuffle_losses
from cryovae.evaluation.diagnosis.small import Evidence, evidence_of, small_enough
from cryovae.models.ladder import Ladder, Q, R
from cryovae.physics.likelihood import scored_bins
from cryovae.posterior.importance import MIN_EFFECTIVE, effective_sample_size, importance_bounds, standard_error
from cryovae.posterior.problem import Terms, drawn, problem_of
from cryovae.posterior.refinement import optimised

# Called with the number of steps done, their total, and the current task.
Watch = Callable[[int, int, str], None]


@dataclass(frozen=True)
class DiagnosisConfig:
    """Computational effort of a diagnosis.

    Attributes:
        draws: Number of posterior draws for each bound, and the largest number in an importance-weighted bound.
        steps: Number of refinement steps of the posterior of each patch.
        temperatures: Number of temperatures of annealed importance sampling, used if the model is small enough.
        chains: Number of chains of annealed importance sampling.
        seed: Seed of the random numbers.
    """

    draws: int = 16
    steps: int = 60
    temperatures: int = 300
    chains: int = 16
    seed: int = 0


@dataclass(frozen=True)
class Figure:
    """A mean over patches and its standard error."""

    mean: float
    error: float


@dataclass(frozen=True)
class Split:
    """A bound and its terms, in nats per measured coefficient.

    Attributes:
        bound: Bound, -distortion - rate.
        distortion: Negative expected log-likelihood.
        rate: KL divergence of all levels.
        rates: KL divergence by level, 0 the finest.
    """

    bound: Figure
    distortion: Figure
    rate: Figure
    rates: dict[int, float]


@dataclass(frozen=True)
class Gaps:
    """The gaps of the posterior, in nats per measured coefficient.

    Attributes:
        amortisation: The bound after refinement minus the bound before.
        refined: The bound after refinement.
        importance: Importance-weighted bound L_K, by number of draws K.
        approximation: L_K of the largest K minus the bound after refinement.
        effective: Effective sample size of the draws, averaged over patches.
        evidence: Evidence by annealed importance sampling; None for a large model.
    """

    amortisation: Figure
    refined: Figure
    importance: dict[int, Figure]
    approximation: Figure
    effective: float
    evidence: Evidence | None

    @property
    def converged(self) -> bool:
        """Whether the effective sample size is at least MIN_EFFECTIVE."""
        return self.effective >= MIN_EFFECTIVE


@dataclass(frozen=True)
class Diagnosis:
    """All results of a diagnosis, in nats per coefficient.

    Attributes:
        patches: Number of patches.
        bins: Number of measured coefficients of a patch, averaged over patches.
        q: Bound of q; None if r is the only posterior.
        r: Bound of r.
        gaps: Gaps of q, or of r if it is the only posterior.
        levels: Rate and information of each level, for 'q' and 'r'.
        shuffled: Loss from shuffling the latents of each level, for 'q' and 'r'.
        gaussian: Log-likelihood of the Gaussian of the same spectrum.
        beyond: Bound minus ``gaussian``.
        held_out_prediction: Log-likelihood of the target bins given the restored density and the spectrum of its error, minus
            that given the Gaussian, per target coefficient.
    """

    patches: int
    bins: float
    q: Split | None
    r: Split
    gaps: Gaps
    levels: dict[str, list[LevelNats]] = field(repr=False)
    shuffled: dict[str, dict[int, Figure]] = field(repr=False)
    gaussian: Figure
    beyond: Figure
    held_out_prediction: Figure


def diagnose(
    ladder: Ladder,
    m: Measurement,
    signal: Tensor,
    error: Tensor,
    encoders: int,
    config: DiagnosisConfig,
    watch: Watch = lambda *_: None,
) -> Diagnosis:
    """Diagnose a model. Gradients are held in memory for two patches at a time.

    Args:
        ladder: The model.
        m: The patches.
        signal: Spectrum of the Gaussian by shell (``signal_power``).
        error: Spectrum of the error of the restored density by shell (``error_power``).
        encoders: 2 if q is the posterior, 1 if r is the only posterior.
        config: Computational effort.
        watch: Called with the number of steps done, their total, and the current task.
    """
    ladder = ladder.eval().requires_grad_(False)
    main = Q if encoders == 2 else R
    bins = scored_bins(m.mask, m.data.shape, m.support).cpu().double()
    total = len(groups(m)) * (config.steps + 2) + 4
    stochastic = _stochastic(ladder)
    draws = {role: _draws(ladder, m, role, config) for role in ([Q, R] if main == Q else [R])}
    bounds = {role: _split(terms, bins, stochastic) for role, terms in draws.items()}
    watch(2, total, "bounds")
    names = {Q: "q", R: "r"}
    levels = {names[role]: nats_by_level(ladder, m, role, config.seed) for role in bounds}
    watch(3, total, "information")
    shuffled = {names[role]: _figures(shuffle_losses(ladder, m, role)) for role in bounds}
    watch(4, total, "shuffled")
    gaps = _gaps(ladder, m, main, config, lambda done: watch(4 + done, total, "refining posteriors"))
    reference = gaussian_log_likelihood(m, signal).cpu().double() / bins
    target_bins = scored_bins(m.target_mask, m.data.shape, m.support).cpu().double().clamp_min(1)
    by_gaussian = gaussian_log_likelihood(m, signal, target=True).cpu().double() / target_bins
    by_restored = gaussian_log_likelihood(m, error, target=True, restored=predict(ladder, m)).cpu().double() / target_bins
    return Diagnosis(
        patches=len(m.data),
        bins=float(bins.mean()),
        q=bounds.get(Q),
        r=bounds[R],
        gaps=gaps,
        levels=levels,
        shuffled=shuffled,
        gaussian=_figure(reference),
        beyond=_figure(draws[main].bound_mean.cpu() / bins - reference),
        held_out_prediction=_figure(by_restored - by_gaussian),
    )


def bound_on(ladder: Ladder, m: Measurement, role: int, config: DiagnosisConfig) -> Split:
    """The bound of q or r (``role``), without the rest of a diagnosis."""
    ladder = ladder.eval().requires_grad_(False)
    bins = scored_bins(m.mask, m.data.shape, m.support).cpu().double()
    return _split(_draws(ladder, m, role, config), bins, _stochastic(ladder))


def _stochastic(ladder: Ladder) -> list[int]:
    """Levels with latents, coarse to fine."""
    return [level for level, latents in reversed(list(enumerate(ladder.config.latents))) if latents]


def _draws(ladder: Ladder, m: Measurement, role: int, config: DiagnosisConfig) -> Terms:
    return _joined([drawn(problem_of(ladder, part, role), config.draws, config.seed) for part in groups(m)])


def _joined(parts: list[Terms]) -> Terms:
    """The draws of groups of patches as draws of all patches."""
    return Terms(
        torch.cat([p.log_likelihood for p in parts], -1),
        torch.cat([p.kl for p in parts], -1),
        torch.cat([p.log_weight for p in parts], -1),
    )


def _figure(values: Tensor) -> Figure:
    return Figure(float(values.double().mean()), standard_error(values))


def _figures(values: dict[int, Tensor]) -> dict[int, Figure]:
    return {level: _figure(part) for level, part in values.items()}


def _split(terms: Terms, bins: Tensor, levels: Sequence[int]) -> Split:
    kl = terms.kl.double().mean(1).cpu() / bins
    likelihood = terms.log_likelihood.double().mean(0).cpu() / bins
    return Split(
        _figure(likelihood - kl.sum(0)),
        _figure(-likelihood),
        _figure(kl.sum(0)),
        {level: float(part.mean()) for level, part in zip(levels, kl, strict=True)},
    )


def _gaps(ladder: Ladder, m: Measurement, role: int, config: DiagnosisConfig, watch: Callable[[int], None]) -> Gaps:
    """Refine, then compute the bounds before and after with the same random numbers, independent of those of refinement."""
    before, after = [], []
    for number, part in enumerate(groups(m)):
        problem = problem_of(ladder, part, role)
        offset = number * (config.steps + 2)
        moves = optimised(problem, config.steps, seed=config.seed + 1, watch=partial(_later, watch, offset))
        before.append(drawn(problem, config.draws, config.seed + 3))
        after.append(drawn(problem, config.draws, config.seed + 3, moves))
        watch(offset + config.steps + 2)
    bins = scored_bins(m.mask, m.data.shape, m.support).cpu().double()
    first, last = _joined(before), _joined(after)
    refined = last.bound_mean.cpu() / bins
    weighted = {w.draws: w.bound.cpu() / bins for w in importance_bounds(last.log_weight)}
    evidence = None
    if small_enough(ladder, m):
        evidence = evidence_of(ladder, m, role, config.temperatures, config.chains, config.seed)
    return Gaps(
        amortisation=_figure(refined - first.bound_mean.cpu() / bins),
        refined=_figure(refined),
        importance=_figures(weighted),
        approximation=_figure(weighted[max(weighted)] - refined),
        effective=float(effective_sample_size(last.log_weight).mean()),
        evidence=evidence,
    )


@torch.no_grad()
def predict(ladder: Ladder, m: Measurement) -> Tensor:
    """The restored densities, decoded from r's means, (batch, z, y, x)."""
    return torch.cat([ladder.restore(ladder.encode(part.input_masked, R), None) for part in groups(m)])


def _later(watch: Callable[[int], None], offset: int, step: int) -> None:
    watch(offset + step)


def as_plain(diagnosis: Diagnosis) -> dict[str, Any]:
    """A diagnosis as dictionaries and lists for JSON; levels are summarised by level and by channel."""
    plain = asdict(replace(diagnosis, levels={}))
    plain["gaps"]["converged"] = diagnosis.gaps.converged
    plain["levels"] = {
        role: [
            {
                "level": part.level,
                "stride": 2**part.level,
                "nats_a_patch": part.rate,
                "of_which_by_the_mean": part.rate_of_mean,
                "nats_by_channel": (part.kl.double().sum((0, 2, 3, 4)) / len(part.kl)).tolist(),
                "active_channels": part.active,
                "channels": len(part.variance),
                "variance_of_mean": part.variance.tolist(),
                "information_at_least": part.minibatch,
                "information_at_most": part.upper_bound,
            }
            for part in parts
        ]
        for role, parts in diagnosis.levels.items()
    }
    return plain
