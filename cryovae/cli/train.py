"""cryovae train."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cryovae.cli.geometry import (
    Adjusted,
    AxisAngle,
    Cone,
    Handedness,
    Mask,
    Pretilt,
    Thickness,
    Tilts2,
    Unrotated,
    XTilt,
    adjusted_table,
    masks_given,
    with_second_axes,
)
from cryovae.cli.optics import (
    Aberration,
    AmplitudeContrast,
    BFactor,
    Ctf,
    Defocus,
    Flipped,
    PhaseShift,
    Voltage,
    optics_given,
    table_has_optics,
)
from cryovae.cli.options import (
    Batch,
    Beta,
    Config,
    Device,
    Encoders,
    LearningRate,
    Memory,
    Objective,
    Output,
    Overwrite,
    Patch,
    Posterior,
    Preset,
    Resume,
    Seed,
    Settings,
    Steps,
    Threads,
    TiltRange,
    Tilts,
    VoxelSize,
    device_of,
    is_table,
    range_of_table,
    settings_of,
    tilt_geometries,
)
from cryovae.errors import InputError
from cryovae.tomogram import Optics, TiltGeometry, Tomogram

if TYPE_CHECKING:
    from cryovae.io.star.loading import Tomograms


def train(
    tomograms: Annotated[list[Path], typer.Argument(help="Tomograms; for halves, their first halves; or one .star table.")],
    half2: Annotated[list[Path] | None, typer.Option(help="Second half of each tomogram, in the same order.")] = None,
    tilts: Tilts = None,
    tilt_range: TiltRange = None,
    tilts2: Tilts2 = None,
    axis_angle: AxisAngle = None,
    pretilt: Pretilt = None,
    x_tilt: XTilt = None,
    thickness: Thickness = None,
    cone: Cone = False,
    handedness: Handedness = 1,
    mask: Mask = None,
    unrotated: Unrotated = None,
    output: Output = Path("runs/cryovae"),
    preset: Preset = None,
    config: Config = None,
    settings: Settings = None,
    steps: Steps = None,
    patch: Patch = None,
    batch: Batch = None,
    learning_rate: LearningRate = None,
    beta: Beta = None,
    encoders: Encoders = None,
    objective: Objective = None,
    posterior: Posterior = None,
    voxel_size: VoxelSize = None,
    ctf: Ctf = None,
    defocus: Defocus = None,
    voltage: Voltage = None,
    cs: Aberration = None,
    amplitude_contrast: AmplitudeContrast = None,
    phase_shift: PhaseShift = None,
    b_factor: BFactor = None,
    phase_flipped: Flipped = None,
    seed: Seed = None,
    device: Device = "auto",
    threads: Threads = None,
    memory: Memory = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
) -> None:
    """Train one model on several tomograms, or on all of a .star table; apply it with restore --model.

    Each tomogram is drawn equally often, and only what is in use of it is in memory; of one that is larger than memory, a part
    is trained on. A table of particles, or an optimisation set, trains on its subtomograms.
    """
    listed = any(is_table(path) for path in tomograms)
    if listed and (len(tomograms) > 1 or half2):
        raise InputError("a table and other tomograms were given, expected one .star alone: put all of them into the table")
    if half2 and len(half2) != len(tomograms):
        raise InputError(f"{len(half2)} second halves found for {len(tomograms)} first halves, expected as many")
    adjusted = Adjusted(axis_angle, pretilt, x_tilt, thickness, handedness, cone)
    chosen_device = device_of(device, threads)
    run = settings_of(
        preset, config, settings, chosen_device,
        training__steps=steps, training__patch=patch, training__batch=batch, training__learning_rate=learning_rate,
        training__seed=seed, objective__beta=beta, objective__encoders=encoders,
        objective__name=objective, ladder__posterior=posterior,
    )  # fmt: skip

    from cryovae.checkpoint import MODEL
    from cryovae.io.star.loading import tomograms_of
    from cryovae.io.star.particles import is_particle_table, read_particles
    from cryovae.workflows.memory import budget_of
    from cryovae.workflows.particles import tomograms_of_particles
    from cryovae.workflows.run_folder import RunFolder
    from cryovae.workflows.table import inputs_of_table, open_table, train_on
    from cryovae.workflows.train_crops import within

    particles = listed and is_particle_table(tomograms[0])
    if particles:
        if tilts2 or mask or unrotated is not None or adjusted != Adjusted():
            raise InputError("options of geometry found with a table of particles, expected their tilts in its tables alone")
        rows = read_particles(tomograms[0], range_of_table(tilts, tilt_range))
        loaded, inputs = tomograms_of_particles(rows, voxel_size), {"table": tomograms[0]}
    elif listed:
        known = table_has_optics(ctf, defocus, tomograms[0])
        table = open_table(tomograms[0], range_of_table(tilts, tilt_range), voxel_size, known)
        table = adjusted_table(table, adjusted, tilts2, mask, unrotated)
        loaded, inputs = tomograms_of(table, voxel_size), inputs_of_table(table)
    else:
        optics = optics_given(
            ctf, defocus, len(tomograms), voltage=voltage, spherical_aberration=cs, amplitude_contrast=amplitude_contrast,
            phase_shift=phase_shift, b_factor=b_factor, flipped=phase_flipped,
        )  # fmt: skip
        geometries = with_second_axes(tilt_geometries(tilts, tilt_range, len(tomograms)), tilts2, adjusted)
        masks = masks_given(mask, len(tomograms))
        loaded = _named(tomograms, half2 or [], geometries, optics, voxel_size, masks, unrotated)
        inputs = {f"tomogram{i}": path for i, path in enumerate(tomograms)}
        inputs |= {f"half2_{i}": path for i, path in enumerate(half2 or [])}
    if not particles:
        firsts = [entry.files[0] for entry in table.entries] if listed else tomograms
        loaded = within(loaded, firsts, run, chosen_device, budget_of(memory))
    folder = RunFolder(output, output.name)
    if folder.path(MODEL).exists() and not (overwrite or resume):
        raise InputError(f"{folder.path(MODEL)} is there already: pass --overwrite, or another folder with -o")
    train_on(folder, loaded, inputs, run, chosen_device, resume)
    print(f"trained: {folder.path(MODEL)}")


def _named(
    firsts: list[Path],
    seconds: list[Path],
    geometries: list[TiltGeometry],
    optics: list[Optics | None],
    voxel_size: float | None,
    masks: list[Path | None],
    unrotated: bool | None,
) -> Tomograms:
    """The tomograms of the files named, each read when its turn comes; that one cannot be opened is known before."""
    from cryovae.io.files import read_volume
    from cryovae.io.load import load_tomogram
    from cryovae.io.star.loading import Tomograms
    from cryovae.workflows.orientation import is_unrotated

    for path in (*firsts, *seconds):
        for note in read_volume(path).notes:
            print(note, file=sys.stderr)

    def load(index: int, mapped: bool) -> Tomogram:
        halves = (firsts[index], seconds[index]) if seconds else None
        full = None if halves else firsts[index]
        lying = is_unrotated(firsts[index], unrotated)
        found = load_tomogram(full, halves, geometries[index], voxel_size, lying, masks[index], mapped)
        return replace(found, optics=optics[index])

    return Tomograms([str(path) for path in firsts], load)
