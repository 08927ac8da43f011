"""New patches from the own model of a run, as MRC files and one sheet: drawn, or on the way between two places."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from cryovae.checkpoint import Checkpoint
from cryovae.checks.model_match import tell_match
from cryovae.data.prepare import prepare
from cryovae.posterior.codes import Code, between, decoded, prior_code
from cryovae.posterior.latent_map import LatentMap, Patches, mapped
from cryovae.posterior.suited import suited
from cryovae.posterior.tile_memory import side_of
from cryovae.progress.watch import Watch
from cryovae.report.drawn_files import DrawnFiles
from cryovae.tomogram import Tomogram
from cryovae.workflows.run_inputs import (
    checked_tomogram_of,
    place_inside,
    record_of,
    tomogram_of,
    variational_model_of,
    voxel_size_in,
)

BASE, PRIOR, PATCHES = "base", "prior", "patches"
# Patches decoded at once; a file for each is written before the next are decoded.
BATCH = 4


def sample_run(
    run: Path,
    output: Path,
    source: str,
    count: int,
    temperature: float,
    seed: int,
    voxel_size: float | None,
    device: torch.device,
    overwrite: bool,
    force: bool = False,
) -> Path:
    """Draw patches from the prior, or from the Gaussian of the run's own patches; returns the sheet.

    Draws from the prior are in standard deviations of the tomogram, about its mean. They need the tomogram only if the network of
    the package restored it at once.
    """
    checkpoint = variational_model_of(run)
    name = f"{record_of(run).get('name', run.name)}_{source}"
    DrawnFiles(output, name, 1.0).check_free(range(count), overwrite)
    if source == PRIOR:
        size = voxel_size_in(run, voxel_size)
        side = side_of(checkpoint.ladder.config, checkpoint.patch)
        ladder = checkpoint.ladder
        if ladder.film is not None:
            # The network of the package restored this tomogram: its decoder is the one that suits it.
            ladder = suited(ladder, [prepare(tomogram_of(run, voxel_size), checkpoint.patch, held_out=False)])
        ladder = ladder.to(device)
        code = prior_code(ladder, side, count, temperature, seed)
        densities = [decoded(ladder, [part[i : i + BATCH] for part in code]).cpu() for i in range(0, count, BATCH)]
        note, unit, unrotated = f"drawn from the prior, temperature {temperature:g}, seed {seed}", "standard deviations", False
        if checkpoint.encoders == 2:
            print(
                "the prior of a model with two encoders is not trained to be like its patches, and draws from it are texture: "
                f"--from {BASE} draws from the generative model, --from {PATCHES} from the Gaussian of the tomogram's own",
                file=sys.stderr,
            )
    else:
        tomogram = checked_tomogram_of(run, voxel_size, force)
        size, unrotated = tomogram.voxel_size, tomogram.unrotated
        tell_match(checkpoint.trained_on, tomogram)
        patches, plane = _map(checkpoint, tomogram, device)
        code = plane.drawn(count, temperature, seed)
        densities = [patches.decoded([part[i : i + BATCH] for part in code]) for i in range(0, count, BATCH)]
        note = f"drawn from the Gaussian of {len(plane.positions)} patches, temperature {temperature:g}, seed {seed}"
        unit = "grey levels"
    files = DrawnFiles(output, name, size, unrotated)
    files.write_patches(torch.cat(densities), note, unit)
    return files.sheet


def walk_run(
    run: Path,
    output: Path,
    ends: Sequence[Sequence[float]],
    steps: int,
    voxel_size: float | None,
    device: torch.device,
    overwrite: bool,
    force: bool = False,
) -> Path:
    """Decode ``steps`` patches on the way between those about two places (z, y, x) of the run's tomogram; returns the sheet."""
    checkpoint = variational_model_of(run)
    tomogram = checked_tomogram_of(run, voxel_size, force)
    tell_match(checkpoint.trained_on, tomogram)
    files = DrawnFiles(output, f"{tomogram.name}_walk", tomogram.voxel_size, tomogram.unrotated)
    files.check_free(range(steps), overwrite)
    patches = Patches(checkpoint.ladder, checkpoint.patch, prepare(tomogram, checkpoint.patch, held_out=False), device)
    upright = [place_inside(place, tomogram) for place in ends]
    (first, _, level), (second, _, other) = (patches.encoded([patches.around(place)]) for place in upright)
    densities = [_step(patches, (first, second), (level, other), i / (steps - 1)) for i in range(steps)]
    words = " to ".join(",".join(f"{v:g}" for v in place) for place in ends)
    note = f"on the way from the patch about {words} (z,y,x)"
    files.write_patches(torch.cat(densities), note, "grey levels")
    return files.sheet


def _step(patches: Patches, ends: tuple[Code, Code], level: tuple[Tensor, Tensor], share: float) -> Tensor:
    return patches.decoded(between(*ends, share), (1 - share) * level[0] + share * level[1])


def _map(checkpoint: Checkpoint, tomogram: Tomogram, device: torch.device) -> tuple[Patches, LatentMap]:
    """All latents of the tomogram's patches, down to the finest, so that nothing of a draw is left to the prior."""
    patches = Patches(checkpoint.ladder, checkpoint.patch, prepare(tomogram, checkpoint.patch, held_out=False), device)
    with Watch("encoding, patches", 1) as progress:
        work = mapped(patches, finest=0)
        while True:
            try:
                done, total = next(work)
            except StopIteration as end:
                latent_map: LatentMap = end.value
                return patches, latent_map
            progress.update(done, total=total)
