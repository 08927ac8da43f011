"""The benchmark's figures as tables: on the terminal, and as Markdown with what made each row."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from rich.console import Console
from rich.table import Table

COLUMNS = (
    "row",
    "min",
    "on",
    "wedge",
    "measured",
    "cone 30",
    "held out",
    "rms/std wedge",
    "90 % wedge",
    "sharpness",
    "ELBO",
    "steps",
    "train CPU s",
    "restore s",
    "GB",
)


def rows_in(out: Path) -> dict[str, list[list[dict[str, Any]]]]:
    """Data set to its finished rows, best first; rows that differ in the seed alone are one group."""
    groups: dict[tuple[str, str, float, str], list[dict[str, Any]]] = defaultdict(list)
    for path in sorted(out.glob("*.json")):
        record = json.loads(path.read_text())
        groups[record["data"], record["row"], record["minutes"], record["device"]].append(record)
    tables: dict[str, list[list[dict[str, Any]]]] = defaultdict(list)
    for (data, *_), group in groups.items():
        tables[data].append(group)
    for table in tables.values():
        table.sort(key=lambda group: -mean(r["wedge"] for r in group))
    return dict(tables)


def _figure(group: list[dict[str, Any]], key: str, digits: int = 3) -> str:
    values = [r[key] for r in group if r.get(key) is not None]
    if not values:
        return "-"
    spread = f" ± {stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{mean(values):.{digits}f}{spread}"


def _chance(group: list[dict[str, Any]], key: str) -> str:
    """How far chance correlates, beside figures that should be zero: of the nulls, and of the control."""
    null = group[0]["data"].endswith(("_noise", "_phases")) or group[0]["row"] == "rotations_beam"
    return f" (chance {_figure(group[:1], key)})" if null and key in group[0] else ""


def cells(group: list[dict[str, Any]]) -> list[str]:
    """The cells of one line, in the order of COLUMNS; over seeds, mean ± standard deviation."""
    for r in group:
        wedge = (r.get("calibration") or {}).get("wedge") or {}
        r["rms_wedge"], r["cover_wedge"] = wedge.get("rms_over_std"), wedge.get("coverage", {}).get("0.9")
        # Of one sample, 0.05 to 0.2 cycles per voxel: a mean of shells, as low ones hold most of the power.
        r["sharp"] = mean(r["sharpness"][1:4]) if r.get("sharpness") else None
        r["held_out_correlation"] = (r.get("validation") or {}).get("correlation")
    first = group[0]
    trained = "steps" in first
    return [
        first["row"],
        f"{first['minutes']:g}" if trained else "-",
        _device(first) if trained else "-",
        _figure(group, "wedge") + _chance(group, "wedge_standard_error"),
        _figure(group, "measured"),
        _figure(group, "cone_30") + _chance(group, "cone_standard_error"),
        _figure(group, "held_out_correlation"),
        _figure(group, "rms_wedge", 2),
        _figure(group, "cover_wedge", 2),
        _figure(group, "sharp", 2),
        _figure(group, "elbo"),
        _figure(group, "steps", 0),
        _figure(group, "train_cpu_s", 0),
        _figure(group, "restore_cpu_s", 0),
        _figure(group, "peak_memory_gb", 2),
    ]


def _device(row: dict[str, Any]) -> str:
    """CPU, or which GPU, in a word."""
    return "CPU" if row["device"] == "cpu" else next(word for word in row["device"].split() if any(c.isdigit() for c in word))


def print_tables(out: Path) -> None:
    """Print a table for each data set."""
    for data, groups in rows_in(out).items():
        table = Table(title=f"{data}: correlation with the truth, 0.01 to 0.2 cycles per voxel")
        for column in COLUMNS:
            table.add_column(column, justify="left" if column == "row" else "right")
        for group in groups:
            table.add_row(*cells(group))
        Console(width=150).print(table)


@dataclass(frozen=True)
class Line:
    """A row as it stands in docs/benchmark/all_rows.md: its cells by column, and how it was made."""

    cells: dict[str, str]
    how: str

    @property
    def key(self) -> tuple[str, str, str]:
        """What identifies a row: its name, minutes and device. A later run of the same row replaces it."""
        return self.cells["row"], self.cells["min"], self.cells["on"]

    @property
    def wedge(self) -> float:
        """The correlation in the wedge, by which tables are sorted."""
        return float(self.cells["wedge"].split()[0])


def _pair(known: dict[str, float | None]) -> str:
    return " / ".join("-" if known[part] is None else f"{known[part]:.2f}" for part in ("wedge", "measured"))


def write_results(out: Path, path: Path) -> None:
    """Put the rows of ``out`` into the tables between the marks of a Markdown file. What else it says is kept, and so are rows of
    other sittings; those of the same row and minutes give way.
    """
    mark = "<!-- tables -->"
    before, between, after = "", "", ""
    if path.exists() and path.read_text().count(mark) == 2:
        before, between, after = path.read_text().split(mark)
    tables = written(between)
    for data, groups in rows_in(out).items():
        for group in groups:
            line = Line(dict(zip(COLUMNS, cells(group), strict=True)), _how(group))
            tables[data][line.key] = line
    text = "\n".join(part for data in sorted(tables) for part in _section(data, list(tables[data].values())))
    path.write_text(f"{before}{mark}\n{text}{mark}{after}")


def written(text: str) -> dict[str, dict[tuple[str, str, str], Line]]:
    """The rows of tables that ``write_results`` wrote, by data set. Columns that they lack, being older, are filled with '-'."""
    tables: dict[str, dict[tuple[str, str, str], Line]] = defaultdict(dict)
    for section in text.split("### ")[1:]:
        lines = section.splitlines()
        header, _, *rows = (_split(line) for line in lines if line.startswith("|"))
        hows = [line for line in lines if line.startswith("- ")]
        for values, how in zip(rows, hows, strict=True):
            named = dict(zip(header, values, strict=True))
            # Before there was the column, all that was trained was trained on a CPU.
            on = "-" if named["min"] == "-" else "CPU"
            line = Line(dict.fromkeys(COLUMNS, "-") | {"on": on} | named, how)
            tables[lines[0]][line.key] = line
    return tables


def _split(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def _section(data: str, lines: list[Line]) -> list[str]:
    lines.sort(key=lambda line: -line.wedge)
    return [
        f"### {data}",
        "",
        f"| {' | '.join(COLUMNS)} |",
        f"| {' | '.join('---' for _ in COLUMNS)} |",
        *(f"| {' | '.join(line.cells[column] for column in COLUMNS)} |" for line in lines),
        "",
        "Wedge by shell (0.01-0.05, -0.1, -0.15, -0.2, -0.3 cycles per voxel), wedge / measured by cone about "
        "the beam, and how each row was made:",
        "",
        *(line.how for line in lines),
        "",
    ]


def _how(group: list[dict[str, Any]]) -> str:
    first = group[0]
    cones = ", ".join(f"{name}° {_pair(known)}" for name, known in (first.get("cones") or {}).items())
    shells = ", ".join(f"{value:.2f}" for value in first["wedge_by_shell"])
    seeds = ", ".join(str(r["seed"]) for r in group)
    figures = f"[{shells}] ({cones})" if cones else f"[{shells}]"
    return (
        f"- `{first['row']}` {figures}: {first['about']}; `{first['command']}`, seed {seeds}, commit {first['commit']}, "
        f"torch {first['torch']} on {first['device']}, {first['total_s']:.0f} s of the clock"
    )
