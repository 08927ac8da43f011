"""Restores one tomogram: by a variational or a deterministic network, in memory or out of core, trained first if need be."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import torch

from cryovae import distributed
from cryovae.checkpoint import MODEL, Checkpoint, NetworkCheckpoint, load_network, objective_of
from cryovae.checks.model_match import base_difference, checked_match
from cryovae.checks.preflight import preflight, preflight_all
from cryovae.checks.trial import tried
from cryovae.config import RunConfig, as_plain, override, save_config
from cryovae.io.geometry_record import described
from cryovae.io.star.loading import Tomograms
from cryovae.io.star.tomograms import Entry
from cryovae.posterior.search import AMORTISED
from cryovae.progress.costs import Work, expect
from cryovae.tomogram import Tomogram
from cryovae.workflows import streaming
from cryovae.workflows.adapt import adapt_in, open_checkpoint, with_flow
from cryovae.workflows.extend import begin_extension, is_extended
from cryovae.workflows.plan import plan_of
from cryovae.workflows.regression import regress_in
from cryovae.workflows.restore import check_room, restore_in, results_of
from cryovae.workflows.resume import RESTORATION, TRAINING, check_resumed, forget, say_finished
from cryovae.workflows.run_folder import RunFolder, checksum, noted, read_record, summed
from cryovae.workflows.start import BASE, Start, start_of_model
from cryovae.workflows.streaming import is_streamed, streams_flow, trial_voxels
from cryovae.workflows.train import check_state, train_in
from cryovae.workflows.train_crops import within

Network: TypeAlias = Checkpoint | NetworkCheckpoint


@dataclass(frozen=True)
class Job:
    """What all tomograms of a run share.

    Attributes:
        config: all settings.
        device: where the networks run.
        budget: bytes of memory that the run may use.
        budget_asked: whether the user named the budget.
        resume: whether to continue a run that was stopped.
        overwrite: whether to replace results.
        live: whether to write live.mrc during training.
        voxel_size: in angstrom, over headers and tables, or None.
        suffix: of the volumes that are written, one of ``io.files.FORMATS``.
        force: whether refusals of the checks of the input pass.
        start: the network to begin with, or None for nothing.
        sampler_asked: whether the user named the sampler.
    """

    config: RunConfig
    device: torch.device
    budget: int
    budget_asked: bool = False
    resume: bool = False
    overwrite: bool = False
    live: bool = False
    voxel_size: float | None = None
    suffix: str = ".mrc"
    force: bool = False
    start: Start | None = None
    sampler_asked: bool = False


@dataclass(frozen=True)
class TrainedModel:
    """A trained network, the file or run folder that it is from, and the SHA-256 of the file."""

    network: Network
    path: Path
    sha256: str


def open_model(path: Path, config: RunConfig) -> tuple[TrainedModel, RunConfig]:
    """A trained model, and the settings with its objective. InputError if there is none."""
    config = override(config, {"objective.name": objective_of(path)})
    network = open_checkpoint(path) if config.objective.variational else load_network(path)
    return TrainedModel(network, path, checksum(path / MODEL if path.is_dir() else path)), config


def train_on(
    folder: RunFolder,
    tomograms: Sequence[Tomogram],
    inputs: dict[str, Path],
    config: RunConfig,
    device: torch.device,
    resume: bool,
    force: bool = False,
    about: Mapping[str, Any] | None = None,
    start: Start | None = None,
    work: Work | None = None,
) -> None:
    """Train one model on tomograms in ``folder``, with its record.

    Args:
        folder: of the model.
        tomograms: what it is trained on.
        inputs: their files by role.
        config: the settings.
        device: where it is trained.
        resume: continue a run that was stopped, if there is one.
        force: let refusals of the checks pass.
        about: further entries of the record that a resumed run must share.
        start: the network to begin with, or None for random weights.
        work: what is to be done, for the display; None if it is unknown.

    Raises:
        InputError: a check refuses a tomogram and ``force`` is False, another run writes into the folder, or a run that is
            resumed began with other settings or data.
    """
    with folder.claimed():
        checked = preflight_all(tomograms, force)
        sums = summed(inputs)
        geometry = {"geometry": checked.geometry, **_started(start), **(about or {})}
        if resume:
            finished = check_resumed(folder, "train", sums, config, geometry, TRAINING)
            if finished and folder.saved(MODEL).exists():
                say_finished(f"the model in {folder.folder}")
                return
            check_state(folder, config)
        else:
            forget(folder)
        if work is not None:
            expect(work, device.type == "cuda")
        extended = begin_extension(folder, read_record(folder.saved("run.json")), config) if resume else []
        folder.begin("train", sums, as_plain(config), config.training.seed)
        folder.keep_findings(checked.findings, force)
        folder.save(**geometry, **({"extended": extended} if extended else {}))
        save_config(folder.path("config.toml"), config)
        with noted(folder):
            ladder = None if start is None else start.network.ladder
            network = train_in(folder, checked.tomograms, config, device, resume, start=ladder)
            _fitted(folder, checked.tomograms, network, config, device, resume)


def stays_on_disk(entry: Entry, network: Network | None, job: Job) -> bool:
    """Whether a tomogram is restored out of core, to keep within the memory of the job; see ``is_streamed``."""
    trained = network if isinstance(network, Checkpoint) else None
    halves = entry.halves is not None
    return is_streamed(entry.files[0], halves, trained, job.config, job.device, job.budget, job.budget_asked, job.suffix)


def restore_tomogram(
    folder: RunFolder,
    entry: Entry,
    tomogram: Tomogram,
    model: TrainedModel | None,
    job: Job,
    streamed: bool,
    replace_results: bool,
    inputs: dict[str, Path] | None = None,
) -> None:
    """Restore one tomogram into ``folder``, with its record.

    Args:
        folder: of the results and their record.
        entry: the files of the tomogram.
        tomogram: what was read from them; it stays on the disk if ``streamed``.
        model: the model, or None to train one on the tomogram first.
        job: settings, device and memory.
        streamed: whether to restore out of core.
        replace_results: whether results that are there already are replaced.
        inputs: further input files by their role, for the record.

    Raises:
        InputError: a check refuses the tomogram and the job is not forced, results are there already, another run writes into
            the folder, or a run that is resumed began with other settings or data.
    """
    with folder.claimed():
        _restore_claimed(folder, entry, tomogram, model, job, streamed, replace_results, inputs or {})


def _restore_claimed(
    folder: RunFolder,
    entry: Entry,
    tomogram: Tomogram,
    model: TrainedModel | None,
    job: Job,
    streamed: bool,
    replace_results: bool,
    inputs: dict[str, Path],
) -> None:
    config, device = job.config, job.device
    known = model or job.start
    trained = known.network if known is not None and isinstance(known.network, Checkpoint) else None
    flows = config.objective.variational and config.restoration.by_flow
    if streamed and flows and not streams_flow(tomogram.shape, trained, config, device, job.budget):
        config = override(config, {"restoration.sampler": AMORTISED})
    _expect(folder, tomogram, model, config, job, preliminary=True)
    checked = preflight(tomogram, job.force)
    tomogram = checked.tomograms[0]
    job = _as_begun(folder, job) if model is None else replace(job, start=None)
    begun = list[str]()
    if job.start is not None:
        model, config, begun, job = begin(job.start, tomogram, job, config)
    begun += [] if model is None else checked_match(model.network.trained_on, tomogram, config)
    check_room(folder, tomogram, config, replace_results)
    if streamed and model is not None and isinstance(model.network, Checkpoint):
        # That the memory is too small is said before anything else.
        streaming.room_within(job.budget, model.network, config.restoration, device, tomogram.shape[2])
    sums, geometry = summed(inputs_of_entry(entry) | inputs), described(tomogram) | _started(job.start)
    if resume := job.resume and not job.overwrite:  # What is overwritten begins anew.
        sections = (*(TRAINING if model is None else ()), *RESTORATION)
        sha256 = None if model is None else model.sha256
        finished = check_resumed(folder, "restore", sums, config, geometry, sections, sha256)
        if finished and _has_results(folder, tomogram, config):
            say_finished(f"{tomogram.name} in {folder.folder}")
            return
        if model is None:
            check_state(folder, config)
    elif model is None:
        forget(folder)
    _expect(folder, tomogram, model, config, job)
    _begin_record(folder, sums, config, model, resume)
    folder.tell([*tomogram.notes, *begun])
    folder.keep_findings(checked.findings, job.force)
    folder.save(**geometry, **_recorded(model))
    _say_if_no_wedge(tomogram)
    save_config(folder.path("config.toml"), config)
    with noted(folder):
        data = [tomogram] if model is not None else _training_data(entry, tomogram, job, streamed)
        ladder = None if job.start is None else job.start.network.ladder
        network = train_in(folder, data, config, device, resume, job.live, ladder) if model is None else model.network
        network = _fitted(folder, data, network, config, device, resume)
        if isinstance(network, NetworkCheckpoint):
            with folder.phase("restoring"):
                regress_in(folder, tomogram, network, config, device)
        else:
            restore_in(folder, tomogram, network, config, device, job.budget if streamed else None, job.resume)


def _recorded(model: TrainedModel | None) -> dict[str, str | None]:
    """The entries of run.json on the model that restores; None if it is trained in this run."""
    if model is None:
        return {"model": None, "model_sha256": None, "model_start": None}
    return {"model": str(model.path), "model_sha256": model.sha256, "model_start": start_of_model(model.path)}


def _expect(
    folder: RunFolder, tomogram: Tomogram, model: TrainedModel | None, config: RunConfig, job: Job, preliminary: bool = False
) -> None:
    """Tell the display what is to be done for one tomogram; ``preliminary``: before the network to begin with is tried."""
    record = read_record(folder.saved("run.json")) if job.resume and not job.overwrite else {}
    finished = bool(record) and folder.saved(MODEL).exists() and not is_extended(record, config)
    network = None if model is None else model.network
    plan = plan_of(config, job.start if preliminary else None, network, job.sampler_asked, 0 if finished else None)
    expect(plan.work([tomogram.shape], tomogram.halves is not None), job.device.type == "cuda", preliminary)


def _begin_record(
    folder: RunFolder, sums: dict[str, dict[str, Any]], config: RunConfig, model: TrainedModel | None, resume: bool
) -> None:
    """Begin the record of a restoration; one that trains no model again keeps what its training was like."""
    before = read_record(folder.saved("run.json")) if resume and model is None else {}
    extended = begin_extension(folder, before, config)
    kept = ("training", "adaptation") if folder.saved(MODEL).exists() else ()
    folder.begin("restore", sums, as_plain(config), (config.training if model is None else config.restoration).seed)
    folder.save(**{name: before[name] for name in kept if name in before}, **({"extended": extended} if extended else {}))


def _as_begun(folder: RunFolder, job: Job) -> Job:
    """The job, beginning as a run that it resumes did, unless the user says with what."""
    record = read_record(folder.saved("run.json")) if job.resume and not job.overwrite else {}
    is_other = job.start is not None and job.start.is_default and bool(record) and not record.get("start")
    return replace(job, start=None) if is_other else job


def begin(start: Start, tomogram: Tomogram, job: Job, config: RunConfig) -> tuple[TrainedModel | None, RunConfig, list[str], Job]:
    """How a restoration begins, by a trial on hidden data where one is needed.

    Returns:
        The network that restores at once, or None if one is to be trained; the settings; what to say of it; and the job, with
        what a training begins with.

    At once the encoder draws the samples, unless the user named the sampler: to fit the flow takes longer than all else.
    """
    scale = base_difference(tomogram) if start.name == BASE else None
    lines = [] if scale is None else [scale]
    if start.trains and not start.is_default:
        return None, config, [*lines, f"trained further, beginning with {start.name}"], job
    voxels = trial_voxels(start.network, config, job.device, job.budget)
    trial = distributed.broadcast(tried(start.network, tomogram, config.restoration.seed, job.device, voxels))
    at_once = not start.trains
    begins = trial.is_good or not start.is_default
    lines.append(f"{tomogram.name}: {trial.line(start.name, at_once, begins)}")
    if not (trial.is_good and at_once):
        return None, config, lines, job if begins else replace(job, start=None)
    if not job.sampler_asked and start.network.flow is None:
        config = override(config, {"restoration.sampler": AMORTISED})
    return TrainedModel(start.network, start.path, start.sha256), config, lines, job


def _has_results(folder: RunFolder, tomogram: Tomogram, config: RunConfig) -> bool:
    """Whether a finished run has all its volumes."""
    kinds = results_of(tomogram.halves is not None, config, read_record(folder.saved("run.json")))
    return all(folder.result(kind).exists() for kind in kinds)


def _say_if_no_wedge(tomogram: Tomogram) -> None:
    if not tomogram.tilts.has_wedge:
        lowest, highest = tomogram.tilts.lowest, tomogram.tilts.highest
        print(f"{tomogram.name}: tilts {lowest:g} to {highest:g} leave no wedge, so it is denoised only", file=sys.stderr)


def _started(start: Start | None) -> dict[str, Any]:
    """The entry of run.json on the network that training began with; None for random weights."""
    return {"start": None if start is None else start.record()}


def _fitted(
    folder: RunFolder, tomograms: Sequence[Tomogram], network: Network, config: RunConfig, device: torch.device, resume: bool
) -> Network:
    """A network with a flow, if the settings sample by one: its own, or one that is fitted to the tomograms now."""
    if isinstance(network, NetworkCheckpoint) or not config.restoration.by_flow or network.flow is not None:
        return network
    with folder.phase("laps"):
        file = adapt_in(folder, tomograms, network, config, device, resume)
    # What comes next may read it.
    distributed.barrier()
    return with_flow(network, file)


def inputs_of_entry(entry: Entry) -> dict[str, Path]:
    """The volumes of a tomogram by their role, its mask last, for the record."""
    volumes = {f"half{i + 1}" if entry.halves else "tomogram": file for i, file in enumerate(entry.files)}
    return volumes | ({} if entry.mask is None else {"mask": entry.mask})


def _training_data(entry: Entry, tomogram: Tomogram, job: Job, streamed: bool) -> Sequence[Tomogram]:
    """The tomogram, or the crops of it that fit into memory."""
    if not streamed:
        return [tomogram]
    alone = Tomograms([tomogram.name], lambda index, mapped: tomogram)
    return within(alone, [entry.files[0]], job.config, job.device, job.budget)
