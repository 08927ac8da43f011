"""One page for a whole batch: the state and the figures of each tomogram, and its preview; and the table with the results."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from string import Template
from urllib.parse import quote

from cryovae import __version__
from cryovae.batch.plan import FOLDER, SUMMARY, SUMMARY_CSV, Opened
from cryovae.batch.status import FIGURES, Status, counted, statuses, write_csv
from cryovae.io.atomic import write_text
from cryovae.io.star.results import results_columns, write_results
from cryovae.progress.display import clock_time
from cryovae.workflows.run_folder import RunFolder
from cryovae.workflows.start import start_of_model

PAGE = Template("""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>$title</title>
<style>
body { font: 15px/1.45 system-ui, sans-serif; color: #1a1a1a; max-width: 1400px; margin: 1em auto; padding: 0 1em; }
h1 { font-size: 1.5em; margin: 0 0 .3em; } h2 { font-size: 1.1em; margin: 1.6em 0 .3em; }
table { border-collapse: collapse; font-size: .9em; } th { vertical-align: bottom; max-width: 9em; }
th, td { border-bottom: 1px solid #ddd; padding: .25em .9em .25em 0; text-align: left; } td.number { text-align: right; }
.failed, .interrupted, .broken { color: #a40000; font-weight: 600; } .done { color: #2e6b00; }
.small { color: #555; font-size: .88em; max-width: 70em; }
img { max-width: 100%; height: auto; } .why { overflow-wrap: anywhere; max-width: 30em; }
</style></head><body>
<h1>$title</h1>
<p>$counts</p>
$table
<p class="small">Held-out data: correlation of the prediction with measured data that were removed from the input, the only proof
of filling on real data; beside it what the noise allows, and what low-pass and clipping reach. Rms error / std and chi^2 are 1
where the standard deviation is right. Halves agree to: where the FSC of the halves, each restored by itself, falls below 0.143
in the measured part; both went through one model. Truth: correlation from 0.01 to 0.2 cycles per voxel.
<a href="summary.csv">summary.csv</a> has the same figures; the logs are in <code>$folder/logs</code>.</p>
$pictures
<p class="small">Written by cryovae $version, $date, from $source.</p>
</body></html>
""")


def write_summary(batch: Opened) -> list[Status]:
    """Write summary.html, summary.csv and the table with the results, from the run folders as they are; return the states."""
    states = statuses(batch)
    write_csv(batch.out / SUMMARY_CSV, states)
    results = _results(batch, states)
    target = batch.out / batch.table.path.name
    if not (target.exists() and target.samefile(batch.table.path)):
        write_results(target, batch.table, results, start_of_model(batch.model))
    text = PAGE.substitute(
        title=escape(f"Batch of {len(batch.names)} tomograms"),
        counts=escape(counted(states)),
        table=_table(batch, states),
        pictures="\n".join(_picture(batch, status) for status in states if status.state == "done"),
        folder=FOLDER,
        version=__version__,
        date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        source=escape(str(batch.table.path)),
    )
    write_text(batch.out / SUMMARY, text)
    return states


def _results(batch: Opened, states: list[Status]) -> list[Mapping[str, Path]]:
    """Kind of volume to path for each row of the table, empty for rows that are not done."""
    done = {status.name for status in states if status.state == "done"}
    files: list[Mapping[str, Path]] = [{} for _ in range(len(batch.table.rows))]
    for entry in batch.entries:
        folder = RunFolder(batch.out / entry.name, entry.name, batch.batch.suffix)
        if entry.name in done:
            kinds = results_columns(batch.table)
            files[entry.row - 1] = {kind: folder.result(kind) for kind in kinds if folder.result(kind).exists()}
    return files


def _table(batch: Opened, states: list[Status]) -> str:
    known = [name for name in FIGURES if any(name in status.figures for status in states)]
    head = "".join(f"<th>{escape(text)}</th>" for text in ("tomogram", "state", "time", *(FIGURES[n] for n in known), ""))
    return f"<table><tr>{head}</tr>{''.join(_row(batch, status, known) for status in states)}</table>"


def _row(batch: Opened, status: Status, known: list[str]) -> str:
    report = batch.out / status.name / "report.html"
    name = f'<a href="{_link(batch, report)}">{escape(status.name)}</a>' if report.exists() else escape(status.name)
    figures = "".join(f'<td class="number">{status.figures[n]:.3g}</td>' if n in status.figures else "<td></td>" for n in known)
    seconds = "" if status.seconds is None else clock_time(status.seconds)
    state = f'<td class="{status.state.split()[0]}">{status.state}</td>'
    return f'<tr><td>{name}</td>{state}<td>{seconds}</td>{figures}<td class="why">{escape(status.remarks)}</td></tr>'


def _picture(batch: Opened, status: Status) -> str:
    preview = batch.out / status.name / "preview.png"
    if not preview.exists():
        return ""
    return (
        f'<h2>{escape(status.name)}</h2><a href="{_link(batch, preview)}"><img src="{_link(batch, preview)}" loading="lazy"></a>'
    )


def _link(batch: Opened, path: Path) -> str:
    return quote(os.path.relpath(path, batch.out))
