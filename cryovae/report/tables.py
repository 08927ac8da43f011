"""The tables of a report, as HTML; every text that comes from a file or a user is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from cryovae.evaluate.calibration import NOMINAL
from cryovae.evaluate.fsc import LEVELS, Correlation, resolution_at
from cryovae.evaluate.report import Row
from cryovae.report.contents import Contents
from cryovae.report.words import calibration_words, length

REACHED = [f"FSC {level:g}" for level in LEVELS]
PARTS = {"whole": "whole volume", "measured": "measured part", "wedge": "missing wedge"}


def table(head: Sequence[str], rows: Iterable[Sequence[str]], title: str = "", note: str = "") -> str:
    """A table of text cells, with a title over it and a note under it."""
    over = f"<h4>{escape(title)}</h4>" if title else ""
    under = f'<p class="small">{escape(note)}</p>' if note else ""
    titles = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="table">{over}<table><thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table>{under}</div>'


def number(value: float | None, digits: int = 2) -> str:
    """A figure, or a dash where there is none."""
    return "–" if value is None or value != value else f"{value:.{digits}f}"


def _reached(curve: Correlation, voxel_size: float) -> list[str]:
    return [length(resolution_at(curve.frequency, curve.shells, voxel_size, level), voxel_size) for level in LEVELS]


def baselines(contents: Contents) -> list[str]:
    """The restored beside the untouched input and clipping: against the truth, on hidden bins, and of the halves."""
    found, size = contents.assessment, contents.voxel_size
    low, high = (limit / size for limit in found.limits)
    band = f"{found.limits[0]:g} to {found.limits[1]:g} cycles per voxel, {1 / low:.0f} to {1 / high:.0f} Å" if low > 0 else ""
    tables = []
    if found.rows:
        tables.append(_scores(found.rows, size, f"Correlation with the truth, {band}"))
    tables.append(_hidden(contents, band))
    if found.halves:
        tables.append(_scores(found.halves, size, f"Correlation of one half with the other, {band}"))
    return tables


def _scores(rows: list[Row], voxel_size: float, title: str) -> str:
    head = ["", "wedge", *(f"wedge, {name}" for name in REACHED), "measured", *(f"measured, {name}" for name in REACHED)]
    cells = []
    for row in rows:
        wedge, measured = row.score.wedge, row.score.measured
        parts = [[number(curve.band, 3), *_reached(curve, voxel_size)] for curve in (wedge, measured)]
        cells.append([row.name.partition(":")[0], *parts[0], *parts[1]])
    return table(head, cells, title, _recipe(rows))


def _recipe(rows: list[Row]) -> str:
    """What clipping did, in a line."""
    recipes = [row.name.partition(": ")[2] for row in rows if ": " in row.name]
    return f"Low-pass and clipping, the best of a few: {recipes[0]}." if recipes else ""


def _hidden(contents: Contents, band: str) -> str:
    held, clipped = contents.held_out, contents.assessment.calibration_result
    none = "not available: no patches were held out of training, or none were scored"
    restored = none if held is None or held.correlation is None else number(held.correlation, 3)
    possible = "–" if held is None else number(held.possible, 3)
    rows = [["restored, on held-out patches", restored, possible]]
    rows.append(["untouched input", "0 (the hidden bins are empty in it)", "–"])
    note = ""
    if clipped is not None:
        rows.append(["low-pass and clipping, on the middle of the volume", number(clipped.correlation, 3), "–"])
        note = f"Low-pass and clipping, the best of a few: {clipped.recipe}, {band}."
    return table(
        ["", "correlation", "highest that the noise allows"], rows, "Correlation with measured data that were hidden", note
    )


def cones(contents: Contents) -> str:
    """The restored against the truth by direction to the beam."""
    rows = []
    for cone in contents.assessment.cones:
        bands = [number(getattr(cone, part).band, 3) for part in ("whole", "wedge", "measured")]
        rows.append([f"{cone.low:g}° to {cone.high:g}°", *bands, *_reached(cone.whole, contents.voxel_size)])
    head = ["directions off the beam", "all bins", "wedge", "measured", *(f"all, {name}" for name in REACHED)]
    return table(head, rows, "Correlation of the restored tomogram with the truth by direction") if rows else ""


def calibration(contents: Contents) -> str:
    """Against the truth by part, and on hidden bins, in one table."""
    head = ["", "rms error / std", *(f"{100 * share:.0f} % covers" for share in NOMINAL)]
    head += ["slope", "offset (grey values)", "CRPS (grey values)", "CRPS / mean abs. error"]
    rows = []
    for part, known in contents.assessment.calibration.items():
        if known is None:
            rows.append([f"{PARTS[part]}, truth", "needs samples: --samples-out", *["–"] * (len(head) - 2)])
        else:
            rows.append([f"{PARTS[part]}, truth", *calibration_words(known)])
    held = contents.held_out
    if held is not None:
        covered = [f"{100 * held.coverage[share]:.0f} %" if share in held.coverage else "–" for share in NOMINAL]
        rows.append(["hidden bins, data", number(held.rms_over_std), *covered, *["–"] * 4])
    rows.append(["calibrated", "1", *(f"{100 * share:.0f} %" for share in NOMINAL), "1", "0", "–", "about 0.7"])
    return table(head, rows, "Calibration of the standard deviation") if len(rows) > 1 else ""


def predictive(contents: Contents) -> str:
    """chi2, the factor 2, and how much was tested."""
    held = contents.held_out
    if held is None:
        return ""
    rows = [
        ["predictive chi² over the band (1 if calibrated)", number(held.chi2_band)],
        ["error of a sample over error of the mean, squared (2 if calibrated)", number(held.factor_two)],
        ["hidden bins", "–" if held.bins is None else f"{held.bins:,}"],
        ["patches", "–" if held.patches is None else f"{held.patches:,}"],
        ["those patches were trained on", "yes" if held.trained_on else "no"],
    ]
    return table(["on hidden bins", ""], rows)


def active_units(record: dict[str, Any]) -> str:
    """Latent channels in use, by level, if the record has them."""
    places = [record, record.get("training") or {}, record.get("restoration") or {}]
    found = next((place["active_units"] for place in places if place.get("active_units")), None)
    if not found:
        return "<p>Active units of the latents: not available, the record has none.</p>"
    pairs = found.items() if isinstance(found, dict) else enumerate(found) if isinstance(found, list) else [("all", found)]
    return table(["level", "active units"], [[str(level), _plain(units)] for level, units in pairs])


def record(contents: Contents) -> list[str]:
    """Inputs with checksums, timings and versions, and the configuration."""
    about = contents.record
    training, restored = about.get("training") or {}, about.get("restoration") or {}
    inputs = [[role, str(known.get("path")), str(known.get("sha256"))] for role, known in (about.get("inputs") or {}).items()]
    times = [
        ["started", str(about.get("started", "–"))],
        ["seed", str(about.get("seed", "–"))],
        ["model", str(about.get("model") or "trained here")],
    ]
    times += [["training (s)", _plain(training.get("seconds"))], ["training steps", _plain(training.get("steps"))]]
    times += [["restoring (s)", _plain(restored.get("seconds"))], ["steps of the model", _plain(restored.get("steps_of_model"))]]
    times += [[f"{part} (s)", _plain(spent)] for part, spent in (training.get("seconds_by_part") or {}).items()]
    times += [[name.replace("_", " "), _plain(value)] for name, value in (restored.get("figures") or {}).items()]
    versions = [[name, str(version)] for name, version in (about.get("versions") or {}).items()]
    settings = [[key, _plain(value)] for key, value in _flat(about.get("config") or {})]
    command = " ".join(map(str, about.get("arguments") or []))
    found = (
        [f'<div class="files">{table(["input", "file", "SHA-256"], inputs)}</div>']
        if inputs
        else ["<p>No run.json beside this volume.</p>"]
    )
    if command:
        found.append(f"<p>Command: <code>cryovae {escape(command)}</code></p>")
    pieces = [table(["run", ""], times), table(["version", ""], versions), table(["setting", ""], settings)]
    return [*found, f'<div class="beside">{"".join(pieces)}</div>'] if about else found


def _flat(config: dict[str, Any], before: str = "") -> list[tuple[str, Any]]:
    pairs: list[tuple[str, Any]] = []
    for key, value in config.items():
        pairs += _flat(value, f"{before}{key}.") if isinstance(value, dict) else [(f"{before}{key}", value)]
    return pairs


def _plain(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
