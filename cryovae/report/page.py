"""Puts a report distributed_command: one HTML file with its figures inside, written whole or not at all."""

from __future__ import annotations

import base64
import io
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from string import Template
from typing import Any

import matplotlib.pyplot as plt

from cryovae import __version__
from cryovae.evaluate.fsc import LEVELS
from cryovae.io.atomic import write_text
from cryovae.report import curves, slices, tables, words
from cryovae.report.contents import Contents
from cryovae.tomogram import TiltGeometry

DPI = 110

PAGE = Template("""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>$name, restored by cryovae</title>
<style>
body { font: 15px/1.45 system-ui, sans-serif; color: #1a1a1a; max-width: 1400px; margin: 1em auto; padding: 0 1em; }
h1 { font-size: 1.5em; margin: 0 0 .3em; } h2 { font-size: 1.15em; margin: 1.8em 0 .4em; border-bottom: 1px solid #bbb; }
.verdict { background: #f2f5f9; border-left: 4px solid #3465a4; padding: .6em 1em; font-size: 1.07em; }
.verdict p { margin: .25em 0; }
.cards { display: flex; flex-wrap: wrap; gap: .6em; margin: .8em 0; }
.card { border: 1px solid #ccc; border-radius: 4px; padding: .35em .8em; flex: 1 1 8em; }
.card b { display: block; font-size: 1.25em; } .card span { color: #555; font-size: .85em; }
img { max-width: 100%; height: auto; } figure { margin: .6em 0; } figcaption { color: #555; font-size: .88em; }
.table { margin: .9em 0; } h4 { margin: 0 0 .2em; font-size: .95em; } .small { color: #555; font-size: .88em; margin: .2em 0; }
table { border-collapse: collapse; font-size: .88em; } code, .files td + td { overflow-wrap: anywhere; }
th, td { border-bottom: 1px solid #ddd; padding: .2em .8em .2em 0; text-align: left; vertical-align: top; }
.beside { display: flex; flex-wrap: wrap; gap: 0 2.5em; align-items: flex-start; }
@media screen and (min-width: 1000px) {
  .top { display: grid; grid-template-columns: 2fr 3fr; gap: 1.5em; } .top img { max-height: 90vh; } .top figure { margin: 0; }
}
@media print {
  body { max-width: none; margin: 0; padding: 0; font-size: 9.5pt; } h1 { margin-top: 0; } h2, h3, h4 { break-after: avoid; }
  .verdict { padding: .3em .8em; } .card { padding: .2em .6em; }
  .card b { font-size: 1.1em; } .card span { font-size: .8em; } .card { flex: 1 1 6em; }
  .first { text-align: center; } .first img { max-height: 138mm; }
  figure, .table, .verdict, .cards { break-inside: avoid; } .beside .table { break-inside: auto; }
  .beside { display: block; columns: 2; }
  @page { size: A4; margin: 13mm; }
}
</style></head><body>
$body
<p class="small">Written by cryovae $version, $date.</p>
</body></html>
""")


def write_report(path: Path, contents: Contents) -> None:
    """Write report.html; nothing in it is loaded from elsewhere."""
    write_text(path, page(contents))


def page(contents: Contents) -> str:
    """The whole HTML of a report."""
    sections = [_first_screen(contents), *_sections(contents)]
    date = datetime.now(UTC).isoformat(timespec="minutes")
    return PAGE.substitute(name=escape(contents.name), body="\n".join(sections), version=__version__, date=date)


def _tilted(contents: Contents) -> str:
    """The tilts in words, of both axes where there are two."""
    tilts = contents.tilts
    if tilts == TiltGeometry(tilts.angles) and len(tilts.ranges) == 1:
        return f"tilts {tilts.lowest:g}° to {tilts.highest:g}°"
    return "; second axis: ".join(axis.words for axis in tilts.axes)


def _first_screen(contents: Contents) -> str:
    said = "".join(f"<p>{escape(sentence)}</p>" for sentence in words.verdict(contents))
    cards = "".join(f'<div class="card"><b>{escape(v)}</b><span>{escape(n)}</span></div>' for n, v in _cards(contents))
    nz, ny, nx = contents.after.shape
    about = f"{nx} × {ny} × {nz} voxels (x, y, z) of {contents.voxel_size:.4g} Å, {_tilted(contents)}"
    caption = (
        "Slices through the middle of the volume, the beam along z, the tilt axis along y; input and restored on one grey scale, "
        "nothing else done to either. Bright in the standard deviation: the model is not sure there."
    )
    title = f"<h1>{escape(contents.name)}, restored</h1><p>{about}.</p>"
    figures = f'<div class="verdict">{said}</div><div class="cards">{cards}</div>'
    pictures = f'<div class="first">{_shown(slices.orthoslices(contents), caption)}</div>'
    return f'<div class="top"><div>{title}{figures}</div>{pictures}</div>'


def _cards(contents: Contents) -> list[tuple[str, str]]:
    """Figures for the first screen, with what they are."""
    found, held, size = contents.assessment, contents.held_out, contents.voxel_size
    cards: list[tuple[str, str]] = []
    low, high = f"{LEVELS[0]:g}", f"{LEVELS[1]:g}"
    if found.rows:
        score = found.rows[0].score
        parts = [("wedge", score.wedge)] if contents.tilts.has_wedge else []
        for part, curve in (*parts, ("measured part", score.measured)):
            finer = words.detail(curve, size, LEVELS[1])
            cards.append((f"{part}, FSC {low} with the truth (FSC {high}: {finer})", words.detail(curve, size, LEVELS[0])))
    if held is not None and held.filled_to(size) is not None:
        cards.append(("hidden detail recovered to", words.length(held.filled_to(size), size)))
    untouched = [row.score for row in found.halves if row.name.startswith("untouched")]
    if untouched:
        # Not of the restored halves: they share a model, and agree beyond what the data hold.
        score = untouched[0]
        cards.append((f"measured part, FSC {high} of the input's halves", words.detail(score.measured, size, LEVELS[1])))
    if held is not None and held.correlation is not None:
        possible = "" if held.possible is None else f" of {held.possible:.2f}"
        cards.append(("correlation with hidden measured data", f"{held.correlation:.2f}{possible}"))
    filled = ((contents.record.get("restoration") or {}).get("figures") or {}).get("wedge_energy_ratio")
    if not cards and filled is not None and contents.tilts.has_wedge:
        cards.append(("power in the wedge, of that in the measured part, bin by bin", f"{100 * filled:.0f} %"))
    fit = words.spread(contents)
    if fit is not None:
        cards.append((f"rms error / std{fit.part}, {fit.against}; 1 is calibrated", f"{fit.ratio:.2f}"))
    return cards


def _sections(contents: Contents) -> list[str]:
    spectrum = (
        "Power in the k_z-k_x plane, at right angles to the tilt axis, averaged over y. Between the dashed lines about the beam "
        "nothing was measured; what the restored tomogram shows there was filled in."
        if contents.tilts.has_wedge
        else "Power in the k_z-k_x plane, averaged over y. There is no wedge."
    )
    held = contents.held_out
    hidden = _said(
        ""
        if held is not None
        else "Held-out figures: not available, as there was no room for held-out patches, or they were not scored."
    )
    trained = curves.training(contents)
    course = _shown(trained, "Terms of the bound and held-out gain; level 0 of the latents is the finest.")
    return [
        "<h2>Power spectra</h2>" + _shown(slices.spectra(contents), spectrum),
        "<h2>Resolution</h2>" + hidden + _shown(curves.correlations(contents), _legend(contents))
        + tables.cones(contents) + _said(_halves(contents)),
        "<h2>Beside answers that cost nothing</h2>" + "".join(tables.baselines(contents)),
        "<h2>Error bars</h2>" + _calibration(contents) + f"<h3>What they are conditional on</h3>{_said(words.CONDITIONAL)}",
        "<h2>Training</h2>" + (course or _said("Loss and KL: not available, no metrics.csv of this model is at hand."))
        + tables.active_units(contents.record),
        "<h2>Record</h2>" + "".join(tables.record(contents)),
    ]  # fmt: skip


def _halves(contents: Contents) -> str:
    """What the FSC of restored halves is worth, if there is one."""
    return words.HALVES if any(row.name == "restored" for row in contents.assessment.halves) else ""


def _legend(contents: Contents) -> str:
    """What the FSC curves need to be read."""
    said = ["Wedge in red, measured part in blue."] if contents.assessment.rows or contents.assessment.halves else []
    if contents.held_out is not None:
        said.append("Hidden data are noisy, and nothing can correlate with them better than the dashed ceiling, but for chance.")
    return " ".join(said)


def _calibration(contents: Contents) -> str:
    shown = _shown(
        curves.calibrations(contents), "Coverage under the diagonal and errors over it mean error bars that are too small."
    )
    said = tables.calibration(contents) + tables.predictive(contents)
    if not said:
        return _said("Not checked: there were no held-out patches, and no truth was given.")
    pairs = contents.assessment.pairs
    samples = f" The standard deviations of the parts come from {pairs} pair{'s' if pairs > 1 else ''} of samples, smoothed."
    return shown + said + (_said(samples) if contents.assessment.calibration and pairs else "")


def _said(text: str) -> str:
    return f"<p>{escape(text)}</p>" if text else ""


def _shown(figure: Any | None, caption: str) -> str:
    """A figure as an inline PNG; nothing for none."""
    if figure is None:
        return ""
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=DPI, format="png", bbox_inches="tight")
    plt.close(figure)
    data = base64.b64encode(buffer.getvalue()).decode()
    said = escape(caption)
    return f'<figure><img alt="{said}" src="data:image/png;base64,{data}"><figcaption>{said}</figcaption></figure>'
