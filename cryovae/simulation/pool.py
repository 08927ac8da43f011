"""A pool of pairs from the latest scenes, from which the batches of training are drawn.

At step s the pool holds the scenes from s / steps_per_scene on, ``scenes`` of them. A batch depends on (seed, step) alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Annotated

import torch
from torch import Tensor

from cryovae.ranges import Range, check_fields
from cryovae.simulation.patches import Pairs, PatchConfig, pair_stream


@dataclass(frozen=True)
class PoolConfig:
    """How large the pool is, and how fast it changes.

    Attributes:
        scenes: in the pool at once.
        steps_per_scene: steps after which one of them is replaced by a new one.
    """

    scenes: Annotated[int, Range(1, 10**5)] = 48
    steps_per_scene: Annotated[int, Range(1, 10**6)] = 4

    def __post_init__(self) -> None:
        check_fields(self)


class PairPool:
    """The pool. Use it as a context manager, and ask for batches of rising steps.

    Args:
        patches: what patches show.
        config: sizes of the pool.
        processes: how many processes make scenes; 0 for this one.
        first_scene: number of the scene that is the first at step 0.
    """

    def __init__(self, patches: PatchConfig, config: PoolConfig, processes: int, first_scene: int = 0) -> None:
        self.patches, self.config, self.processes, self.first_scene = patches, config, processes, first_scene
        self._scenes: deque[Pairs] = deque(maxlen=config.scenes)
        self._stack = ExitStack()
        self._stream: Iterator[Pairs] | None = None
        self._next = 0

    def __enter__(self) -> PairPool:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stack.close()

    def batch(self, step: int, size: int, generator: torch.Generator) -> Pairs:
        """``size`` random pairs of the pool of a step, in single precision."""
        first = self.first_scene + step // self.config.steps_per_scene
        if self._next > first + self.config.scenes:
            raise ValueError(f"step {step} of a pool that is past it found, expected rising steps")
        self._advance(first)
        scenes = torch.randint(len(self._scenes), (size,), generator=generator).tolist()
        parts = []
        for scene in scenes:
            pairs = self._scenes[scene]
            index = int(torch.randint(len(pairs), (1,), generator=generator))
            parts.append(pairs.rows(slice(index, index + 1)))
        return _cast(Pairs.joined(parts), torch.float32)

    def _advance(self, first: int) -> None:
        if self._stream is None:
            self._stream = self._stack.enter_context(pair_stream(self.patches, self.processes, first))
            self._next = first
        while self._next < first + self.config.scenes:
            # Half precision: its error is a thousandth, and there are thousands of patches.
            self._scenes.append(_cast(next(self._stream), torch.float16))
            self._next += 1


def _cast(pairs: Pairs, kind: torch.dtype) -> Pairs:
    def change(part: Tensor) -> Tensor:
        return part.to(kind)

    return replace(pairs, clean=change(pairs.clean), observation=pairs.observation.map(change))
