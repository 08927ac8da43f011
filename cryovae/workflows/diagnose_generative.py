"""cryovae diagnose --prior: the measures of a generative model as a table, prior.json and prior.png."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from cryovae.checkpoint import load_model
from cryovae.data.prepare import PreparedTomogram, prepare
from cryovae.errors import InputError
from cryovae.evaluation.generative.evidence import spectrum_of
from cryovae.evaluation.generative.prior import COPIED, LOW_PASS
from cryovae.evaluation.generative.report import (
    DataMeasures,
    GenerativeMeasureConfig,
    SimulatedMeasures,
    measure_on_scenes,
    measure_on_tomogram,
)
from cryovae.generator_file import GeneratorFile, lineage, load_base, load_generator
from cryovae.io.atomic import write_text
from cryovae.io.outputs import check_folder
from cryovae.posterior.codes import fast_convolutions
from cryovae.posterior.ladder_boxes import LadderBoxes
from cryovae.posterior.patch_sampler import PatchSampler
from cryovae.posterior.suited import suited
from cryovae.progress.watch import Stages
from cryovae.report.generative_figures import generative_picture
from cryovae.simulation.patches import Pairs, PatchConfig, pair_stream
from cryovae.tomogram import Tomogram
from cryovae.workflows.adapt import SAMPLER

JSON, PICTURE = "prior.json", "prior.png"
# Procedural molecules from this number on are in no recipe, and the seeds of scenes neither.
UNSEEN_KINDS, UNSEEN_SEED = 10_000_000, 1_800_000_000


@dataclass(frozen=True)
class GenerativeRequest:
    """What is measured.

    Attributes:
        output: folder for the results.
        model: a generative model, or None for the base.
        molecules: files of molecules that the model has not seen, for the scenes.
        tomogram: a tomogram whose patches are compared with draws, or None.
        run: the run that restored it, whose own model is measured if it has one and ``model`` is None.
        processes: how many others make scenes.
        overwrite: whether results that are there are replaced.
        config: numbers of patches and draws.
    """

    output: Path
    model: Path | None
    molecules: tuple[str, ...]
    tomogram: Tomogram | None
    run: Path | None
    processes: int
    overwrite: bool
    config: GenerativeMeasureConfig


def diagnose_generative(request: GenerativeRequest, device: torch.device) -> Path:
    """Measure a generative model, print and write the results; returns the path of the picture."""
    check_folder(request.output)
    for name in (JSON, PICTURE):
        if (request.output / name).exists() and not request.overwrite:
            raise InputError(f"{request.output / name} is there already: pass --overwrite, or another folder with -o")
    own = None if request.run is None or not (request.run / SAMPLER).is_file() else request.run / SAMPLER
    model = request.model or own
    file = load_base() if model is None else load_generator(model)
    _check_unseen(file, request.molecules)
    sampler = PatchSampler(file.generator, device)
    config = request.config
    with Stages() as stages, fast_convolutions():
        unseen = unseen_patches(file.patch, request.molecules, config.seed)
        held_out, masks = _scenes("unseen patches", unseen, config.patches, request, stages)
        training, _ = _scenes("training patches", training_patches(file, config.seed), config.training_patches, request, stages)
        measures, drawn = measure_on_scenes(sampler, held_out, masks, training.clean, config, stages)
        of_data = None
        if request.tomogram is not None:
            prepared = prepare(request.tomogram, file.patch, held_out=False)
            spectrum, estimate = spectrum_of(training.clean), _estimate(request.run, file, prepared, device)
            of_data = measure_on_tomogram(sampler, prepared, spectrum, file.patch, config, stages, estimate)
    about = f"{len(held_out.clean[: config.patches])} patches of {file.patch} voxels from scenes that were not trained on"
    print_measures(measures, of_data, about)
    record = {
        "model": "base" if model is None else str(model),
        "judged_on": about,
        "molecules": [Path(path).name for path in request.molecules],
        "settings": asdict(config),
        "simulated": asdict(measures),
        "tomogram": None if of_data is None else {"name": request.tomogram.name} | asdict(of_data),  # type: ignore[union-attr]
    }
    request.output.mkdir(parents=True, exist_ok=True)
    write_text(request.output / JSON, json.dumps(record, indent=1))
    generative_picture(request.output / PICTURE, measures, drawn, f"generative model: {about}")
    return request.output / PICTURE


def _estimate(run: Path | None, file: GeneratorFile, prepared: PreparedTomogram, device: torch.device) -> Tensor | None:
    """The mean by the network of a run (z, y, x), if the generative model was fitted with one; else None."""
    if run is None or not file.generator.config.flow.estimates:
        return None
    checkpoint = load_model(run)
    return LadderBoxes(suited(checkpoint.ladder, [prepared]), checkpoint.patch, device).predict(prepared.density, prepared.tilts)


def _check_unseen(file: GeneratorFile, molecules: Sequence[str]) -> None:
    """InputError if the model, or one that it began with, was trained on one of the molecules."""
    seen = {name for recipe in lineage(file.recipe) for name in recipe.get("patches", {}).get("molecules", [])}
    both = [Path(path).name for path in molecules if Path(path).name in seen]
    if both:
        raise InputError(f"molecule {both[0]} found, which the model was trained on: give others, or none for procedural ones")


def unseen_patches(side: int, molecules: tuple[str, ...], seed: int) -> PatchConfig:
    """Scenes of molecules that no recipe trains on."""
    return PatchConfig(
        side, first_kind=UNSEEN_KINDS, molecules=molecules, rotations=1, cuts=4, seed=UNSEEN_SEED + seed % 1_000_000
    )


def training_patches(file: GeneratorFile, seed: int) -> PatchConfig:
    """Scenes as the model was trained on, of its procedural molecules."""
    recipe = file.recipe.get("patches", {})
    known = {name: recipe[name] for name in ("kinds", "first_kind", "seed") if isinstance(recipe.get(name), int)}
    return replace(PatchConfig(file.patch, rotations=1, cuts=16), **known)


def _scenes(what: str, patches: PatchConfig, count: int, request: GenerativeRequest, stages: Stages) -> tuple[Pairs, Tensor]:
    """At least ``count`` pairs, and the mask of each."""
    parts: list[Pairs] = []
    made = 0
    with pair_stream(patches, request.processes) as stream:
        while made < count:
            parts.append(next(stream))
            made += len(parts[-1])
            stages(what, min(made, count), count)
    pairs = Pairs.joined(parts)
    return pairs, pairs.masks()


def print_measures(measures: SimulatedMeasures, of_data: DataMeasures | None, about: str) -> None:
    """Print the tables."""
    console = Console(width=130)
    _print_prior(console, measures, about)
    evidence = {"clean patches": measures.evidence} | ({} if of_data is None else {"measured patches": of_data.evidence})
    table = Table(title="evidence, nats a coefficient")
    for name in ("", "bound", "weighted bound", "Gaussian", "gain", "KL", "error of the trace", "effective draws"):
        table.add_column(name, justify="left" if not name else "right")
    for name, e in evidence.items():
        gain = f"{e.gain:+.4f} ± {e.gain_error:.4f}"
        numbers = (f"{value:.4f}" for value in (e.elbo, e.weighted, e.gaussian))
        table.add_row(name, *numbers, gain, f"{e.kl:.4f}", f"{e.trace_error:.4f}", f"{e.effective:.2f} of {e.draws}")
    console.print(table)
    table = Table(title="posterior of patches, without any fit")
    for name in ("", "correlation", "of the prediction", "error over std", "factor two", "coverage of 90 %", "amplitude"):
        table.add_column(name, justify="left" if not name else "right")
    for name, p in measures.posterior.items():
        values = (p.correlation, p.predicted, p.error_over_std, p.factor_two, p.coverage, p.amplitude)
        table.add_row(name, *(f"{value:.3f}" for value in values))
    console.print(table)
    if of_data is not None:
        print(
            f"draws cut by the wedge and made noisy, beside data patches: AUC {of_data.separation.auc:.3f} ± "
            f"{of_data.separation.error:.3f} (Gaussian {of_data.gaussian_separation.auc:.3f})"
        )


def _print_prior(console: Console, measures: SimulatedMeasures, about: str) -> None:
    table = Table(title=f"prior: {about}")
    columns = ("", "AUC", f"AUC below {LOW_PASS:g}", f"power to {LOW_PASS:g}", "skewness", "kurtosis", f"above {COPIED:g}")
    for name in columns:
        table.add_column(name, justify="left" if not name else "right")
    table.add_row(
        "data", "", "", "", f"{measures.data.skewness:.2f}", f"{measures.data.kurtosis:.2f}", _copied(measures.nearest_of_data)
    )
    rows = {"draws": measures.prior, "N(0, I) latents": measures.white_latents, "Gaussian field": measures.gaussian}
    for name, part in rows.items():
        within = [ratio for k, ratio in zip(part.frequency, part.power, strict=True) if 0 < k <= LOW_PASS]
        table.add_row(
            name,
            f"{part.separation.auc:.3f} ± {part.separation.error:.3f}",
            f"{part.smooth_separation.auc:.3f}",
            f"{min(within):.2f} to {max(within):.2f}",
            f"{part.moments.skewness:.2f}",
            f"{part.moments.kurtosis:.2f}",
            _copied(part.nearest),
        )
    console.print(table)


def _copied(nearest: Sequence[float]) -> str:
    return "" if not nearest else f"{np.mean(np.array(nearest) > COPIED):.1%}, most {max(nearest):.3f}"
