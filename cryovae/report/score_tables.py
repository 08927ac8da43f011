"""The figures of an evaluation as tables in a terminal."""

from __future__ import annotations

import sys

import numpy as np
from rich.console import Console
from rich.table import Table

from cryovae.evaluate.calibration import NOMINAL, Calibration
from cryovae.evaluate.fsc import LEVELS, Cone
from cryovae.evaluate.report import Assessment, Row
from cryovae.report.words import calibration_words, detail
from cryovae.tomogram import TiltGeometry


def print_tables(found: Assessment, tilts: TiltGeometry, voxel_size: float, shells: bool) -> None:
    """Print what is known against a truth, of the halves, of hidden bins, and of the standard deviation."""
    band = f"{found.limits[0]:g} to {found.limits[1]:g} cycles per voxel"
    if found.rows:
        _print_bands(found.rows, f"correlation with the truth, {band}", tilts)
        if shells:
            _print_shells(found.rows)
        _print_resolutions(found.rows[0], "truth", voxel_size)
        _print_cones(found.cones, voxel_size)
    if found.halves:
        _print_bands(found.halves, f"correlation of one half with the other, {band}", tilts)
        _print_resolutions(found.halves[0], "halves", voxel_size)
    if found.calibration_result is not None:
        print(f"low-pass and clipping foretell hidden measured data with correlation {found.calibration_result.correlation:.3f}")
    _print_calibration(found.calibration)


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else 120)


def _table(title: str, first: str, *columns: str) -> Table:
    table = Table(title=title)
    table.add_column(first)
    for column in columns:
        table.add_column(column, justify="right")
    return table


def _print_bands(rows: list[Row], title: str, tilts: TiltGeometry) -> None:
    table = _table(title, "", "wedge", "measured")
    for row in rows:
        wedge = f"{row.score.wedge.band:.3f}" if tilts.has_wedge else "no wedge"
        table.add_row(row.name, wedge, f"{row.score.measured.band:.3f}")
    _console().print(table)


def _print_shells(rows: list[Row]) -> None:
    table = _table("FSC with the truth by shell: wedge / measured", "cycles per voxel", *(row.name.split(":")[0] for row in rows))
    for index, frequency in enumerate(rows[0].score.wedge.frequency):
        cells = [f"{r.score.wedge.shells[index]:6.3f} / {r.score.measured.shells[index]:.3f}" for r in rows]
        table.add_row(f"{frequency:.3f}", *cells)
    _console().print(table)


def _print_resolutions(row: Row, against: str, voxel_size: float) -> None:
    for part, curve in (("wedge", row.score.wedge), ("measured", row.score.measured)):
        reached = ", ".join(f"FSC {level:g}: {detail(curve, voxel_size, level)}" for level in LEVELS)
        print(f"{row.name}, {against}, {part}: {reached}")


def _print_cones(cones: list[Cone], voxel_size: float) -> None:
    table = _table(
        "correlation with the truth by direction", "off the beam", "all", "wedge", "measured", *(f"FSC {v:g}" for v in LEVELS)
    )
    for cone in cones:
        bands = ["–" if np.isnan(c.band) else f"{c.band:.3f}" for c in (cone.whole, cone.wedge, cone.measured)]
        table.add_row(f"{cone.low:g} to {cone.high:g}°", *bands, *(detail(cone.whole, voxel_size, level) for level in LEVELS))
    _console().print(table)


def _print_calibration(found: dict[str, Calibration | None]) -> None:
    """Whether the standard deviation is as large as the error."""
    if not found:
        return
    shares = [f"{100 * share:.0f} %" for share in NOMINAL]
    table = _table("standard deviation against the truth", "", "rms/std", *shares, "slope", "offset", "CRPS", "CRPS/MAE")
    for part, known in found.items():
        table.add_row(part, *(["needs samples"] if known is None else calibration_words(known)))
    _console().print(table)
    whole = found["whole"]
    if whole is not None:
        covered = ", ".join(f"{100 * c:.0f} % of {100 * share:.0f} %" for share, c in whole.coverage.items())
        print(f"standard deviation: rms error is {whole.error_ratio:.2f} times it; intervals cover {covered}")
