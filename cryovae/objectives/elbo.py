"""The bound, and the terms that teach the partial encoder.

    bound       E_q(z|v) log p(v | G(z)) - beta sum_l KL( q(z_l | z_>l, v) || p(z_l | z_>l) )       all measured bins
    matching    sum_l KL( stopgrad q(z_l | z_>l, v) || r(z_l | z_>l, u) )                            z_>l from q, r's mean fixed
    completion  - log p( hidden bins of v | G(z) )                                                   z: r's means

The bound prices noise with an unconditional prior. Matching makes r as wide as q scatters about it, over what u leaves open (the
tower property: Posterior Matching, Strauss and Oliva 2022): s_r^2 = < s_q^2 + (mu_q - mu_r)^2 >. Completion trains what is
answered at test, what is decoded from r's means, on bins that r was not input_mask: nothing can be copied there. How sure the model
is has no part in it.
Everything is a sum in nats; losses are divided by the number of measured coefficients, of all ranks where there are several.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from cryovae import distributed
from cryovae.data.measurement import Measurement
from cryovae.errors import InputError
from cryovae.models.distributions import DiagonalGaussian, Posterior, divergence
from cryovae.models.ladder import Choice, Ladder, Q
from cryovae.objectives.deterministic import NAMES
from cryovae.objectives.kl_regularization import KLRegularization, regularized_kl
from cryovae.physics.likelihood import log_likelihood, scored_bins
from cryovae.physics.rotation import rotate

NONE = KLRegularization()
VAE, WAE = "vae", "wae"
DIVERGENCES = ("mmd", "sliced", "sinkhorn")


@dataclass(frozen=True)
class ObjectiveConfig:
    """What is optimised.

    Attributes:
        name: 'vae'; 'wae', which charges for the coarsest latents of a batch together; or a loss of objectives/deterministic.py,
            which has no use for the other settings.
        encoders: 2 for q and r (posterior matching), 1 for the baseline in which r alone is the posterior.
        completion_fraction: share of the steps, at the start, in which the completion term is trained alone, 0 to 1.
        beta: weight of the KL after the warm-up; 1 is the ELBO.
        warmup: share of the steps, after those of completion alone, in which beta rises from 0.
        cycles: how often beta rises, against collapse; the warm-up is divided among the cycles.
        free_bits: nats a patch for which a group of channels is not charged, against collapse.
        free_group: channels of such a group.
        balance: whether, in the warm-up, levels are charged by their nats a latent, against collapse.
        divergence: of the wae: 'mmd', 'sliced' or 'sinkhorn'.
        divergence_weight: weight of the wae's divergence, in nats a place.
        stochastic: whether the wae's coarsest latents are drawn from q; otherwise they are its means, and there is no bound: the
            KL that is reported is of q as wide as it began.
        refill_from: share of the steps after which the wedge of the inputs is refilled for the first time; 1 is never.
        refill_every: share of the steps between refills.
    """

    name: str = "vae"
    encoders: int = 2
    completion_fraction: float = 0.8
    beta: float = 1.0
    warmup: float = 0.1
    cycles: int = 1
    free_bits: float = 0.0
    free_group: int = 1
    balance: bool = False
    divergence: str = "mmd"
    divergence_weight: float = 10.0
    stochastic: bool = True
    refill_from: float = 0.35
    refill_every: float = 0.25

    def __post_init__(self) -> None:
        if self.name not in (VAE, WAE, *NAMES):
            raise InputError(f"objective '{self.name}' found, expected {VAE}, {WAE}, {', '.join(NAMES)}")
        if self.encoders not in (1, 2):
            raise InputError(f"encoders {self.encoders} found, expected 2 (q and r) or 1 (the baseline)")
        if self.beta < 0:
            raise InputError(f"beta {self.beta:g} found, expected a weight from 0")
        self._check_wae()
        if self.cycles < 1 or self.free_bits < 0 or self.free_group < 1:
            raise InputError(
                f"cycles {self.cycles}, free_bits {self.free_bits:g} and free_group {self.free_group} found, expected cycles and "
                "free_group from 1, free_bits from 0 nats a patch"
            )
        if self.cycles > 1 and self.warmup >= 1 - self.completion_fraction:
            raise InputError(
                f"cycles {self.cycles} with warmup {self.warmup:g} found, expected a warmup below "
                f"{1 - self.completion_fraction:g}, the share of the steps after completion alone: each cycle has to reach beta"
            )

    def _check_wae(self) -> None:
        if self.divergence not in DIVERGENCES or self.divergence_weight < 0:
            raise InputError(
                f"divergence '{self.divergence}' with divergence_weight {self.divergence_weight:g} found, expected "
                f"{' or '.join(DIVERGENCES)}, and a weight from 0"
            )
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
        """Those at work in a step whose weight of the KL is ``beta``."""
        aggregate = self.divergence if self.name == WAE else ""
        balance = self.balance and beta < self.beta
        return KLRegularization(self.free_bits, self.free_group, balance, aggregate, self.divergence_weight, not self.stochastic)


@dataclass(frozen=True)
class Bound:
    """The bound of one batch and its matching term, in nats summed over the batch; bins: measured coefficients.

    regularized_kl: what the loss takes for the sum of the KL where a remedy against collapse is at work, and nothing else does.
    """

    log_likelihood: Tensor
    kl: tuple[Tensor, ...]
    matching: Tensor
    bins: Tensor
    regularized_kl: Tensor | None = None

    def loss(self, beta: float) -> Tensor:
        """What is minimised, in nats per measured coefficient."""
        kl = torch.stack(self.kl).sum() if self.regularized_kl is None else self.regularized_kl
        return (self.matching - self.log_likelihood + beta * kl) / self.bins

    def figures(self) -> dict[str, Tensor]:
        """Log-likelihood and KL apart, in nats per measured coefficient; the KL also by level, coarse to fine."""
        named = {f"kl_{len(self.kl) - 1 - output}": kl / self.bins for output, kl in enumerate(self.kl)}
        return {
            "log_likelihood": self.log_likelihood / self.bins,
            "kl": torch.stack(list(named.values())).sum(),
            "matching": self.matching / self.bins,
        } | named


@dataclass(frozen=True)
class Completion:
    """Log-likelihood of the hidden bins of one batch, in nats summed over the batch; bins: measured, target_mask: hidden ones."""

    log_likelihood: Tensor
    bins: Tensor
    target_mask: Tensor

    def loss(self) -> Tensor:
        """What is minimised, in nats per measured coefficient, on the scale of the bound."""
        return -self.log_likelihood / self.bins

    def figures(self) -> dict[str, Tensor]:
        """In nats per hidden coefficient."""
        return {"completion": self.log_likelihood / self.target_mask.clamp_min(1.0)}


def numbers(figures: Mapping[str, Tensor]) -> dict[str, float]:
    """Figures as numbers, read from where they lie all at once: each reading waits for a GPU."""
    found = torch.stack([value.detach().double() for value in figures.values()]).tolist()
    return dict(zip(figures, found, strict=True))


def _score(density: Tensor, m: Measurement, mask: Tensor) -> Tensor:
    if m.inverse_rotation is not None:
        density = torch.cat([rotate(x[None, None], r)[0] for x, r in zip(density, m.inverse_rotation, strict=True)])
    return log_likelihood(density, m.data, mask, m.scored_variance, m.support, m.mask).sum()


def _noise_like(x: Tensor, generator: torch.Generator) -> Tensor:
    """White noise, drawn where ``x`` lies; of several ranks each takes its part of what one would draw for the batches of all."""
    input_full = len(x) * distributed.count()
    if x.device.type != "cpu":
        seed = int(torch.randint(2**62, (), generator=generator))
        generator = torch.Generator(x.device).manual_seed(seed)
    return torch.randn((input_full, *x.shape[1:]), generator=generator, device=x.device)[distributed.own(input_full)]


def _bins(mask: Tensor, m: Measurement) -> Tensor:
    """Scored coefficients of the batch, those of all ranks distributed_command: losses of ranks then add up to that of all."""
    return distributed.summed(scored_bins(mask, m.data.shape, m.support).sum())


def completion(ladder: Ladder, m: Measurement, features: list[Tensor]) -> Completion:
    """Score the hidden bins by what r's means are decoded to; ``features``: r's of u."""
    density = ladder.restore(features, None)
    return Completion(_score(density, m, m.target_mask), _bins(m.mask, m), _bins(m.target_mask, m))


def two_encoder_bound(
    ladder: Ladder,
    m: Measurement,
    masked_features: list[Tensor],
    generator: torch.Generator,
    kl_regularization: KLRegularization = NONE,
) -> Bound:
    """The bound of q, and r matched to q; ``masked_features``: r's features of u, through which matching sends no gradient.

    Matching moves r's widths alone. Could it move what q shares with r, both would run after each other for ever; could it
    move r's means, it would undo what completion has found to foretell best.
    """
    input_full = ladder.encode(m.input_full, Q)
    matching: list[Tensor] = []

    def choose(level: int, prior: DiagonalGaussian, state: Tensor) -> tuple[Posterior, Tensor]:
        block = ladder.level(level)
        q = block.posterior(state, input_full[level], prior)
        r = block.masked_posterior(state.detach(), masked_features[level].detach(), prior.detach())
        z = q.sample(_noise_like(prior.mean, generator))
        spread = DiagonalGaussian(r.mean.detach(), r.log_variance)
        if kl_regularization.certain and not matching:
            # The coarsest: r is to be as wide as q's means lie about its own.
            matching.append(-spread.log_densities(q.mean.detach()).sum())
            return q, q.mean
        matching.append(divergence(q.detach(), spread, z.detach()).sum())
        return q, z

    return _bound(ladder, m, choose, matching, kl_regularization, generator)


def one_encoder_bound(
    ladder: Ladder,
    m: Measurement,
    masked_features: list[Tensor],
    generator: torch.Generator,
    kl_regularization: KLRegularization = NONE,
) -> Bound:
    """The simpler baseline: r given u is the posterior, and all measured bins are scored. Its error bars ignore the wedge."""

    def choose(level: int, prior: DiagonalGaussian, state: Tensor) -> tuple[Posterior, Tensor]:
        r = ladder.level(level).masked_posterior(state, masked_features[level], prior)
        return r, r.sample(_noise_like(prior.mean, generator))

    return _bound(ladder, m, choose, [], kl_regularization, generator)


def _bound(
    ladder: Ladder,
    m: Measurement,
    choose: Choice,
    matching: list[Tensor],
    kl_regularization: KLRegularization,
    generator: torch.Generator,
) -> Bound:
    density, outputs = ladder.top_down(m.data.shape[-3:], len(m.data), choose)
    return Bound(
        log_likelihood=_score(density, m, m.mask),
        kl=tuple(output.kl().sum() for output in outputs),
        matching=torch.stack(matching).sum() if matching else density.new_zeros(()),
        bins=_bins(m.mask, m),
        regularized_kl=regularized_kl(outputs, kl_regularization, generator) if kl_regularization.any else None,
    )
