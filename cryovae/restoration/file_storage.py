"""Volumes of a restoration in files of one folder, for tomograms that are larger than memory; broken off, it goes on from there.

    F = F_z F_yx          planes (y, x) slab by slab, then columns along z, some rows y of all planes at a time

This is the transform of the whole volume, not of blocks: it differs from the one in memory by rounding alone. A journal holds the
results of finished steps and the layers of boxes that are on the disk.
"""

# The docstrings of the methods of a storage are those of Storage.
from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import torch
from torch import Tensor

from cryovae import fourier
from cryovae.data.held_out_boxes import held_out_boxes
from cryovae.data.measurement import Orientations
from cryovae.data.prepare import PreparedTomogram
from cryovae.data.region import region_of
from cryovae.data.validation_split import held_out_patches
from cryovae.io.journal import Journal
from cryovae.io.stored import Stored, released
from cryovae.physics.noise import NoiseSpectrum
from cryovae.physics.rotation import symmetry_rotations
from cryovae.posterior.flow_posterior import VolumeSamples
from cryovae.posterior.ladder_boxes import LadderBoxes
from cryovae.restoration.moments import SampleMoments
from cryovae.restoration.standardise_slabs import standardise, with_transfer
from cryovae.restoration.storage import Slabs, Storage, Weights
from cryovae.tiling.boxes import Work
from cryovae.tiling.grid import Position
from cryovae.tiling.streaming import Layers
from cryovae.tomogram import TiltGeometry, Tomogram

Result = TypeVar("Result")
# Bytes for each bin of the rows at hand, frequencies, masks and filters included (380 measured), and for each voxel of a slab.
BYTES_PER_BIN, BYTES_PER_VOXEL = 400, 48
# Name in the journal of the voxels that a box of the ladder may have.
BOX_VOXELS = "voxels of a box"
# Names of the moments that are stored.
SUMS = ("total", "within", "between", "unfiltered")


class FileStorage(Storage):
    """Volumes in files.

    Args:
        folder: for all files, about ``volumes_on_disk`` times the tomogram in 32 bits.
        shape: of the volumes (z, y, x).
        journal: of this restoration.
        memory: bytes for a slab, or for some rows of the spectra.
    """

    device, sum_dtype, is_shared = torch.device("cpu"), torch.float64, False

    folder: Path

    def __init__(self, folder: Path, shape: tuple[int, int, int], journal: Journal, memory: float) -> None:
        self.folder, self.shape, self.journal = folder, shape, journal
        nz, ny, nx = shape
        memory = float(journal.once("memory", lambda: memory))
        planes = int(min(max(memory // (BYTES_PER_VOXEL * ny * nx), 1), nz))
        rows = int(min(max(memory // (BYTES_PER_BIN * nz * (nx // 2 + 1)), 1), ny))
        self.slabs = [slice(start, min(start + planes, nz)) for start in range(0, nz, planes)]
        self.rows = [slice(start, min(start + rows, ny)) for start in range(0, ny, rows)]

    def prepare(self, tomogram: Tomogram, patch: int, seed: int) -> PreparedTomogram:
        record = self.once("standardised", standardise, self, tomogram, seed)
        tilts = with_transfer(tomogram)
        noise = NoiseSpectrum(torch.tensor(record["noise"]), record["method"], tilts.transfer)
        density = cast(Tensor, self.volume("data"))
        region = region_of(tomogram)
        places, orientations = held_out_patches(density, patch, region), Orientations(tilts, noise, patch)
        mean, scale = record["mean"], record["scale"]
        boxes = held_out_boxes(density, patch, region, places)
        about = tomogram.name, tilts, density, density, mean, scale, noise, orientations, places, region
        return PreparedTomogram(*about, held_out_boxes=boxes)

    def volume(self, name: str) -> Stored:
        return self._open(f"{name}.f32", self.shape, np.float32)

    def read(self, name: str) -> Iterator[Tensor]:
        return self.read_array(self.volume(name))

    def read_array(self, volume: Any) -> Iterator[Tensor]:
        """The slabs of an array or a file, float32; a mapped array is let go of as it is read."""
        for slab in self.slabs:
            yield torch.from_numpy(np.array(volume[slab, :, :], dtype=np.float32))
            released(volume)

    def put(self, name: str, slab: slice, values: Tensor) -> None:
        self.volume(name).write(values.numpy(), slab.start)

    def discard(self, *names: str) -> None:
        for name in names:
            (self.folder / f"{name}.f32").unlink(missing_ok=True)

    def spectra(self, *volumes: Slabs) -> Iterator[tuple[slice, list[Tensor]]]:
        return self._columns(self._planes(volumes))

    def filtered(self, volumes: Sequence[Slabs], weights: Weights) -> Iterator[list[Tensor]]:
        spectra = self._planes(volumes)
        for rows, values in self._columns(spectra):
            for spectrum, value, weight in zip(spectra, values, weights(rows), strict=True):
                weighted = value if weight is None else value * weight
                spectrum.write(fourier.along_z_inverse(weighted).numpy(), 0, rows.start)
        for slab in self.slabs:
            yield [fourier.planes_inverse(torch.from_numpy(spectrum[slab]), self.shape) for spectrum in spectra]

    def predict(self, predictor: LadderBoxes, source: str, target: str, tilts: TiltGeometry, orientations: int) -> None:
        rotations = symmetry_rotations(tilts)[:orientations]

        def mean(box: Tensor, _: Position) -> Tensor:
            return predictor.mean(box, tilts, rotations)

        self._boxes(f"mean of {source}", predictor, source, [target], mean, len(rotations))

    def sample(self, predictor: LadderBoxes, tilts: TiltGeometry, pair: int) -> None:
        def drawn(box: Tensor, position: Position) -> Tensor:
            return predictor.sampled(box, position, tilts, pair)

        self._boxes(f"samples of pair {pair}", predictor, "data", ["plus", "minus"], drawn, 1)

    def decode(self, name: str, drawing: VolumeSamples, latents: Tensor, target: str) -> None:
        for start, slab in drawing.slabs(latents):
            self.volume(target).write(slab.numpy(), start)
        self.journal.keep({"patches": self.patches_done() + drawing.taken()})
        self.once(name, lambda: True)

    def has(self, name: str) -> bool:
        return self.journal.has(name)

    def moments(self, slab: slice) -> SampleMoments:
        path = self._moments_of(slab)
        if not path.exists():
            return SampleMoments.empty((slab.stop - slab.start, *self.shape[1:]))
        with np.load(path) as sums:
            total, within, between, unfiltered = (torch.from_numpy(sums[name]) for name in SUMS)
            return SampleMoments(total, within, between, unfiltered, int(sums["pairs"]))

    def keep_moments(self, slab: slice, moments: SampleMoments) -> None:
        path = self._moments_of(slab)
        beside = path.with_suffix(".part.npz")
        tables = {name: getattr(moments, name).numpy() for name in SUMS}
        np.savez(beside, pairs=moments.pairs, **tables)
        beside.replace(path)

    def once(self, name: str, step: Callable[..., Result], *arguments: Any) -> Result:
        return cast(Result, self.journal.once(name, lambda: step(*arguments)))

    def patches_done(self) -> int:
        return int(self.journal.values.get("patches", 0))

    def _open(self, name: str, shape: tuple[int, ...], kind: type) -> Stored:
        """A file of the right size, as it is if it exists."""
        path = self.folder / name
        size = int(np.prod(shape)) * np.dtype(kind).itemsize
        return Stored(path, shape, kind, fresh=not path.exists() or path.stat().st_size != size)

    def _moments_of(self, slab: slice) -> Path:
        return self.folder / f"sums_{slab.start:05d}.npz"

    def _planes(self, volumes: Sequence[Slabs]) -> list[Stored]:
        """Spectra along y and x of volumes; their files serve one step, and are used again by the next."""
        nz, ny, nx = self.shape
        spectra = []
        for number, volume in enumerate(volumes):
            spectrum = self._open(f"spectrum{number}.c64", (nz, ny, nx // 2 + 1), np.complex64)
            for slab, part in zip(self.slabs, volume, strict=True):
                spectrum.write(fourier.planes(part).numpy(), slab.start)
            spectra.append(spectrum)
        return spectra

    def _columns(self, spectra: Sequence[Stored]) -> Iterator[tuple[slice, list[Tensor]]]:
        for rows in self.rows:
            yield rows, [fourier.along_z(torch.from_numpy(spectrum[:, rows])) for spectrum in spectra]

    def _boxes(self, name: str, predictor: LadderBoxes, source: str, targets: list[str], work: Work, passes: int) -> None:
        """All boxes of ``source`` into files, layer by layer; passes: through the network, for each box."""
        journal = self.journal
        if journal.has(name):
            return
        boxes, files = predictor.boxes(self.shape), [self.volume(target) for target in targets]
        layers = Layers(boxes, self.volume(source), files, self.folder / "between")
        patches = predictor.patches(self.shape) * passes // len(boxes)

        @torch.no_grad()
        def made(box: Tensor, position: Position) -> Tensor:
            return predictor.applied(box, position, work)

        def done(layer: int, count: int) -> None:
            journal.keep({f"layer of {name}": layer, "patches": self.patches_done() + count * patches})
            predictor.advance(count * patches)

        layers.run(made, int(journal.values.get(f"layer of {name}", 0)), done)
        # Where memory ran out, the next pass begins with smaller boxes, in a resumed run as well.
        journal.keep({name: True, BOX_VOXELS: predictor.voxels})
        layers.clear()


def volumes_on_disk(samples_out: int, halves: bool) -> int:
    """How many times the tomogram in 32 bits all files take at most."""
    return 25 + 2 * samples_out + (6 if halves else 0)
