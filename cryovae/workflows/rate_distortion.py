"""cryovae diagnose --rate-distortion: a point for each beta, kept as soon as it is there, and the curve through them."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from cryovae.errors import InputError
from cryovae.evaluation.diagnosis.diagnose import DiagnosisConfig, Split, bound_on
from cryovae.evaluation.diagnosis.patches import measurement_of, select_patches
from cryovae.evaluation.diagnosis.rate_distortion import Continuation, continuation_config, trained_on
from cryovae.io.atomic import whole_file, write_text
from cryovae.io.outputs import check_folder
from cryovae.models.ladder import Q, R
from cryovae.progress.watch import Watch
from cryovae.report.figure import PlainFigure
from cryovae.workflows.diagnose_inputs import Diagnosed, diagnosed_run

JSON, PICTURE = "rate_distortion.json", "rate_distortion.png"
BETAS = (0.0, 0.1, 0.3, 1.0, 3.0, 10.0)


def rate_distortion_run(
    run: Path,
    output: Path | None,
    betas: Sequence[float] | None,
    patches: int,
    steps: int | None,
    draws: int,
    seed: int,
    voxel_size: float | None,
    device: torch.device,
    overwrite: bool,
    force: bool = False,
) -> Path:
    """Train the model of a run on at each beta and measure rate and distortion; one that is in the file already is passed over.

    Returns the picture's path. InputError if the file is of other settings.
    """
    where = output or run
    check_folder(where)
    opened = diagnosed_run(run, voxel_size, device, force)
    steps = steps or max(1, round((1 - opened.config.objective.completion_fraction) * opened.config.training.steps))
    settings: dict[str, Any] = {"steps": steps, "patches": patches, "draws": draws, "seed": seed, "model": opened.checkpoint.step}
    record = _begun(where / JSON, settings, overwrite)
    for beta in sorted(set(betas or BETAS)):
        if f"{beta:g}" in record["points"]:
            print(f"beta {beta:g} is there already")
            continue
        record["points"][f"{beta:g}"] = _plain(_point(opened, beta, patches, steps, draws, seed, device))
        where.mkdir(parents=True, exist_ok=True)
        write_text(where / JSON, json.dumps(record, indent=1))
        print(f"beta {beta:g} written to {where / JSON}", flush=True)
    points = {float(beta): point for beta, point in record["points"].items()}
    _print(points)
    _picture(where / PICTURE, points, f"{opened.name}: trained on for {steps} steps at each beta from the same weights")
    return where / PICTURE


def _begun(path: Path, settings: dict[str, Any], overwrite: bool) -> dict[str, Any]:
    if path.exists() and not overwrite:
        record: dict[str, Any] = json.loads(path.read_text())
        other = [key for key, value in settings.items() if record.get("settings", {}).get(key) != value]
        if other:
            then, now = record.get("settings", {}).get(other[0]), settings[other[0]]
            raise InputError(f"{path} is of {other[0]} {then}, expected {now}: give the same, or pass --overwrite")
        return record
    units = "nats a measured coefficient"
    return {"settings": settings, "units": units, "points": {}}


def _point(opened: Diagnosed, beta: float, patches: int, steps: int, draws: int, seed: int, device: torch.device) -> Split:
    """One beta: trained on, then judged on the patches that all are judged on."""
    ladder, side, config = opened.checkpoint.ladder, opened.checkpoint.patch, opened.config
    with Watch(f"beta {beta:g}, training", steps) as progress:
        training = replace(continuation_config(config.training, steps, seed), patch=side)
        method = Continuation(ladder, [opened.prepared], training, config.masking, config.objective, beta, opened.fills)
        moved = trained_on(method, lambda step, loss: progress.update(step, f"loss {loss:.3f}"))
    selection = select_patches(opened.prepared, side, patches, seed)
    m = measurement_of(opened.prepared, selection, side, ladder if opened.fills else None).to(device)
    role = Q if opened.checkpoint.encoders == 2 else R
    return bound_on(moved, m, role, DiagnosisConfig(draws=draws, seed=seed))


def _plain(split: Split) -> dict[str, Any]:
    return {
        "rate": split.rate.mean,
        "rate_error": split.rate.error,
        "distortion": split.distortion.mean,
        "distortion_error": split.distortion.error,
        "bound": split.bound.mean,
        "rate_by_level": {str(level): rate for level, rate in split.rates.items()},
    }


def _print(points: dict[float, dict[str, Any]]) -> None:
    print(
        "nats a measured coefficient, +- standard error over patches\n"
        "  beta        rate                distortion            bound"
    )
    for beta, p in sorted(points.items()):
        rate, distortion = (f"{p[k]:9.4f} +- {p[k + '_error']:.4f}" for k in ("rate", "distortion"))
        print(f"{beta:6g}  {rate}  {distortion}  {p['bound']:9.4f}")
    unsettled = [b for a, b in itertools.pairwise(sorted(points)) if points[b]["rate"] > 0.99 * points[a]["rate"]]
    if unsettled:
        print(f"the rate has not fallen up to beta {unsettled[-1]:g}: training there was too short to settle, give more --steps")
    print("the bound is that of beta = 1 at every point: what beta trains is something else unless it is 1")


def _picture(path: Path, points: dict[float, dict[str, Any]], title: str) -> None:
    figure = PlainFigure(figsize=(14, 6), layout="constrained")
    axis, levels = figure.subplots(1, 2)
    betas = sorted(points)
    rate, distortion = ([points[b][key] for b in betas] for key in ("rate", "distortion"))
    errors = ([points[b][f"{key}_error"] for b in betas] for key in ("distortion", "rate"))
    axis.errorbar(rate, distortion, *errors, fmt="o-", color="tab:blue", capsize=3)
    for number, (beta, x, y) in enumerate(zip(betas, rate, distortion, strict=True)):
        # Large beta lie on top of each other.
        axis.annotate(f"beta {beta:g}", (x, y), (8, 12 - 14 * (number % 3)), textcoords="offset points")
    axis.set(title="left: collapse to the prior; right: a plain autoencoder", xlabel="rate, KL (nats a measured coefficient)")
    axis.set_ylabel("distortion, -log-likelihood (nats a measured coefficient)")
    axis.margins(0.14)
    for level in sorted((int(name) for name in points[betas[0]]["rate_by_level"]), reverse=True):
        heights = [points[b]["rate_by_level"][str(level)] for b in betas]
        levels.plot(range(len(betas)), heights, "o-", label=f"stride {2**level}")
    levels.set_xticks(range(len(betas)), [f"{b:g}" for b in betas])
    levels.set(title="rate by level", xlabel="beta, weight of the KL", ylabel="KL (nats a measured coefficient)", yscale="log")
    levels.legend()
    figure.suptitle(title)
    with whole_file(path) as beside:
        figure.savefig(beside, dpi=80)
