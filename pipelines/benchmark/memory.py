"""Time and memory of restoring against the size of a tomogram, held in memory and streamed; a table, and a plot.

    python pipelines/benchmark/memory.py --sizes 64 96 128 192 --out benchmark_memory

Each restoration is a process of its own, with a small ladder of random weights: how good its restoration is does not matter here.
Streamed, it gets --memory; in memory, it gets no limit. "difference" is the largest one between the means (and the standard
deviations) of the two ways, over the standard deviation of the data.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import mrcfile
import numpy as np

WAYS = ("in memory", "streamed")
KINDS = ("mean", "std")
# The command line, changed so that no tomogram fits into the memory.
STREAMED = "from cryovae.cli.app import app; from cryovae.workflows import memory; memory.IN_MEMORY = 10**9; app()"


def main() -> None:
    """Measure, print and plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 96, 128, 192], help="sides of cubes, in voxels")
    parser.add_argument("--memory", default="700MB", help="budget of a streamed restoration")
    parser.add_argument("--widths", type=int, nargs="+", default=[4, 6], help="channels of the ladder, fine to coarse")
    parser.add_argument("--patch", type=int, default=32)
    parser.add_argument("--samples", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("benchmark_memory"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    model = untrained(options.out / "model.safetensors", options.widths, options.patch)
    rows: list[dict[str, float | str]] = []
    head = f"{'side':>5} {'way':<10} {'s':>8} {'processor s':>11} {'per Mvoxel':>10} {'peak MB':>8}"
    print(f"{head} {'bytes per voxel more':>20} {'difference':>18}", flush=True)
    for side in options.sizes:
        volume = noise(options.out / f"noise_{side}.mrc", side)
        for way in WAYS:
            rows.append({"side": side, "way": way} | measured(volume, model, way, options))
            kept(options.out, volume.stem, way)
            if way == WAYS[1]:
                rows[-1] |= difference(options.out, volume)
            print_last(rows)
        volume.unlink()
    (options.out / "memory.json").write_text(json.dumps(rows, indent=2) + "\n")
    plotted(options.out / "memory.png", rows, options.memory)


def untrained(path: Path, widths: list[int], patch: int) -> Path:
    """A model file of a ladder that was not trained."""
    import torch

    from cryovae.checkpoint import Checkpoint, save_model
    from cryovae.models.ladder import Ladder
    from cryovae.models.ladder_config import LadderConfig

    torch.manual_seed(0)
    ladder = Ladder(LadderConfig(tuple(widths), (2,) * len(widths), 1))
    for parameter in ladder.parameters():
        # A layer of zeroes would restore nothing, and all ways of restoring nothing agree.
        if parameter.ndim > 1 and not parameter.any():
            torch.nn.init.normal_(parameter, std=0.05)
    save_model(path, Checkpoint(ladder, patch, 0, 2, {}))
    return path


def noise(path: Path, side: int) -> Path:
    """A cube of white noise, written plane by plane."""
    rng = np.random.default_rng(side)
    with mrcfile.new_mmap(path, shape=(side,) * 3, mrc_mode=2, overwrite=True) as mrc:
        mrc.voxel_size = 10.0
        for plane in mrc.data:
            plane[:] = rng.normal(size=(side, side))
    return path


def measured(volume: Path, model: Path, way: str, options: argparse.Namespace) -> dict[str, float]:
    """Seconds of the clock and of processors, and peak bytes, of one restoration."""
    line = [
        sys.executable,
        *(("-m", "cryovae") if way == WAYS[0] else ("-c", STREAMED)),
        "restore",
        volume,
        "--tilt-range",
        "-60",
        "60",
        "--model",
        model,
    ]
    line += ["-o", options.out / "restored", "--overwrite", "--samples", options.samples, "--set", "restoration.batch=2"]
    # To fit the flow would take minutes for each, and as long whatever the size.
    line += ["--device", options.device, "--threads", options.threads, "--sampler", "amortised"]
    line += ["--memory", options.memory if way == WAYS[1] else "1000GB"]
    began = time.monotonic()
    process = subprocess.Popen([str(word) for word in line], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    said = process.stderr.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{volume}, {way}: {said.strip().splitlines()[-1]}")
    processor = usage.ru_utime + usage.ru_stime
    return {"seconds": time.monotonic() - began, "processor": processor, "peak": 1024.0 * usage.ru_maxrss}


def kept(out: Path, stem: str, way: str) -> None:
    """Rename the volumes of a restoration, so that the next does not replace them."""
    for kind in KINDS:
        (out / "restored" / f"{stem}_{kind}.mrc").replace(out / f"{kind} {way}.mrc")


def difference(out: Path, volume: Path) -> dict[str, float]:
    """The largest difference between the volumes of the two ways, plane by plane; they are removed."""
    with mrcfile.mmap(volume) as data:
        scale = float(data.data.std(dtype=np.float64))
    differences = {}
    for kind in KINDS:
        one, two = (out / f"{kind} {way}.mrc" for way in WAYS)
        with mrcfile.mmap(one) as first, mrcfile.mmap(two) as second:
            differences[f"difference_{kind}"] = (
                max(float(np.abs(a - b).max()) for a, b in zip(first.data, second.data, strict=True)) / scale
            )
        one.unlink()
        two.unlink()
    return differences


def print_last(rows: list[dict[str, float | str]]) -> None:
    """Print the last row."""
    row = rows[-1]
    first = next(r for r in rows if r["way"] == row["way"])
    voxels, before = float(row["side"]) ** 3, float(first["side"]) ** 3
    slope = (float(row["peak"]) - float(first["peak"])) / (voxels - before) if voxels > before else float("nan")
    per = float(row["processor"]) / voxels * 1e6
    differ = " ".join(f"{float(row[f'difference_{kind}']):.1e}" for kind in KINDS) if "difference_mean" in row else "-"
    times = f"{row['seconds']:8.1f} {row['processor']:11.1f} {per:10.2f}"
    figures = f"{times} {float(row['peak']) / 1e6:8.0f} {slope:20.1f} {differ:>18}"
    print(
        f"{row['side']:>5} {row['way']:<10} {figures}",
        flush=True,
    )


def plotted(path: Path, rows: list[dict[str, float | str]], budget: str) -> None:
    """Processor seconds per million voxels, and peak memory, against the side."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), constrained_layout=True)
    for way, colour in zip(WAYS, ("tab:blue", "tab:orange"), strict=True):
        own = [row for row in rows if row["way"] == way]
        side = np.array([float(row["side"]) for row in own])
        left.plot(side, [float(row["processor"]) for row in own] / side**3 * 1e6, "o-", color=colour, label=way)
        right.plot(side, [float(row["peak"]) / 1e9 for row in own], "o-", color=colour, label=way)
    left.set(xlabel="side of a cube (voxels)", ylabel="processor seconds per million voxels", yscale="log")
    right.set(xlabel="side of a cube (voxels)", ylabel="peak resident memory (GB)", ylim=(0, None))
    right.set_title(f"streamed with --memory {budget}", fontsize=10)
    for axis in (left, right):
        axis.legend()
        axis.grid(alpha=0.3, which="both")
    figure.savefig(path, dpi=100)


if __name__ == "__main__":
    main()
