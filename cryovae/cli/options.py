"""The options that commands share, and what they mean: tilts, device, settings."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cryovae.errors import InputError
from cryovae.tomogram import TiltGeometry

if TYPE_CHECKING:
    import torch

    from cryovae.config import RunConfig

Tilts = Annotated[
    list[Path] | None,
    typer.Option(help="Tilt angles: .tlt, .rawtlt, .mdoc, .aln, .xf, Warp .xml or RELION .star; one for each tomogram."),
]
TiltRange = Annotated[
    tuple[float, float] | None, typer.Option(help="Lowest and highest tilt in degrees, instead of --tilts.", metavar="LOW HIGH")
]
VoxelSize = Annotated[float | None, typer.Option(help="Voxel size in angstrom, if the header has none.")]
Output = Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.")]
Preset = Annotated[str | None, typer.Option(help="quick, default or large. Without it: default on a GPU, quick on a CPU.")]
Config = Annotated[Path | None, typer.Option(help="TOML file with the settings that differ from the preset.")]
Settings = Annotated[list[str] | None, typer.Option("--set", help="Any setting, e.g. --set training.patch=48; may be repeated.")]
Steps = Annotated[int | None, typer.Option(help="Training steps at most.")]
Patch = Annotated[int | None, typer.Option(help="Side of a training patch in voxels.")]
Batch = Annotated[int | None, typer.Option(help="Patches in a training step.")]
LearningRate = Annotated[float | None, typer.Option(help="Highest learning rate.")]
Beta = Annotated[float | None, typer.Option(help="Weight of the KL; 1 is the ELBO.")]
Objective = Annotated[
    str | None,
    typer.Option(
        help="vae, wae, or a deterministic network and its loss, without std: deepdewedge, isonet2, isonet2_mw, icecream, "
        "cryogen1, cryogen2."
    ),
]
Encoders = Annotated[int | None, typer.Option(help="2 for q and r, 1 for the simpler baseline.")]
Posterior = Annotated[
    str | None, typer.Option(help="gaussian, or flow: a normalising flow on the coarse latents (pip install 'cryovae[flows]').")
]
Seed = Annotated[int | None, typer.Option(help="Random seed of training and samples.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Threads = Annotated[int | None, typer.Option(help="CPU threads; without it OMP_NUM_THREADS, or the CPUs that were given.")]
Refine = Annotated[
    int | None,
    typer.Option(
        help="Steps on the posterior of each tile, e.g. 20, stopped where hidden measured bins are foretold worse. Each costs "
        "about as much as three samples."
    ),
]
Sampler = Annotated[
    str | None,
    typer.Option(help="What draws samples: amortised, reweighted (weighed candidates) or langevin (chains in the latent; slow)."),
]
Temperature = Annotated[
    float | None,
    typer.Option(
        help="Of the likelihood, for --sampler reweighted or langevin; any but 1 is no posterior, and labelled tempered."
    ),
]
Memory = Annotated[
    str | None,
    typer.Option(
        help="Memory that the run may take, e.g. 4GB: what needs more is restored by parts. Without it 80 % of what is free."
    ),
]
Format = Annotated[str, typer.Option("--format", help="Of the volumes that are written: mrc, or zarr for OME-Zarr.")]
Live = Annotated[bool, typer.Option("--live", help="While training, write the middle as it comes on, live.mrc, now and then.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with a run that was stopped, if there is one.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace results that are there already.")]


def tilt_geometries(tilts: list[Path] | None, tilt_range: tuple[float, float] | None, count: int) -> list[TiltGeometry]:
    """The tilts of each of ``count`` tomograms, from tilt files, one for each or one for all, or from a range in degrees."""
    from cryovae.io.tilts import read_tilts

    if tilts and tilt_range:
        raise InputError("--tilts and --tilt-range were both given, expected one of them")
    if tilt_range:
        return [TiltGeometry.from_range(*tilt_range)] * count
    if not tilts:
        raise InputError("no tilt angles given, the wedge follows from them: pass --tilts ts_01.tlt, or --tilt-range -60 60")
    if len(tilts) not in (1, count):
        raise InputError(f"{len(tilts)} tilt files found for {count} tomograms, expected one for each, or one for all")
    found = [read_tilts(path) for path in tilts]
    return found if len(found) == count else found * count


def is_table(path: Path) -> bool:
    """Whether an argument is a table of tomograms, by its ending."""
    return path.suffix.lower() == ".star"


def range_of_table(tilts: list[Path] | None, tilt_range: tuple[float, float] | None) -> TiltGeometry | None:
    """The tilts of those rows of a table that have none of their own."""
    if tilts:
        raise InputError("--tilts found with a table, expected the tilts in its rows: add the column crvTilts, or --tilt-range")
    return TiltGeometry.from_range(*tilt_range) if tilt_range else None


def device_of(name: str, threads: int | None) -> torch.device:
    """The device that an option names, or the best there is; sets the number of CPU threads."""
    import torch

    if threads is not None:
        if threads < 1:
            raise InputError(f"--threads {threads} found, expected 1 or more")
        torch.set_num_threads(threads)
    elif "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(cpus())
    torch.set_flush_denormal(True)
    if name in ("auto", "cuda") and torch.cuda.is_available():
        # Of several processes on a machine, each takes a GPU of its own, or the one that it was given.
        several = "MASTER_ADDR" in os.environ and torch.distributed.is_initialized()
        return torch.device("cuda", torch.cuda.current_device()) if several else torch.device("cuda")
    if name == "auto":
        return torch.device("cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"--device {name} found, expected auto, cpu, cuda or cuda:N") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InputError(f"--device {name} found, but torch sees no CUDA device here: use --device cpu")
    return device


def cpus() -> int:
    """CPUs that this process was given: by Slurm, or by what it may run on."""
    given = os.environ.get("SLURM_CPUS_PER_TASK", "")
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(int(given), usable) if given.isdigit() and int(given) else usable


def settings_of(
    preset: str | None, config: Path | None, settings: list[str] | None, device: torch.device, **named: Any
) -> RunConfig:
    """Preset, then the TOML file, then --set, then the named options."""
    from cryovae.config import override, parse_setting, read_config
    from cryovae.config import preset as preset_of

    chosen = preset_of(preset or ("quick" if device.type == "cpu" else "default"))
    if config is not None:
        chosen = read_config(config, chosen)
    values = dict(parse_setting(text) for text in settings or [])
    values |= {key.replace("__", "."): value for key, value in named.items() if value is not None}
    return override(chosen, values)
