"""Prints how a restored tomogram compares with a truth, beside the baselines on the same input."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from cryovae.evaluate.calibration import calibration
from cryovae.evaluate.report import Row, as_tensor, compare, resolution_at
from cryovae.io.mrc import Volume, read_volume
from cryovae.tomogram import InputError, TiltGeometry


def print_evaluation(
    restored: Path, truth: Path, tilts: TiltGeometry, given: list[Path] | None, band: tuple[float, float], shells: bool
) -> None:
    """Print a table of correlations in the wedge and in the measured part, and the FSC of both by shell."""
    found, known = read_volume(restored), read_volume(truth)
    if found.density.shape != known.density.shape:
        raise InputError(f"{restored} has shape {found.density.shape} and {truth} {known.density.shape}, expected the same shape")
    if not 0 <= band[0] < band[1] <= 0.87:
        raise InputError(f"--band {band[0]:g} {band[1]:g} found, expected cycles per voxel, the lower first, e.g. 0.01 0.2")
    paths = given or _inputs_in_record(restored)
    untouched = _mean_of(paths, found.density.shape) if paths else None
    rows = compare(
        as_tensor(found.density),
        as_tensor(known.density),
        None if untouched is None else as_tensor(untouched),
        tilts,
        band,
    )
    if untouched is None:
        print(f"no run.json beside {restored} names its input, so no baselines: pass --input", file=sys.stderr)
    _print_bands(rows, band, tilts)
    if shells:
        _print_shells(rows, found.voxel_size[0])
    _print_calibration(restored, found, known)


def _print_calibration(restored: Path, found: Volume, known: Volume) -> None:
    """If the standard deviation lies beside the mean, print whether it is as large as the error."""
    beside = restored.with_name(restored.name.replace("_mean", "_std"))
    if beside == restored or not beside.exists():
        return
    std = read_volume(beside)
    if std.density.shape != known.density.shape:
        return
    measured = calibration(as_tensor(found.density), as_tensor(std.density), as_tensor(known.density))
    covered = ", ".join(f"{100 * c:.0f} % of {100 * share:.0f} %" for share, c in measured.coverage.items())
    print(f"standard deviation: rms error is {measured.error_ratio:.2f} times it; intervals cover {covered}")


def _mean_of(paths: list[Path], shape: tuple[int, ...]) -> np.ndarray:
    volumes = [read_volume(path) for path in paths]
    for volume in volumes:
        if volume.density.shape != shape:
            raise InputError(f"{volume.path} has shape {volume.density.shape}, expected that of the restored tomogram, {shape}")
    total = sum(volume.density.astype(np.float32) for volume in volumes)
    return np.asarray(total / len(volumes))


def _inputs_in_record(restored: Path) -> list[Path]:
    """The tomogram or the halves that the run.json beside a restored tomogram names, if they are still there."""
    for record in (restored.parent / "run.json", *sorted(restored.parent.glob("*_run.json"))):
        if not record.exists():
            continue
        about = json.loads(record.read_text())
        if restored.name.startswith(f"{about.get('name')}_"):
            inputs = about.get("inputs", {})
            paths = [Path(inputs[role]["path"]) for role in ("tomogram", "half1", "half2") if role in inputs]
            return paths if all(path.exists() for path in paths) else []
    return []


def _print_bands(rows: list[Row], band: tuple[float, float], tilts: TiltGeometry) -> None:
    table = Table(title=f"correlation with the truth, {band[0]:g} to {band[1]:g} cycles per voxel")
    for column in ("", "wedge", "measured"):
        table.add_column(column, justify="left" if not column else "right")
    for row in rows:
        wedge = f"{row.score.wedge.band:.3f}" if tilts.has_wedge else "no wedge"
        table.add_row(row.name, wedge, f"{row.score.measured.band:.3f}")
    Console(width=None if sys.stdout.isatty() else 120).print(table)


def _print_shells(rows: list[Row], voxel_size: float) -> None:
    table = Table(title="FSC with the truth by shell: wedge / measured")
    table.add_column("cycles per voxel", justify="right")
    for row in rows:
        table.add_column(row.name.split(":")[0], justify="right")
    first = rows[0].score.wedge
    for index, frequency in enumerate(first.frequency):
        cells = [f"{r.score.wedge.shells[index]:6.3f} / {r.score.measured.shells[index]:.3f}" for r in rows]
        table.add_row(f"{frequency:.3f}", *cells)
    Console(width=None if sys.stdout.isatty() else 120).print(table)
    if voxel_size > 0:
        for name, found in (("wedge", rows[0].score.wedge), ("measured", rows[0].score.measured)):
            reached = [resolution_at(found.frequency, found.shells, voxel_size, level) for level in (0.5, 0.143)]
            print(f"restored, {name}: FSC 0.5 at {reached[0]:.1f} angstrom, 0.143 at {reached[1]:.1f} angstrom")
