"""cryovae train."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cryovae.interfaces.commands.options import (
    Batch,
    Beta,
    Config,
    Device,
    Encoders,
    LearningRate,
    Objective,
    Output,
    Overwrite,
    Patch,
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
    settings_of,
    tilt_geometries,
)
from cryovae.interfaces.commands.reporting import noted
from cryovae.tomogram import InputError


def train(
    tomograms: Annotated[list[Path], typer.Argument(help="Tomograms, MRC; for halves, their first halves.")],
    half2: Annotated[list[Path] | None, typer.Option(help="Second half of each tomogram, in the same order.")] = None,
    tilts: Tilts = None,
    tilt_range: TiltRange = None,
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
    voxel_size: VoxelSize = None,
    seed: Seed = None,
    device: Device = "auto",
    threads: Threads = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
) -> None:
    """Train one model on several tomograms; apply it with restore --model."""
    geometries = tilt_geometries(tilts, tilt_range, len(tomograms))
    if half2 and len(half2) != len(tomograms):
        raise InputError(f"{len(half2)} second halves found for {len(tomograms)} first halves, expected as many")
    chosen_device = device_of(device, threads)
    run = settings_of(
        preset, config, settings, chosen_device,
        training__steps=steps, training__patch=patch, training__batch=batch, training__learning_rate=learning_rate,
        training__seed=seed, objective__beta=beta, objective__encoders=encoders,
        objective__name=objective,
    )  # fmt: skip

    from cryovae.checkpoint import MODEL
    from cryovae.config import VAE, as_plain, save_config
    from cryovae.interfaces.regression_run import train_networks_in
    from cryovae.interfaces.run_folder import RunFolder
    from cryovae.interfaces.training_run import train_in
    from cryovae.io.load import load_tomogram

    seconds = half2 or [None] * len(tomograms)  # type: ignore[list-item]
    loaded = [
        load_tomogram(None if second else first, (first, second) if second else None, geometry, voxel_size)
        for first, second, geometry in zip(tomograms, seconds, geometries, strict=True)
    ]
    folder = RunFolder(output, output.name)
    if folder.path(MODEL).exists() and not (overwrite or resume):
        raise InputError(f"{folder.path(MODEL)} is there already: pass --overwrite, or another folder with -o")
    inputs = {f"tomogram{i}": path for i, path in enumerate(tomograms)} | {f"half2_{i}": p for i, p in enumerate(half2 or [])}
    folder.begin("train", inputs, as_plain(run), run.training.seed)
    save_config(folder.path("config.toml"), run)
    with noted(folder):
        (train_in if run.objective.name == VAE else train_networks_in)(folder, loaded, run, chosen_device, resume)
    print(f"trained: {folder.path(MODEL)}")
