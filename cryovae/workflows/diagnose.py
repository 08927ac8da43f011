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
from cryovae.evaluation.diagnosis.diagnose import Diagnosis, DiagnosisConfig, Figure, Split, as_plain, diagnose, predict
from cryovae.evaluation.diagnosis.gaussian import error_power, signal_power
from cryovae.evaluation.diagnosis.patches import PatchSelection, measurement_of, select_patches, training_patches
from cryovae.evaluation.diagnosis.place import rate_in_plane
from cryovae.evaluation.diagnosis.verdicts import information_words, verdicts
from cryovae.io.atomic import write_text
from cryovae.io.outputs import check_folder
from cryovae.models.ladder import Q, R
from cryovae.posterior.codes import fast_convolutions
from cryovae.progress.watch import Watch
from cryovae.report.diagnosis_figures import diagnosis_picture
from cryovae.workflows.diagnose_inputs import Diagnosed, diagnosed_run

JSON, PICTURE = "diagnosis.json", "diagnosis.png"
# Colours of q and r are the picture's; a table has words.
POSTERIORS = {"q": "q (input: all measured data)", "r": "r (input: the canonical wedge removed)"}


def diagnose_run(
    run: Path,
    output: Path | None,
    patches: int,
    config: DiagnosisConfig,
    voxel_size: float | None,
    device: torch.device,
    overwrite: bool,
    force: bool = False,
) -> Path:
    """Diagnose the model of a run, print and write the results; returns the path of the picture."""
    where = output or run
    check_folder(where)
    for name in (JSON, PICTURE):
        if (where / name).exists() and not overwrite:
            raise InputError(f"{where / name} is there already: pass --overwrite, or another folder with -o")
    opened = diagnosed_run(run, voxel_size, device, force)
    ladder, side = opened.checkpoint.ladder, opened.checkpoint.patch
    selection = select_patches(opened.prepared, side, patches, config.seed)
    m = measurement_of(opened.prepared, selection, side, ladder if opened.fills else None).to(device)
    training = training_patches(opened.prepared, side, config.seed, ladder if opened.fills else None).to(device)
    # For a few patches torch is several times slower than oneDNN.
    with Watch("diagnosing", 1) as progress, fast_convolutions():
        diagnosis = diagnose(
            ladder,
            m,
            signal_power(training),
            error_power(training, predict(ladder, training)),
            opened.checkpoint.encoders,
            config,
            lambda done, total, what: progress.update(done, what, total),
        )
    role = Q if opened.checkpoint.encoders == 2 else R
    with Watch("mapping the nats, tiles", 1) as progress, fast_convolutions():
        plane = rate_in_plane(
            ladder, opened.prepared, side, role, opened.fills, lambda done, total: progress.update(done, "", total)
        )
    said = verdicts(diagnosis, opened.checkpoint.encoders)
    about = _about(opened, selection)
    print_diagnosis(diagnosis, about, said)
    record = {"run": str(run), "name": opened.name, "judged_on": about, "settings": asdict(config), "verdicts": said}
    record |= {"units": "nats a measured coefficient, unless a name says otherwise"} | as_plain(diagnosis)
    where.mkdir(parents=True, exist_ok=True)
    write_text(where / JSON, json.dumps(_finite(record), indent=1, allow_nan=False))
    diagnosis_picture(where / PICTURE, diagnosis, plane, opened.voxel_size, f"{opened.name}: {about}")
    return where / PICTURE


def _about(opened: Diagnosed, selection: PatchSelection) -> str:
    """The patches that the figures are from, in words."""
    count, places = len(selection.rotation_indices), len(set(selection.positions))
    if opened.foreign:
        kind = "of a tomogram that the model was not trained on"
    elif selection.held_out:
        kind = "held out of training"
    else:
        kind = "that the model was TRAINED ON, as so small a tomogram has no held-out patches: all figures are too good"
    rotated = f", {places} places under several rotations" if places < count else ""
    return f"{count} patches of {opened.checkpoint.patch} voxels{rotated}, {kind}{_flow(opened)}"


def _flow(opened: Diagnosed) -> str:
    strides = [str(2**level) for level in opened.checkpoint.ladder.config.flow_indices]
    role = "q" if opened.checkpoint.encoders == 2 else "r"
    return f"; {role} has a flow at strides {', '.join(strides)}, where its nats are estimated from draws" if strides else ""


def _finite(value: Any) -> Any:
    """NaN as None: JSON has no NaN, and the error of a single patch is one."""
    if isinstance(value, dict):
        return {str(key): _finite(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and value - value != 0 else value


def print_diagnosis(diagnosis: Diagnosis, about: str, said: list[str]) -> None:
    """Tables of the bounds and of the levels, and the verdicts."""
    console = Console(width=None if sys.stdout.isatty() else 120)
    print(about)
    console.print(_bounds(diagnosis))
    for role, parts in diagnosis.levels.items():
        table = Table(title=f"latents of {POSTERIORS[role]}")
        for column in ("stride", "rate", "nats a patch", "by the mean", "active channels", "information", "shuffled"):
            table.add_column(column, justify="right")
        rates = (diagnosis.q if role == "q" and diagnosis.q else diagnosis.r).rates
        for part in parts:
            loss = diagnosis.shuffled[role][part.level]
            table.add_row(
                str(2**part.level),
                f"{rates[part.level]:.4f}",
                f"{part.rate:.0f}",
                f"{part.rate_of_mean:.3g}",
                f"{part.active} of {len(part.variance)}",
                information_words(part, diagnosis.patches),
                _words(loss),
            )
        console.print(table)
    print(
        "rate: nats per measured coefficient. by the mean: the part of the nats per patch that is due to the distance of the "
        "mean from the\nprior's; the rest is due to the smaller width. information: nats per patch, between the minibatch "
        "estimate, at most the logarithm of\nthe number of patches ('full': all patches are distinguished), and the KL to one "
        "fitted Gaussian a channel. shuffled: the loss from\ngiving each patch the latents of another at that level, in nats per "
        "coefficient: of the measured ones for q, of those hidden from r for r.\n"
    )
    for line in said:
        print(textwrap.fill(line, 118, initial_indent="- ", subsequent_indent="  "))


def _bounds(diagnosis: Diagnosis) -> Table:
    table = Table(title=f"nats a measured coefficient, of {diagnosis.bins:.0f} a patch; +- standard error over patches")
    table.add_column("")
    for column in ("log-likelihood or bound", "distortion", "rate"):
        table.add_column(column, justify="right")
    splits: dict[str, Split] = ({"bound of q": diagnosis.q} if diagnosis.q else {}) | {"bound of r": diagnosis.r}
    for name, split in splits.items():
        table.add_row(name, _words(split.bound), _words(split.distortion), _words(split.rate))
    table.add_row("after refining each patch's posterior", _words(diagnosis.gaps.refined), "", "")
    most = max(diagnosis.gaps.importance)
    state = "" if diagnosis.gaps.converged else ", not converged"
    table.add_row(f"importance-weighted, {most} draws{state}", _words(diagnosis.gaps.importance[most]), "", "")
    evidence = diagnosis.gaps.evidence
    if evidence is not None:
        state = "" if evidence.converged else ", not converged"
        table.add_row(f"annealed importance sampling{state}", f"{sum(evidence.nats) / len(evidence.nats):.4f}", "", "")
    table.add_row("Gaussian of the same spectrum", _words(diagnosis.gaussian), "", "")
    return table


def _words(figure: Figure) -> str:
    return f"{figure.mean:.4f}" if figure.error != figure.error else f"{figure.mean:.4f} +- {figure.error:.4f}"
