"""Writes a simulation to files: an acquired tilt series and its tomograms, or an ideal wedge."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
from torch import Tensor

from cryovae.errors import InputError
from cryovae.io.atomic import write_text
from cryovae.io.files import write_volume
from cryovae.io.molecules import Molecule, read_molecule
from cryovae.io.positions import write_positions
from cryovae.simulation.scene import Scene, SceneConfig, build_scene
from cryovae.simulation.simulate import SimulationConfig, simulate
from cryovae.simulation.tilt_series import AcquisitionConfig, image_scene, margin_of
from cryovae.workflows.progress import Watch

VOLUMES = ("full", "half1", "half2", "truth", "density")


class _Stages:
    """A line of progress for each stage of the work."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack, self._watches = stack, dict[str, Watch]()

    def __call__(self, stage: str, done: int, total: int) -> None:
        if stage not in self._watches:
            self._watches[stage] = self._stack.enter_context(Watch(stage, total))
        self._watches[stage].update(done)


def write_ideal(folder: Path, name: str, config: SimulationConfig, overwrite: bool) -> None:
    """Write NAME_truth.mrc, NAME_half1.mrc, NAME_half2.mrc and NAME.tlt, and print their paths."""
    paths = {kind: folder / f"{name}_{kind}.mrc" for kind in ("truth", "half1", "half2")}
    tilts = folder / f"{name}.tlt"
    _check_free([*paths.values(), tilts], overwrite)
    made = simulate(config)
    note = f"simulate, snr {config.snr:g}, seed {config.seed}"
    for kind, density in (("truth", made.truth), ("half1", made.half1), ("half2", made.half2)):
        write_volume(paths[kind], density.numpy(), None, config.voxel_size, f"{note}, {kind}")
    write_text(tilts, "".join(f"{angle:.2f}\n" for angle in made.tilts.angles))
    for path in (*paths.values(), tilts):
        print(path)


def write_tilt_series(
    folder: Path, name: str, scene: SceneConfig, acquisition: AcquisitionConfig, molecules: Sequence[Path], overwrite: bool
) -> None:
    """Simulate a tilt series of the molecules in the files named, and write its tomograms, images, tilts and molecules.

    NAME_full, NAME_half1, NAME_half2, NAME_truth, NAME_density and NAME_tilts.mrc, NAME.tlt and NAME_molecules.star.
    """
    paths = {kind: folder / f"{name}_{kind}.mrc" for kind in (*VOLUMES, "tilts")}
    tilts, star = folder / f"{name}.tlt", folder / f"{name}_molecules.star"
    _check_free([*paths.values(), tilts, star], overwrite)
    read = _named_apart([read_molecule(path, scene.voxel_size) for path in molecules])
    with ExitStack() as stack:
        stages = _Stages(stack)
        margin = margin_of(scene.shape, acquisition.angles, scene.slab[1] - scene.slab[0])
        built = build_scene(scene, read, margin, np.random.default_rng(acquisition.seed), stages)
        made = image_scene(built, acquisition, stages)
    note = f"simulate, snr {made.snr:.3g}, seed {acquisition.seed}"
    volumes: dict[str, Tensor] = {kind: getattr(made, kind) for kind in VOLUMES} | {"tilts": made.images}
    for kind, density in volumes.items():
        write_volume(paths[kind], density.numpy(), None, scene.voxel_size, f"{note}, {kind}")
    write_text(tilts, "".join(f"{angle:.2f}\n" for angle in acquisition.angles))
    _write_molecules(star, name, scene, built)
    for path in (*paths.values(), tilts, star):
        print(path)
    print(f"{len(built.placements)} molecules, signal-to-noise ratio {made.snr:.3g}, tilts {len(acquisition.angles)}")


def _named_apart(molecules: Sequence[Molecule]) -> list[Molecule]:
    """The molecules, with numbers after names that files of different folders or kinds share."""
    seen = Counter[str]()
    apart = []
    for one in molecules:
        seen[one.name] += 1
        apart.append(one if seen[one.name] == 1 else replace(one, name=f"{one.name}_{seen[one.name]}"))
    return apart


def _write_molecules(path: Path, name: str, config: SceneConfig, scene: Scene) -> None:
    from scipy.spatial.transform import Rotation

    placed = scene.placements
    rotations = Rotation.concatenate([p.rotation for p in placed]) if placed else None
    positions = np.array([p.position for p in placed])
    write_positions(path, name, [p.name for p in placed], positions, rotations, config.shape, config.voxel_size)


def _check_free(paths: Sequence[Path], overwrite: bool) -> None:
    there = [path for path in paths if path.exists()]
    if there and not overwrite:
        raise InputError(f"{there[0]} is there already: pass --overwrite, or another folder with -o")
