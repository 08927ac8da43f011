"""Where the volumes of a restoration lie, and how its steps walk through them: in memory here, in files in file_storage.py.

A volume is read and written slab by slab along z, a spectrum is worked on some rows y at a time. In memory the only slab is the
whole volume, and the only rows are all of them.
"""

# The docstrings of the methods of a storage are those of Storage.
from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from cryovae import fourier
from cryovae.data.prepare import PreparedTomogram, prepare
from cryovae.posterior.flow_posterior import VolumeSamples
from cryovae.posterior.ladder_boxes import LadderBoxes
from cryovae.restoration.moments import SampleMoments
from cryovae.tomogram import TiltGeometry, Tomogram

Result = TypeVar("Result")
Slabs = Iterable[Tensor]
# From the rows of a spectrum to a factor (z, rows, x // 2 + 1) for each volume; None leaves a volume as it is.
Weights = Callable[[slice], Sequence[Tensor | None]]


class Storage(ABC):
    """Named volumes (z, y, x) float32 of one restoration.

    Attributes:
        shape: of all volumes.
        slabs: slices along z that cover the volume.
        device: where slabs and rows are worked on.
        sum_dtype: of sums over a spectrum.
        is_shared: whether all ranks work on the volumes.
        folder: of the files, None if the volumes are in memory.
    """

    shape: tuple[int, int, int]
    slabs: list[slice]
    device: torch.device
    sum_dtype: torch.dtype
    is_shared: bool
    folder: Path | None = None

    @abstractmethod
    def prepare(self, tomogram: Tomogram, patch: int, seed: int) -> PreparedTomogram:
        """Standardise a tomogram into "data", and its halves, if any, into "half1" and "half2"."""

    @abstractmethod
    def volume(self, name: str) -> Any:
        """A volume as an array that can be sliced: a tensor, or a ``Stored``."""

    @abstractmethod
    def read(self, name: str) -> Iterator[Tensor]:
        """The slabs of a volume."""

    @abstractmethod
    def put(self, name: str, slab: slice, values: Tensor) -> None:
        """Write one slab of a volume."""

    @abstractmethod
    def discard(self, *names: str) -> None:
        """Drop volumes."""

    @abstractmethod
    def spectra(self, *volumes: Slabs) -> Iterator[tuple[slice, list[Tensor]]]:
        """Some rows y of the half spectra of volumes at a time, (z, rows, x // 2 + 1) each."""

    @abstractmethod
    def filtered(self, volumes: Sequence[Slabs], weights: Weights) -> Iterator[list[Tensor]]:
        """The slabs of F^-1[ weight F volume ] of volumes, all volumes at a time."""

    @abstractmethod
    def predict(self, predictor: LadderBoxes, source: str, target: str, tilts: TiltGeometry, orientations: int) -> None:
        """Write the model's mean of ``source`` in up to ``orientations`` orientations into ``target``."""

    @abstractmethod
    def sample(self, predictor: LadderBoxes, tilts: TiltGeometry, pair: int) -> None:
        """Write a pair of raw samples of "data" into "plus" and "minus"."""

    @abstractmethod
    def decode(self, name: str, drawing: VolumeSamples, latents: Tensor, target: str) -> None:
        """Write the density of latents (channels, z, y, x) of a volume into ``target``; ``name`` is that of the step."""

    def has(self, name: str) -> bool:
        """Whether an earlier run finished a step."""
        return False

    @abstractmethod
    def moments(self, slab: slice) -> SampleMoments:
        """The moments of the samples in a slab."""

    @abstractmethod
    def keep_moments(self, slab: slice, moments: SampleMoments) -> None:
        """Store the moments of a slab."""

    @abstractmethod
    def once(self, name: str, step: Callable[..., Result], *arguments: Any) -> Result:
        """The result, plain numbers, of a step; a step that an earlier run finished is not run again."""

    @abstractmethod
    def patches_done(self) -> int:
        """Patches of training, as units of work, that an earlier run finished."""

    def write(self, name: str, slabs: Slabs) -> None:
        """Write a whole volume."""
        for slab, part in zip(self.slabs, slabs, strict=True):
            self.put(name, slab, part)


class MemoryStorage(Storage):
    """Volumes as tensors on a device; halves stay on the CPU until they are read."""

    is_shared = True

    def __init__(self, shape: tuple[int, int, int], device: torch.device) -> None:
        self.shape, self.device = shape, device
        self.slabs = [slice(0, shape[0])]
        # A GPU adds in any order; sums in double precision do not show it.
        self.sum_dtype = torch.float32 if device.type == "cpu" else torch.float64
        self._volumes: dict[str, Tensor] = {}
        self._moments: SampleMoments | None = None

    def prepare(self, tomogram: Tomogram, patch: int, seed: int) -> PreparedTomogram:
        prepared = prepare(tomogram, patch, seed, device=self.device)
        self._volumes["data"] = prepared.density.to(self.device)
        for number, half in enumerate(tomogram.halves or (), 1):
            self._volumes[f"half{number}"] = prepared.ready(half)
        return prepared

    def volume(self, name: str) -> Tensor:
        return self._volumes[name]

    def read(self, name: str) -> Iterator[Tensor]:
        yield self._volumes[name].to(self.device)

    def put(self, name: str, slab: slice, values: Tensor) -> None:
        self._volumes[name] = values

    def discard(self, *names: str) -> None:
        for name in names:
            self._volumes.pop(name, None)

    def spectra(self, *volumes: Slabs) -> Iterator[tuple[slice, list[Tensor]]]:
        yield slice(None), [fourier.transform(density) for volume in volumes for density in volume]

    def filtered(self, volumes: Sequence[Slabs], weights: Weights) -> Iterator[list[Tensor]]:
        pairs = zip(volumes, weights(slice(None)), strict=True)
        yield [x if weight is None else fourier.filtered(x, weight) for volume, weight in pairs for x in volume]

    def predict(self, predictor: LadderBoxes, source: str, target: str, tilts: TiltGeometry, orientations: int) -> None:
        (data,) = self.read(source)
        self._volumes[target] = predictor.predict(data, tilts, orientations)

    def sample(self, predictor: LadderBoxes, tilts: TiltGeometry, pair: int) -> None:
        self._volumes["plus"], self._volumes["minus"] = predictor.pair(self._volumes["data"], tilts, pair)

    def decode(self, name: str, drawing: VolumeSamples, latents: Tensor, target: str) -> None:
        self._volumes[target] = drawing.density(latents)

    def moments(self, slab: slice) -> SampleMoments:
        self._moments = self._moments or SampleMoments.empty(self.shape, self.device)
        return self._moments

    def keep_moments(self, slab: slice, moments: SampleMoments) -> None:
        self._moments = moments

    def once(self, name: str, step: Callable[..., Result], *arguments: Any) -> Result:
        return step(*arguments)

    def patches_done(self) -> int:
        return 0
