"""Whether a restoration fits into the memory that it may take, and how a streamed one, from files into files, divides it.

Files that a broken-off run leaves for the next lie in the folder ``restoring``, which is removed when all results are written.
"""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from glob import escape
from math import prod
from pathlib import Path
from typing import Any

import torch

from cryovae import distributed
from cryovae.calibration.scores import VOXELS
from cryovae.checkpoint import Checkpoint
from cryovae.checks.trial import TRIAL_VOXELS
from cryovae.config import RunConfig, as_plain
from cryovae.errors import InputError
from cryovae.evaluation.region import SMALLEST, Box, box_about
from cryovae.generator_file import load_base
from cryovae.io.journal import Journal
from cryovae.models.ladder import Ladder
from cryovae.models.ladder_config import LadderConfig
from cryovae.posterior.flow_posterior import MOST
from cryovae.posterior.ladder_boxes import LARGEST, largest_box
from cryovae.posterior.posterior_tiles import HELD
from cryovae.posterior.search import AMORTISED, LANGEVIN
from cryovae.posterior.tile_memory import bytes_of_tile, bytes_of_voxel, side_of
from cryovae.posterior.volume_sampler import LATENTS
from cryovae.restoration.config import RestoreConfig
from cryovae.restoration.file_storage import BOX_VOXELS, FileStorage, volumes_on_disk
from cryovae.restoration.restorer import mixed_on
from cryovae.tomogram import Tomogram
from cryovae.workflows import memory
from cryovae.workflows.run_folder import RunFolder, log

WORK = "restoring"
# Entries of the journal that are no steps.
NO_STEPS = ("voxels", "patches", "layer")
# The kinds of volumes that a restoration writes, beside samples.
VOLUMES = ("mean", "std", "measured", "mean_half1", "mean_half2")
# Volumes of 32 bits that are held while hidden bins are looked at, and by the flow beside what all restorations hold.
HIDDEN_VOLUMES, FLOW_VOLUMES = 120, 12
# Bytes for each voxel of a box of the flow (254 to 279 measured), and for a batch of its training (1.1e9 measured).
BOX_BYTES, FLOW_TRAINING = 290, 1.2e9
# Bytes for each voxel of the face of a row of boxes of the ladder: two outputs, what they share with the next row, and the data.
ROW_BYTES = 20
# Side of the smallest box for hidden bins, in patches.
LEAST_HIDDEN = 1.5
# Smallest memory for slabs, below which the disk sets the pace; memory for drawing pictures, bytes each.
MIN_SLAB_BYTES, PICTURE_BYTES = 1.0e8, 2.0e8
# Volumes of 32 bits that a report holds, and the largest side of the region that it shows.
REPORT_VOLUMES, MAX_REPORT_SIDE = 30, 320


def pass_bytes(sizes: LadderConfig, voxels: float, device: torch.device) -> float:
    """Bytes that a pass of a network over so many voxels takes in memory, box by box if there are many; 0 on a GPU."""
    return min(bytes_of_voxel(sizes) * voxels, LARGEST) if device.type == "cpu" else 0.0


def calibration_bytes(sizes: LadderConfig, voxels: float, config: RestoreConfig, device: torch.device) -> float:
    """Bytes that hidden bins of so many voxels take in memory."""
    if not config.calibrate or config.tempered or (config.search.any and not config.by_flow):
        return 0.0
    return pass_bytes(sizes, voxels, device) + 4 * HIDDEN_VOLUMES * voxels


def trial_voxels(network: Checkpoint, config: RunConfig, device: torch.device, budget: int) -> int:
    """Voxels on which a network is tried within ``budget`` bytes: TRIAL_VOXELS, or fewer, but no fewer than it needs."""
    sizes, least = network.ladder.config, (2 * network.patch) ** 3
    each = calibration_bytes(
        sizes, 1, replace(config.restoration, calibrate=True, sampler=AMORTISED, refine=0, temperature=1), device
    )
    return max(least, min(TRIAL_VOXELS, int((budget - memory.PROGRAM) / each)))


def box_bytes(shape: Sequence[int], device: torch.device) -> float:
    """Bytes that a box of the flow takes in memory, 0 if it is on a GPU."""
    return float(BOX_BYTES * prod(min(size, MOST) for size in shape)) if device.type == "cpu" else 0.0


def flow_bytes(sizes: LadderConfig, shape: Sequence[int], config: RunConfig, device: torch.device, fitted: bool) -> float:
    """Bytes that the flow takes beside the program when a tomogram is streamed; fitted: it was fitted before."""
    base = load_base().generator.vae.config
    latents = 4 * LATENTS * base.channels * prod(shape) / base.stride**3
    voxels = min(prod(shape), VOXELS if fitted else max(config.adaptation.voxels, VOXELS))
    at_once = max(box_bytes(shape, device), 0.0 if fitted or device.type != "cpu" else FLOW_TRAINING)
    return at_once + max(latents, pass_bytes(sizes, voxels, device) + 4 * HIDDEN_VOLUMES * voxels)


def streams_flow(shape: Sequence[int], trained: Checkpoint | None, config: RunConfig, device: torch.device, budget: int) -> bool:
    """Whether a tomogram that is streamed can be sampled by the flow within ``budget`` bytes; if not, the log says why.

    Raises:
        InputError: if it cannot, and Langevin chains are asked for, which begin with the flow.
    """
    sizes = config.ladder if trained is None else trained.ladder.config
    needed = memory.PROGRAM + flow_bytes(sizes, shape, config, device, trained is not None and trained.flow is not None)
    if needed <= budget:
        return True
    if config.restoration.sampler == LANGEVIN:
        raise InputError(
            f"--sampler {LANGEVIN} needs about {needed / 1e9:.1f} GB, {budget / 1e9:.1f} GB may be taken: give more --memory, or "
            f"pass --sampler {AMORTISED}"
        )
    log.info("the flow needs about %.1f GB, %.1f GB may be taken: samples are those of the encoder", needed / 1e9, budget / 1e9)
    return False


def batch_bytes(sizes: LadderConfig, patch: int, batch: int, device: torch.device) -> float:
    """Bytes that a batch of tiles takes in memory, 0 if they are on a GPU."""
    return float(batch * bytes_of_tile(sizes, side_of(sizes, patch))) if device.type == "cpu" else 0.0


def memory_needed(
    shape: tuple[int, ...], halves: bool, trained: Checkpoint | None, config: RunConfig, device: torch.device
) -> float:
    """Bytes that a (z, y, x) tomogram takes when it is restored in memory; arguments as of ``is_streamed``."""
    sizes, patch = (config.ladder, config.training.patch) if trained is None else (trained.ladder.config, trained.patch)
    settings = config.restoration
    of_bins = calibration_bytes(sizes, min(prod(shape), VOXELS), settings, device)
    kept, passes = settings.samples_kept + ("measured" in settings.outputs), max(of_bins, pass_bytes(sizes, prod(shape), device))
    if settings.by_flow:
        kept += FLOW_VOLUMES
        passes += max(box_bytes(shape, device), FLOW_TRAINING if device.type == "cpu" else 0.0)
    elif settings.search.any:
        # A search holds all samples at once, and what gradients need.
        kept, passes = (
            settings.samples + ("measured" in settings.outputs),
            max(passes, HELD * batch_bytes(sizes, patch, settings.batch, device)),
        )
    return memory.in_memory(shape, halves, kept, passes)


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
    """Whether a tomogram has to be streamed to keep within ``budget`` bytes.

    Args:
        first: a file of the tomogram's size.
        halves: whether it has halves.
        trained: the model, or None if it is yet to be trained.
        config: the settings.
        device: of the model.
        budget: bytes that may be taken.
        asked: whether the user gave the budget.
        suffix: of the results.

    Raises:
        InputError: if the user gave a budget that cannot be kept, because this cannot be streamed.
    """
    # Free memory differs between ranks, and they must go one way.
    budget = distributed.broadcast(budget)
    settings, needed = config.restoration, memory_needed(shape_of(first), halves, trained, config, device)
    if needed <= budget:
        return False
    sentence = f"{first} needs about {needed / 1e9:.1f} GB in memory, {budget / 1e9:.1f} GB may be taken"
    variational = config.objective.variational
    if (not variational or suffix != ".mrc") and not asked:
        log.warning("%s", sentence)
        return False
    if not variational:
        raise InputError(f"{sentence}, and {config.objective.name} takes all of it at once: give more, or use the vae")
    if settings.search.any and not settings.by_flow:
        raise InputError(f"{sentence}, and a search cannot be streamed: leave out --refine and --sampler, or give more --memory")
    if suffix != ".mrc":
        raise InputError(f"{sentence}, and only MRC can be streamed: leave out --format, or give more --memory")
    return True


def open_storage(
    folder: RunFolder,
    tomogram: Tomogram,
    checkpoint: Checkpoint,
    config: RunConfig,
    device: torch.device,
    budget: int,
    resume: bool,
) -> tuple[FileStorage, float, int]:
    """The files of a streamed restoration, and what ``budget`` bytes allow: voxels of a box, and voxels for hidden bins.

    resume: go on where an earlier run of the same inputs, model and settings ended.
    """
    check_disk(folder, tomogram, config)
    room, box, voxels = room_within(budget, checkpoint, config.restoration, device, tomogram.shape[2])
    journal = _journal(folder, tomogram, checkpoint, config, device, resume)
    # A run that goes on must divide the volume as it did before, whatever memory is free now.
    box = float(journal.once(BOX_VOXELS, lambda: box))
    voxels = int(journal.once("voxels of hidden bins", lambda: voxels))
    log.info("larger than %.2f GB with all it needs: streamed, %.2f GB at a time", budget / 1e9, room / 1e9)
    return FileStorage(folder.path(WORK), tomogram.shape, journal, room), box, voxels


def check_disk(folder: RunFolder, tomogram: Tomogram, config: RunConfig) -> None:
    """OSError if the disk has no room for the files of all steps; what an earlier run left there is replaced."""
    volumes = volumes_on_disk(config.restoration.samples_kept, tomogram.halves is not None)
    needed = 4.0 * tomogram.density.size * volumes
    if new := config.restoration.output_voxel_size:
        # While one volume is rescaled: its planes, and the result.
        ratio = tomogram.voxel_size / new
        needed += 4 * tomogram.density.size * (ratio**2 + ratio**3)
    there = sum(file.stat().st_size for file in folder.path(WORK).glob("*")) if folder.path(WORK).is_dir() else 0
    free = shutil.disk_usage(folder.folder).free + there
    if free < needed:
        room = f"{free / 1e9:.1f} GB free, {needed / 1e9:.1f} GB needed for a tomogram larger than memory"
        raise OSError(errno.ENOSPC, room, str(folder.folder))


def room_within(
    budget: int, checkpoint: Checkpoint, config: RestoreConfig, device: torch.device, columns: int
) -> tuple[float, float, int]:
    """What ``budget`` bytes allow for a volume of ``columns`` voxels along x.

    Returns:
        Bytes for slabs and rows, beside the program and the network; voxels of a box; voxels for hidden bins.
    """
    taken = max(memory.resident(), memory.PROGRAM - PICTURE_BYTES)
    sizes, patch = checkpoint.ladder.config, checkpoint.patch
    fewest = int((LEAST_HIDDEN * patch) ** 3)
    least = taken + max(calibration_bytes(sizes, fewest, config, device), batch_bytes(sizes, patch, 1, device)) + MIN_SLAB_BYTES
    if budget < least:
        raise InputError(
            f"--memory {budget / 1e9:.2f}GB found, expected at least {least / 1e9:.2f}GB for this model, "
            f"{taken / 1e9:.2f} of them for the program: give more, or leave out most of it, --set restoration.calibrate=false"
        )
    box, of_box = largest_box(sizes, device), 0.0
    if device.type == "cpu":
        smallest, each = side_of(sizes, patch) ** 3, bytes_of_voxel(sizes)
        box = min(box, max(smallest, (budget - taken - MIN_SLAB_BYTES) / 2 / each))
        of_box = each * box + ROW_BYTES * box ** (2 / 3) * columns
        if of_box > budget - taken - MIN_SLAB_BYTES:
            box, of_box = float(smallest), batch_bytes(sizes, patch, 1, device)
    per_voxel = calibration_bytes(sizes, 1, config, device)
    voxels = VOXELS if not per_voxel else max(fewest, min(VOXELS, int((budget - taken - MIN_SLAB_BYTES) / per_voxel)))
    return budget - taken - of_box, box, voxels


def region_within(shape: tuple[int, int, int], budget: int) -> Box | None:
    """The middle of a volume, as large as a report within ``budget`` bytes may be; None if that is too small."""
    voxels = (budget - memory.PROGRAM) / (4 * REPORT_VOLUMES)
    for side in range(MAX_REPORT_SIDE, SMALLEST - 1, -8):
        sizes = [min(side, n) for n in shape]
        if sizes[0] * sizes[1] * sizes[2] <= voxels:
            return None if min(sizes) < SMALLEST else box_about([n // 2 for n in shape], side, shape)
    return None


def shape_of(path: Path) -> tuple[int, int, int]:
    """Sizes of a volume, from its header alone, in no certain order. InputError if it cannot be read."""
    from cryovae.io.files import read_volume
    from cryovae.io.mrc.header import read_header
    from cryovae.io.ome_zarr.reading import is_zarr

    sizes: Any = read_volume(path).density.shape if is_zarr(path) else read_header(path).size
    return sizes[0], sizes[1], sizes[2]


def _journal(
    folder: RunFolder, tomogram: Tomogram, checkpoint: Checkpoint, config: RunConfig, device: torch.device, resume: bool
) -> Journal:
    """The journal of this work; an earlier one is resumed if inputs, model, settings and versions are the same."""
    inputs = {role: about.get("sha256") for role, about in folder.record.get("inputs", {}).items()}
    mark = {
        "storage": 4,
        "mixed": mixed_on(config.restoration, device),
        "inputs": inputs,
        "shape": tomogram.shape,
        "tilts": repr(tomogram.tilts),
        "optics": repr(tomogram.optics),
        "unrotated": tomogram.unrotated,
        "model": _checksum(checkpoint.ladder),
        "restoration": as_plain(config)["restoration"],
        "device": device.type,
        "versions": folder.record.get("versions", {}),
    }
    place = folder.path(WORK)
    journal = Journal(place / "journal.json", mark)
    if resume and journal.resume():
        log.info("resumed after %d steps", sum(not name.startswith(NO_STEPS) for name in journal.values))
        return journal
    if resume and place.exists():
        log.info("what was left in %s is of other inputs, model, settings or another version: begun anew", place)
    for kind in (*VOLUMES, *(f"sample_{i}" for i in range(config.restoration.samples_out))):
        path = folder.result(kind)
        for left in path.parent.glob(f".{escape(path.name)}.*.part{path.suffix}"):
            left.unlink()
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    return journal


def _checksum(ladder: Ladder) -> str:
    checksum = hashlib.sha256(json.dumps(repr(ladder.config)).encode())
    for name, values in sorted(ladder.state_dict().items()):
        checksum.update(name.encode() + values.detach().cpu().contiguous().numpy().tobytes())
    return checksum.hexdigest()
