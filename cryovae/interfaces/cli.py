"""The command line: restore, train, evaluate, simulate, info. Nothing imports torch before a command needs it."""

from __future__ import annotations

import errno
import logging
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, ParamSpec, TypeVar

import typer

from cryovae import __version__
from cryovae.tomogram import InputError, TiltGeometry

if TYPE_CHECKING:
    import torch

    from cryovae.config import RunConfig

# Without a handler Python prints errors that are meant for a run's log on top of the one line that the user gets.
logging.getLogger("cryovae").addHandler(logging.NullHandler())
P = ParamSpec("P")
T = TypeVar("T")
FAILED, BAD_INPUT, STOPPED, INTERRUPTED = 1, 2, 75, 130

app = typer.Typer(
    name="cryovae",
    help="Restore cryo-electron tomograms: fill the missing wedge, remove noise, and say how sure the result is.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=True,
)

Tilts = Annotated[list[Path] | None, typer.Option(help="Tilt angles, a .tlt or .rawtlt file; one for each tomogram.")]
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
    typer.Option(help="vae, or a deterministic network and its loss: deepdewedge, isonet2, isonet2_mw, icecream; no std then."),
]
Encoders = Annotated[int | None, typer.Option(help="2 for q and r, 1 for the simpler baseline.")]
Seed = Annotated[int | None, typer.Option(help="Random seed of training and samples.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Threads = Annotated[int | None, typer.Option(help="CPU threads; all cores without it.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with a run that was stopped.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace results that are there already.")]


def reported(command: Callable[P, T]) -> Callable[P, T]:
    """Turn what can go wrong into one line and an exit code: 2 for the input, 1 for a failed run, 130 and 75 for a stop."""

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return command(*args, **kwargs)
        except InputError as error:
            _fail(str(error), BAD_INPUT)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                _fail(f"no room left on the disk for {error.filename or 'the results'} ({error.strerror}): make room", FAILED)
            _fail(f"{error.filename or 'a file'} cannot be read or written: {error.strerror or error}", FAILED)
        except KeyboardInterrupt:
            _fail("stopped by Ctrl-C", INTERRUPTED)
        except Exception as error:
            kind = type(error).__name__
            if kind in ("Interrupted", "Terminated"):
                _fail(f"{error}; go on with the same command and --resume", INTERRUPTED if kind == "Interrupted" else STOPPED)
            if kind == "OutOfMemoryError":
                _fail("the GPU has too little memory: use a smaller --batch, --patch or --preset", FAILED)
            raise

    return run


def _fail(line: str, code: int) -> NoReturn:
    print(f"cryovae: {line}", file=sys.stderr)
    logging.getLogger("cryovae").error(line)
    raise typer.Exit(code)


def _version(value: bool) -> None:
    if value:
        print(f"cryovae {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")] = False,
) -> None:
    """Restore cryo-electron tomograms."""


def _geometries(tilts: list[Path] | None, tilt_range: tuple[float, float] | None, count: int) -> list[TiltGeometry]:
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


def _device(name: str, threads: int | None) -> torch.device:
    import torch

    if threads is not None:
        if threads < 1:
            raise InputError(f"--threads {threads} found, expected 1 or more")
        torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"--device {name} found, expected auto, cpu, cuda or cuda:N") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InputError(f"--device {name} found, but torch sees no CUDA device here: use --device cpu")
    return device


def _settings(
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


@app.command()
@reported
def restore(
    tomogram: Annotated[Path | None, typer.Argument(help="One tomogram, MRC.")] = None,
    half1: Annotated[Path | None, typer.Option(help="First half tomogram, MRC.")] = None,
    half2: Annotated[Path | None, typer.Option(help="Second half tomogram, MRC.")] = None,
    tilts: Tilts = None,
    tilt_range: TiltRange = None,
    output: Output = Path("restored"),
    model: Annotated[
        Path | None, typer.Option(help="A trained model, or the folder of its run; without it, train first.")
    ] = None,
    preset: Preset = None,
    config: Config = None,
    settings: Settings = None,
    samples: Annotated[int | None, typer.Option(help="Posterior samples behind mean and standard deviation, even.")] = None,
    samples_out: Annotated[int | None, typer.Option(help="How many samples to write.")] = None,
    raw: Annotated[bool | None, typer.Option("--raw", help="The model's answer, without the data-consistent step.")] = None,
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
    """Restore a tomogram, from one volume or from two halves: posterior mean, standard deviation, samples."""
    if (half1 is None) != (half2 is None):
        raise InputError("one half found, expected both: pass --half1 and --half2, or one tomogram")
    if tomogram is not None and half1 is not None:
        raise InputError("a tomogram and halves were given, expected one or the other: their mean is used when halves are given")
    halves = None if half1 is None or half2 is None else (half1, half2)
    geometry = _geometries(tilts, tilt_range, 1)[0]
    chosen_device = _device(device, threads)
    run = _settings(
        preset, config, settings, chosen_device,
        restoration__samples=samples, restoration__samples_out=samples_out, restoration__raw=raw, restoration__seed=seed,
        training__steps=steps, training__patch=patch, training__batch=batch, training__learning_rate=learning_rate,
        training__seed=seed, objective__beta=beta, objective__encoders=encoders,
        objective__name=objective,
    )  # fmt: skip

    from cryovae.checkpoint import load_model, load_network, objective_of
    from cryovae.config import VAE, as_plain, override, save_config
    from cryovae.interfaces.regression_run import regress_in, train_networks_in
    from cryovae.interfaces.restore_run import check_room, inputs_of, restore_in
    from cryovae.interfaces.run_folder import RunFolder
    from cryovae.interfaces.training_run import train_in
    from cryovae.io.load import load_tomogram

    loaded = load_tomogram(tomogram, halves, geometry, voxel_size)
    if model is not None:
        run = override(run, {"objective.name": objective_of(model)})
    deterministic = run.objective.name != VAE
    trained = None if model is None or deterministic else load_model(model)
    network = load_network(model) if model is not None and deterministic else None
    folder = RunFolder(output, loaded.name)
    check_room(folder, loaded, run, overwrite or resume)
    inputs = inputs_of(tomogram, halves, tilts[0] if tilts else None)
    folder.begin("restore", inputs, as_plain(run), run.training.seed)
    folder.save(tilts={"lowest": geometry.lowest, "highest": geometry.highest}, model=None if model is None else str(model))
    if not geometry.has_wedge:
        print(
            f"{loaded.name}: tilts {geometry.lowest:g} to {geometry.highest:g} leave no wedge, so it is denoised only",
            file=sys.stderr,
        )
    save_config(folder.path("config.toml"), run)
    with _noted(folder):
        if deterministic:
            network = network or train_networks_in(folder, [loaded], run, chosen_device, resume)
            regress_in(folder, loaded, network, run, chosen_device)
        else:
            trained = trained or train_in(folder, [loaded], run, chosen_device, resume)
            restore_in(folder, loaded, trained, run, chosen_device)
    print(f"restored: {folder.result('mean')}")


@app.command()
@reported
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
    geometries = _geometries(tilts, tilt_range, len(tomograms))
    if half2 and len(half2) != len(tomograms):
        raise InputError(f"{len(half2)} second halves found for {len(tomograms)} first halves, expected as many")
    chosen_device = _device(device, threads)
    run = _settings(
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
    with _noted(folder):
        (train_in if run.objective.name == VAE else train_networks_in)(folder, loaded, run, chosen_device, resume)
    print(f"trained: {folder.path(MODEL)}")


def _noted(folder: Any) -> Any:
    """Note in run.json how the run ended, whatever happened."""
    from contextlib import contextmanager

    @contextmanager
    def noted() -> Any:
        try:
            yield
        except BaseException as error:
            folder.end("stopped" if type(error).__name__ in ("Interrupted", "Terminated") else "failed", error=str(error))
            raise
        folder.end("done")

    return noted()


@app.command()
@reported
def evaluate(
    restored: Annotated[Path, typer.Argument(help="A restored tomogram, MRC.")],
    truth: Annotated[Path | None, typer.Option(help="The truth, MRC of the same shape, if there is one.")] = None,
    tilts: Tilts = None,
    tilt_range: TiltRange = None,
    given: Annotated[
        list[Path] | None,
        typer.Option("--input", help="What was restored, for the baselines; twice for halves. Found in run.json without it."),
    ] = None,
    band: Annotated[tuple[float, float], typer.Option(help="Cycles per voxel that are correlated.")] = (0.01, 0.2),
    shells: Annotated[bool, typer.Option(help="Print the FSC by shell too.")] = True,
    json_path: Annotated[Path | None, typer.Option("--json", help="Write all figures to this file too.")] = None,
    voxel_size: VoxelSize = None,
    report: Annotated[Path | None, typer.Option(help="Where the report goes; beside the restored tomogram without it.")] = None,
) -> None:
    """Score a restored tomogram, with a truth and without, beside two trivial baselines; write its report.html."""
    from cryovae.interfaces.evaluation import evaluate_volume

    geometry = _geometries(tilts, tilt_range, 1)[0] if tilts or tilt_range else None
    evaluate_volume(restored, truth, geometry, given, band, shells, json_path, report, voxel_size)


@app.command()
@reported
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
    from cryovae.interfaces.simulation import write_ideal, write_tilt_series
    from cryovae.physics.scene import SceneConfig
    from cryovae.physics.simulate import SimulationConfig
    from cryovae.physics.tilt_series import AcquisitionConfig, tilt_angles

    if acquisition not in ("tilt-series", "ideal"):
        raise InputError(f"--acquisition {acquisition} found, expected tilt-series or ideal")
    _device("cpu", threads)
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
    angles = _geometries([tilts], None, 1)[0].angles if tilts else tilt_angles(*tilt_range, tilt_step)
    series = AcquisitionConfig(
        angles=angles, voxel_size=voxel_size, defocus=defocus, defocus_spread=defocus_spread, dose=dose, snr=snr, noise=noise,
        halves=halves, misalign=misalign, cutoff=cutoff, seed=seed,
    )  # fmt: skip
    write_tilt_series(output, name, scene, series, molecule or [], overwrite)


@app.command()
@reported
def info(
    tomogram: Annotated[Path, typer.Argument(help="A tomogram, MRC.")],
    tilts: Tilts = None,
    tilt_range: TiltRange = None,
    voxel_size: VoxelSize = None,
) -> None:
    """Show header, statistics, and the wedge that the power spectrum shows."""
    from cryovae.interfaces.information import print_information

    geometry = _geometries(tilts, tilt_range, 1)[0] if tilts or tilt_range else None
    print_information(tomogram, geometry, voxel_size)
