"""Writes a simulation to files."""

from __future__ import annotations

from pathlib import Path

from cryovae.io.atomic import write_text
from cryovae.io.mrc import write_volume
from cryovae.physics.simulate import SimulationConfig, simulate
from cryovae.tomogram import InputError


def write_simulation(folder: Path, name: str, config: SimulationConfig, overwrite: bool) -> None:
    """Write NAME_truth.mrc, NAME_half1.mrc, NAME_half2.mrc and NAME.tlt, and print their paths."""
    paths = {kind: folder / f"{name}_{kind}.mrc" for kind in ("truth", "half1", "half2")}
    tilts = folder / f"{name}.tlt"
    there = [path for path in (*paths.values(), tilts) if path.exists()]
    if there and not overwrite:
        raise InputError(f"{there[0]} is there already: pass --overwrite, or another folder with -o")
    made = simulate(config)
    note = f"simulate, snr {config.snr:g}, seed {config.seed}"
    for kind, density in (("truth", made.truth), ("half1", made.half1), ("half2", made.half2)):
        write_volume(paths[kind], density.numpy(), None, config.voxel_size, f"{note}, {kind}")
    write_text(tilts, "".join(f"{angle:.2f}\n" for angle in made.tilts.angles))
    for path in (*paths.values(), tilts):
        print(path)
