"""The whole diagnosis of a model on some patches: the bounds of q and r, their gaps, where the nats lie, and a Gaussian."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from cryovae.data.measurement import Measurement
from cryovae.evaluate.diagnosis.gaussian import gaussian_log_likelihood
from cryovae.evaluate.diagnosis.information import LevelNats, nats_by_level
from cryovae.evaluate.diagnosis.patches import groups
from cryovae.evaluate.diagnosis.shuffled import shuffle_losses
from cryovae.evaluate.diagnosis.small import Evidence, evidence_of, small_enough
from cryovae.models.ladder import Ladder, Q, R
from cryovae.physics.likelihood import scored_bins
from cryovae.posterior.importance import LEAST, effective_sample_size, importance_bounds, standard_error
from cryovae.posterior.problem import Terms, drawn, problem_of
from cryovae.posterior.refinement import optimised

# Done so far, of so many, and what is under way.
Watch = Callable[[int, int, str], None]


@dataclass(frozen=True)
class DiagnosisConfig:
    """How much is done. draws: of the posterior, for each bound, and at most in an importance-weighted one. steps: of the search
    for the best posterior of a patch. temperatures, chains: of annealed importance sampling, where the model is small enough.
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
    """A bound apart, in nats a measured coefficient; rates: of each level by its number, 0 the finest."""

    bound: Figure
    distortion: Figure
    rate: Figure
    rates: dict[int, float]


@dataclass(frozen=True)
class Gaps:
    """In nats a measured coefficient. amortisation: of q, the bound after the search less that before. importance: L_K by K, and
    approximation the last of them less the bound after the search; effective: sample size of the draws, the mean over patches.
    """

    amortisation: Figure
    posterior_tiles: Figure
    importance: dict[int, Figure]
    approximation: Figure
    effective: float
    evidence: Evidence | None

    @property
    def converged(self) -> bool:
        """Whether the importance-weighted bound stands on enough draws."""
        return self.effective >= LEAST


@dataclass(frozen=True)
class Diagnosis:
    """All figures, in nats a coefficient. patches: how many; bins: measured coefficients a patch. gaussian: the log-likelihood of
    the Gaussian of the same spectrum; beyond: the bound less it. calibration_result: of the coefficients hidden from r, the
    log-likelihood by what r's means decode to, with its error by shell, less that of the Gaussian.
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
    calibration_result: Figure


def diagnose(
    ladder: Ladder,
    m: Measurement,
    signal: Tensor,
    error: Tensor,
    encoders: int,
    config: DiagnosisConfig,
    watch: Watch = lambda *_: None,
) -> Diagnosis:
    """Diagnose a model on the patches of a measurement; signal: the spectrum of the Gaussian, S by shell (``signal_power``).

    encoders: 2 where q is the posterior, 1 where r alone is. error: the spectrum of the error of r's answer (``error_power``).
    Two patches at a time are in memory with their gradients.
    """
    ladder = ladder.eval().requires_grad_(False)
    main = Q if encoders == 2 else R
    bins = scored_bins(m.mask, m.data.shape, m.support).cpu().double()
    total = len(groups(m)) * (config.steps + 2) + 4
    numbers = _numbers(ladder)
    draws = {role: _draws(ladder, m, role, config) for role in ([Q, R] if main == Q else [R])}
    bounds = {role: _split(found, bins, numbers) for role, found in draws.items()}
    watch(2, total, "bounds")
    names = {Q: "q", R: "r"}
    levels = {names[role]: nats_by_level(ladder, m, role, config.seed) for role in bounds}
    watch(3, total, "information")
    shuffled = {names[role]: _figures(shuffle_losses(ladder, m, role)) for role in bounds}
    watch(4, total, "shuffled")
    gaps = _gaps(ladder, m, main, config, lambda done: watch(4 + done, total, "searching each patch's own posterior"))
    reference = gaussian_log_likelihood(m, signal).cpu().double() / bins
    target_mask = scored_bins(m.target_mask, m.data.shape, m.support).cpu().double().clamp_min(1)
    unknowing = gaussian_log_likelihood(m, signal, target_mask=True).cpu().double() / target_mask
    knowing = gaussian_log_likelihood(m, error, target_mask=True, answer=predict(ladder, m)).cpu().double() / target_mask
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
        calibration_result=_figure(knowing - unknowing),
    )


def bound_on(ladder: Ladder, m: Measurement, role: int, config: DiagnosisConfig) -> Split:
    """Rate and distortion of q or r alone."""
    ladder = ladder.eval().requires_grad_(False)
    bins = scored_bins(m.mask, m.data.shape, m.support).cpu().double()
    return _split(_draws(ladder, m, role, config), bins, _numbers(ladder))


def _numbers(ladder: Ladder) -> list[int]:
    """Levels with latents, coarse to fine."""
    return [level for level, latents in reversed(list(enumerate(ladder.config.latents))) if latents]


def _draws(ladder: Ladder, m: Measurement, role: int, config: DiagnosisConfig) -> Terms:
    return _joined([drawn(problem_of(ladder, part, role), config.draws, config.seed) for part in groups(m)])


def _joined(parts: list[Terms]) -> Terms:
    """Draws of single patches as draws of all."""
    return Terms(
        torch.cat([p.log_likelihood for p in parts], -1),
        torch.cat([p.kl for p in parts], -1),
        torch.cat([p.log_weight for p in parts], -1),
    )


def _figure(values: Tensor) -> Figure:
    return Figure(float(values.double().mean()), standard_error(values))


def _figures(values: dict[int, Tensor]) -> dict[int, Figure]:
    return {level: _figure(part) for level, part in values.items()}


def _split(found: Terms, bins: Tensor, numbers: Sequence[int]) -> Split:
    kl = found.kl.double().mean(1).cpu() / bins
    likelihood = found.log_likelihood.double().mean(0).cpu() / bins
    return Split(
        _figure(likelihood - kl.sum(0)),
        _figure(-likelihood),
        _figure(kl.sum(0)),
        {level: float(part.mean()) for level, part in zip(numbers, kl, strict=True)},
    )


def _gaps(ladder: Ladder, m: Measurement, role: int, config: DiagnosisConfig, watch: Callable[[int], None]) -> Gaps:
    """Patch by patch: search, then the bounds before and after from the same random numbers, which the search has not seen."""
    before, after = [], []
    for number, part in enumerate(groups(m)):
        problem = problem_of(ladder, part, role)
        began = number * (config.steps + 2)
        moves = optimised(problem, config.steps, seed=config.seed + 1, watch=partial(_later, watch, began))
        before.append(drawn(problem, config.draws, config.seed + 3))
        after.append(drawn(problem, config.draws, config.seed + 3, moves))
        watch(began + config.steps + 2)
    bins = scored_bins(m.mask, m.data.shape, m.support).cpu().double()
    first, last = _joined(before), _joined(after)
    posterior_tiles = last.bound_mean.cpu() / bins
    weighted = {w.draws: w.bound.cpu() / bins for w in importance_bounds(last.log_weight)}
    evidence = None
    if small_enough(ladder, m):
        evidence = evidence_of(ladder, m, role, config.temperatures, config.chains, config.seed)
    return Gaps(
        amortisation=_figure(posterior_tiles - first.bound_mean.cpu() / bins),
        posterior_tiles=_figure(posterior_tiles),
        importance=_figures(weighted),
        approximation=_figure(weighted[max(weighted)] - posterior_tiles),
        effective=float(effective_sample_size(last.log_weight).mean()),
        evidence=evidence,
    )


@torch.no_grad()
def predict(ladder: Ladder, m: Measurement) -> Tensor:
    """What r's means are decoded to, (batch, z, y, x)."""
    return torch.cat([ladder.restore(ladder.encode(part.input_masked, R), None) for part in groups(m)])


def _later(watch: Callable[[int], None], began: int, step: int) -> None:
    watch(began + step)


def as_plain(found: Diagnosis) -> dict[str, Any]:
    """The figures as JSON can hold them; of the levels what is one number or one a channel."""
    plain = asdict(replace(found, levels={}))
    plain["gaps"]["converged"] = found.gaps.converged
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
                "information_at_most": part.most,
            }
            for part in parts
        ]
        for role, parts in found.levels.items()
    }
    return plain
