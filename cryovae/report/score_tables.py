"""Printing of the tables of an evaluation in a terminal."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.markup import escape
from rich.table import Table as RichTable

from cryovae.evaluation.assessment import Row
from cryovae.report import tables
from cryovae.report.contents import Contents
from cryovae.report.sentences import verdict
from cryovae.report.tables import Table


def print_tables(contents: Contents, shells: bool) -> None:
    """Print what the report says first, the scores, the calibration and, with ``shells``, the FSC by shell."""
    print(*verdict(contents), sep="\n")
    rows = contents.assessment.rows
    by_shell = _by_shell(rows) if rows and shells else None
    for table in (*tables.baselines(contents), by_shell, tables.cones(contents), tables.calibration(contents)):
        if table is not None:
            _print(table)


def _by_shell(rows: list[Row]) -> Table:
    cells = []
    for index, frequency in enumerate(rows[0].score.wedge.frequency):
        pairs = [f"{r.score.wedge.shells[index]:6.3f} / {r.score.measured.shells[index]:.3f}" for r in rows]
        cells.append([f"{frequency:.3f}", *pairs])
    return Table(["cycles per voxel", *(row.name for row in rows)], cells, "FSC with the truth by shell: wedge / measured")


def _print(table: Table) -> None:
    shown = RichTable(title=escape(table.title), caption=escape(table.note))
    for number, title in enumerate(table.head):
        shown.add_column(escape(title), justify="right" if number else "left", no_wrap=not number)
    for row in table.rows:
        shown.add_row(*map(escape, row))
    Console(width=None if sys.stdout.isatty() else 120).print(shown)
