"""Creation of report.html from its template: one file with embedded figures, which loads no other files.

The template contains all fixed text and escapes every value; this module only prepares the values.
"""

from __future__ import annotations

import base64
import io
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure

from cryovae import __version__
from cryovae.checkpoint import BASE_LADDER
from cryovae.evaluation.fsc import LEVELS
from cryovae.io.atomic import write_text
from cryovae.report import curves, sentences, slices, tables
from cryovae.report.contents import Contents
from cryovae.tomogram import TiltGeometry

DPI = 110


def write_report(path: Path, contents: Contents) -> None:
    """Write a report to a file, atomically."""
    write_text(path, page(contents))


def page(contents: Contents) -> str:
    """The HTML of a report."""
    environment = Environment(
        loader=PackageLoader("cryovae.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        keep_trailing_newline=True,
    )  # fmt: skip
    return environment.get_template("report.html").render(
        contents=contents,
        tilts=_tilts(contents.tilts),
        verdict=sentences.verdict(contents),
        findings=contents.findings,
        measured="measured" in _outputs(contents.record),
        cards=_cards(contents),
        orthoslices=_picture(slices.orthoslices(contents)),
        spectra=_picture(slices.spectra(contents)),
        correlations=_picture(curves.correlations(contents)),
        calibrations=_picture(curves.calibrations(contents)),
        training=_picture(curves.training(contents.metrics)),
        beside=_picture(None if contents.beside is None else slices.beside(contents.beside)),
        cones=tables.cones(contents),
        baselines=tables.baselines(contents),
        calibration=tables.calibration(contents),
        predictive=tables.predictive(contents),
        active_units=tables.active_units(contents.record),
        inputs=tables.inputs(contents.record),
        record=tables.record(contents.record),
        source=_learned_from(contents.record),
        version=__version__,
        date=datetime.now(UTC).isoformat(timespec="minutes"),
    )


def _learned_from(record: dict[str, Any]) -> str:
    """From what the filling of the wedge was learned, by the record of the run."""
    own, start = "from the measured directions of the same data", (record.get("start") or {}).get("name")
    simulated = "from simulated scenes, on which the network of the package was trained"
    if record.get("model"):
        is_base = Path(str(record["model"])).parts[-2:] == BASE_LADDER.parts[-2:]
        return simulated if is_base else "from the data on which the model was trained"
    if start is None:
        return own
    return f"{own}, and {simulated if start == 'base' else 'from the data on which its start was trained'}"


def _outputs(record: dict[str, Any]) -> list[str]:
    """What was written beside the mean, by the record of the run."""
    return list(((record.get("config") or {}).get("restoration") or {}).get("outputs") or [])


def _picture(figure: Figure | None) -> str:
    """A figure as the data URI of a PNG; empty for None."""
    if figure is None:
        return ""
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=DPI, format="png", bbox_inches="tight")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _tilts(tilts: TiltGeometry) -> str:
    """The tilts in words, of both axes if there are two."""
    if tilts == TiltGeometry(tilts.angles) and len(tilts.ranges) == 1:
        return f"tilts {tilts.lowest:g}° to {tilts.highest:g}°"
    return "; second axis: ".join(axis.words for axis in tilts.axes)


def _cards(contents: Contents) -> list[tuple[str, str]]:
    """The main numbers, as pairs of a label and a value."""
    assessment, held, size = contents.assessment, contents.held_out, contents.voxel_size
    cards: list[tuple[str, str]] = []
    if assessment.rows:
        score = assessment.rows[0].score
        parts = [("wedge", score.wedge)] if contents.tilts.has_wedge else []
        for part, curve in (*parts, ("measured part", score.measured)):
            low, high = (sentences.resolution(curve, size, level) for level in LEVELS)
            cards.append((f"{part}, FSC {LEVELS[0]:g} with the truth (FSC {LEVELS[1]:g}: {high})", low))
    if held is not None and (recovered := held.resolution(size)) is not None:
        cards.append(("held-out signal recovered to", sentences.length(recovered, size)))
    # The resolution of the restored halves is not shown: they share a model, so their agreement exceeds that of the data.
    cards += [
        (f"measured part, FSC {LEVELS[1]:g} of the input halves", sentences.resolution(row.score.measured, size, LEVELS[1]))
        for row in assessment.halves
        if row.name == "untouched input"
    ]
    if contents.headline.figure:
        cards.append(("correlation with held-out measured data", contents.headline.figure))
    ratio = ((contents.record.get("restoration") or {}).get("figures") or {}).get("wedge_energy_ratio")
    if not cards and ratio is not None and contents.tilts.has_wedge:
        cards.append(("power per bin in the wedge, relative to the measured part", f"{100 * ratio:.0f} %"))
    bars = sentences.error_bars(contents)
    if bars is not None:
        cards.append((f"rms error / std{bars.part}, {bars.against}; 1 is calibrated", f"{bars.ratio:.2f}"))
    return cards
