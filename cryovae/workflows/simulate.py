"""Writes a simulation to files: a tilt series and its tomograms, or a tomogram with an ideal wedge."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import fields, replace
from math import prod
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from torch import Tensor

from cryovae.errors import InputError
from cryovae.io.atomic import write_text
from cryovae.io.files import write_volume
from cryovae.io.molecules import Molecule, read_molecule
from cryovae.io.names import checked_name
from cryovae.io.outputs import check_file, check_folder
from cryovae.io.positions import write_positions
from cryovae.io.tilts import read_tilts
from cryovae.progress.watch import Stages
from cryovae.simulation.scene import Scene, SceneConfig, build_scene
from cryovae.simulation.simulate import SimulationConfig, simulate
from cryovae.simulation.tilt_series import AcquisitionConfig, image_scene, margin_of, tilt_angles
from cryovae.workflows.simulate_request import SimulateRequest

T = TypeVar("T")
# Signal over noise variance of an ideal wedge without --snr.
IDEAL_SNR = 0.3
VOLUMES = ("full", "half1", "half2", "truth", "density")


def simulate_request(request: SimulateRequest) -> None:
    """Simulate what is asked for, and print the paths of its files. InputError if an option is impossible."""
    if request.acquisition not in ("tilt-series", "ideal"):
        raise InputError(f"--acquisition {request.acquisition} found, expected tilt-series or ideal")
    checked_name(request.name, "--name")
    scene, series = request.scene, request.series
    request.compute.open_device()
    options = {f.name: getattr(group, f.name) for group in (scene, series) for f in fields(group)} | {"seed": request.seed}
    if request.acquisition == "ideal":
        if scene.molecule or series.tilts or scene.lamella is not None:
            raise InputError(
                "--molecule, --tilts or --lamella found with --acquisition ideal, expected them with tilt-series only"
            )
        options["snr"] = IDEAL_SNR if series.snr is None else series.snr
        write_ideal(request.output, request.name, _config_of(SimulationConfig, options), request.results.overwrite)
        return
    if series.tilts:
        options["angles"] = read_tilts(series.tilts).angles
    else:
        options["angles"] = tilt_angles(*series.tilt_range, series.tilt_step)
    configs = _config_of(SceneConfig, options), _config_of(AcquisitionConfig, options)
    write_tilt_series(request.output, request.name, *configs, scene.molecule or [], request.results.overwrite)


def _config_of(config: type[T], options: dict[str, Any]) -> T:
    """The settings of a part of the simulation, from the options that have their names."""
    names = [f.name for f in fields(config)]  # type: ignore[arg-type]
    return config(**{name: options[name] for name in names if name in options})


def write_ideal(folder: Path, name: str, config: SimulationConfig, overwrite: bool) -> None:
    """Write NAME_truth.mrc, NAME_half1.mrc, NAME_half2.mrc and NAME.tlt, and print their paths."""
    paths = {kind: folder / f"{name}_{kind}.mrc" for kind in ("truth", "half1", "half2")}
    tilts = folder / f"{name}.tlt"
    _check_free([*paths.values(), tilts], overwrite, config.shape)
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
    """Simulate a tilt series, and write its tomograms, images, tilts and molecules.

    Files: NAME_full, NAME_half1, NAME_half2, NAME_truth, NAME_density and NAME_tilts.mrc, NAME.tlt, NAME_molecules.star.

    Args:
        folder: where the files go.
        name: NAME, the beginning of their names.
        scene: the specimen.
        acquisition: the tilt series.
        molecules: files of molecules; made-up molecules without any.
        overwrite: whether files that are there are replaced.
    """
    paths = {kind: folder / f"{name}_{kind}.mrc" for kind in (*VOLUMES, "tilts")}
    tilts, star = folder / f"{name}.tlt", folder / f"{name}_molecules.star"
    _check_free([*paths.values(), tilts, star], overwrite, scene.shape)
    read = _unique_names([read_molecule(path, scene.voxel_size) for path in molecules])
    with Stages() as stages:
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


def _unique_names(molecules: Sequence[Molecule]) -> list[Molecule]:
    """The molecules, with a number after each name that occurred before."""
    seen = Counter[str]()
    unique = []
    for molecule in molecules:
        seen[molecule.name] += 1
        count = seen[molecule.name]
        unique.append(molecule if count == 1 else replace(molecule, name=f"{molecule.name}_{count}"))
    return unique


def _write_molecules(path: Path, name: str, config: SceneConfig, scene: Scene) -> None:
    from scipy.spatial.transform import Rotation

    placements = scene.placements
    rotations = Rotation.concatenate([p.rotation for p in placements]) if placements else None
    positions = np.array([p.position for p in placements])
    write_positions(path, name, [p.name for p in placements], positions, rotations, config.shape, config.voxel_size)


def _check_free(paths: Sequence[Path], overwrite: bool, shape: Sequence[int]) -> None:
    """InputError if a file cannot be written or is there already; OSError without room for so many volumes of 32 bits."""
    for path in paths:
        check_file(path)
    volumes = sum(path.suffix == ".mrc" for path in paths)
    check_folder(paths[0].parent, 4 * volumes * prod(shape))
    existing = [path for path in paths if path.exists()]
    if existing and not overwrite:
        raise InputError(f"{existing[0]} is there already: pass --overwrite, or another folder with -o")
