"""cryovae simulate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cryovae.cli.options import Output, Overwrite, Threads, device_of, tilt_geometries
from cryovae.errors import InputError


def simulate(
    output: Output = Path("simulated"),
    shape: Annotated[tuple[int, int, int], typer.Option(help="Voxels along z, y, x.", metavar="Z Y X")] = (96, 128, 112),
    acquisition: Annotated[
        str, typer.Option(help="tilt-series: project, count, reconstruct; ideal: an exact wedge and coloured noise.")
    ] = "tilt-series",
    molecule: Annotated[
        list[Path] | None, typer.Option(help="An MRC map, PDB or mmCIF file, may be .gz; repeat it. Made-up ones without it.")
    ] = None,
    species: Annotated[int, typer.Option(help="How many made-up molecules, without --molecule.")] = 5,
    crowding: Annotated[float, typer.Option(help="Share of the volume that molecules take, at most.")] = 0.3,
    sheets: Annotated[int, typer.Option(help="Membranes through the volume.")] = 1,
    vesicles: Annotated[int, typer.Option(help="Closed vesicles.")] = 2,
    filaments: Annotated[int, typer.Option(help="Microtubules and actin, in turn.")] = 2,
    beads: Annotated[int, typer.Option(help="Gold beads of 5 to 10 nm.")] = 3,
    lamella: Annotated[float | None, typer.Option(help="Angstrom of a slab along z that holds all matter.")] = None,
    tilts: Annotated[Path | None, typer.Option(help="Tilt angles, a .tlt or .rawtlt file.")] = None,
    tilt_range: Annotated[tuple[float, float], typer.Option(help="Degrees.", metavar="LOW HIGH")] = (-60.0, 60.0),
    tilt_step: Annotated[float, typer.Option(help="Degrees between tilts.")] = 3.0,
    dose: Annotated[float, typer.Option(help="Electrons per square angstrom over all tilts: noise and damage.")] = 120.0,
    snr: Annotated[
        float | None, typer.Option(help="Signal over noise variance of the full tomogram, instead of what the dose gives.")
    ] = None,
    noise: Annotated[str, typer.Option(help="gaussian or poisson.")] = "gaussian",
    halves: Annotated[str, typer.Option(help="frames: each tilt's dose in two; tilts: even and odd ones.")] = "frames",
    misalign: Annotated[
        tuple[float, float], typer.Option(help="Standard deviations of shifts and tilts.", metavar="VOXELS DEGREES")
    ] = (0.0, 0.0),
    voxel_size: Annotated[float, typer.Option(help="Angstrom.")] = 10.0,
    defocus: Annotated[float, typer.Option(help="Micrometres; 0 for no CTF.")] = 2.5,
    defocus_spread: Annotated[float, typer.Option(help="Its standard deviation between tilts, micrometres.")] = 0.1,
    cutoff: Annotated[float, typer.Option(help="Of the back-projection, cycles per voxel.")] = 0.5,
    name: Annotated[str, typer.Option(help="Beginning of the file names.")] = "simulated",
    seed: Annotated[int, typer.Option(help="Random seed.")] = 0,
    threads: Threads = None,
    overwrite: Overwrite = False,
) -> None:
    """Simulate a tomogram with known truth: full, halves, truth, tilt series, tilts, and the molecules' positions.

    An ideal wedge knows shape, tilts, snr (0.3 unless told), voxel size, defocus, crowding, species and seed.
    """
    from cryovae.simulation.scene import SceneConfig
    from cryovae.simulation.simulate import SimulationConfig
    from cryovae.simulation.tilt_series import AcquisitionConfig, tilt_angles
    from cryovae.workflows.simulate import write_ideal, write_tilt_series

    if acquisition not in ("tilt-series", "ideal"):
        raise InputError(f"--acquisition {acquisition} found, expected tilt-series or ideal")
    device_of("cpu", threads)
    if acquisition == "ideal":
        if molecule or tilts or lamella is not None:
            raise InputError(
                "--molecule, --tilts or --lamella found with --acquisition ideal, expected them with tilt-series only"
            )
        ideal = SimulationConfig(
            shape=shape, tilt_range=tilt_range, tilt_step=tilt_step, snr=0.3 if snr is None else snr, voxel_size=voxel_size,
            defocus=defocus, crowding=crowding, species=species, seed=seed,
        )  # fmt: skip
        write_ideal(output, name, ideal, overwrite)
        return
    scene = SceneConfig(
        shape=shape, voxel_size=voxel_size, crowding=crowding, species=species, sheets=sheets, vesicles=vesicles,
        filaments=filaments, beads=beads, lamella=lamella,
    )  # fmt: skip
    angles = tilt_geometries([tilts], None, 1)[0].angles if tilts else tilt_angles(*tilt_range, tilt_step)
    series = AcquisitionConfig(
        angles=angles, voxel_size=voxel_size, defocus=defocus, defocus_spread=defocus_spread, dose=dose, snr=snr, noise=noise,
        halves=halves, misalign=misalign, cutoff=cutoff, seed=seed,
    )  # fmt: skip
    write_tilt_series(output, name, scene, series, molecule or [], overwrite)
