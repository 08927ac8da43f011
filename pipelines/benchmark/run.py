"""The competition on one tower: one command, one table.

    python pipelines/benchmark/run.py --out OUT --data dense_a dense_b --rows vae unet_deepdewedge --minutes 30 --seeds 1

Every row is trained from nothing on the same patches, with the same widths and for the same time: ``--minutes`` of two cores,
counted as processor time of training, whatever else the machine does. On a GPU they are minutes for which it is busy, its kernels
added up: launching them, and other rows at the same time (``--jobs``), have no part in it. The steps that fit are found by
timing a few of each kind. A finished row is a JSON file in OUT, and is not run again: rows can be added in several sittings.
``--rows family`` and other groups of rows.py stand for all of theirs. ``--table`` only prints. ``--write FILE`` writes the tables
with what made each row, in this project docs/benchmark/all_rows.md. ``--figure PNG`` draws one slice of each.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from math import inf
from multiprocessing import get_context
from pathlib import Path
from typing import Any, cast

import torch
from cost import (
    CORES,
    Budget,
    Cost,
    cost_of_unet,
    cost_of_vae,
    costs_of,
    device_here,
    kind_of,
    network_trainer_for,
    steps_within,
    trainer_for,
)
from data import Subject, load
from figure import draw_slices, keep_slice
from rows import GROUPS, ROWS, Row, named
from scoring import calibrated, scores, sharpness
from table import print_tables, write_results

from cryovae import fourier
from cryovae.checkpoint import Checkpoint, load_model, save_model
from cryovae.config import RunConfig, override, preset
from cryovae.data.measurement import Measurement
from cryovae.data.prepare import prepare
from cryovae.data.sampling import held_out, step_generator
from cryovae.evaluation.baselines import best_clipping
from cryovae.io.atomic import write_text
from cryovae.models.ladder import Ladder, R
from cryovae.objectives.elbo import numbers, one_encoder_bound, two_encoder_bound
from cryovae.objectives.regression import TWICE
from cryovae.objectives.validation import validation_scores, validation_scores_of
from cryovae.physics.noise import estimate_noise
from cryovae.physics.wedge import volume_mask
from cryovae.restoration.networks import restore_by_network
from cryovae.restoration.restorer import Restorer
from cryovae.training.deterministic import Deterministic
from cryovae.training.variational import Variational

BEGAN = time.monotonic()


def main() -> None:
    """Run what is asked for and is not there yet, and print the tables."""
    options = _options()
    options.out.mkdir(parents=True, exist_ok=True)
    seeds = range(options.seed, options.seed + options.seeds)
    wanted = [(name, row, seed) for seed in seeds for name in options.data for row in named(options.rows)]
    wanted = [] if options.table else [task for task in wanted if not _path(options, *task).exists()]
    costs = costs_alone(options, wanted) if options.jobs > 1 else {}
    broken = 0
    # Rows that apply the model of another come after it.
    for applied in (False, True):
        tasks = [task for task in wanted if bool(ROWS[task[1]].model) == applied]
        with ThreadPoolExecutor(options.jobs) as beside:
            for failed in beside.map(lambda task: _made(options, costs, *task), tasks):
                broken += bool(failed)
                if failed:
                    print(failed, flush=True)
    print_tables(options.out)
    if options.write:
        write_results(options.out, options.write)
    if options.figure:
        draw_slices(options.out, load(options.data[0], options.simulated), options.figure)
    if broken:
        raise SystemExit(f"{broken} rows were not made")


def _path(options: argparse.Namespace, name: str, row: str, seed: int) -> Path:
    return options.out / f"{name}-{row}-{options.minutes:g}min-{seed}.json"


def _made(options: argparse.Namespace, costs: dict[str, Cost], name: str, row: str, seed: int) -> str:
    """Make one row, unless no time is left to begin it; return the error as text, empty if there was none."""
    path = _path(options, name, row, seed)
    if time.monotonic() - BEGAN > options.until:
        print(f"{path.name}: not begun", flush=True)
        return ""
    about = {"data": name, "row": row, "seed": seed, "jobs": options.jobs, "command": command_of(options, name, row, seed)}
    task = (load(name, options.simulated), ROWS[row], options.minutes, seed, options.threads, options.out)
    try:
        # A process for each row: what one has used must not count for the next.
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as alone:
            figures = alone.submit(measured, *task, costs.get(kind_of(ROWS[row]))).result()
    except Exception as error:  # One row that fails leaves the others to be made.
        return f"{path.name}: {type(error).__name__}: {error}"
    write_text(path, json.dumps(figures | about, indent=1) + "\n")
    print(f"{path.name}: wedge {figures['wedge']:.3f}, measured {figures['measured']:.3f}", flush=True)
    return ""


def costs_alone(options: argparse.Namespace, tasks: list[tuple[str, str, int]]) -> dict[str, Cost]:
    """The cost of a step by kind of row, timed with nothing else running, on the first data set."""
    kinds = {kind_of(ROWS[row]): ROWS[row] for _, row, _ in reversed(tasks) if ROWS[row].kind != "fixed" and not ROWS[row].model}
    if not kinds:
        return {}
    subject = load(options.data[0], options.simulated)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as alone:
        costs = alone.submit(costs_of, subject, list(kinds.values()), options.threads).result()
    print("; ".join(f"{kind}: " + ", ".join(f"{k} {v:.4f} s" for k, v in cost.items()) for kind, cost in costs.items()))
    return costs


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", nargs="+", default=["dense_a"])
    parser.add_argument("--simulated", type=Path, help="folder of simulated volumes, see simulated.sh")
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=[*GROUPS, *ROWS])
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1, help="the first seed")
    parser.add_argument("--threads", type=int, default=CORES)
    parser.add_argument("--jobs", type=int, default=1, help="rows at a time; more than one on a GPU, which one row leaves idle")
    parser.add_argument("--until", type=float, default=inf, help="seconds after which no row is begun any more")
    parser.add_argument("--table", action="store_true", help="run nothing")
    parser.add_argument("--write", type=Path, help="write the tables as Markdown")
    parser.add_argument("--figure", type=Path, help="draw the same slice of all rows of the first of --data")
    return parser.parse_args()


def command_of(options: argparse.Namespace, name: str, row: str, seed: int) -> str:
    """The command that makes one row."""
    beside = f" --jobs {options.jobs}" if options.jobs > 1 else ""
    where = " --simulated SIMULATED" if options.simulated else ""
    return (
        f"python pipelines/benchmark/run.py --out OUT{where} --data {name} --rows {row} --minutes {options.minutes:g} "
        f"--seed {seed} --threads {options.threads}{beside}"
    )


def measured(
    subject: Subject, row: Row, minutes: float, seed: int, threads: int, out: Path, cost: Cost | None = None
) -> dict[str, Any]:
    """Train and restore one row, and score it. cost: of its steps, if it is known."""
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    budget = Budget(minutes, device_here(), cost)
    device = budget.device
    config = override(preset("quick"), dict(row.settings) | {"training.seed": seed, "restoration.seed": seed})
    began, clock = time.process_time(), time.monotonic()
    about: dict[str, Any] = {"about": row.about, "minutes": minutes, "threads": torch.get_num_threads()}
    if row.kind == "fixed":
        restored = _fixed(row.name, subject)
    elif row.kind == "unet":
        restored = _unet(subject, row, config, budget, about)
    else:
        restored = _vae(subject, row, config, budget, about, out)
    about |= {
        "total_cpu_s": round(time.process_time() - began, 1),
        "total_s": round(time.monotonic() - clock, 1),
        "peak_memory_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2),
        "commit": subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
        ).stdout.strip(),
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
    }
    keep_slice(out / f"{subject.name}-{row.name}-{minutes:g}min-{seed}.npy", restored)
    return about | scores(restored, subject)


def _fixed(name: str, subject: Subject) -> torch.Tensor:
    density = torch.from_numpy(subject.tomogram.density.astype("float32"))
    if name == "clipping":
        return best_clipping(density, subject.truth, subject.tomogram.tilts).density
    if name == "shell_wiener":
        return shell_wiener(subject)
    return density


def shell_wiener(subject: Subject) -> torch.Tensor:
    """F^-1[ M S / (S + sigma^2) F y ], S by shell from y less its noise: what second-order statistics alone can do."""
    tomogram = subject.tomogram
    density = torch.from_numpy(tomogram.density.astype("float32"))
    noise = estimate_noise(density.numpy(), tomogram.halves, tomogram.tilts)(fourier.frequencies(density.shape))
    mask, radius = volume_mask(density.shape, tomogram.tilts), fourier.radius(density.shape)
    power = fourier.transform(density - density.mean()).abs().square()
    shell = (radius * min(density.shape)).long()
    weight = (mask * fourier.multiplicity(density.shape)).flatten()

    def by_shell(values: torch.Tensor) -> torch.Tensor:
        sums = torch.zeros(int(shell.max()) + 1).index_add_(0, shell.flatten(), weight * values.flatten())
        count = torch.zeros(int(shell.max()) + 1).index_add_(0, shell.flatten(), weight)
        return (sums / count.clamp_min(1e-9))[shell]

    signal = (by_shell(power) - by_shell(noise)).clamp_min(0)
    return fourier.filtered(density, mask * signal / (signal + noise))


def _vae(subject: Subject, row: Row, config: RunConfig, budget: Budget, about: dict[str, Any], out: Path) -> torch.Tensor:
    device = budget.device
    stem = f"{subject.name}-{row.model or row.name}-{budget.minutes:g}min-{config.training.seed}"
    model = out / f"{stem}.safetensors"
    if row.model and not model.exists():
        raise SystemExit(f"{model} is not there: run the row {row.model} first, with the same --minutes and --seed")
    if row.model:
        checkpoint = load_model(model)
        ladder = checkpoint.ladder.to(device)
        about |= {"steps": checkpoint.step}
    else:
        ladder = _trained(subject, config, budget, about)
        save_model(model, Checkpoint(ladder, config.training.patch, about["steps"], config.objective.encoders, {}))
    if patches := [m.to(device) for m in validation_patches(subject, config)]:
        about |= {"validation": vars(validation_scores(ladder, patches)), "elbo": _bound_of(ladder, patches, config)}
    began = time.process_time()
    how = replace(config.restoration, samples_out=config.restoration.samples, halves=False)
    restoration = Restorer(ladder, config.training.patch, how, device)(subject.tomogram)
    about |= {"restore_cpu_s": round(time.process_time() - began, 1), "held_out": restoration.held_out}
    about |= {"calibration": calibrated(restoration, subject), "search": restoration.search}
    about |= {"wedge_power_of_input": restoration.figures["wedge_power_of_input"]}
    about |= {"sharpness": sharpness(restoration.samples[0], restoration.mean, subject)}
    return restoration.mean


def _bound_of(ladder: Ladder, patches: list[Measurement], config: RunConfig) -> float:
    """The bound on held-out patches, in nats per measured coefficient."""
    bound_of = two_encoder_bound if config.objective.encoders == 2 else one_encoder_bound
    bounds = []
    with torch.no_grad():
        for number, m in enumerate(patches):
            m = m.to(ladder.top.device)
            bound = bound_of(ladder, m, ladder.encode(m.input_masked, R), step_generator(0, number))
            figures = numbers(bound.figures())
            bounds.append(figures["log_likelihood"] - figures["kl"])
    return sum(bounds) / len(bounds)


def _trained(subject: Subject, config: RunConfig, budget: Budget, about: dict[str, Any]) -> Ladder:
    cost = budget.cost or cost_of_vae(subject, config, budget.device)
    start = time.process_time()
    run = trainer_for(
        subject, config, budget.device, steps_within(cost, config, budget.minutes), config.objective.completion_fraction
    )
    ladder = run.run(lambda report: None, lambda state: None)
    about |= {
        "steps": run.step,
        "binnings": len(cast(Variational, run.method).prepared_tomograms),
        "train_cpu_s": round(time.process_time() - start, 1),
        "trial_s_per_step": cost,
    }
    about |= {"parameters": sum(p.numel() for p in ladder.parameters()), "held_out_gain": run.best_gain}
    return ladder


def validation_patches(subject: Subject, config: RunConfig) -> list[Measurement]:
    """The held-out patches, the same for every row, whatever its masks, rotations and noise are."""
    return held_out(prepare(subject.tomogram, config.training.patch), config.training.patch)


def _unet(subject: Subject, row: Row, config: RunConfig, budget: Budget, about: dict[str, Any]) -> torch.Tensor:
    device = budget.device
    cost = budget.cost or cost_of_unet(subject, row, config, device)
    steps = max(int((60 * budget.minutes * CORES - cost["refills"]) / cost["step"]), 20)
    start = time.process_time()
    trainer = network_trainer_for(subject, row, config, device, steps)
    network, method = trainer.run(), cast(Deterministic, trainer.method)
    about |= {"steps": steps, "train_cpu_s": round(time.process_time() - start, 1)}
    about |= {"trial_s_per_step": cost}
    about |= {"parameters": sum(p.numel() for p in network.parameters()), "passes_twice": row.objective in TWICE}
    patches = validation_patches(subject, config)
    about["validation"] = vars(validation_scores_of(lambda u: method.predict(network, u), patches)) if patches else None
    began = time.process_time()
    restored = restore_by_network(network, subject.tomogram, config.training.patch, row.objective, device)
    about |= {"restore_cpu_s": round(time.process_time() - began, 1)}
    # Rivals get the better of the two, by the correlation of the measured part with the truth.
    kinds = {"raw": restored.mean, "data-consistent": restored.consistent}
    figures = {kind: scores(density, subject)["measured"] for kind, density in kinds.items()}
    best = max(figures, key=lambda kind: figures[kind])
    about |= {"density": best, "measured_by_density": figures}
    return kinds[best]


if __name__ == "__main__":
    main()
