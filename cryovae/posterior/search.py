"""Settings of the search for the posterior of each tile, and the figures of a search."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

from cryovae.errors import InputError
from cryovae.posterior.importance import MIN_EFFECTIVE
from cryovae.ranges import OneOf, Range, check_fields

AMORTISED, REWEIGHTED, LANGEVIN, FLOW = "amortised", "reweighted", "langevin", "flow"
SAMPLERS = (AMORTISED, REWEIGHTED, LANGEVIN, FLOW)
# Those whose samples are those of the generative model.
BY_FLOW = (LANGEVIN, FLOW)
# Upper limit of the steps of a chain.
LONGEST = 10**5


@dataclass(frozen=True)
class SearchConfig:
    """Settings for each tile.

    Attributes:
        refine: Refinement steps of the encoder's posterior, whose samples are drawn then, and not those of the flow.
        sampler: One of SAMPLERS.
        temperature: T of the likelihood; 1 is the Bayes posterior.
        candidates: Reweighted candidates in each orientation.
        chain: Langevin steps of each sample, from one of the flow.
        orientations: Number of orientations at most.

    Raises:
        InputError: A setting is out of range.
    """

    refine: Annotated[int, Range(0, 10**6, what="steps")] = 0
    sampler: Annotated[str, OneOf(SAMPLERS)] = AMORTISED
    temperature: Annotated[float, Range(0, 1e6, above=True)] = 1.0
    candidates: Annotated[int, Range(2, 10**5)] = 16
    chain: Annotated[int, Range(4, LONGEST - 1, what="steps")] = 40
    orientations: Annotated[int, Range(1, 1000)] = 4

    def __post_init__(self) -> None:
        check_fields(self)
        if self.temperature != 1 and self.sampler in (AMORTISED, FLOW):
            raise InputError(
                f"--temperature {self.temperature:g} found with the {self.sampler} sampler, which is trained for 1: pass "
                f"--sampler {REWEIGHTED} or {LANGEVIN}"
            )
        if self.refine and self.sampler == LANGEVIN:
            raise InputError(
                f"--refine {self.refine} found with --sampler {LANGEVIN}, which leaves the encoder alone: leave out one of them"
            )
        if self.refine and self.sampler == FLOW:
            object.__setattr__(self, "sampler", AMORTISED)

    @property
    def by_flow(self) -> bool:
        """Whether samples are those of the generative model."""
        return self.sampler in BY_FLOW

    @property
    def any(self) -> bool:
        """Whether anything is done beyond one pass of the encoder."""
        return self.refine > 0 or self.sampler != AMORTISED

    @property
    def tempered(self) -> bool:
        """Whether samples are from another distribution than the Bayes posterior."""
        return self.temperature != 1


@dataclass
class SearchRecord:
    """Figures of the tiles so far, a number for each tile and orientation.

    Attributes:
        gains: Gain of the bound by refinement, in nats per measured coefficient.
        seconds: Time of refinement.
        effective: Effective sample sizes.
        moved: Mean square distance of the end of each chain from its sample, over that of two independent samples.
        climbs: Change of the log-likelihood over the second half of each chain, in nats per measured coefficient.
    """

    gains: list[float] = field(default_factory=list)
    seconds: float = 0.0
    effective: list[float] = field(default_factory=list)
    moved: list[float] = field(default_factory=list)
    climbs: list[float] = field(default_factory=list)

    def figures(self, config: SearchConfig, steps: int) -> dict[str, object]:
        """The figures for the record of a restoration."""
        figures: dict[str, object] = {"sampler": config.sampler, "temperature": config.temperature, "tempered": config.tempered}
        if self.gains:
            gain = _mean(self.gains)
            figures["refined"] = {
                "steps": steps,
                "gain_nats_per_coefficient": gain,
                "seconds": round(self.seconds, 1),
                "gain_nats_per_coefficient_per_second_of_tile": gain / max(self.seconds / len(self.gains), 1e-9),
            }
        if self.effective:
            few = sum(size < MIN_EFFECTIVE for size in self.effective) / len(self.effective)
            figures["effective_sample_size"] = {
                "of": config.candidates,
                "mean": _mean(self.effective),
                "least": min(self.effective),
                "most": max(self.effective),
                f"share_below_{MIN_EFFECTIVE:g}": few,
            }
        if self.climbs and self.moved:
            # The chain that came least far, and the one that changed most.
            figures["langevin"] = {
                "steps": config.chain,
                "moved": min(self.moved),
                "climb_nats_per_coefficient": max(self.climbs, key=abs),
            }
        return figures


def _mean(values: Sequence[float]) -> float:
    return sum(values) / max(len(values), 1)
