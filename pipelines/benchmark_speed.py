"""Speed and memory on this machine, as tables: the training step by layout and by part, and restoring by size.

    python pipelines/benchmark_speed.py step                     the training step of the quick preset
    python pipelines/benchmark_speed.py restore --sizes 128 256  voxels a second and peak memory, with a model

Timings on shared machines are noisy: layouts are timed in turn, in one run, and the ratio is what counts.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import time
from dataclasses import replace

import torch
from torch.profiler import ProfilerActivity, profile

from cryovae.config import PRESETS
from cryovae.models.ladder import Ladder
from cryovae.objectives.specimen import prepare
from cryovae.physics.simulate import SimulationConfig, simulate
from cryovae.restore import RestoreConfig, Restorer
from cryovae.tomogram import Tomogram
from cryovae.train import Report, Trainer

PARTS = ("data", "forward", "backward", "update")
LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last_3d": torch.channels_last_3d}


def sample(shape: tuple[int, int, int]) -> Tomogram:
    """A simulated tomogram with halves."""
    made = simulate(SimulationConfig(shape=shape, crowding=0.1))
    half1, half2 = made.half1.numpy(), made.half2.numpy()
    return Tomogram("speed", (half1 + half2) / 2, 10.0, made.tilts, (half1, half2))


def trainer_of(tomogram: Tomogram, layout: torch.memory_format, solo: float) -> Trainer:
    """A trainer of the quick preset whose network has the layout."""
    quick = PRESETS["quick"]
    config = replace(quick.training, steps=10_000, validate_every=100_000)
    objective = replace(quick.objective, solo=solo)
    specimen = replace(prepare(tomogram, config.patch), held_out=())
    trainer = Trainer(Ladder(quick.ladder), [specimen], config, objective, torch.device("cpu"))
    trainer.ladder.to(memory_format=layout)  # type: ignore[call-overload]
    return trainer


def steps(trainer: Trainer, count: int) -> list[Report]:
    """The reports of ``count`` further steps."""
    reports: list[Report] = []
    last = trainer.step + count

    def stop() -> bool:
        return trainer.step >= last

    try:
        trainer.run(reports.append, lambda state: None, stop)
    except Exception as stopped:
        if type(stopped).__name__ != "Interrupted":
            raise
    return reports


def time_steps(rounds: int) -> None:
    """Print seconds a step by layout, in turn, then its parts and the share of each kind of operation."""
    tomogram = sample((80, 104, 96))
    for phase, solo in (("completion alone", 1.0), ("completion and bound", 0.0)):
        trainers = {name: trainer_of(tomogram, layout, solo) for name, layout in LAYOUTS.items()}
        for trainer in trainers.values():
            steps(trainer, 1)
        spent: dict[str, list[dict[str, float]]] = {name: [] for name in LAYOUTS}
        for _ in range(rounds):
            for name, trainer in trainers.items():
                spent[name] += [report.seconds for report in steps(trainer, 1)]
        medians = {name: statistics.median(sum(s.values()) for s in found) for name, found in spent.items()}
        ratio = statistics.median(
            sum(a.values()) / sum(b.values()) for a, b in zip(spent["contiguous"], spent["channels_last_3d"], strict=True)
        )
        print(f"{phase}: " + ", ".join(f"{name} {seconds:.2f} s a step" for name, seconds in medians.items()), end="")
        print(f", ratio {ratio:.2f} (median of {rounds} pairs)")
        found = spent["channels_last_3d"]
        total = sum(sum(s.values()) for s in found)
        shares = {part: sum(s.get(part, 0.0) for s in found) / total for part in PARTS}
        print("  wall time: " + ", ".join(f"{part} {100 * share:.1f} %" for part, share in shares.items()))
        with profile(activities=[ProfilerActivity.CPU]) as profiled:
            steps(trainers["channels_last_3d"], 3)
        kinds = {"convolution": 0.0, "FFT": 0.0, "rest": 0.0}
        for event in profiled.key_averages():
            kind = "FFT" if "fft" in event.key else "convolution" if "conv" in event.key else "rest"
            kinds[kind] += event.self_cpu_time_total
        whole = sum(kinds.values())
        print("  operations: " + ", ".join(f"{kind} {100 * t / whole:.1f} %" for kind, t in kinds.items()))


def time_restore(size: int, samples: int) -> None:
    """Print voxels a second and peak memory of one restoration; in a process of its own, as memory is a peak."""
    tomogram = replace(sample((size, size, size)), halves=None)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    restorer = Restorer(Ladder(PRESETS["quick"].ladder), PRESETS["quick"].training.patch, RestoreConfig(samples=samples))
    start = time.perf_counter()
    restorer(tomogram)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    rate = size**3 * samples / seconds
    print(f"{size}^3, {samples} samples: {seconds:.0f} s, {rate:.3g} voxels of samples a second, ", end="")
    print(f"peak {peak:.2f} GB ({before:.2f} GB before), the volume itself {4 * size**3 / 1e9:.3f} GB")


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("step", "restore", "restore-one"))
    parser.add_argument("--sizes", type=int, nargs="+", default=[128, 256])
    parser.add_argument("--samples", type=int, nargs="+", default=[2])
    parser.add_argument("--rounds", type=int, default=8)
    chosen = parser.parse_args()
    torch.set_flush_denormal(True)
    if chosen.what == "step":
        time_steps(chosen.rounds)
    elif chosen.what == "restore-one":
        time_restore(chosen.sizes[0], chosen.samples[0])
    else:
        for size in chosen.sizes:
            for samples in chosen.samples:
                words = ["restore-one", "--sizes", str(size), "--samples", str(samples)]
                subprocess.run([sys.executable, __file__, *words], check=True)


if __name__ == "__main__":
    main()
