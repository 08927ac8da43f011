"""Tables of an evaluation with cells of text, for the report and for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cryovae.aliases import current_settings
from cryovae.evaluation.assessment import Row
from cryovae.evaluation.calibration import NOMINAL, Calibration
from cryovae.evaluation.fsc import LEVELS, Correlation
from cryovae.report.contents import Contents
from cryovae.report.sentences import resolution

FSC_LEVELS = [f"FSC {level:g}" for level in LEVELS]
PARTS = {"volume": "whole volume", "measured": "measured part", "wedge": "missing wedge"}


@dataclass(frozen=True)
class Table:
    """A table of text cells.

    Attributes:
        head: Title of each column.
        rows: Cells of each row.
        title: Line above the table.
        note: Line below the table.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    title: str = ""
    note: str = ""


def number(value: float | None, digits: int = 2) -> str:
    """A number with ``digits`` decimal places; a dash for None and nan."""
    return "–" if value is None or value != value else f"{value:.{digits}f}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _resolutions(curve: Correlation, voxel_size: float) -> list[str]:
    return [resolution(curve, voxel_size, level) for level in LEVELS]


def baselines(contents: Contents) -> list[Table]:
    """Scores of the restored density and the baselines: against the truth, on held-out bins, and between the halves."""
    low, high = contents.assessment.limits
    band = f"{low:g} to {high:g} cycles per voxel"
    if low > 0:
        band += f", {contents.voxel_size / low:.0f} to {contents.voxel_size / high:.0f} Å"
    against_truth = _scores(contents.assessment.rows, contents.voxel_size, f"Correlation with the truth, {band}")
    halves = _scores(contents.assessment.halves, contents.voxel_size, f"Correlation of one half with the other, {band}")
    halves = [replace(table, note=" ".join(filter(None, (table.note, _of_halves(contents))))) for table in halves]
    return [*against_truth, _held_out(contents, band), *halves]


def _of_halves(contents: Contents) -> str:
    """What to say of the wedge of restored halves; empty if there are none."""
    if not contents.tilts.has_wedge or all(row.name != "restored" for row in contents.assessment.halves):
        return ""
    return contents.headline.of_halves()


def _scores(rows: Sequence[Row], voxel_size: float, title: str) -> list[Table]:
    """A table of scores; empty if there are no rows."""
    if not rows:
        return []
    head = [""]
    for part in ("wedge", "measured"):
        head += [part, *(f"{part}, {level}" for level in FSC_LEVELS)]
    cells = []
    for row in rows:
        curves = (row.score.wedge, row.score.measured)
        cells.append(
            [row.name, *(cell for curve in curves for cell in (number(curve.band, 3), *_resolutions(curve, voxel_size)))]
        )
    recipes = [row.recipe for row in rows if row.recipe]
    return [Table(head, cells, title, f"Low-pass and clipping, the best of a few: {recipes[0]}." if recipes else "")]


def _held_out(contents: Contents, band: str) -> Table:
    held, clipping = contents.held_out, contents.assessment.clipping
    missing = "not available: no patches were held out of training, or none were scored"
    predicted = missing if held is None or held.correlation is None else number(held.correlation, 3)
    rows = [
        ["restored, on held-out patches", predicted, number(None if held is None else held.highest_correlation, 3)],
        ["untouched input", "0 (it has no held-out bins)", "–"],
    ]
    note = ""
    if clipping is not None:
        rows.append(["low-pass and clipping, on the middle of the volume", number(clipping.correlation, 3), "–"])
        note = f"Low-pass and clipping, the best of a few: {clipping.recipe}, {band}."
    return Table(["", "correlation", "highest that the noise allows"], rows, "Correlation with held-out measured data", note)


def cones(contents: Contents) -> Table | None:
    """Correlation of the restored density with the truth, by direction."""
    rows = []
    for cone in contents.assessment.cones:
        bands = [number(curve.band, 3) for curve in (cone.all_bins, cone.wedge, cone.measured)]
        rows.append([f"{cone.low:g}° to {cone.high:g}°", *bands, *_resolutions(cone.all_bins, contents.voxel_size)])
    head = ["angle to the beam", "all bins", "wedge", "measured", *(f"all, {level}" for level in FSC_LEVELS)]
    return Table(head, rows, "Correlation of the restored tomogram with the truth by direction") if rows else None


def calibration(contents: Contents) -> Table | None:
    """Calibration of the standard deviation: against the truth by part, and on held-out bins."""
    head = ["", "rms error / std", *(f"{_percent(share)} covers" for share in NOMINAL)]
    head += ["slope", "offset (grey values)", "CRPS (grey values)", "CRPS / mean abs. error"]
    unknown = ["needs samples", *["–"] * (len(head) - 2)]
    parts = contents.assessment.calibration.items()
    note = "Parts need samples: restore with --samples-out." if None in contents.assessment.calibration.values() else ""
    rows = [[f"{PARTS[part]}, truth", *(unknown if fit is None else _calibration(fit))] for part, fit in parts]
    held = contents.held_out
    if held is not None:
        covered = [_percent(held.coverage[share]) if share in held.coverage else "–" for share in NOMINAL]
        rows.append(["held-out bins, data", number(held.rms_over_std_fitted), *covered, *["–"] * 4])
    ideal = ["calibrated", "1", *(_percent(share) for share in NOMINAL), "1", "0", "–", "about 0.7"]
    return Table(head, [*rows, ideal], "Calibration of the standard deviation", note) if rows else None


def _calibration(fit: Calibration) -> list[str]:
    line = fit.reliability
    slope = ["–", "–"] if line.slope != line.slope else [f"{line.slope:.2f}", f"{line.offset:.2g}"]
    covered = [_percent(share) for share in fit.coverage.values()]
    return [f"{fit.error_ratio:.2f}", *covered, *slope, f"{fit.crps:.3g}", f"{fit.crps_share:.2f}"]


def predictive(contents: Contents) -> Table | None:
    """Chi squared, the factor two, and the number of bins and patches tested."""
    held = contents.held_out
    if held is None:
        return None
    rows = [
        ["predictive chi² over the band (1 if calibrated)", number(held.chi2_band)],
        ["rms error / std before it was scaled to these bins", number(held.rms_over_std)],
        ["squared error of a sample over that of the mean, before that (2 if calibrated)", number(held.factor_two)],
        ["held-out bins", "–" if held.bins is None else f"{held.bins:,}"],
        ["patches", "–" if held.patches is None else f"{held.patches:,}"],
        ["the patches were used in training too", "yes" if held.trained_on else "no"],
    ]
    return Table(["on held-out bins", ""], rows)


def active_units(record: Mapping[str, Any]) -> Table | None:
    """Number of active latent channels, by level."""
    places = [record, record.get("training") or {}, record.get("restoration") or {}]
    units = next((place["active_units"] for place in places if place.get("active_units")), None)
    if not units:
        return None
    pairs = units.items() if isinstance(units, dict) else enumerate(units) if isinstance(units, list) else [("all", units)]
    return Table(["level", "active units"], [[str(level), _plain(count)] for level, count in pairs])


def inputs(record: Mapping[str, Any]) -> Table | None:
    """Input files with their checksums."""
    files = (record.get("inputs") or {}).items()
    rows = [[role, str(known.get("path")), str(known.get("sha256"))] for role, known in files]
    return Table(["input", "file", "SHA-256"], rows) if rows else None


def record(record: Mapping[str, Any]) -> list[Table]:
    """Timings, versions and settings of a run; empty without a record."""
    if not record:
        return []
    training, restored = record.get("training") or {}, record.get("restoration") or {}
    rows = {
        "started": record.get("started"),
        "seed": record.get("seed"),
        "model": record.get("model") or "trained here",
        "begun with": (record.get("start") or {}).get("name"),
        "training (s)": training.get("seconds"),
        "training steps": training.get("steps"),
        "restoring (s)": restored.get("seconds"),
        "steps of the model": restored.get("steps_of_model"),
    }
    rows |= {f"{part} (s)": seconds for part, seconds in (training.get("seconds_by_part") or {}).items()}
    rows |= {name.replace("_", " "): value for name, value in (restored.get("figures") or {}).items()}
    columns = {
        "run": rows,
        "version": record.get("versions") or {},
        "setting": _flat(current_settings(record.get("config") or {})),
    }
    return [Table([title, ""], [[name, _plain(value)] for name, value in pairs.items()]) for title, pairs in columns.items()]


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested dictionary with keys such as training.steps."""
    pairs: dict[str, Any] = {}
    for key, value in config.items():
        pairs |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return pairs


def _plain(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
