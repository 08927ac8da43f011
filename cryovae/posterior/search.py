"""How tiles are searched for, and what is known of a search: settings, and the figures of all tiles together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from cryovae.errors import InputError
from cryovae.posterior.importance import LEAST

AMORTISED, REWEIGHTED, LANGEVIN = "amortised", "reweighted", "langevin"
SAMPLERS = (AMORTISED, REWEIGHTED, LANGEVIN)
# Steps that a chain may have at the most.
LONGEST = 10**5


@dataclass(frozen=True)
class SearchConfig:
    """What is done for a tile.

    refine: steps on the posterior of each. sampler: one of SAMPLERS. temperature: T, of the likelihood; 1 is the Bayes posterior.
    candidates: that are reweighted, for each orientation. chain: Langevin steps of each sample. orientations: orientations at the most.
    InputError for what makes no sense.
    """

    refine: int = 0
    sampler: str = AMORTISED
    temperature: float = 1.0
    candidates: int = 16
    chain: int = 100
    orientations: int = 4

    def __post_init__(self) -> None:
        if self.sampler not in SAMPLERS:
            raise InputError(f"sampler '{self.sampler}' found, expected {', '.join(SAMPLERS)}")
        if self.refine < 0:
            raise InputError(f"--refine {self.refine} found, expected a number of steps from 0, e.g. 50")
        if not 0 < self.temperature < float("inf"):
            raise InputError(f"--temperature {self.temperature:g} found, expected more than 0; 1 is the posterior")
        if self.temperature != 1 and self.sampler == AMORTISED:
            raise InputError(
                f"--temperature {self.temperature:g} found with the amortised sampler, which knows its training's alone: pass "
                f"--sampler {REWEIGHTED} or {LANGEVIN}"
            )
        if self.candidates < 2 or not 4 <= self.chain < LONGEST or self.orientations < 1:
            raise InputError(
                f"candidates {self.candidates}, chain {self.chain} and turns {self.orientations} found, expected candidates from 2, a "
                f"chain of 4 to {LONGEST - 1} steps, turns from 1"
            )

    @property
    def any(self) -> bool:
        """Whether there is anything to do beyond what the encoder answers at once."""
        return self.refine > 0 or self.sampler != AMORTISED

    @property
    def tempered(self) -> bool:
        """Whether what is drawn is another than the Bayes posterior."""
        return self.temperature != 1


@dataclass
class Tally:
    """What is known of the tiles searched so far, a number for each tile and orientation."""

    gains: list[float] = field(default_factory=list)
    seconds: float = 0.0
    effective: list[float] = field(default_factory=list)
    accepted: list[float] = field(default_factory=list)
    sizes: list[float] = field(default_factory=list)
    climbs: list[float] = field(default_factory=list)

    def figures(self, config: SearchConfig, steps: int) -> dict[str, object]:
        """For the record of a restoration."""
        found: dict[str, object] = {"sampler": config.sampler, "temperature": config.temperature, "tempered": config.tempered}
        if self.gains:
            gain = _mean(self.gains)
            found["refined"] = {
                "steps": steps,
                "gain_nats_per_coefficient": gain,
                "seconds": round(self.seconds, 1),
                "gain_nats_per_coefficient_per_second_of_tile": gain / max(self.seconds / len(self.gains), 1e-9),
            }
        if self.effective:
            few = sum(size < LEAST for size in self.effective) / len(self.effective)
            found["effective_sample_size"] = {
                "of": config.candidates,
                "mean": _mean(self.effective),
                "least": min(self.effective),
                "most": max(self.effective),
                f"share_below_{LEAST:g}": few,
            }
        if self.accepted:
            found["langevin"] = {
                "steps": config.chain,
                "accepted": _mean(self.accepted),
                "step": _mean(self.sizes),
                # How often a chain goes through what P takes for the width of the posterior: a rate of size / 2 a step.
                "relaxations": 0.5 * config.chain * _mean(self.accepted) * _mean(self.sizes),
                "climb_nats_per_coefficient": _mean(self.climbs),
            }
        return found


def _mean(values: Sequence[float]) -> float:
    return sum(values) / max(len(values), 1)
