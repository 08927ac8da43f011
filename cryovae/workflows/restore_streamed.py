"""Restoring a tomogram that is larger than the memory that a run may take, into a folder: step by step, resumable.

What a run leaves for the next lies in the folder ``restoring``, which goes when all results are there.
"""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from cryovae import distributed
from cryovae.checkpoint import Checkpoint
from cryovae.config import RunConfig, as_plain
from cryovae.errors import InputError
from cryovae.evaluate.region import SMALLEST, Box, box_about, cut_out
from cryovae.io.files import write_volume_by_slabs
from cryovae.io.journal import Journal
from cryovae.io.orientation import UnrotatedSections
from cryovae.io.stored import Stored, released
from cryovae.models.ladder import Ladder, LadderConfig
from cryovae.posterior.posterior_tiles import HELD
from cryovae.posterior.tiles import side_of
from cryovae.restoration.restorer import Restoration, RestoreConfig
from cryovae.restoration.streamed import Streamed, StreamedRestorer, cleared, volumes_on_disk
from cryovae.tiling.batching import PER_CHANNEL, bytes_of_tile, fitting
from cryovae.tomogram import Tomogram
from cryovae.workflows import memory
from cryovae.workflows.progress import Watch
from cryovae.workflows.restore import note_of, picture, report_on
from cryovae.workflows.run_folder import RunFolder, log

WORK = "restoring"
# The calibration: turns of a patch that are scored at once, and bytes for each voxel of a patch beside the network (measured).
AT_ONCE, SCORED = 8, 4000
# Bytes below which slabs are so thin that the disk sets the pace; what libraries take on top when pictures are drawn.
LEAST, PICTURES = 1.0e8, 2.5e8
# Volumes of 32 bits that a report holds, and the side of the region that one is made of at the most.
REPORTED, LARGEST = 30, 320


def scored_at_once(sizes: LadderConfig, patch: int, config: RestoreConfig, device: torch.device) -> float:
    """Bytes that the calibration takes, which scores a patch in many turns at once; of a network on a GPU only what lies here."""
    if not config.calibrate:
        return 0.0
    network = AT_ONCE * 4 * PER_CHANNEL * sizes.widths[0] if device.type == "cpu" else 0
    return float((network + SCORED) * patch**3)


def tiles_at_once(sizes: LadderConfig, patch: int, batch: int, device: torch.device) -> float:
    """Bytes that a batch of tiles takes; none here if they are on a GPU."""
    return float(batch * bytes_of_tile(sizes, side_of(sizes, patch))) if device.type == "cpu" else 0.0


def is_streamed(
    first: Path,
    halves: bool,
    trained: Checkpoint | None,
    config: RunConfig,
    device: torch.device,
    budget: int,
    asked: bool,
    suffix: str,
) -> bool:
    """Whether a tomogram, of the size of ``first``, has to be restored by parts to keep within ``budget`` bytes.

    asked: the user named the budget. InputError if it then cannot be kept: by a deterministic network, and in Zarr.
    """
    # What is free differs between ranks, and they must go one way.
    budget = distributed.broadcast(budget)
    sizes, patch = (config.ladder, config.training.patch) if trained is None else (trained.ladder.config, trained.patch)
    batch = tiles_at_once(sizes, patch, config.restoration.batch, device)
    network = max(batch, scored_at_once(sizes, patch, config.restoration, device))
    # A search holds all samples at once, and keeps what it needs for gradients.
    posterior_tiles = config.restoration.search.any
    kept = config.restoration.samples if posterior_tiles else config.restoration.samples_out
    needed = memory.in_memory(shape_of(first), halves, kept, (HELD if posterior_tiles else 1) * network)
    if needed <= budget:
        return False
    told = f"{first} needs about {needed / 1e9:.1f} GB in memory, {budget / 1e9:.1f} GB may be taken"
    variational = config.objective.variational
    if (not variational or suffix != ".mrc") and not asked:
        log.warning("%s", told)
        return False
    if not variational:
        raise InputError(f"{told}, and {config.objective.name} takes all of it at once: give more, or use the vae")
    if config.restoration.search.any:
        raise InputError(
            f"{told}, and tiles are not searched for by parts: leave out --refine and --sampler, or give more --memory"
        )
    if suffix != ".mrc":
        raise InputError(f"{told}, and only MRC is written by parts: leave out --format, or give more --memory")
    return True


def check_disk(folder: RunFolder, tomogram: Tomogram, config: RunConfig) -> None:
    """OSError if the disk has no room for the files of all steps; what an earlier run left there is replaced."""
    needed = 4 * tomogram.density.size * volumes_on_disk(config.restoration, tomogram.halves is not None)
    there = sum(file.stat().st_size for file in folder.path(WORK).glob("*")) if folder.path(WORK).is_dir() else 0
    free = shutil.disk_usage(folder.folder).free + there
    if free < needed:
        room = f"{free / 1e9:.1f} GB free, {needed / 1e9:.1f} GB needed for a tomogram larger than memory"
        raise OSError(errno.ENOSPC, room, str(folder.folder))


def restore_streamed_in(
    folder: RunFolder,
    tomogram: Tomogram,
    checkpoint: Checkpoint,
    config: RunConfig,
    device: torch.device,
    budget: int,
    resume: bool = False,
) -> None:
    """Restore with a trained model within ``budget`` bytes of memory, and write all that belongs to it.

    tomogram: one that stays on the disk. resume: go on where an earlier run of the same inputs, model and settings ended.
    InputError if the budget is too small for tiles and a slab.
    """
    if distributed.count() > 1:
        log.warning("a tomogram larger than memory is restored by the first of %d processes alone", distributed.count())
    if distributed.rank():
        return
    began = time.monotonic()
    check_disk(folder, tomogram, config)
    room, batch = room_within(budget, checkpoint, config.restoration, device)
    journal = _journal(folder, tomogram, checkpoint, config, device, resume)
    log.info("larger than %.2f GB with all it needs: restored by parts, %.2f GB at a time", budget / 1e9, room / 1e9)
    with Watch("restoring, tiles", 1) as progress:
        restorer = StreamedRestorer(
            checkpoint.ladder,
            checkpoint.patch,
            replace(config.restoration, batch=batch),
            device,
            folder.path(WORK),
            journal,
            room,
            lambda done, total: progress.update(done, total=total),
        )
        streamed = restorer(tomogram)
    write_streamed(folder, tomogram, streamed, config)
    seconds = time.monotonic() - began
    log.info("restored in %.0f s, at most %.2f GB of memory", seconds, memory.resident("VmHWM") / 1e9)
    region = region_within(tomogram.shape, budget)
    folder.save(
        restoration={
            "seconds": round(seconds, 1),
            "figures": streamed.figures,
            "held_out": streamed.held_out,
            "steps_of_model": checkpoint.step,
        },
        streamed={
            "memory": budget,
            "data_consistency": "exact, whole spectra transformed in files",
            "reported_region": None if region is None else [list(region.start), list(region.stop)],
        },
    )
    if region is None:
        log.warning("no report: %.2f GB leave no room for a region of %d voxels", budget / 1e9, SMALLEST)
    else:
        _report(folder, tomogram, streamed, region, config)
    peak = memory.resident("VmHWM")
    folder.save(streamed=folder.record["streamed"] | {"peak": int(peak)})
    shutil.rmtree(folder.path(WORK), ignore_errors=True)


def room_within(budget: int, checkpoint: Checkpoint, config: RestoreConfig, device: torch.device) -> tuple[float, int]:
    """Bytes for slabs and rows, beside the program and the network; and the tiles at once that leave so much."""
    taken = max(memory.resident(), memory.PROGRAM - PICTURES)
    sizes, patch = checkpoint.ladder.config, checkpoint.patch
    scored = scored_at_once(sizes, patch, config, device)
    one = tiles_at_once(sizes, patch, 1, device)
    least = taken + max(scored, one) + LEAST
    if budget < least:
        raise InputError(
            f"--memory {budget / 1e9:.2f}GB found, expected at least {least / 1e9:.2f}GB for this model, "
            f"{taken / 1e9:.2f} of them for the program: give more, or leave out most of it, --set restoration.calibrate=false"
        )
    batch = config.batch
    if device.type == "cpu":
        batch = fitting(sizes, side_of(sizes, patch), batch, max(scored, (budget - taken - LEAST) / 2))
    return budget - taken - max(scored, tiles_at_once(sizes, patch, batch, device)), batch


def region_within(shape: tuple[int, int, int], budget: int) -> Box | None:
    """The middle of a volume, as large as a report within ``budget`` bytes may be; None if that is next to nothing."""
    voxels = (budget - memory.PROGRAM) / (4 * REPORTED)
    side = LARGEST
    while side >= SMALLEST:
        sizes = [min(side, n) for n in shape]
        if sizes[0] * sizes[1] * sizes[2] <= voxels:
            return None if min(sizes) < SMALLEST else box_about([n // 2 for n in shape], side, shape)
        side -= 8
    return None


def write_streamed(folder: RunFolder, tomogram: Tomogram, streamed: Streamed, config: RunConfig) -> None:
    """Write the volumes with the header of the input, some sections at a time."""
    volumes = {"mean": streamed.mean, "std": streamed.std}
    if streamed.halves is not None:
        volumes |= {"mean_half1": streamed.halves[0], "mean_half2": streamed.halves[1]}
    volumes |= {f"sample_{i}": sample for i, sample in enumerate(streamed.samples)}
    for kind, volume in volumes.items():
        stored = UnrotatedSections(volume) if tomogram.unrotated else volume
        note = note_of(kind, config)
        write_volume_by_slabs(folder.result(kind), stored, tomogram.source, tomogram.voxel_size, note)
        log.info("wrote %s", folder.result(kind))


def _journal(
    folder: RunFolder, tomogram: Tomogram, checkpoint: Checkpoint, config: RunConfig, device: torch.device, resume: bool
) -> Journal:
    """The journal of this work, taken up if it is to be, and if it is that of the same inputs, model and settings."""
    inputs = {role: about.get("sha256") for role, about in folder.record.get("inputs", {}).items()}
    mark = {
        "inputs": inputs,
        "shape": tomogram.shape,
        "tilts": repr(tomogram.tilts),
        "optics": repr(tomogram.optics),
        "unrotated": tomogram.unrotated,
        "model": _mark_of(checkpoint.ladder),
        "restoration": as_plain(config)["restoration"],
        "device": device.type,
        "versions": folder.record.get("versions", {}),
    }
    place = folder.path(WORK)
    journal = Journal(place / "journal.json", mark)
    if resume and journal.resume():
        log.info("resumed after %s tiles", journal.values.get("tiles", 0))
        return journal
    if resume and place.exists():
        log.info("what was left in %s is of other inputs, model or settings: begun anew", place)
    for kind in ("mean", "std", "mean_half1", "mean_half2", *(f"sample_{i}" for i in range(config.restoration.samples_out))):
        path = folder.result(kind)
        for left in path.parent.glob(f".{path.name}.*.part{path.suffix}"):
            left.unlink()
    cleared(place)
    return journal


def _mark_of(ladder: Ladder) -> str:
    found = hashlib.sha256(json.dumps(repr(ladder.config)).encode())
    for name, values in sorted(ladder.state_dict().items()):
        found.update(name.encode() + values.detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()


def _report(folder: RunFolder, tomogram: Tomogram, streamed: Streamed, region: Box, config: RunConfig) -> None:
    """Preview and report of the middle of the tomogram, and no more than the memory holds."""
    size = " x ".join(str(n) for n in region.shape)
    whole = region.shape == tomogram.shape
    name = tomogram.name if whole else f"{tomogram.name}, its middle {size} of {' x '.join(map(str, tomogram.shape))} voxels"
    log.info("preview and report of %s (z, y, x)", name)
    halves = None if tomogram.halves is None else (cut_out(tomogram.halves[0], region), cut_out(tomogram.halves[1], region))
    part = replace(tomogram, name=name, density=cut_out(tomogram.density, region), halves=halves, mask=None)
    released(tomogram.density)
    found = Restoration(
        mean=_cut(streamed.mean, region),
        std=_cut(streamed.std, region),
        halves=None if streamed.halves is None else (_cut(streamed.halves[0], region), _cut(streamed.halves[1], region)),
        figures=streamed.figures,
        held_out=streamed.held_out,
    )
    picture(folder, part, found, config)
    report_on(folder, part, found)


def _cut(volume: Stored, region: Box) -> torch.Tensor:
    return torch.from_numpy(cut_out(volume, region))


def shape_of(path: Path) -> tuple[int, int, int]:
    """Sizes of a volume, from its header alone, in no certain order. InputError if it cannot be read."""
    from cryovae.io.files import read_volume
    from cryovae.io.mrc.header import read_header
    from cryovae.io.ome_zarr.reading import is_zarr

    found: Any = read_volume(path).density.shape if is_zarr(path) else read_header(path).size
    return found[0], found[1], found[2]
