"""Speed on this machine, as one table: training steps, restoring, the share of the device's peak, and where time goes.

    python pipelines/benchmark/speed.py                          on the GPU if there is one, else on the CPU
    python pipelines/benchmark/speed.py --preset default --device cuda --sizes 128 256
    python pipelines/benchmark/speed.py --shape 256 512 512 --samples 4      one restoration of that shape alone
    python pipelines/benchmark/speed.py --compare layouts        the training step by memory layout, in turn, in one run
    python pipelines/benchmark/speed.py --compare compiled       as it is, and with its residual blocks compiled by torch

The peak is that of a large matrix product in the precision of the convolutions, measured in the same run; floating-point
operations are counted by torch. On shared machines timings are noisy: what is compared is timed in turn, and the ratio is what
counts.
"""

from __future__ import annotations

import argparse
import math
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from cryovae.config import RunConfig, preset
from cryovae.data.measurement import Measurement
from cryovae.data.prepare import prepare
from cryovae.models.ladder import Ladder, R
from cryovae.models.layers import Blocks
from cryovae.models.precision import halved
from cryovae.restoration.restorer import Restorer
from cryovae.simulation.simulate import SimulationConfig, simulate
from cryovae.tomogram import TiltGeometry, Tomogram
from cryovae.training.trainer import Interrupted, Report, Trainer
from cryovae.training.variational import Variational

PARTS = ("data", "forward", "backward", "update")
PHASES = {"completion alone": 1.0, "completion and bound": 0.0}
PEAK_SIDE, PEAK_TIMES = {"cpu": 1536, "cuda": 8192}, 8


def main() -> None:
    """Parse and run."""
    options = _options()
    torch.set_flush_denormal(True)
    device = torch.device(options.device)
    if options.shape:
        time_restore(options.preset, device, tuple(options.shape), options.samples)
        return
    print(f"{_named(device)}, torch {torch.__version__}, {torch.get_num_threads()} threads, preset {options.preset}")
    if options.compare:
        time_variants(options.preset, device, options.rounds, VARIANTS[options.compare])
        return
    kind = torch.bfloat16 if halved("auto", device) else torch.float32
    peak = matrix_peak(device, kind)
    print(f"matrix product, {str(kind).removeprefix('torch.')}: {peak / 1e9:.0f} GFLOP/s")
    time_training(options.preset, device, options.rounds, peak)
    for size in options.sizes:
        # A process of its own: memory is measured as a peak.
        words = ["--shape", *[str(size)] * 3, "--samples", str(options.samples), "--preset", options.preset]
        subprocess.run([sys.executable, __file__, *words, "--device", options.device], check=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="quick")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--sizes", type=int, nargs="*", default=[96], help="sides of cubes that are restored, in voxels")
    parser.add_argument("--samples", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=8, help="steps that are timed")
    parser.add_argument("--compare", choices=list(VARIANTS), help="compare two ways of a training step instead")
    parser.add_argument("--shape", type=int, nargs=3, metavar=("Z", "Y", "X"), help="restore one volume of this shape alone")
    return parser.parse_args()


VAETrainer = Trainer[Ladder, Measurement]


def sample(shape: tuple[int, int, int]) -> Tomogram:
    """A simulated tomogram with halves."""
    made = simulate(SimulationConfig(shape=shape, crowding=0.1))
    half1, half2 = made.half1.numpy(), made.half2.numpy()
    return Tomogram("speed", (half1 + half2) / 2, 10.0, made.tilts, (half1, half2))


def trainer_of(tomogram: Tomogram, config: RunConfig, device: torch.device, completion_fraction: float) -> VAETrainer:
    """A trainer that neither validates nor refills while it is timed."""
    training = replace(config.training, steps=10_000, validate_every=100_000)
    prepared = replace(prepare(tomogram, training.patch), held_out=())
    objective = replace(config.objective, completion_fraction=completion_fraction)
    return Trainer(Variational(Ladder(config.ladder), [prepared], training, config.masking, objective, device))


def steps(trainer: VAETrainer, count: int) -> list[Report]:
    """The reports of ``count`` further steps."""
    reports: list[Report] = []
    last = trainer.step + count
    try:
        trainer.run(reports.append, lambda state: None, lambda: trainer.step >= last)
    except Interrupted:
        return reports
    return reports


def matrix_peak(device: torch.device, kind: torch.dtype = torch.float32) -> float:
    """Floating-point operations a second of the best of a few large matrix products."""
    side = PEAK_SIDE[device.type]
    a, b = (torch.randn(side, side, device=device).to(kind) for _ in range(2))
    best = float("inf")
    for _ in range(PEAK_TIMES):
        start = _clock(device)
        a @ b
        best = min(best, _clock(device) - start)
    return 2 * side**3 / best


def time_training(name: str, device: torch.device, rounds: int, peak: float) -> None:
    """Print steps and voxels a second of each phase of training, its share of the peak, where time goes, and how much of it the
    networks by themselves take.
    """
    config = preset(name)
    side, batch = config.training.patch, config.training.batch
    tomogram = sample((side + 24, side + 48, side + 40))
    for phase, completion_fraction in PHASES.items():
        trainer = trainer_of(tomogram, config, device, completion_fraction)
        steps(trainer, 2)
        with FlopCounterMode(display=False) as counter:
            steps(trainer, 1)
        start = _clock(device)
        timings = [report.seconds for report in steps(trainer, rounds)]
        seconds = (_clock(device) - start) / rounds
        voxels = batch * side**3 / seconds
        work = counter.get_total_flops()
        print(f"{phase}: {1 / seconds:.3g} steps/s, {voxels:.3g} voxels/s", end="")
        print(f", {work / 1e9:.0f} GFLOP a step, {100 * work / seconds / peak:.0f} % of the peak")
        total = sum(sum(s.values()) for s in timings)
        print("  wall time: " + ", ".join(f"{p} {100 * sum(s.get(p, 0.0) for s in timings) / total:.1f} %" for p in PARTS))
        print("  operations: " + ", ".join(f"{k} {100 * share:.1f} %" for k, share in kinds(trainer, device).items()))
        if completion_fraction == 1:
            alone = statistics.median(networks_alone(trainer, device, rounds))
            print(f"  forward and backward of the networks alone: {100 * alone / seconds:.0f} % of a step")


def networks_alone(trainer: VAETrainer, device: torch.device, rounds: int) -> list[float]:
    """Seconds for the networks of a completion step, there and back: nothing drawn, rotated, transformed or updated."""
    ladder, config = trainer.network, trainer.config
    patches = torch.randn(config.batch, *[config.patch] * 3, device=device)
    seconds = []
    for _ in range(rounds):
        ladder.zero_grad(set_to_none=True)
        start = _clock(device)
        ladder.restore(ladder.encode(patches, R), None).sum().backward()  # type: ignore[no-untyped-call]
        seconds.append(_clock(device) - start)
    return seconds


def kinds(trainer: VAETrainer, device: torch.device) -> dict[str, float]:
    """Shares of convolutions, FFTs, copies between host and device, and the rest, in the operations of three steps."""
    on_gpu = device.type == "cuda"
    with profile(activities=[ProfilerActivity.CUDA if on_gpu else ProfilerActivity.CPU]) as profiled:
        steps(trainer, 3)
    spent = {"convolution": 0.0, "FFT": 0.0, "copies": 0.0, "rest": 0.0}
    for event in profiled.key_averages():
        key = event.key.lower()
        kind = "FFT" if "fft" in key else "convolution" if "conv" in key or "gemm" in key or "xmma" in key else "rest"
        kind = "copies" if "memcpy" in key else kind
        spent[kind] += event.self_device_time_total if on_gpu else event.self_cpu_time_total
    total = max(sum(spent.values()), 1e-9)
    return {kind: t / total for kind, t in spent.items()}


def _laid_out(layout: torch.memory_format) -> Callable[[Ladder], None]:
    def change(ladder: Ladder) -> None:
        ladder.to(memory_format=layout)  # type: ignore[call-overload]

    return change


def _compiled(ladder: Ladder) -> None:
    for module in ladder.modules():
        if isinstance(module, Blocks):
            module.compile()


VARIANTS: dict[str, dict[str, Callable[[Ladder], None]]] = {
    "layouts": {"contiguous": _laid_out(torch.contiguous_format), "channels_last_3d": _laid_out(torch.channels_last_3d)},
    "compiled": {"as it is": lambda ladder: None, "compiled": _compiled},
}


def time_variants(name: str, device: torch.device, rounds: int, variants: dict[str, Callable[[Ladder], None]]) -> None:
    """Print seconds a step of two ways of running the networks, in turn."""
    config = preset(name)
    side = config.training.patch
    tomogram = sample((side + 24, side + 48, side + 40))
    for phase, completion_fraction in PHASES.items():
        trainers = {variant: trainer_of(tomogram, config, device, completion_fraction) for variant in variants}
        for variant, trainer in trainers.items():
            variants[variant](trainer.network)
            steps(trainer, 2)
        spent: dict[str, list[float]] = {variant: [] for variant in variants}
        for _ in range(rounds):
            for variant, trainer in trainers.items():
                spent[variant] += [sum(report.seconds.values()) for report in steps(trainer, 1)]
        ratio = statistics.median(a / b for a, b in zip(*spent.values(), strict=True))
        words = ", ".join(f"{variant} {statistics.median(seconds):.2f} s a step" for variant, seconds in spent.items())
        print(f"{phase}: {words}, ratio {ratio:.2f} (median of {rounds} pairs)")


def time_restore(name: str, device: torch.device, shape: tuple[int, int, int], samples: int) -> None:
    """Print voxels a second and peak memory of one restoration of two halves of noise, with weights that were not trained."""
    config = preset(name)
    rng = np.random.default_rng(0)
    halves = (rng.standard_normal(shape, dtype=np.float32), rng.standard_normal(shape, dtype=np.float32))
    tomogram = Tomogram("speed", (halves[0] + halves[1]) / 2, 10.0, TiltGeometry.from_range(-60, 60), halves)
    before = _peak_memory(device)
    how = replace(config.restoration, samples=samples, halves=False)
    restorer = Restorer(Ladder(config.ladder), config.training.patch, how, device)
    start = _clock(device)
    restorer(tomogram)
    seconds = _clock(device) - start
    voxels, sides = math.prod(shape), " x ".join(str(n) for n in shape)
    print(f"restore {sides}, {samples} samples: {seconds:.1f} s, {voxels * samples / seconds:.3g} voxels of samples/s", end="")
    print(f", peak {_peak_memory(device):.2f} GB ({before:.2f} GB before), the volume itself {4 * voxels / 1e9:.3f} GB")


def _peak_memory(device: torch.device) -> float:
    """GB, of the GPU, or of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def _clock(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _named(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU {platform.processor() or platform.machine()}"


if __name__ == "__main__":
    main()
