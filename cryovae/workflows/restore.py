"""Restoring into a run folder, in memory or streamed: volumes, pictures, the report and the record."""

from __future__ import annotations

import errno
import re
import shutil
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from glob import escape
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cryovae import distributed
from cryovae.checkpoint import Checkpoint
from cryovae.config import RunConfig
from cryovae.errors import BrokenResult, InputError
from cryovae.evaluation.assessment import as_tensor, assess_region, in_neutral
from cryovae.evaluation.region import SMALLEST, Box, cut_out
from cryovae.io.files import provenance_of, write_volume, write_volume_by_slabs
from cryovae.io.orientation import UnrotatedSections, as_stored
from cryovae.io.stored import Stored, released
from cryovae.phases import announced
from cryovae.progress.tasks import RESTORING
from cryovae.progress.watch import Watch
from cryovae.report.contents import Contents
from cryovae.report.page import write_report
from cryovae.report.pictures import preview
from cryovae.report.prior_draws import patches_beside
from cryovae.report.sampler_sentences import posterior_name, sampler_sentences
from cryovae.restoration.config import is_old_default
from cryovae.restoration.rescaling import check_ratio, is_linear, is_rescaled, provenance_at, rescaled_as_stored, rescaled_kind
from cryovae.restoration.restorer import Restorer
from cryovae.restoration.steps import Restoration
from cryovae.tomogram import Fill, Tomogram
from cryovae.workflows import memory
from cryovae.workflows.run_folder import RunFolder, log, metrics_of
from cryovae.workflows.streaming import VOLUMES, WORK, open_storage, region_within

# Free space on the disk over the size of the results.
DISK_RESERVE = 1.05
# Largest spread of a restored section over that of its input, and largest change of its mean.
MAX_SCALE = 20.0


def results_of(has_halves: bool, config: RunConfig, record: Mapping[str, Any] | None = None) -> list[str]:
    """The kinds of volumes that a restoration writes, or wrote.

    Args:
        has_halves: whether the tomogram has halves.
        config: the settings.
        record: run.json of one that is done, or None; before there was a choice, none was without its wedge.
    """
    settings = config.restoration
    if record and "outputs" not in (record.get("config") or {}).get("restoration", {}):
        settings = replace(settings, outputs=tuple(kind for kind in settings.outputs if kind != "measured"))
    recorded = ((record or {}).get("config") or {}).get("restoration", {})
    if is_old_default(recorded.get("samples_out"), settings.samples_out):
        settings = replace(settings, samples_out=0)
    halves = ["mean_half1", "mean_half2"] if has_halves and settings.with_halves else []
    possible = ("std", "measured") if config.objective.variational else ("measured",)
    beside = [kind for kind in possible if kind in settings.outputs]
    kinds = ["mean", *beside, *halves, *(f"sample_{i}" for i in range(settings.samples_kept))]
    if new := settings.output_voxel_size:
        kinds += [rescaled_kind(kind, new) for kind in kinds if is_linear(kind)]
    return kinds


def check_room(folder: RunFolder, tomogram: Tomogram, config: RunConfig, overwrite: bool) -> None:
    """InputError if results are there already; OSError if the disk has no room for new ones. Before any work is done.

    Of several ranks the first alone writes any.
    """
    if distributed.rank():
        return
    kinds = results_of(tomogram.halves is not None, config)
    if new := config.restoration.output_voxel_size:
        check_ratio(tomogram.voxel_size, new, tomogram.shape)
    there = [folder.result(kind) for kind in VOLUMES if folder.result(kind).exists()]
    there += [path for path in map(folder.result, kinds) if path.exists() and path not in there]
    if there and not overwrite:
        raise InputError(f"{there[0]} is there already: pass --overwrite, or another folder with -o")
    sizes = [(tomogram.voxel_size / new) ** 3 if is_rescaled(kind) else 1.0 for kind in kinds]
    needed = int(DISK_RESERVE * 4 * tomogram.density.size * sum(sizes))
    free = shutil.disk_usage(folder.folder).free
    if free < needed:
        raise OSError(errno.ENOSPC, f"{free / 1e9:.2f} GB free, {needed / 1e9:.2f} GB needed", str(folder.folder))


def restore_in(
    folder: RunFolder,
    tomogram: Tomogram,
    checkpoint: Checkpoint,
    config: RunConfig,
    device: torch.device,
    budget: int | None = None,
    resume: bool = False,
) -> Restoration | None:
    """Restore with a trained model, and write all that belongs to it: of several ranks, the first does.

    Args:
        folder: of the run.
        tomogram: in memory; one that stays on the disk if it is streamed.
        checkpoint: the model.
        config: the settings.
        device: of the model.
        budget: bytes of memory that a streamed restoration may take, None to restore in memory.
        resume: go on where an earlier streamed run of the same inputs, model and settings ended.

    Returns:
        The restoration; None if it was streamed, because its files are gone then.
    """
    if budget is not None:
        if distributed.count() > 1:
            log.warning("a tomogram larger than memory is restored by the first of %d processes alone", distributed.count())
        if distributed.rank():
            return None
    began = time.monotonic()
    storage, settings, box, voxels = None, config.restoration, None, 0
    if budget is not None:
        storage, box, voxels = open_storage(folder, tomogram, checkpoint, config, device, budget, resume)
    with Watch("restoring, patches", 1) as progress:

        def watch(done: int, total: int) -> None:
            progress.update(done, total=total)

        restorer = Restorer(checkpoint.ladder, checkpoint.patch, settings, device, watch, checkpoint.flow, box)
        with _added(restorer, folder), announced(RESTORING):
            restoration = restorer(tomogram) if storage is None else restorer.restore(tomogram, storage, voxels)
    if distributed.rank():
        return restoration
    seconds = time.monotonic() - began
    with folder.phase("writing"):
        write_results(folder, tomogram, restoration, config)
    rate = tomogram.density.size * settings.samples / max(seconds, 1e-9)
    log.info("restored in %.0f s, %.3g voxels of samples a second", seconds, rate)
    for sentence in sampler_sentences(restoration.search):
        log.info("%s", sentence)
    folder.save(restoration=_record(checkpoint, restoration, seconds))
    if budget is None:
        with folder.phase("report"):
            report_on(folder, tomogram, restoration, config)
        return restoration
    with folder.phase("report"):
        _report_region(folder, tomogram, restoration, config, budget)
    shutil.rmtree(folder.path(WORK), ignore_errors=True)
    return None


@contextmanager
def _added(restorer: Restorer, folder: RunFolder) -> Iterator[None]:
    """Add the phases of a restoration to those of the run, also if it fails."""
    began = time.monotonic()
    try:
        yield
    finally:
        spent = restorer.phase.seconds
        folder.phase.add({"opening": time.monotonic() - began - sum(spent.values())} | spent)


def _record(checkpoint: Checkpoint, restoration: Restoration, seconds: float) -> dict[str, Any]:
    """The entry of a restoration in run.json."""
    return {
        "seconds": round(seconds, 1),
        "figures": restoration.figures,
        "held_out": restoration.held_out,
        **({} if restoration.search is None else {"search": restoration.search}),
        "steps_of_model": checkpoint.step,
    }


def report_on(folder: RunFolder, tomogram: Tomogram, restoration: Restoration, config: RunConfig) -> None:
    """Write preview.png and report.html, with all that is known without a truth; print what the report says first."""
    settings, halves = config.restoration, None
    if tomogram.halves is not None:
        halves = torch.from_numpy(tomogram.halves[0]), torch.from_numpy(tomogram.halves[1])
    before = as_tensor(tomogram.density)
    assessment = assess_region(tomogram, restoration.mean, before, restoration.halves, halves)
    if assessment.clipping is not None:
        clipped = {"correlation": assessment.clipping.correlation, "recipe": str(assessment.clipping.recipe)}
        folder.save(restoration=folder.record["restoration"] | {"clipping": clipped})
    contents = Contents(
        name=tomogram.name,
        before=before.numpy(),
        after=in_neutral(tomogram, restoration.mean).numpy(),
        std=restoration.std.numpy(),
        voxel_size=tomogram.voxel_size,
        tilts=tomogram.tilts,
        assessment=assessment,
        record=folder.record,
        metrics=metrics_of(folder.record, folder.path("metrics.csv")),
        beside=patches_beside(restoration.mean.numpy()),
    )
    what = f"{posterior_name(asdict(settings))} mean and standard deviation of {settings.samples} samples"
    preview(folder.path("preview.png"), contents, f"{tomogram.name}: {what}, {'raw' if settings.raw else 'data-consistent'}")
    write_report(folder.path("report.html"), contents)
    log.info("wrote %s", folder.path("report.html"))
    for sentence in contents.headline.sentences():
        print(sentence, file=sys.stderr)
        log.info("%s", sentence)


def _report_region(folder: RunFolder, tomogram: Tomogram, restoration: Restoration, config: RunConfig, budget: int) -> None:
    """Preview and report of the middle of a streamed tomogram, as large as the memory allows."""
    region = region_within(tomogram.shape, budget)
    streamed = {
        "memory": budget,
        "data_consistency": "exact, whole spectra transformed in files",
        "reported_region": None if region is None else [list(region.start), list(region.stop)],
    }
    folder.save(streamed=streamed)
    if region is None:
        log.warning("no report: %.2f GB leave no room for a region of %d voxels", budget / 1e9, SMALLEST)
    else:
        part, restored = _cut_out(tomogram, restoration, region)
        log.info("preview and report of %s (z, y, x)", part.name)
        report_on(folder, part, restored, config)
    peak = memory.resident("VmHWM")
    log.info("at most %.2f GB of memory", peak / 1e9)
    folder.save(streamed=streamed | {"peak": int(peak)})


def _cut_out(tomogram: Tomogram, restoration: Restoration, region: Box) -> tuple[Tomogram, Restoration]:
    """A region of a tomogram and of its restoration, in memory."""
    name = tomogram.name
    if region.shape != tomogram.shape:
        sizes = (" x ".join(map(str, shape)) for shape in (region.shape, tomogram.shape))
        name = "{}, its middle {} of {} voxels".format(name, *sizes)
    halves = None if tomogram.halves is None else (cut_out(tomogram.halves[0], region), cut_out(tomogram.halves[1], region))
    mask = None if tomogram.mask is None else tomogram.mask[region.slices]
    fill = None if tomogram.fill is None else Fill.of(tomogram.fill[region.slices])
    part = replace(tomogram, name=name, density=cut_out(tomogram.density, region), halves=halves, mask=mask, fill=fill)
    released(tomogram.density)

    def tensor(volume: Any) -> torch.Tensor:
        return torch.from_numpy(cut_out(volume, region))

    restored = restoration.halves
    return part, replace(
        restoration,
        mean=tensor(restoration.mean),
        std=tensor(restoration.std),
        measured=None,
        samples=[],
        halves=None if restored is None else (tensor(restored[0]), tensor(restored[1])),
    )


def write_results(folder: RunFolder, tomogram: Tomogram, restoration: Restoration, config: RunConfig) -> None:
    """Write the volumes of a restoration with the header of the input, and remove those of an earlier one."""
    new = config.restoration.output_voxel_size
    written = write_volumes(folder, tomogram, restoration.volumes(), new, lambda kind: note_of(kind, config))
    drop_others(folder, written, tomogram)


def write_volumes(
    folder: RunFolder, tomogram: Tomogram, volumes: Mapping[str, Any], new: float, note: Callable[[str], str]
) -> dict[str, Path]:
    """Write restored volumes, those in files some sections at a time; and again at another voxel size, if there is one.

    Args:
        folder: of the run.
        tomogram: what was restored.
        volumes: tensors, or ``Stored`` volumes, by kind.
        new: voxel size in angstrom of further copies, 0 for none.
        note: from the kind to the label in the header.

    Returns:
        The files by kind.
    """
    for kind, volume in volumes.items():
        check_result(folder.result(kind), tomogram, kind, volume)
    paths = {kind: folder.result(kind) for kind in volumes}
    for kind, volume in volumes.items():
        shown: Any = volume if isinstance(volume, Stored) else np.asarray(volume)
        if tomogram.unrotated:
            shown = UnrotatedSections(shown) if isinstance(volume, Stored) else as_stored(shown)
        _write(paths[kind], shown, tomogram.source, tomogram.voxel_size, note(kind))
    for kind, volume in volumes.items() if new else ():
        if not is_linear(kind):
            continue
        ratio, path = new / tomogram.voxel_size, folder.result(rescaled_kind(kind, new))
        # What has no wedge has no fill put back either.
        fill = None if kind == "measured" else tomogram.fill
        held = volume if isinstance(volume, Stored) else np.asarray(volume)
        work = folder.path(WORK) if isinstance(volume, Stored) else None
        small = rescaled_as_stored(held, ratio, fill, tomogram.unrotated, work)
        about = provenance_at(tomogram.source, ratio), new, note(rescaled_kind(kind, new))
        _write(path, small, *about)
        paths[rescaled_kind(kind, new)] = path
        if isinstance(small, Stored):
            small.remove()
    return paths


def _write(path: Path, volume: Any, *about: Any) -> None:
    """Write an array, or a volume that is read by sections; ``about``: the last arguments of ``write_volume``."""
    (write_volume if isinstance(volume, np.ndarray) else write_volume_by_slabs)(path, volume, *about)
    log.info("wrote %s", path)


def drop_others(folder: RunFolder, kinds: Collection[str], tomogram: Tomogram) -> None:
    """Remove the volumes of an earlier restoration that a new one does not replace: they are not of the same run.

    Files that cryovae did not write, by their labels, are kept, and so are the inputs.
    """
    named = (path.name for path in folder.folder.glob(f"{escape(folder.name)}_*{folder.suffix}"))
    beside = [name.removeprefix(f"{folder.name}_").removesuffix(folder.suffix) for name in named]
    inputs = {Path(about["path"]).absolute() for about in folder.record.get("inputs", {}).values() if "path" in about}
    inputs |= set() if tomogram.source is None else {Path(tomogram.source).absolute()}
    for kind in (*VOLUMES, *(name for name in beside if re.fullmatch(r"sample_\d+", name) or is_rescaled(name))):
        path = folder.result(kind)
        if kind in kinds or not path.exists() or path.absolute() in inputs:
            continue
        if not any(label.startswith("cryovae") for label in provenance_of(path).labels):
            log.warning("%s is not of cryovae, and was kept", path)
            continue
        log.info("removed %s of an earlier restoration", path)
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def check_result(path: Path, tomogram: Tomogram, kind: str, volume: Any) -> None:
    """BrokenResult if a restored volume (z, y, x) has another shape than its tomogram, or is on another scale.

    Fill does not count: it stays as it is. Voxels that are not finite are met where volumes are written.
    """
    if tuple(volume.shape) != tomogram.shape:
        raise BrokenResult(f"{path.name} would have shape {tuple(volume.shape)}, expected {tomogram.shape}: report this to us")
    if kind == "std":
        return
    middle = slice(tomogram.shape[0] // 2, tomogram.shape[0] // 2 + 1)
    restored, before = (np.asarray(v[middle], dtype=np.float64) for v in (volume, tomogram.density))
    if tomogram.fill is not None:
        data = ~tomogram.fill[middle]
        restored, before = restored[data], before[data]
    if not before.size:
        return
    mean, std, spread = float(restored.mean()), float(restored.std()), float(before.std())
    if abs(mean - float(before.mean())) + std > MAX_SCALE * spread > 0:
        raise BrokenResult(
            f"{path.name} would have mean {mean:.3g} and standard deviation {std:.3g} in its middle section, expected about "
            f"{before.mean():.3g} and at most {spread:.3g}: it was not written; check the model"
        )


def note_of(kind: str, config: RunConfig) -> str:
    """The label in the header of a restored volume."""
    how = "raw" if config.restoration.raw else "data-consistent"
    settings = config.restoration
    return f"{posterior_name(asdict(settings))} {kind}, {how}, {settings.samples} samples, seed {settings.seed}"
