"""The public functions: read a tomogram, train a model, restore, save, evaluate; simulate a tomogram with a known truth.

Each is a few lines on the workflows that the command line calls. Errors in the input raise ``cryovae.InputError``.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cryovae.checkpoint import BASE_LADDER, MODEL, Checkpoint
from cryovae.checks.model_match import checked_match
from cryovae.checks.preflight import preflight
from cryovae.config import RunConfig, override
from cryovae.config import preset as settings_of_preset
from cryovae.errors import InputError
from cryovae.evaluation.assessment import Assessment, as_tensor, assess
from cryovae.evaluation.fsc import BAND
from cryovae.findings import Severity
from cryovae.io.files import read_volume
from cryovae.io.geometry_record import checksums_of
from cryovae.io.load import load_tomogram
from cryovae.io.names import checked_name
from cryovae.io.orientation import upright
from cryovae.io.outputs import check_folder
from cryovae.io.tilts import read_tilts
from cryovae.progress.watch import Watch
from cryovae.restoration.rescaling import check_ratio
from cryovae.restoration.restorer import Restorer
from cryovae.restoration.steps import Restoration
from cryovae.simulation.simulate import SimulationConfig
from cryovae.simulation.simulate import simulate as simulate_halves
from cryovae.tomogram import TiltGeometry, Tomogram
from cryovae.workflows.adapt import open_checkpoint as read_checkpoint
from cryovae.workflows.compute import device_of
from cryovae.workflows.orientation import is_unrotated
from cryovae.workflows.restoration import train_on
from cryovae.workflows.restore import drop_others, write_volumes
from cryovae.workflows.run_folder import RunFolder, folder_name
from cryovae.workflows.start import BASE, default_start

__all__ = ["evaluate", "load_model", "read_tomogram", "restore", "save", "simulate", "train"]

PathLike = Path | str
Tilts = TiltGeometry | PathLike | Sequence[float]
Density = PathLike | np.ndarray | Tensor


def read_tomogram(
    path: PathLike,
    second_half: PathLike | None = None,
    *,
    tilts: Tilts,
    voxel_size: float | None = None,
    mask: PathLike | None = None,
    unrotated: bool | None = None,
) -> Tomogram:
    """Read a tomogram from one volume, or from two half volumes, whose mean is its density then.

    Args:
        path: MRC file or OME-Zarr folder; the first half if ``second_half`` is given.
        second_half: the other half (even and odd tilts or frames), of the same shape, or None.
        tilts: a tilt file (.tlt, .rawtlt, .mdoc, .aln, .xf, .xml, .star), a range (lowest, highest) or all angles, in degrees.
        voxel_size: in angstrom; None for that of the header.
        mask: volume of the same shape, 1 where the specimen is: training patches come from there. None for everywhere.
        unrotated: whether the beam is along the middle axis of the files, as IMOD writes them; None to detect it.

    Returns:
        The tomogram, density (z, y, x) with the beam along z and the tilt axis along y.

    Raises:
        InputError: a file is missing, damaged or of the wrong kind, or the tilts or the voxel size cannot be used.

    Examples:
        >>> import cryovae
        >>> tomogram = cryovae.read_tomogram("even.mrc", "odd.mrc", tilts="ts.tlt")
        >>> tomogram.shape, tomogram.voxel_size
        ((24, 36, 32), 10.0)
        >>> cryovae.read_tomogram("even.mrc", tilts=(-60, 60)).tilts.missing
        60.0
    """
    first = Path(path)
    halves = None if second_half is None else (first, Path(second_half))
    full = first if halves is None else None
    known_mask = None if mask is None else Path(mask)
    return load_tomogram(full, halves, _tilts(tilts), voxel_size, is_unrotated(first, unrotated), known_mask)


def train(
    tomograms: Tomogram | Sequence[Tomogram],
    *,
    preset: str | None = None,
    steps: int | None = None,
    patch: int | None = None,
    batch: int | None = None,
    learning_rate: float | None = None,
    seed: int | None = None,
    device: str = "auto",
    settings: Mapping[str, Any] | None = None,
    output: PathLike | None = None,
    resume: bool = False,
    force: bool = False,
) -> Checkpoint:
    """Train a variational model on the patches of one or several tomograms, from the network of the package if its sizes fit.

    Args:
        tomograms: one tomogram, or several with different names; each is drawn equally often.
        preset: 'quick', 'default' or 'large'; None for 'quick' on a CPU and 'default' on a GPU.
        steps: training steps, at most.
        patch: side of the training patches in voxels.
        batch: patches in a step.
        learning_rate: highest learning rate of the optimiser.
        seed: random seed; the same seed gives the same model on one device.
        device: 'auto', 'cpu', 'cuda', 'cuda:N' or 'mps'.
        settings: any other setting by its name in config.toml, e.g. ``{"objective.beta": 0.5}``; named arguments go over it.
        output: run folder for model, record and curves, from which an interrupted training resumes; None to keep no files.
        resume: continue the training that was interrupted in ``output``, if there is one.
        force: go on although a check of the tomograms refuses them.

    Returns:
        The trained model. ``restore`` takes it; ``output`` holds it as model.safetensors.

    Raises:
        InputError: a setting is unknown or out of range, the objective has no variational model, ``output`` holds a model, or a
            check refuses a tomogram.

    Examples:
        >>> import cryovae
        >>> tomogram, truth = cryovae.simulate(shape=(24, 36, 32), seed=0)
        >>> model = cryovae.train(tomogram, steps=4, patch=16, seed=0, settings={"restoration.sampler": "amortised"})
        >>> model.step, model.patch
        (4, 16)
    """
    named = {"steps": steps, "patch": patch, "batch": batch, "learning_rate": learning_rate, "seed": seed}
    where = device_of(device)
    config = _config(preset, where, settings, {f"training.{name}": value for name, value in named.items()})
    if not config.objective.variational:
        raise InputError(f"objective {config.objective.name} found, expected vae or wae: train it by cryovae train --objective")
    listed = [tomograms] if isinstance(tomograms, Tomogram) else list(tomograms)
    if not listed:
        raise InputError("no tomogram found, expected one or several: read them by cryovae.read_tomogram")
    inputs = {} if output is None else {f"tomogram{i}": Path(t.source) for i, t in enumerate(listed) if t.source}
    with _run_folder(output) as folder:
        if folder.path(MODEL).exists() and not resume:
            raise InputError(f"{folder.path(MODEL)} exists, expected none: pass resume=True, or another output")
        about = {} if output is None else {"voxels": {tomogram.name: checksums_of(tomogram) for tomogram in listed}}
        train_on(folder, listed, inputs, config, where, resume, force, about, default_start(config))
        return read_checkpoint(folder.saved(MODEL))


def load_model(path: PathLike) -> Checkpoint:
    """Read a trained variational model. Reading it runs no code.

    Args:
        path: model.safetensors, or the run folder that holds it; 'base' for the network of the package, which was trained on
            simulated scenes. Whether it suits a tomogram is not tried, as ``cryovae restore --from base`` does.

    Returns:
        The model with its patch side in voxels and its number of training steps.

    Raises:
        InputError: there is no model, the file is not one of cryovae, or it holds a network of another objective.

    Examples:
        >>> import cryovae
        >>> model = cryovae.load_model("run")
        >>> model.patch
        16
    """
    return read_checkpoint(BASE_LADDER if path == BASE else path)


def restore(
    tomogram: Tomogram,
    model: Checkpoint | PathLike,
    *,
    samples: int | None = None,
    samples_out: int | None = None,
    raw: bool | None = None,
    seed: int | None = None,
    device: str = "auto",
    settings: Mapping[str, Any] | None = None,
    force: bool = False,
) -> Restoration:
    """Restore a tomogram in memory: posterior mean, standard deviation and samples.

    Args:
        tomogram: from ``read_tomogram`` or ``simulate``.
        model: from ``train`` or ``load_model``, or the path of one, or 'base' for the network of the package. Samples are those
            of the flow that was fitted with it; of its encoder, if it has none.
        samples: posterior samples behind mean and standard deviation, an even number.
        samples_out: how many of the samples to keep.
        raw: leave out the data-consistency step, which keeps measured data where there are measured data.
        seed: random seed of the samples.
        device: 'auto', 'cpu', 'cuda', 'cuda:N' or 'mps'.
        settings: other settings by their names in config.toml, e.g. ``{"restoration.halves": False}``; arguments override it.
        force: go on although a check of the tomogram refuses it.

    Returns:
        mean, std and samples, float32 tensors (z, y, x) on the grey scale of the tomogram; halves if the tomogram has halves.

    Raises:
        InputError: a setting is unknown or out of range, the path holds no variational model, a check refuses the tomogram, or
            the model was trained at a voxel size that differs by more than 5 %; with the setting "restoration.other_scale" that
            is a warning.

    Examples:
        >>> import cryovae
        >>> tomogram = cryovae.read_tomogram("even.mrc", "odd.mrc", tilts="ts.tlt")
        >>> restoration = cryovae.restore(tomogram, cryovae.load_model("run"), samples=2)
        >>> tuple(restoration.mean.shape), bool((restoration.std >= 0).all())
        ((24, 36, 32), True)
    """
    checked = preflight(tomogram, force)
    for finding in checked.findings:
        if finding.severity is not Severity.NOTE:
            warnings.warn(finding.words, stacklevel=2)
    checkpoint = model if isinstance(model, Checkpoint) else load_model(model)
    where = device_of(device)
    named = {"samples": samples, "samples_out": samples_out, "raw": raw, "seed": seed}
    config = _config(None, where, settings, {f"restoration.{name}": value for name, value in named.items()})
    for line in checked_match(checkpoint.trained_on, tomogram, config):
        warnings.warn(line, stacklevel=2)
    with Watch("restoring, patches", 1) as progress:
        about = checkpoint.ladder, checkpoint.patch, config.restoration, where
        restorer = Restorer(*about, lambda done, total: progress.update(done, total=total), checkpoint.flow)
        return restorer(checked.tomograms[0])


def save(restoration: Restoration, tomogram: Tomogram, folder: PathLike, *, suffix: str = ".mrc") -> dict[str, Path]:
    """Write the volumes of a restoration, with the header and in the orientation of the tomogram's files.

    The setting "restoration.outputs" of the restoration says which; without it, all are written. With
    "restoration.output_voxel_size" all but the standard deviation are written a second time at that voxel size. Volumes that
    cryovae wrote there for the tomogram before, and that these do not replace, are removed; inputs and files of others are not.

    Args:
        restoration: from ``restore``.
        tomogram: the tomogram that was restored; its name begins the file names.
        folder: where to write; it is made if it does not exist, and files of the same names are replaced.
        suffix: '.mrc', '.zarr' for OME-Zarr 0.5, or '.copick.zarr' for OME-Zarr 0.4.

    Returns:
        Kind (mean, std, measured, mean_half1, mean_half2, sample_0 ...) to path, e.g. restored/ts_01_mean.mrc.

    Raises:
        InputError: no file may have the name of the tomogram, or it cannot be written at "restoration.output_voxel_size".

    Examples:
        >>> import cryovae
        >>> tomogram = cryovae.read_tomogram("even.mrc", "odd.mrc", tilts="ts.tlt")
        >>> restoration = cryovae.restore(tomogram, "run", samples=2, samples_out=1)
        >>> sorted(cryovae.save(restoration, tomogram, "restored"))
        ['mean', 'mean_half1', 'mean_half2', 'measured', 'sample_0', 'std']
    """
    run_folder = RunFolder(Path(folder), checked_name(tomogram.name, "the tomogram"), suffix)
    if new := restoration.output_voxel_size:
        check_ratio(tomogram.voxel_size, new, tomogram.shape)
    written = write_volumes(run_folder, tomogram, restoration.volumes(), new, lambda kind: f"posterior {kind}")
    drop_others(run_folder, written, tomogram)
    return written


def simulate(
    shape: tuple[int, int, int] = (64, 96, 80),
    *,
    tilt_range: tuple[float, float] = (-60.0, 60.0),
    tilt_step: float = 3.0,
    snr: float = 0.3,
    voxel_size: float = 10.0,
    defocus: float = 2.5,
    crowding: float = 0.3,
    membranes: int = 2,
    seed: int = 0,
) -> tuple[Tomogram, Tensor]:
    """Simulate a tomogram with an exact missing wedge and coloured noise, in two halves, and its truth.

    Args:
        shape: voxels along z, y, x, each at least 16.
        tilt_range: lowest and highest tilt in degrees.
        tilt_step: degrees between tilts.
        snr: variance of the signal over that of the noise, in the mean of the halves.
        voxel_size: in angstrom.
        defocus: in micrometres; 0 for no contrast transfer.
        crowding: share of the volume that molecules take, at most.
        membranes: number of membranes.
        seed: random seed.

    Returns:
        The tomogram with its halves, and the truth, a float32 tensor (z, y, x) on the same grey scale.

    Raises:
        InputError: a value is out of range.

    Examples:
        >>> import cryovae
        >>> tomogram, truth = cryovae.simulate(shape=(24, 36, 32), tilt_range=(-50, 50), tilt_step=2, seed=1)
        >>> tomogram.tilts.missing, tuple(truth.shape)
        (80.0, (24, 36, 32))
    """
    config = SimulationConfig(
        shape=shape,
        tilt_range=tilt_range,
        tilt_step=tilt_step,
        snr=snr,
        voxel_size=voxel_size,
        defocus=defocus,
        crowding=crowding,
        membranes=membranes,
        seed=seed,
    )
    made = simulate_halves(config)
    halves = made.half1.numpy(), made.half2.numpy()
    return Tomogram("simulated", (halves[0] + halves[1]) / 2, voxel_size, made.tilts, halves), made.truth


def evaluate(
    restored: Restoration | Density,
    tomogram: Tomogram,
    truth: Density | None = None,
    *,
    band: tuple[float, float] = BAND,
) -> Assessment:
    """Score a restored tomogram beside two baselines: the untouched input, and the best low-pass and clipping.

    Args:
        restored: a restoration, a restored density (z, y, x), or the path of one in the orientation of the tomogram's files.
        tomogram: the tomogram that was restored.
        truth: the true density (z, y, x), or its path; None if it is not known, so that the halves alone are compared.
        band: lowest and highest frequency of the scores, in cycles per voxel.

    Returns:
        Scores as correlations in -1 to 1: ``rows`` against the truth (row.score.wedge.band, row.score.measured.band), ``halves``
        of one half with the other, and ``calibration`` of the standard deviation against the truth.

    Raises:
        InputError: the shapes differ, or a file cannot be read.

    Examples:
        >>> import cryovae
        >>> tomogram, truth = cryovae.simulate(shape=(24, 36, 32), seed=0)
        >>> scores = cryovae.evaluate(truth, tomogram, truth)
        >>> scores.rows[0].name, round(scores.rows[0].score.wedge.band, 3)
        ('restored', 1.0)
    """
    known = restored if isinstance(restored, Restoration) else None
    density = known.mean if known is not None else _density(restored, tomogram)  # type: ignore[arg-type]
    halves = None if tomogram.halves is None else (as_tensor(tomogram.halves[0]), as_tensor(tomogram.halves[1]))
    return assess(
        density,
        tomogram.tilts,
        None if truth is None else _density(truth, tomogram),
        as_tensor(tomogram.density),
        None if known is None else known.std,
        () if known is None else known.samples,
        None if known is None else known.halves,
        halves,
        band,
    )


def _tilts(tilts: Tilts) -> TiltGeometry:
    if isinstance(tilts, TiltGeometry):
        return tilts
    if isinstance(tilts, Path | str):
        return read_tilts(tilts)
    angles = tuple(float(angle) for angle in tilts)
    return TiltGeometry.from_range(*angles) if len(angles) == 2 else TiltGeometry(angles)


def _density(density: Density, tomogram: Tomogram) -> Tensor:
    """A density (z, y, x) in the orientation of the tomogram. InputError if its shape differs."""
    if isinstance(density, Path | str):
        stored = np.asarray(read_volume(density).density)
        density = upright(stored) if tomogram.unrotated else stored
    values = density if isinstance(density, Tensor) else as_tensor(density)
    if tuple(values.shape) != tomogram.shape:
        raise InputError(f"density of shape {tuple(values.shape)} found, expected that of the tomogram, {tomogram.shape}")
    return values.float()


def _config(preset: str | None, device: torch.device, settings: Mapping[str, Any] | None, named: Mapping[str, Any]) -> RunConfig:
    """The preset with the settings, then with the named arguments that are not None."""
    base = settings_of_preset(preset or ("quick" if device.type == "cpu" else "default"))
    return override(base, dict(settings or {}) | {name: value for name, value in named.items() if value is not None})


@contextmanager
def _run_folder(output: PathLike | None) -> Iterator[RunFolder]:
    """A run folder at a path, or a temporary one."""
    if output is not None:
        check_folder(Path(output))
        yield RunFolder(Path(output), folder_name(Path(output)))
        return
    with TemporaryDirectory(prefix="cryovae_") as temporary:
        yield RunFolder(Path(temporary), "training")
