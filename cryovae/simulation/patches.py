"""Exact pairs of a clean, complete patch and its measurement, cut from simulated scenes that are never written to disk.

    x = -(C s - mean) / scale            C contrast transfer of the specimen s, protein dark, scale that of the whole scene
    y = M (R x + n)                      R one of the 24 cube rotations, M the wedge, n noise of spectrum sigma^2(k)

Voxel size, crowding, molecules, membranes, filaments, defocus, tilts and noise differ from scene to scene. Wedge and noise act
on the whole scene before patches are cut, as in a tomogram. A scene depends on (seed, number) alone, so any number of processes
gives the same patches in the same order. There are no gold beads.
"""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from torch import Tensor

from cryovae import fourier
from cryovae.errors import InputError
from cryovae.io.molecules import Molecule, read_molecule
from cryovae.physics.ctf import contrast_transfer
from cryovae.physics.observation import Observation, observed, random_noise
from cryovae.physics.rotation import cube_rotations
from cryovae.physics.traits import traits_of
from cryovae.physics.wedge import patch_mask, volume_mask
from cryovae.ranges import MAX_SEED, Length, Range, check_fields
from cryovae.simulation.procedural import procedural_molecule
from cryovae.simulation.scene import SceneConfig, build_scene
from cryovae.tomogram import TiltGeometry
from cryovae.units import MOST_VOXEL

# Voxels by which a scene is larger than a patch, along z, y and x: it is no cube.
ROOM = (40, 60, 56)
# Share of the scenes with a contrast transfer as it is, and with one whose phases were flipped; the others have none.
UNCORRECTED, FLIPPED = 0.45, 0.2
# Standard deviation of a density, in units of protein, below which a scene keeps a small amplitude: it is almost empty.
LEAST_CONTRAST = 0.15
# Standard deviation of the logarithm of the amplitude.
AMPLITUDE_SPREAD = 0.15


@dataclass(frozen=True)
class PatchConfig:
    """What patches show, and how they were measured.

    Attributes:
        side: of a patch in voxels.
        kinds: number of procedural molecules to choose from; they are numbers ``first_kind`` and following.
        first_kind: number of the first of them.
        molecules: files of molecules to choose from as well; half of the species are from these, if there are any.
        voxel_size: smallest and largest in angstrom.
        crowding: largest share of the volume that molecules fill.
        snr: smallest and largest ratio of the variances of signal and noise.
        rotations: orientations in which a scene is measured.
        cuts: patches of each.
        fall_off: largest B in exp(-B k^2 / 4) of a scene, in square angstrom; half of the scenes have none. 0 for none at all.
        lamellae: share of the scenes whose matter fills a part of the depth alone.
        seed: of all random numbers.
    """

    side: Annotated[int, Range(16, 256, what="voxels")] = 32
    kinds: Annotated[int, Range(1, 10**6)] = 256
    first_kind: Annotated[int, Range(0, 10**9)] = 0
    molecules: tuple[str, ...] = ()
    voxel_size: Annotated[tuple[float, float], Length(2, 2), Range(0, MOST_VOXEL, above=True, what="angstrom")] = (6.0, 16.0)
    crowding: Annotated[float, Range(0, 0.6)] = 0.5
    snr: Annotated[tuple[float, float], Length(2, 2), Range(0, 1e9, above=True)] = (0.05, 3.0)
    rotations: Annotated[int, Range(1, 24)] = 4
    cuts: Annotated[int, Range(1, 10**4)] = 20
    fall_off: Annotated[float, Range(0, 10**5, what="square angstrom")] = 0.0
    lamellae: Annotated[float, Range(0, 1)] = 0.0
    seed: Annotated[int, Range(0, MAX_SEED)] = 0

    def __post_init__(self) -> None:
        check_fields(self)
        for name, (low, high) in (("voxel_size", self.voxel_size), ("snr", self.snr)):
            if low > high:
                raise InputError(f"{name} {low:g} to {high:g} found, expected two numbers, the smaller first")


@dataclass(frozen=True)
class Pairs:
    """Patches of one or several scenes.

    Attributes:
        clean: x, (n, z, y, x).
        observation: y, on the scale of x, and what was measured of it.
        scenes: number of the scene of each patch, (n,).
        tilts: the tilt geometry of each patch, n of them.
        scored: 1 for the voxels that training may score, else 0, (n, z, y, x); None for all.
        scale: standard deviation of the data from which each patch was cut, (n,); None if unknown.
        traits: of these data (physics/traits.py), (n, TRAITS); None if unknown.
    """

    clean: Tensor
    observation: Observation
    scenes: Tensor
    tilts: tuple[TiltGeometry, ...]
    scored: Tensor | None = None
    scale: Tensor | None = None
    traits: Tensor | None = None

    def __len__(self) -> int:
        return len(self.clean)

    def rows(self, index: Tensor | slice) -> Pairs:
        """Some of the patches."""
        tilts = self.tilts[index] if isinstance(index, slice) else tuple(self.tilts[int(i)] for i in index)
        scored = None if self.scored is None else self.scored[index]
        scale, traits = (None if part is None else part[index] for part in (self.scale, self.traits))
        return Pairs(self.clean[index], self.observation.rows(index), self.scenes[index], tilts, scored, scale, traits)

    def masks(self) -> Tensor:
        """M of each patch, (n, z, y, x // 2 + 1)."""
        shape = self.clean.shape[-3:]
        by_geometry = {tilts: patch_mask(shape, tilts) for tilts in set(self.tilts)}
        return torch.stack([by_geometry[tilts] for tilts in self.tilts])

    @staticmethod
    def joined(parts: Sequence[Pairs]) -> Pairs:
        """The patches of several in one."""
        observation = Observation.joined([p.observation for p in parts])
        tilts = tuple(tilts for p in parts for tilts in p.tilts)
        masks = [torch.ones_like(p.clean) if p.scored is None else p.scored for p in parts]
        scored = None if all(p.scored is None for p in parts) else torch.cat(masks)
        clean, scenes = (torch.cat(tensors) for tensors in zip(*((p.clean, p.scenes) for p in parts), strict=True))
        scale, traits = (
            torch.cat(known) if len(known) == len(parts) else None
            for known in ([p.scale for p in parts if p.scale is not None], [p.traits for p in parts if p.traits is not None])
        )
        return Pairs(clean, observation, scenes, tilts, scored, scale, traits)


def scene_density(config: PatchConfig, number: int) -> Tensor:
    """The clean density x (z, y, x) of scene ``number``, in units of the standard deviation of its scene."""
    rng = np.random.default_rng([config.seed, number, 0])
    voxel = float(rng.uniform(*config.voxel_size))
    shape = tuple(config.side + room for room in ROOM)
    specimen = SceneConfig(
        (shape[0], shape[1], shape[2]),
        voxel,
        crowding=0.0 if rng.random() < 0.1 else float(np.exp(rng.uniform(np.log(0.01), np.log(max(config.crowding, 0.011))))),
        sheets=int(rng.choice([0, 1, 2], p=[0.55, 0.35, 0.1])),
        vesicles=int(rng.choice([0, 1, 2, 3], p=[0.4, 0.3, 0.2, 0.1])),
        filaments=int(rng.choice([0, 1, 2, 4], p=[0.55, 0.2, 0.15, 0.1])),
        beads=0,
    )
    if config.crowding == 0:
        specimen = replace(specimen, crowding=0.0)
    if config.lamellae and rng.random() < config.lamellae:
        specimen = replace(specimen, lamella=float(rng.uniform(0.4, 0.9)) * shape[0] * voxel)
    scene = build_scene(specimen, _species(config, voxel, specimen, rng), 0, rng)
    protein = torch.from_numpy(scene.inside)
    density = _transferred(protein - protein.mean(), voxel, rng)
    if config.fall_off:
        density = _fallen_off(density, voxel, config.fall_off * max(float(rng.uniform(-1, 1)), 0.0))
    # An almost empty scene keeps its small amplitude; all others have about a standard deviation of 1.
    scale = float(density.std()) * max(1.0, LEAST_CONTRAST / max(float(protein.std()), 1e-3))
    amplitude = float(np.exp(AMPLITUDE_SPREAD * rng.standard_normal()))
    return -density * (amplitude / max(scale, 1e-6))


def _species(config: PatchConfig, voxel: float, specimen: SceneConfig, rng: np.random.Generator) -> list[Molecule]:
    """One to six molecules that fit into the scene."""
    species = []
    for _ in range(int(rng.integers(1, 7))):
        if config.molecules and rng.random() < 0.5:
            one = read_molecule(Path(str(rng.choice(config.molecules))), voxel)
        else:
            one = procedural_molecule(config.first_kind + int(rng.integers(config.kinds)), voxel)
        if _fits(one, specimen):
            species.append(one)
    # A scene without any is given made-up ones, which fit but are of no kind.
    return species or [one for one in (procedural_molecule(config.first_kind, voxel),) if _fits(one, specimen)]


def _fits(one: Molecule, specimen: SceneConfig) -> bool:
    return 2 * one.radius < min(specimen.shape[1:])


def _transferred(density: Tensor, voxel: float, rng: np.random.Generator) -> Tensor:
    """The density seen through a contrast transfer of 1.5 to 5 micrometres, as it is or flipped; or none."""
    kind, defocus = rng.random(), float(rng.uniform(1.5, 5.0))
    if kind > UNCORRECTED + FLIPPED:
        return density
    transfer = -contrast_transfer(fourier.radius(density.shape), voxel, defocus)
    return fourier.filtered(density, transfer if kind < UNCORRECTED else transfer.abs())


def _fallen_off(density: Tensor, voxel: float, b_factor: float) -> Tensor:
    """The density times exp(-B k^2 / 4) in Fourier space, B in square angstrom."""
    return fourier.filtered(density, torch.exp(-b_factor / 4 * (fourier.radius(density.shape) / voxel).square()))


def random_tilts(rng: np.random.Generator) -> TiltGeometry:
    """A tilt range with ends at 40 to 72 degrees; one in ten has a second axis at right angles."""
    tilts = TiltGeometry.from_range(-float(rng.uniform(40, 72)), float(rng.uniform(40, 72)))
    if rng.random() < 0.1:
        second = TiltGeometry.from_range(-float(rng.uniform(40, 72)), float(rng.uniform(40, 72)))
        tilts = replace(tilts, second=replace(second, axis_angle=90.0))
    return tilts


def scene_pairs(config: PatchConfig, number: int) -> Pairs:
    """The pairs of scene ``number``: ``rotations`` orientations and measurements, ``cuts`` patches of each."""
    density = scene_density(config, number)
    rng = np.random.default_rng([config.seed, number, 1])
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    rotations = [cube_rotations()[i] for i in rng.permutation(24)[: config.rotations]]
    parts = []
    for rotation in rotations:
        rotated = rotation(density)
        tilts = random_tilts(rng)
        noise = random_noise(rng, float(np.exp(rng.uniform(*np.log(config.snr)))))
        data = measured(rotated, tilts, noise(fourier.frequencies(rotated.shape)), generator)
        room = [size - config.side + 1 for size in rotated.shape]
        corners = [[int(rng.integers(r)) for r in room] for _ in range(config.cuts)]
        observation = observed(_cut(data, corners, config.side), tilts, noise)
        numbers = torch.full((config.cuts,), number)
        scale = float(data.std())
        traits = traits_of(observation.data / scale, tilts, replace(noise, level=noise.level / scale**2))
        about = numbers, (tilts,) * config.cuts, None, torch.full((config.cuts,), scale), traits.expand(config.cuts, -1)
        parts.append(Pairs(_cut(rotated, corners, config.side), observation, *about))
    return Pairs.joined(parts)


def measured(density: Tensor, tilts: TiltGeometry, variance: Tensor, generator: torch.Generator) -> Tensor:
    """y = M (x + n), (z, y, x).

    Args:
        density: x, (z, y, x).
        tilts: the tilt geometry.
        variance: sigma^2 of the noise in an orthonormal spectrum, (z, y, x // 2 + 1).
        generator: of the noise.
    """
    mask = volume_mask(density.shape, tilts) * fourier.below_nyquist(density.shape)
    white = torch.randn(density.shape, generator=generator)
    return fourier.filtered(density, mask) + fourier.filtered(white, mask * variance.sqrt())


def _cut(density: Tensor, corners: list[list[int]], side: int) -> Tensor:
    return torch.stack([density[z : z + side, y : y + side, x : x + side] for z, y, x in corners])


@contextmanager
def pair_stream(config: PatchConfig, processes: int = 0, start: int = 0) -> Iterator[Iterator[Pairs]]:
    """The pairs of scenes ``start``, ``start`` + 1, ... without end, made by other processes beforehand.

    Args:
        config: what patches show.
        processes: how many processes make scenes; 0 for this one.
        start: number of the first scene.
    """
    if processes == 0:
        yield (scene_pairs(config, number) for number in _numbers(start))
        return
    # A forked child of a process that has used threads can hang.
    pool = ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), _one_thread)
    with closing(_in_order(pool, config, start, 2 * processes)) as stream:
        try:
            yield stream
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _in_order(pool: ProcessPoolExecutor, config: PatchConfig, start: int, in_flight: int) -> Generator[Pairs]:
    waiting: deque[Future[Pairs]] = deque()
    for number in _numbers(start):
        waiting.append(pool.submit(scene_pairs, config, number))
        if len(waiting) > in_flight:
            yield waiting.popleft().result()


def _numbers(start: int) -> Iterator[int]:
    number = start
    while True:
        yield number
        number += 1


def _one_thread() -> None:
    torch.set_num_threads(1)
