"""Settings of a restoration."""

from __future__ import annotations

from dataclasses import dataclass

from cryovae.errors import InputError
from cryovae.models.precision import checked
from cryovae.posterior.search import SearchConfig


@dataclass(frozen=True)
class RestoreConfig(SearchConfig):
    """How a tomogram is restored.

    Attributes:
        samples: samples behind mean and standard deviation; even, because they come in opposite pairs.
        samples_out: samples that are kept, 0 to ``samples``.
        batch: tiles at once.
        raw: leave out the data-consistent step.
        halves: restore the halves too.
        calibrate: scale the spread of the samples by what held-out bins show; samplers other than the encoder's stay as they are.
        seed: of all random numbers.
        precision: 'float32', 'bfloat16' (of convolutions alone) or 'auto'; a search always runs in float32.
        refine: steps of refinement of the posterior, as in posterior/search.py, like the settings that follow.
        sampler: how samples are drawn.
        temperature: of candidates.
        candidates: for each reweighted sample.
        chain: steps of a Langevin chain.
        orientations: in which tiles are searched.
    """

    samples: int = 8
    samples_out: int = 0
    batch: int = 2
    raw: bool = False
    halves: bool = True
    calibrate: bool = True
    seed: int = 0
    precision: str = "auto"

    @property
    def search(self) -> SearchConfig:
        """What is done for a tile beyond one pass through the network."""
        return self

    def __post_init__(self) -> None:
        super().__post_init__()
        checked(self.precision)
        if self.samples < 2 or self.samples % 2:
            raise InputError(f"{self.samples} samples found, expected an even number from 2: they are drawn in opposite pairs")
        if not 0 <= self.samples_out <= self.samples:
            raise InputError(f"--samples-out {self.samples_out} found, expected 0 to the number of samples, {self.samples}")
