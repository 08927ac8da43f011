"""cryovae diagnose: the figures of a model as a table, diagnosis.json and diagnosis.png."""

from __future__ import annotations

import json
import sys
import textwrap
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from cryovae.errors import InputError
from cryovae.evaluate.diagnosis.diagnose import Diagnosis, DiagnosisConfig, Figure, Split, as_plain, diagnose, predict
from cryovae.evaluate.diagnosis.gaussian import error_power, signal_power
from cryovae.evaluate.diagnosis.patches import Chosen, chosen, measured, training_patches
from cryovae.evaluate.diagnosis.place import rate_in_plane
from cryovae.evaluate.diagnosis.verdicts import information_words, verdicts
from cryovae.io.atomic import write_text
from cryovae.models.ladder import Q, R
from cryovae.posterior.codes import fast_convolutions
from cryovae.report.diagnosis_figures import diagnosis_picture
from cryovae.workflows.diagnose_inputs import Diagnosed, diagnosed_run
from cryovae.workflows.progress import Watch

JSON, PICTURE = "diagnosis.json", "diagnosis.png"
# Colours of q and r are the picture's; a table has words.
POSTERIORS = {"q": "q (sees all that was measured)", "r": "r (the canonical wedge removed)"}


def diagnose_run(
    run: Path,
    output: Path | None,
    patches: int,
    config: DiagnosisConfig,
    voxel_size: float | None,
    device: torch.device,
    overwrite: bool,
) -> Path:
    """Diagnose the model of a run, print what is found, and write it; returns the picture's path."""
    where = output or run
    for name in (JSON, PICTURE):
        if (where / name).exists() and not overwrite:
            raise InputError(f"{where / name} is there already: pass --overwrite, or another folder with -o")
    opened = diagnosed_run(run, voxel_size, device)
    ladder, side = opened.checkpoint.ladder, opened.checkpoint.patch
    which = chosen(opened.prepared, side, patches, config.seed)
    m = measured(opened.prepared, which, side, ladder if opened.fills else None).to(device)
    seen = training_patches(opened.prepared, side, config.seed, ladder if opened.fills else None).to(device)
    # Of a few patches torch is several times slower than oneDNN.
    with Watch("diagnosing", 1) as progress, fast_convolutions():
        found = diagnose(
            ladder,
            m,
            signal_power(seen),
            error_power(seen, predict(ladder, seen)),
            opened.checkpoint.encoders,
            config,
            lambda done, total, what: progress.update(done, what, total),
        )
    role = Q if opened.checkpoint.encoders == 2 else R
    with Watch("mapping the nats, tiles", 1) as progress, fast_convolutions():
        plane = rate_in_plane(
            ladder, opened.prepared, side, role, opened.fills, lambda done, total: progress.update(done, "", total)
        )
    said = verdicts(found, opened.checkpoint.encoders)
    about = _about(opened, which)
    print_diagnosis(found, about, said)
    record = {"run": str(run), "name": opened.name, "judged_on": about, "settings": asdict(config), "verdicts": said}
    record |= {"units": "nats a measured coefficient, unless a name says otherwise"} | as_plain(found)
    where.mkdir(parents=True, exist_ok=True)
    write_text(where / JSON, json.dumps(_finite(record), indent=1, allow_nan=False))
    diagnosis_picture(where / PICTURE, found, plane, opened.voxel_size, f"{opened.name}: {about}")
    return where / PICTURE


def _about(opened: Diagnosed, which: Chosen) -> str:
    """Of what the figures are, in words."""
    count, places = len(which.rotation_indices), len(set(which.positions))
    if opened.foreign:
        kind = "of a tomogram that the model was not trained on"
    elif which.held_out:
        kind = "held out of training"
    else:
        kind = "that the model was TRAINED ON, as no patch is held out of so small a tomogram: all figures flatter it"
    rotated = f", {places} places under several rotations" if places < count else ""
    return f"{count} patches of {opened.checkpoint.patch} voxels{rotated}, {kind}{_flow(opened)}"


def _flow(opened: Diagnosed) -> str:
    strides = [str(2**level) for level in opened.checkpoint.ladder.config.pushed]
    pushed = "q" if opened.checkpoint.encoders == 2 else "r"
    return f"; {pushed} is pushed by a flow at strides {', '.join(strides)}, where its nats are by draws" if strides else ""


def _finite(value: Any) -> Any:
    """JSON knows no NaN: the error of a single patch is null."""
    if isinstance(value, dict):
        return {str(key): _finite(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and value - value != 0 else value


def print_diagnosis(found: Diagnosis, about: str, said: list[str]) -> None:
    """Tables of the bounds and of the levels, and the verdicts."""
    console = Console(width=None if sys.stdout.isatty() else 120)
    print(about)
    console.print(_bounds(found))
    for role, parts in found.levels.items():
        table = Table(title=f"latents of {POSTERIORS[role]}")
        for column in ("stride", "rate", "nats a patch", "by the mean", "active channels", "information", "shuffled"):
            table.add_column(column, justify="right")
        rates = (found.q if role == "q" and found.q else found.r).rates
        for part in parts:
            lost = found.shuffled[role][part.level]
            table.add_row(
                str(2**part.level),
                f"{rates[part.level]:.4f}",
                f"{part.rate:.0f}",
                f"{part.rate_of_mean:.3g}",
                f"{part.active} of {len(part.variance)}",
                information_words(part, found.patches),
                _words(lost),
            )
        console.print(table)
    print(
        "rate: nats a measured coefficient; by the mean: of the nats a patch, what the distance of the mean from the prior's "
        "costs, the rest\nis the price of being narrower. information: nats a patch, between the minibatch estimate, at most the "
        "logarithm of the number of\npatches ('full': they are told apart, and that is all it can say), and the KL to one fitted "
        "Gaussian a channel. shuffled: what it\ncosts to give each patch another's latents of that level, nats a coefficient: of "
        "q all measured ones, of r those hidden from it.\n"
    )
    for line in said:
        print(textwrap.fill(line, 118, initial_indent="- ", subsequent_indent="  "))


def _bounds(found: Diagnosis) -> Table:
    table = Table(title=f"nats a measured coefficient, of {found.bins:.0f} a patch; +- standard error over patches")
    table.add_column("")
    for column in ("log-likelihood or bound", "distortion", "rate"):
        table.add_column(column, justify="right")
    splits: dict[str, Split] = ({"bound of q": found.q} if found.q else {}) | {"bound of r": found.r}
    for name, split in splits.items():
        table.add_row(name, _words(split.bound), _words(split.distortion), _words(split.rate))
    table.add_row("after searching each patch's own", _words(found.gaps.posterior_tiles), "", "")
    most = max(found.gaps.importance)
    state = "" if found.gaps.converged else ", not converged"
    table.add_row(f"importance-weighted, {most} draws{state}", _words(found.gaps.importance[most]), "", "")
    evidence = found.gaps.evidence
    if evidence is not None:
        state = "" if evidence.converged else ", not converged"
        table.add_row(f"annealed importance sampling{state}", f"{sum(evidence.nats) / len(evidence.nats):.4f}", "", "")
    table.add_row("Gaussian of the same spectrum", _words(found.gaussian), "", "")
    return table


def _words(figure: Figure) -> str:
    return f"{figure.mean:.4f}" if figure.error != figure.error else f"{figure.mean:.4f} +- {figure.error:.4f}"
