"""Prints header, statistics and visible wedge of a tomogram before it is restored, and what to do with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from cryovae.checks.advice import bead_advice, halves_advice, mask_advice, size_advice
from cryovae.checks.geometry import CHECK
from cryovae.checks.preflight import check_tomogram
from cryovae.config import preset
from cryovae.data.region import without_fill
from cryovae.evaluation.wedge_comparison import ASYMMETRY, beam_axis, described, disagreements
from cryovae.evaluation.wedge_detection import DetectedWedge, detect_wedge
from cryovae.findings import Finding
from cryovae.io.files import read_volume
from cryovae.io.fill import with_fill
from cryovae.io.names import half_of, in_one_line, stem
from cryovae.io.orientation import middle_is_thin, upright
from cryovae.io.voxel_sizes import doubts_of
from cryovae.phases import duration
from cryovae.progress.costs import machine_factor, tasks_of
from cryovae.tomogram import TiltGeometry, Tomogram
from cryovae.workflows.compute import device_of
from cryovae.workflows.memory import budget_of
from cryovae.workflows.plan import plan_of
from cryovae.workflows.start import BASE, start_of
from cryovae.workflows.streaming import memory_needed

# Voxels along an axis, in the middle of the volume, that are looked at for advice on masks and beads.
LOOKED_AT = 256


def print_information(path: Path, tilts: TiltGeometry | None, voxel_size: float | None, unrotated: bool | None = None) -> None:
    """Print header, statistics and the wedge in the power spectrum of one volume.

    Args:
        path: an MRC file or OME-Zarr folder.
        tilts: the tilt geometry to compare with, or None.
        voxel_size: in angstrom, over the header.
        unrotated: whether the beam is along the middle axis; None to detect it.
    """
    volume = read_volume(path)
    density = np.asarray(volume.density, dtype=np.float32)
    nz, ny, nx = density.shape
    size = volume.voxel_size
    finite = density[np.isfinite(density)]
    print(f"file          {in_one_line(str(path))}")
    print(f"shape         {nz} x {ny} x {nx} (z, y, x)")
    print(f"stored as     {volume.stored}")
    print(
        f"voxel size    {size[0]:g} x {size[1]:g} x {size[2]:g} angstrom (x, y, z)"
        + (f", --voxel-size {voxel_size:g}" if voxel_size else "")
    )
    print(f"origin        {volume.origin[0]:g} x {volume.origin[1]:g} x {volume.origin[2]:g} angstrom")
    print(f"grey levels   {finite.min():g} to {finite.max():g}, mean {finite.mean():g}, std {finite.std():g}")
    if len(finite) < density.size:
        print(f"not finite    {density.size - len(finite)} voxels: NaN or infinite")
        return
    for note in volume.notes:
        print(f"note          {note.removeprefix(f'{path}: ')}")
    for number, label in enumerate(volume.labels):
        print(f"label {number}       {in_one_line(label)}")
    if finite.min() == finite.max():
        return
    known = TiltGeometry.from_range(-90, 90) if tilts is None else tilts
    used = voxel_size or size[0] or 1.0
    tomogram = with_fill(Tomogram(stem(path), density, used, known, source=str(path), findings=doubts_of(volume, voxel_size)))
    density = without_fill(density)
    seen = detect_wedge(density) if not unrotated else None
    if unrotated or (unrotated is None and seen is not None and middle_is_thin(density.shape) and beam_axis(seen) == 1):
        print(
            "lies          unrotated, the beam along the middle axis: rotated by -90 degrees about x on reading, back on writing"
        )
        seen = detect_wedge(upright(density))
        density, unrotated = upright(density), True
    if seen is not None:
        _print_wedge(seen, tilts)
    tomogram = replace(tomogram, density=density, unrotated=bool(unrotated), fill=None)
    _print_findings(tomogram.findings if tilts is None else check_tomogram(tomogram), seen, tilts)
    _print_advice(path, density, used, known_size=bool(voxel_size or size[0]))


def _print_advice(path: Path, density: np.ndarray, voxel_size: float, known_size: bool) -> None:
    """Print what to do with the tomogram and why, and the time and memory of the two usual ways to restore it."""
    device = device_of("auto")
    config = preset("quick" if device.type == "cpu" else "default")
    machine, budget = machine_factor(device.type == "cuda"), budget_of(None)
    part = density[tuple(slice(max((n - LOOKED_AT) // 2, 0), (n + LOOKED_AT) // 2) for n in density.shape)]
    middle = density[:, *(slice(max((n - LOOKED_AT) // 2, 0), (n + LOOKED_AT) // 2) for n in density.shape[1:])]
    lines = [
        size_advice(voxel_size, config.training.patch) if known_size else None,
        halves_advice(half_of(stem(path)) is not None),
        mask_advice(middle),
        bead_advice(part, voxel_size) if known_size else None,
    ]
    for line in filter(None, lines):
        print(f"advice        {line}")
    plans = {f"{config.training.steps} steps": plan_of(config)}
    if config.ladder == preset("quick").ladder:
        plans = {"--from base": plan_of(config, start_of(BASE, False))} | plans
    for words, plan in plans.items():
        seconds = machine * sum(task.seconds for task in tasks_of(plan.work([density.shape], False)))
        needed = memory_needed(density.shape, False, None, plan.config, device)
        how = "" if needed <= budget else ", more than there is: it is restored out of core"
        print(f"restore       {words}: about {duration(seconds)} and {needed / 1e9:.1f} GB on this {device.type}{how}")


def _print_findings(findings: Sequence[Finding], seen: DetectedWedge | None, tilts: TiltGeometry | None) -> None:
    """Print what the checks before work find, and differences of the wedge that are too unclear for them."""
    for finding in findings:
        print(f"{finding.severity:<14}{finding.words}")
    if seen is not None and tilts is not None and not any(finding.check == CHECK for finding in findings):
        for line in disagreements(seen, tilts):
            print(f"unclear       {line}")


def _print_wedge(seen: DetectedWedge, tilts: TiltGeometry | None) -> None:
    """Print the axes and ranges in the power spectrum, the given ones, and disagreements."""
    for number, visible in enumerate(seen.axes):
        print(f"wedge seen    {described(visible)}" + (f" (about +-3), {seen.step:.1f} nats deep" if number == 0 else ""))
    if not seen.axes:
        print(f"wedge seen    none: no range of tilts stands out in the power spectrum (deepest step {seen.step:.1f} nats)")
    elif len(seen.axes) == 1 and abs(seen.lowest + seen.highest) <= ASYMMETRY:
        print("handedness    cannot be seen: the range is its own mirror image")
    for axis in tilts.axes if tilts else ():
        print(f"wedge given   {axis.words}")
    for line in disagreements(seen, None) if tilts is None else ():
        print(f"warning       {line}")
