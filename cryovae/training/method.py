"""What is trained and how: settings, and a method, which supplies network, batches and losses to the trainer."""

from __future__ import annotations

import copy
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from cryovae.errors import InputError
from cryovae.models.precision import PRECISIONS, halved
from cryovae.objectives.schedules import learning_rate_at
from cryovae.objectives.validation import ValidationScores
from cryovae.ranges import MAX_SEED, OneOf, Range, check_fields

Network = TypeVar("Network", bound=nn.Module)
Batch = TypeVar("Batch")

# Voxels of a batch at most, 8 GB; the largest preset has 4 million.
MOST_VOXELS = 2**31


@dataclass(frozen=True)
class TrainingConfig:
    """How a network is trained.

    Attributes:
        patch: side of the cubes that are trained on, in voxels.
        batch: patches a step, of each process where there are several.
        steps: largest number of steps.
        learning_rate: highest learning rate of AdamW.
        ema: decay of the averaged weights, 0 to below 1.
        clip: gradient norm above which a step is shortened.
        wild: multiple of the usual gradient norm above which a step is skipped.
        validate_every: steps between validations.
        patience: validations without improvement after which training stops.
        checkpoint_minutes: minutes between saved states.
        binnings: sizes of a tomogram that are trained on at most, the full size included (data/binning.py).
        precision: 'float32'; 'bfloat16', of the convolutions alone; or 'auto': bfloat16 where the device
            has instructions for it, else float32.
        seed: seed of all random numbers.
    """

    patch: Annotated[int, Range(2, 1024, what="voxels")] = 64
    batch: Annotated[int, Range(1, 4096, what="patches")] = 4
    steps: Annotated[int, Range(1, 10**9)] = 20000
    learning_rate: Annotated[float, Range(0, 10, above=True)] = 3e-4
    ema: Annotated[float, Range(0, 1, below=True)] = 0.995
    clip: Annotated[float, Range(0, 1e30, above=True)] = 0.5
    wild: Annotated[float, Range(1, 1e30, above=True)] = 1000.0
    validate_every: Annotated[int, Range(1, 10**9, what="steps")] = 200
    patience: Annotated[int, Range(1, 10**9, what="validations")] = 20
    checkpoint_minutes: Annotated[float, Range(0, 1e6, what="minutes")] = 10.0
    binnings: Annotated[int, Range(1, 16)] = 3
    precision: Annotated[str, OneOf(PRECISIONS)] = "auto"
    seed: Annotated[int, Range(0, MAX_SEED)] = 0

    def __post_init__(self) -> None:
        check_fields(self)
        if self.batch * self.patch**3 > MOST_VOXELS:
            raise InputError(
                f"batch {self.batch} of patch {self.patch} found, {self.batch * self.patch**3:.1e} voxels, expected at most "
                f"{MOST_VOXELS:.1e}: take a smaller batch or patch"
            )


class Method(ABC, Generic[Network, Batch]):
    """What is trained, on what, and by which losses.

    Args:
        network: the network to begin with; a copy is trained.
        config: training settings.
        device: where the network and its batches are.

    Attributes:
        network: the network in training.
        mixed: whether convolutions run in bfloat16.
        refill_at: steps before which the inputs are refilled.
        phase_start: step at which the last term of the loss joins.
        early_stopping: whether validation chooses the weights that are kept and ends training; without, the last average is kept.
    """

    refill_at: frozenset[int] = frozenset()
    phase_start = 0
    early_stopping = False

    def __init__(self, network: Network, config: TrainingConfig, device: torch.device) -> None:
        if device.type == "cuda" and device.index is None:
            # Batches are drawn in another thread, for which "the GPU" may be another one.
            device = torch.device("cuda", torch.cuda.current_device())
        self.config, self.device = config, device
        self.network = copy.deepcopy(network).to(device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        self.mixed = halved(config.precision, device)

    @abstractmethod
    def draw(self, step: int) -> Batch:
        """The batch of a step, this process's part of it; it depends on the step alone."""

    @abstractmethod
    def backward(self, batch: Batch, step: int, seconds: dict[str, float]) -> dict[str, Tensor]:
        """Add the gradients of a step to the parameters; returns figures, of which the sum over all processes is meant."""

    def parameter_groups(self) -> list[list[nn.Parameter]]:
        """Parameters that are trained, by their learning rate."""
        return [list(self.network.parameters())]

    def optimiser(self) -> torch.optim.Optimizer:
        """The optimiser, with one group of its own for each group of parameters."""
        groups = [{"params": parameters} for parameters in self.parameter_groups()]
        rate, is_fused = self.config.learning_rate, self.device.type == "cuda"
        return torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.99), weight_decay=0.01, fused=is_fused)

    def learning_rates(self, step: int) -> list[float]:
        """Learning rate of each group."""
        return [learning_rate_at(step, self.config.steps, self.config.learning_rate)]

    def clipped(self, step: int) -> Sequence[list[nn.Parameter]]:
        """Parameters that a step trains, in groups whose gradients are clipped each by itself."""
        return self.parameter_groups()

    def schedules(self, step: int) -> dict[str, float]:
        """Values that change with the step, to be reported."""
        return {}

    def begin_phase(self) -> None:
        """Prepare the network for the term of the loss that joins at ``phase_start``."""

    def refill(self, average: Network, step: int) -> None:
        """Fill the missing wedge of the inputs by the averaged network."""

    def validate(self, average: Network, step: int) -> ValidationScores | None:
        """Held-out scores of the averaged network, None where nothing is held out."""
        return None

    def finished(self, network: Network) -> Network:
        """The network as it is handed over after training."""
        return network

    def state(self) -> dict[str, Any]:
        """The state that a resumed run needs besides the weights: tensors and plain numbers."""
        return {}

    def resume(self, state: dict[str, Any]) -> None:
        """Continue from a saved state."""


def refilled_like(density: Tensor, filled: Any) -> Tensor:
    """A refilled volume of a saved state. ValueError if it is not one of the shape of ``density``."""
    if not isinstance(filled, Tensor) or filled.shape != density.shape or not bool(torch.isfinite(filled).all()):
        raise ValueError(f"a refilled volume is not one of {tuple(density.shape)} finite voxels")
    return filled


@contextmanager
def timed(seconds: dict[str, float], part: str) -> Iterator[None]:
    """Add the duration of a part of a step to ``seconds``."""
    start = time.perf_counter()
    yield
    seconds[part] = seconds.get(part, 0.0) + time.perf_counter() - start
