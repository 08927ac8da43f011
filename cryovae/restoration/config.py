"""Settings of a restoration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from cryovae.errors import InputError
from cryovae.models.precision import PRECISIONS
from cryovae.posterior.search import SearchConfig
from cryovae.ranges import MAX_SEED, OneOf, Range

# Samples that are written without a word.
SAMPLES_OUT = 2
# What may be written beside the mean: its standard deviation; the mean without its wedge; restored halves; samples.
OUTPUTS = ("std", "measured", "halves", "samples")


def is_old_default(recorded: object, now: object) -> bool:
    """Whether a record says that no samples are kept, as was the default before, where the default of now is asked for."""
    return recorded == 0 and now == SAMPLES_OUT


@dataclass(frozen=True)
class RestoreConfig(SearchConfig):
    """How a tomogram is restored.

    Attributes:
        samples: samples behind mean and standard deviation; even, because they come in opposite pairs.
        samples_out: samples that are written, 0 to ``samples``.
        outputs: what is written beside the mean.
        output_voxel_size: in angstrom, of further copies of all volumes but the standard deviation; 0 for none.
        batch: tiles at once in a search of the posterior.
        raw: leave out the data-consistent step.
        halves: restore the halves too.
        calibrate: combine means, samples and data as held-out bins show; reweighted and tempered samples stay as they are.
        seed: seed of all random numbers.
        precision: 'float32', 'bfloat16' (of convolutions alone) or 'auto'; searches and chains always run in float32.
        flow_steps: steps of Heun's method of a sample of the flow; after the fit two are as good as four.
        refine: steps of refinement of the posterior, as in posterior/search.py, like the settings that follow.
        sampler: how samples are drawn.
        temperature: temperature of candidates and chains; 1 is the posterior.
        candidates: candidates for each reweighted sample.
        chain: steps of a Langevin chain.
        orientations: orientations in which tiles are searched.
        other_scale: restore by a model that was trained at another voxel size, too.
    """

    samples: Annotated[int, Range(2, 100000)] = 8
    samples_out: Annotated[int, Range(0, 100000)] = SAMPLES_OUT
    outputs: Annotated[tuple[str, ...], OneOf(OUTPUTS)] = OUTPUTS
    output_voxel_size: Annotated[float, Range(0, 1000)] = 0.0
    batch: Annotated[int, Range(1, 4096, what="tiles")] = 2
    raw: bool = False
    halves: bool = True
    calibrate: bool = True
    seed: Annotated[int, Range(0, MAX_SEED)] = 0
    precision: Annotated[str, OneOf(PRECISIONS)] = "auto"
    flow_steps: Annotated[int, Range(1, 10**4)] = 2
    other_scale: bool = False

    @property
    def with_halves(self) -> bool:
        """Whether halves are restored, if the tomogram has any."""
        return self.halves and "halves" in self.outputs

    @property
    def samples_kept(self) -> int:
        """How many samples are kept."""
        return self.samples_out if "samples" in self.outputs else 0

    @property
    def search(self) -> SearchConfig:
        """What is done for a tile beyond one pass through the network."""
        return self

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.samples % 2:
            raise InputError(f"{self.samples} samples found, expected an even number from 2: they are drawn in opposite pairs")
        if not 0 <= self.samples_out <= self.samples:
            raise InputError(f"--samples-out {self.samples_out} found, expected 0 to the number of samples, {self.samples}")
        if self.samples_out not in (0, SAMPLES_OUT) and "samples" not in self.outputs:
            raise InputError(f"--samples-out {self.samples_out} found, but outputs are without samples: leave one of them out")
