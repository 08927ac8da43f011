"""The competition on one tower: one command, one table.

    python pipelines/benchmark/run.py --out OUT --data dense_a dense_b --rows vae unet_deepdewedge --minutes 30 --seeds 1

Every row is trained from nothing on the same patches, with the same widths and for the same time: ``--minutes`` of two cores,
counted as processor time of training, whatever else the machine does. On a GPU they are minutes for which it is busy, its kernels
added up: launching them, and other rows at the same time (``--jobs``), have no part in it. The steps that fit are found by
timing a few of each kind. A finished row is a JSON file in OUT, and is not run again: rows can be added in several sittings.
``--rows family`` and other groups of rows.py stand for all of theirs. ``--table`` only prints; ``--write RESULTS.md`` writes the
tables with what made each row; ``--figure PNG`` draws one slice of each.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from math import inf
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from data import Subject, load
from figure import draw_slices, keep_slice
from rows import GROUPS, ROWS, Row, named
from table import print_tables, write_results
from torch.profiler import ProfilerActivity, profile

from cryovae import fourier
from cryovae.checkpoint import Checkpoint, load_model, save_model
from cryovae.config import RunConfig, override, preset
from cryovae.evaluate.baselines import best_clipping
from cryovae.evaluate.calibration import calibration_by_part
from cryovae.evaluate.fsc import CONES, angle_to_beam, centred_spectrum, regions
from cryovae.io.atomic import write_text
from cryovae.models.ladder import Ladder, R
from cryovae.models.unet import UNet
from cryovae.objectives.binning import binned
from cryovae.objectives.elbo import numbers, one_encoder_bound, two_encoder_bound
from cryovae.objectives.pairs import Measurement
from cryovae.objectives.regression import TWICE
from cryovae.objectives.sampling import held_out, step_generator
from cryovae.objectives.schedules import refill_steps
from cryovae.objectives.specimen import prepare
from cryovae.objectives.validation import foresight, foresight_of
from cryovae.physics.noise import estimate_noise
from cryovae.physics.wedge import volume_mask
from cryovae.regress import Regressor, regressed
from cryovae.restore import Restoration, Restorer, refilled
from cryovae.train import Interrupted, Trainer

BEGAN = time.monotonic()
# Seconds by what they are spent on, as ``Spent`` counts them.
Cost = dict[str, float]
CORES = 2
TRIAL, VALIDATIONS = 4, 15
# Of the power of a measured bin, what is taken for nothing.
EMPTY = 1e-9
SHELLS = ((0.01, 0.05), (0.05, 0.1), (0.1, 0.15), (0.15, 0.2), (0.2, 0.3))


def main() -> None:
    """Run what is asked for and is not there yet, and print the tables."""
    options = _options()
    options.out.mkdir(parents=True, exist_ok=True)
    seeds = range(options.seed, options.seed + options.seeds)
    wanted = [(name, row, seed) for seed in seeds for name in options.data for row in named(options.rows)]
    wanted = [] if options.table else [task for task in wanted if not _path(options, *task).exists()]
    costs = costs_alone(options, wanted) if options.jobs > 1 else {}
    # Rows that apply the model of another come after it.
    for applied in (False, True):
        tasks = [task for task in wanted if bool(ROWS[task[1]].model) == applied]
        with ThreadPoolExecutor(options.jobs) as beside:
            for failed in beside.map(lambda task: _made(options, costs, *task), tasks):
                if failed:
                    print(failed, flush=True)
    print_tables(options.out)
    if options.write:
        write_results(options.out, options.write)
    if options.figure:
        draw_slices(options.out, load(options.data[0], options.simulated), options.figure)


def _path(options: argparse.Namespace, name: str, row: str, seed: int) -> Path:
    return options.out / f"{name}-{row}-{options.minutes:g}min-{seed}.json"


def _made(options: argparse.Namespace, costs: dict[str, Cost], name: str, row: str, seed: int) -> str:
    """Make one row, unless no time is left to begin it; returns what went wrong."""
    path = _path(options, name, row, seed)
    if time.monotonic() - BEGAN > options.until:
        return f"{path.name}: not begun"
    made = {"data": name, "row": row, "seed": seed, "jobs": options.jobs, "command": command_of(options, name, row, seed)}
    task = (load(name, options.simulated), ROWS[row], options.minutes, seed, options.threads, options.out)
    try:
        # A process for each row: what one has used must not count for the next.
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as alone:
            found = alone.submit(measured, *task, costs.get(kind_of(ROWS[row]))).result()
    except Exception as error:  # One row that fails leaves the others to be made.
        return f"{path.name}: {type(error).__name__}: {error}"
    write_text(path, json.dumps(found | made, indent=1) + "\n")
    print(f"{path.name}: wedge {found['wedge']:.3f}, measured {found['measured']:.3f}", flush=True)
    return ""


def kind_of(row: Row) -> str:
    """Rows of one kind take as long for a step; fixed ones are none."""
    if row.kind == "vae":
        return f"vae, {row.settings.get('objective.encoders', 2)} encoders"
    return f"unet, {row.objective}" if row.kind == "unet" else ""


def costs_alone(options: argparse.Namespace, tasks: list[tuple[str, str, int]]) -> dict[str, Cost]:
    """What a step costs, by kind of row, timed with nothing else at the same time: on the first data set, for all of them."""
    kinds = {kind_of(ROWS[row]): ROWS[row] for _, row, _ in reversed(tasks) if ROWS[row].kind != "fixed" and not ROWS[row].model}
    if not kinds:
        return {}
    subject = load(options.data[0], options.simulated)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as alone:
        found = alone.submit(_costs, subject, list(kinds.values()), options.threads).result()
    print("; ".join(f"{kind}: " + ", ".join(f"{k} {v:.4f} s" for k, v in cost.items()) for kind, cost in found.items()))
    return found


def _costs(subject: Subject, kinds: list[Row], threads: int) -> dict[str, Cost]:
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    device = _device()
    found = {}
    for row in kinds:
        config = override(preset("quick"), dict(row.settings))
        unet = row.kind == "unet"
        found[kind_of(row)] = _cost_of_unet(subject, row, config, device) if unet else _cost_of_vae(subject, config, device)
    return found


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


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
    where = " --simulated SIMULATED" if options.simulated else ""
    return (
        f"python pipelines/benchmark/run.py --out OUT{where} --data {name} --rows {row} --minutes {options.minutes:g} "
        f"--seed {seed} --threads {options.threads}"
    )


def measured(
    subject: Subject, row: Row, minutes: float, seed: int, threads: int, out: Path, cost: Cost | None = None
) -> dict[str, Any]:
    """Train and restore one row, and score it. cost: of its steps, if it is known."""
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    device = _device()
    config = override(preset("quick"), dict(row.settings) | {"training.seed": seed, "restoration.seed": seed})
    began, clock = time.process_time(), time.monotonic()
    about: dict[str, Any] = {"about": row.about, "minutes": minutes, "threads": torch.get_num_threads()}
    if row.kind == "fixed":
        restored = _fixed(row.name, subject)
    elif row.kind == "unet":
        restored = _unet(subject, row, config, minutes, device, about, cost)
    else:
        restored = _vae(subject, row, config, minutes, device, about, out, cost)
    about |= {
        "whole_cpu_s": round(time.process_time() - began, 1),
        "whole_s": round(time.monotonic() - clock, 1),
        "peak_memory_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2),
        "commit": subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
        ).stdout.strip(),
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
    }
    keep_slice(out / f"{subject.name}-{row.name}-{minutes:g}min-{seed}.npy", restored)
    return about | scores(restored, subject)


def scores(restored: torch.Tensor, subject: Subject) -> dict[str, Any]:
    """Correlation with the truth in the wedge and in the measured part, over the band, by shell, and by cone about the beam."""
    tilts, truth = subject.tomogram.tilts, subject.truth
    wedge, seen = regions((truth.shape[0], truth.shape[1], truth.shape[2]), tilts)
    if subject.known is not None:
        wedge = wedge * (volume_mask(truth.shape, subject.known) == 1)
    radius = fourier.radius(truth.shape)
    cosine = fourier.frequencies(truth.shape)[0].abs() / radius.clamp_min(1e-9)
    x, y = (centred_spectrum(v) for v in (restored, truth))

    power = float((seen * x.abs().square()).sum() / seen.sum())

    def correlation(part: torch.Tensor) -> float:
        terms = torch.stack([(x * y.conj()).real, x.abs().square(), y.abs().square()]).double() * part
        cross, a, b = terms.sum((1, 2, 3))
        # An empty wedge holds what single precision rounded, and that correlates with the truth by chance, be it 0.2 or -0.4.
        if a < EMPTY * part.sum() * power:
            return 0.0
        return float(cross / (a * b).sqrt().clamp_min(1e-30))

    def error(part: torch.Tensor) -> float:
        p, q = part * x.abs().square(), part * y.abs().square()
        return float(((p * q / part.clamp_min(1)).sum() / (p.sum() * q.sum()).clamp_min(1e-30)).sqrt())

    def by_cone(low: float, high: float) -> dict[str, float | None]:
        inside = band * ((off_beam >= low) & (off_beam < high if high < 90 else off_beam <= 90))
        parts = {"wedge": wedge * inside, "measured": seen * inside}
        return {name: correlation(part) if part.any() else None for name, part in parts.items()}

    off_beam = angle_to_beam((truth.shape[0], truth.shape[1], truth.shape[2]))
    band = ((radius > 0.01) & (radius < 0.2)).float()
    cone = (cosine > 3**0.5 / 2).float()
    return {
        "wedge": correlation(wedge * band),
        "measured": correlation(seen * band),
        "wedge_by_shell": [correlation(wedge * ((radius > low) & (radius <= high))) for low, high in SHELLS],
        "measured_by_shell": [correlation(seen * ((radius > low) & (radius <= high))) for low, high in SHELLS],
        "cones": {f"{low:g}-{high:g}": by_cone(low, high) for low, high in CONES},
        "cone_30": correlation(wedge * band * cone),
        "wedge_outside_cone_30": correlation(wedge * band * (1 - cone)),
        # Of two densities that have nothing in common: strong bins are few, and decide.
        "wedge_standard_error": error(wedge * band),
        "cone_standard_error": error(wedge * band * cone),
    }


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


def _steps(seconds: dict[str, float], config: RunConfig, minutes: float) -> int:
    """Training steps that fit, given the processor seconds of a step and of a validation before and in the phase of the bound."""
    solo = config.objective.solo
    checks = VALIDATIONS * (solo * seconds["check_solo"] + (1 - solo) * seconds["check_bound"])
    step = solo * seconds["solo"] + (1 - solo) * seconds["bound"]
    fills = len(refill_steps(1000, config.objective.refill_from, config.objective.refill_every))
    return max(int((60 * minutes * CORES - checks - fills * seconds.get("refill", 0.0)) / step), 20)


class Spent:
    """Seconds of two cores' processor time that a piece of work takes; on a GPU, twice those for which it is busy.

    What is queued counts: entering and leaving wait for it. Read ``seconds`` afterwards.
    """

    def __init__(self, device: torch.device) -> None:
        self.device, self.seconds = device, 0.0

    def __enter__(self) -> Spent:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
            self._profile = profile(activities=[ProfilerActivity.CUDA])
            self._profile.start()
        self._start = time.process_time()
        return self

    def __exit__(self, *error: object) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
            self._profile.stop()
            self.seconds = CORES * sum(event.self_device_time_total for event in self._profile.key_averages()) / 1e6
            if not self.seconds:
                raise RuntimeError("torch's profiler saw no work on the GPU: there is nothing to share time by")
        else:
            self.seconds = time.process_time() - self._start


def _vae(
    subject: Subject,
    row: Row,
    config: RunConfig,
    minutes: float,
    device: torch.device,
    about: dict[str, Any],
    out: Path,
    cost: Cost | None,
) -> torch.Tensor:
    stem = f"{subject.name}-{row.model or row.name}-{minutes:g}min-{config.training.seed}"
    model = out / f"{stem}.safetensors"
    if row.model and not model.exists():
        raise SystemExit(f"{model} is not there: run the row {row.model} first, with the same --minutes and --seed")
    if row.model:
        checkpoint = load_model(model)
        ladder = checkpoint.ladder.to(device)
        about |= {"steps": checkpoint.step}
    else:
        ladder = _trained(subject, config, minutes, device, about, cost)
        save_model(model, Checkpoint(ladder, config.training.patch, about["steps"], config.objective.encoders, {}))
    if hidden := [m.to(device) for m in hidden_data(subject, config)]:
        about |= {"foresight": vars(foresight(ladder, hidden)), "elbo": _bound_of(ladder, hidden, config)}
    began = time.process_time()
    how = replace(config.restoration, samples_out=config.restoration.samples, halves=False)
    restoration = Restorer(ladder, config.training.patch, how, device)(subject.tomogram)
    about |= {"restore_cpu_s": round(time.process_time() - began, 1), "held_out": restoration.held_out}
    about |= {"calibration": calibrated(restoration, subject), "search": restoration.search}
    about |= {"wedge_power_of_input": restoration.figures["wedge_power_of_input"]}
    about |= {"sharpness": sharpness(restoration.samples[0], restoration.mean, subject)}
    return restoration.mean


def _bound_of(ladder: Ladder, hidden: list[Measurement], config: RunConfig) -> float:
    """The bound on held-out patches, in nats per measured coefficient."""
    bound_of = two_encoder_bound if config.objective.encoders == 2 else one_encoder_bound
    found = []
    with torch.no_grad():
        for number, m in enumerate(hidden):
            m = m.to(ladder.top.device)
            bound = bound_of(ladder, m, ladder.encode(m.partial, R), step_generator(0, number))
            figures = numbers(bound.figures())
            found.append(figures["log_likelihood"] - figures["kl"])
    return sum(found) / len(found)


def sharpness(one: torch.Tensor, answer: torch.Tensor, subject: Subject) -> list[float]:
    """Power of one sample in the wedge over that of the truth, by shell; the truth on the grey scale of what was measured."""
    truth = subject.truth
    wedge, seen = regions((truth.shape[0], truth.shape[1], truth.shape[2]), subject.tomogram.tilts)
    radius = fourier.radius(truth.shape)
    x, s, y = (centred_spectrum(v) for v in (answer, one, truth))
    band = seen * ((radius > 0.01) & (radius < 0.2))
    scale = float(((x * y.conj()).real * band).sum() / (y.abs().square() * band).sum().clamp_min(1e-30))
    found = []
    for low, high in SHELLS:
        part = wedge * ((radius > low) & (radius <= high))
        power = scale**2 * float((y.abs().square() * part).sum())
        found.append(float((s.abs().square() * part).sum()) / max(power, 1e-30))
    return found


def _trainer(subject: Subject, config: RunConfig, device: torch.device, steps: int, solo: float) -> Trainer:
    training = config.training
    specimens = binned(subject.tomogram, training.patch, training.binnings, training.seed, config.objective)
    torch.manual_seed(training.seed)
    changed = override(
        config, {"training.steps": steps, "objective.solo": solo, "training.validate_every": max(steps // VALIDATIONS, 10)}
    )
    refill = lambda ladder, s, seed: refilled(ladder, s, training.patch, seed, device)  # noqa: E731
    return Trainer(
        Ladder(config.ladder, config.objective.encoders), specimens, changed.training, changed.objective, device, refill
    )


def _cost_of_vae(subject: Subject, config: RunConfig, device: torch.device) -> Cost:
    """Of a step and of a validation, with and without the bound, and of a refill."""
    found: Cost = {}
    for phase, solo in (("solo", 1.0), ("bound", 0.0)):
        trainer = _trainer(subject, config, device, 2 * TRIAL, solo)
        found |= _timed_vae(trainer, phase, device)
    with Spent(device) as spent:
        for specimen in trainer.specimens:
            refilled(Ladder(config.ladder, config.objective.encoders).to(device), specimen, config.training.patch, 0, device)
    return found | {"refill": spent.seconds}


def _trained(
    subject: Subject, config: RunConfig, minutes: float, device: torch.device, about: dict[str, Any], cost: Cost | None
) -> Ladder:
    cost = cost or _cost_of_vae(subject, config, device)
    start = time.process_time()
    run = _trainer(subject, config, device, _steps(cost, config, minutes), config.objective.solo)
    ladder = run.run(lambda report: None, lambda state: None)
    about |= {
        "steps": run.step,
        "binnings": len(run.specimens),
        "train_cpu_s": round(time.process_time() - start, 1),
        "trial_s_per_step": cost,
    }
    about |= {"parameters": sum(p.numel() for p in ladder.parameters()), "held_out_gain": run.best_gain}
    return ladder


def hidden_data(subject: Subject, config: RunConfig) -> list[Measurement]:
    """The held-out patches, the same for every row, whatever a row hides, turns, or takes for its noise."""
    return held_out(prepare(subject.tomogram, config.training.patch), config.training.patch)


def calibrated(found: Restoration, subject: Subject) -> dict[str, Any]:
    """Whether the standard deviation is as large as the error, whole and by part."""
    parts = calibration_by_part(found.mean, found.std, subject.truth, subject.tomogram.tilts, found.samples)
    return {
        name: {"rms_over_std": part.error_ratio, "coverage": {f"{k:g}": v for k, v in part.coverage.items()}}
        for name, part in parts.items()
        if part is not None
    }


def _timed_vae(trainer: Trainer, phase: str, device: torch.device) -> dict[str, float]:
    """Clock of a step, the first ones being a warm-up, and of a validation."""
    held_out, trainer.held_out = trainer.held_out, []
    # Refills are timed by themselves: three of them among so few steps would be most of what is measured.
    trainer.refills = set()
    with suppress(Interrupted):
        trainer.run(lambda report: None, lambda state: None, lambda: trainer.step == 2)
    with Spent(device) as steps:
        trainer.run(lambda report: None, lambda state: None)
    found = {phase: steps.seconds / (trainer.step - 2), f"check_{phase}": 0.0}
    if held_out:
        with Spent(device) as check:
            foresight(trainer.average, held_out)
        found[f"check_{phase}"] = check.seconds
    return found


def _regressor(subject: Subject, row: Row, config: RunConfig, device: torch.device, steps: int) -> Regressor:
    torch.manual_seed(config.training.seed)
    training = replace(config.training, steps=steps)
    return Regressor(UNet(config.ladder), [subject.tomogram], training, row.objective, device, config.objective.turned)


def _cost_of_unet(subject: Subject, row: Row, config: RunConfig, device: torch.device) -> Cost:
    """Of a step, and of all refills."""
    trial = _regressor(subject, row, config, device, 1000)
    trial.advance()
    with Spent(device) as step:
        for _ in range(TRIAL):
            trial.advance()
    if not trial.refills():
        return {"step": step.seconds / TRIAL, "refills": 0.0}
    with Spent(device) as refill:
        trial.refill()
    return {"step": step.seconds / TRIAL, "refills": trial.refills() * refill.seconds}


def _unet(
    subject: Subject,
    row: Row,
    config: RunConfig,
    minutes: float,
    device: torch.device,
    about: dict[str, Any],
    cost: Cost | None,
) -> torch.Tensor:
    cost = cost or _cost_of_unet(subject, row, config, device)
    steps = max(int((60 * minutes * CORES - cost["refills"]) / cost["step"]), 20)
    start = time.process_time()
    training = _regressor(subject, row, config, device, steps)
    network = training.run()
    about |= {"steps": steps, "train_cpu_s": round(time.process_time() - start, 1)}
    about |= {"trial_s_per_step": cost}
    about |= {"parameters": sum(p.numel() for p in network.parameters()), "passes_twice": row.objective in TWICE}
    about["foresight"] = vars(foresight_of(training.answer, hidden)) if (hidden := hidden_data(subject, config)) else None
    began = time.process_time()
    found = regressed(network, subject.tomogram, config.training.patch, row.objective, device)
    about |= {"restore_cpu_s": round(time.process_time() - began, 1)}
    # The better of the two by what was measured, as the truth says: rivals get their best.
    kinds = {"raw": found.mean, "data-consistent": found.consistent}
    figures = {kind: scores(density, subject)["measured"] for kind, density in kinds.items()}
    best = max(figures, key=lambda kind: figures[kind])
    about |= {"answer": best, "measured_by_answer": figures}
    return kinds[best]


if __name__ == "__main__":
    main()
