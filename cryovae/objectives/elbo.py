"""The bound, and the terms that train the masked posterior r.

    bound       E_q(z|v) log p(v | G(z)) - beta sum_l KL( q(z_l | z_>l, v) || p(z_l | z_>l) )       all measured bins
    matching    sum_l KL( stopgrad q(z_l | z_>l, v) || r(z_l | z_>l, u) )                            z_>l from q, r's mean fixed
    completion  - log p( target bins of v | G(z) )                                                   z: the means of r

The bound prices noise with an unconditional prior. Matching sets the width of r to the scatter of q about it, over what u does
not determine (the tower property: Posterior Matching, Strauss and Oliva 2022): s_r^2 = < s_q^2 + (mu_q - mu_r)^2 >. Completion
trains what is restored at test time, the density decoded from r's means, on measured bins that are not part of u: they cannot be
copied. The widths of the posteriors have no part in it.
All terms are sums in nats; losses are divided by the number of measured coefficients, of all processes if there are several.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, cast

import torch
from torch import Tensor

from cryovae import distributed, fourier
from cryovae.data.measurement import Measurement
from cryovae.errors import InputError
from cryovae.models.distributions import DiagonalGaussian, divergence
from cryovae.models.ladder import Ladder, LadderDistribution, LadderPass, LevelOutput, Q, R
from cryovae.objectives.aggregate import DISTANCES
from cryovae.objectives.deterministic import NAMES
from cryovae.objectives.kl_regularization import KLRegularization, regularized_kl
from cryovae.physics.likelihood import log_likelihood, scored_bins
from cryovae.physics.rotation import rotate
from cryovae.ranges import OneOf, Range, check_fields, shown

NONE = KLRegularization()
VAE, WAE = "vae", "wae"


@dataclass(frozen=True)
class ObjectiveConfig:
    """Settings of the objective.

    Attributes:
        name: 'vae'; 'wae', which penalises the coarsest latents of a batch together; or a loss of objectives/deterministic.py,
            which has no use for the other settings.
        encoders: 2 for q and r (posterior matching), 1 for the baseline in which r alone is the posterior.
        completion_fraction: share of the steps, at the start, in which the completion term is trained alone, 0 to 1.
        beta: weight of the KL after the warm-up; 1 is the ELBO.
        warmup: share of the steps, after those of completion alone, in which beta rises from 0.
        cycles: how often beta rises, against collapse; the warm-up is divided among the cycles.
        free_bits: nats a patch that a group of channels has without penalty, against collapse.
        free_group: channels of such a group.
        balance: whether, in the warm-up, the KL of levels is weighted by their nats a latent, against collapse.
        divergence: of the wae: 'mmd', 'sliced' or 'sinkhorn'.
        divergence_weight: weight of the wae's divergence, in nats a place.
        stochastic: whether the wae's coarsest latents are drawn from q; otherwise they are its means, and there is no bound: the
            KL that is reported is of q as wide as it began.
        refill_from: share of the steps after which the wedge of the inputs is refilled for the first time; 1 is never.
        refill_every: share of the steps between refills.
    """

    name: str = "vae"
    encoders: Annotated[int, Range(1, 2, what="1 (the baseline) or 2 (q and r),")] = 2
    completion_fraction: Annotated[float, Range(0, 1, what="a share of the steps")] = 0.8
    beta: Annotated[float, Range(0, 1e6, what="a weight")] = 1.0
    warmup: Annotated[float, Range(0, 1, what="a share of the steps")] = 0.1
    cycles: Annotated[int, Range(1, 1000)] = 1
    free_bits: Annotated[float, Range(0, 1e6, what="nats a patch")] = 0.0
    free_group: Annotated[int, Range(1, 4096, what="channels")] = 1
    balance: bool = False
    divergence: Annotated[str, OneOf(DISTANCES)] = "mmd"
    divergence_weight: Annotated[float, Range(0, 1e6, what="a weight")] = 10.0
    stochastic: bool = True
    refill_from: Annotated[float, Range(0, 1, what="a share of the steps")] = 0.35
    refill_every: Annotated[float, Range(0, 1000, what="shares of the steps")] = 0.25

    def __post_init__(self) -> None:
        check_fields(self)
        if self.name not in (VAE, WAE, *NAMES):
            raise InputError(f"objective {shown(self.name)} found, expected {VAE}, {WAE}, {', '.join(NAMES)}")
        self._check_wae()
        if self.cycles > 1 and self.warmup >= 1 - self.completion_fraction:
            raise InputError(
                f"cycles {self.cycles} with warmup {self.warmup:g} found, expected a warmup below "
                f"{1 - self.completion_fraction:g}, the share of the steps after completion alone: each cycle has to reach beta"
            )

    def _check_wae(self) -> None:
        if self.name == WAE and (self.free_bits or self.balance):
            raise InputError("free_bits or balance found with objective wae, expected neither: they are for a vae's KL")
        if not self.stochastic and (self.name != WAE or self.encoders != 2):
            raise InputError(
                f"stochastic = false found with objective {self.name} and {self.encoders} encoder(s), expected wae and 2: the "
                "posterior of a vae has a width"
            )

    @property
    def variational(self) -> bool:
        """Whether a ladder is trained, and no deterministic network."""
        return self.name in (VAE, WAE)

    def kl_regularization(self, beta: float) -> KLRegularization:
        """The regularisation in a step with the weight ``beta`` of the KL."""
        aggregate = self.divergence if self.name == WAE else ""
        balance = self.balance and beta < self.beta
        return KLRegularization(self.free_bits, self.free_group, balance, aggregate, self.divergence_weight, not self.stochastic)


@dataclass(frozen=True)
class Bound:
    """The bound of one batch and its matching term, in nats summed over the batch.

    Attributes:
        log_likelihood: Of all measured bins.
        kl: By level, coarse to fine.
        matching: The matching term.
        bins: Number of measured coefficients.
        regularized_kl: What the loss uses instead of the sum of ``kl``, or None. Reported figures never use it.
    """

    log_likelihood: Tensor
    kl: tuple[Tensor, ...]
    matching: Tensor
    bins: Tensor
    regularized_kl: Tensor | None = None

    def loss(self, beta: float) -> Tensor:
        """The loss in nats per measured coefficient."""
        kl = torch.stack(self.kl).sum() if self.regularized_kl is None else self.regularized_kl
        return (self.matching - self.log_likelihood + beta * kl) / self.bins

    def figures(self) -> dict[str, Tensor]:
        """Log-likelihood, KL, KL by level and matching, in nats per measured coefficient."""
        named = {f"kl_{len(self.kl) - 1 - output}": kl / self.bins for output, kl in enumerate(self.kl)}
        return {
            "log_likelihood": self.log_likelihood / self.bins,
            "kl": torch.stack(list(named.values())).sum(),
            "matching": self.matching / self.bins,
        } | named


@dataclass(frozen=True)
class Completion:
    """The completion term of one batch.

    Attributes:
        log_likelihood: Of the target bins, in nats summed over the batch.
        bins: Number of measured coefficients.
        target_bins: Number of target coefficients.
    """

    log_likelihood: Tensor
    bins: Tensor
    target_bins: Tensor

    def loss(self) -> Tensor:
        """The loss in nats per measured coefficient, on the scale of the bound."""
        return -self.log_likelihood / self.bins

    def figures(self) -> dict[str, Tensor]:
        """In nats per target coefficient."""
        return {"completion": self.log_likelihood / self.target_bins.clamp_min(1.0)}


def numbers(figures: Mapping[str, Tensor]) -> dict[str, float]:
    """Figures as numbers, copied in one transfer, as each transfer waits for the GPU."""
    values = torch.stack([value.detach().to(fourier.sum_dtype(value.device)) for value in figures.values()]).tolist()
    return dict(zip(figures, values, strict=True))


def _score(density: Tensor, m: Measurement, mask: Tensor) -> Tensor:
    if m.inverse_rotation is not None:
        density = torch.cat([rotate(x[None, None], r)[0] for x, r in zip(density, m.inverse_rotation, strict=True)])
    return log_likelihood(density, m.data, mask, m.scored_variance, m.support, m.mask, m.scored).sum()


def _noise(ladder: Ladder, m: Measurement, generator: torch.Generator) -> list[Tensor | None]:
    """N(0, I) by level, drawn from coarse to fine; a process takes its rows of the noise for the batches of all processes."""
    rows, device = len(m.data) * distributed.count(), ladder.top.device
    noise: list[Tensor | None] = [None] * len(ladder.levels)
    for level, shape in reversed(list(enumerate(ladder.latent_shapes(m.data.shape[-3:])))):
        if not shape[0]:
            continue
        source = generator
        if device.type != "cpu":
            source = torch.Generator(device).manual_seed(int(torch.randint(2**62, (), generator=generator)))
        noise[level] = torch.randn((rows, *shape), generator=source, device=device)[distributed.own(rows)]
    return noise


def _bins(mask: Tensor, m: Measurement) -> Tensor:
    """Scored coefficients of the batches of all processes, so that the losses of processes add up."""
    return distributed.summed(scored_bins(mask, m.data.shape, m.support, m.scored).sum())


def completion(ladder: Ladder, m: Measurement, features: list[Tensor]) -> Completion:
    """Score the target bins by the density decoded from r's means; ``features``: those of r for u."""
    density = ladder.restore(features, None)
    return Completion(_score(density, m, m.target_mask), _bins(m.mask, m), _bins(m.target_mask, m))


def two_encoder_bound(
    ladder: Ladder,
    m: Measurement,
    masked_features: list[Tensor],
    generator: torch.Generator,
    kl_regularization: KLRegularization = NONE,
) -> Bound:
    """The bound of q, and r matched to q; ``masked_features``: r's features of u, which get no gradient from matching.

    Matching trains r's widths alone. If it trained what q and r share, each would follow the other without end; if it trained r's
    means, it would undo completion.
    """
    noise = _noise(ladder, m, generator)
    if kl_regularization.certain:
        noise[max(level for level, latents in enumerate(ladder.config.latents) if latents)] = None
    sampled = ladder.posterior(ladder.encode(m.input_full, Q), Q).sample(noise, keep_states=True)
    r = ladder.posterior([f.detach() for f in masked_features], R)
    with ladder.autocast():
        matching = [_matching(output, r) for output in sampled.levels]
    return _bound(sampled, m, matching, kl_regularization, generator)


def _matching(output: LevelOutput, masked: LadderDistribution) -> Tensor:
    """The matching term of one level; for a q without width r's own becomes the distance of the means."""
    q, state = output.posterior, cast(Tensor, output.state)
    r = masked.at_level(output.level, state.detach(), output.prior.detach())
    width = DiagonalGaussian(r.mean.detach(), r.base.log_variance)
    if output.noise is None:
        return -width.log_prob(q.mean.detach()).sum()
    return divergence(q.detach(), width, output.latent.detach()).sum()


def one_encoder_bound(
    ladder: Ladder,
    m: Measurement,
    masked_features: list[Tensor],
    generator: torch.Generator,
    kl_regularization: KLRegularization = NONE,
) -> Bound:
    """The simpler baseline: r(z | u) is the posterior, and all measured bins are scored. Its error bars ignore the wedge."""
    sampled = ladder.posterior(masked_features, R).sample(_noise(ladder, m, generator))
    return _bound(sampled, m, [], kl_regularization, generator)


def _bound(
    sampled: LadderPass,
    m: Measurement,
    matching: list[Tensor],
    kl_regularization: KLRegularization,
    generator: torch.Generator,
) -> Bound:
    return Bound(
        log_likelihood=_score(sampled.density, m, m.mask),
        kl=tuple(output.kl().sum() for output in sampled.levels),
        matching=torch.stack(matching).sum() if matching else sampled.density.new_zeros(()),
        bins=_bins(m.mask, m),
        regularized_kl=regularized_kl(sampled.levels, kl_regularization, generator) if kl_regularization.any else None,
    )
