"""Runs the same restorations with two checkouts, and compares what they write.

    python pipelines/same_result.py --checkout OLD --checkout NEW            the sample as pipelines/quickstart.sh restores it
    python pipelines/same_result.py --checkout OLD --checkout NEW --small    a corner of it, in seconds

Four cases: the variational model in memory, the same model streamed from disk, a network of one other objective, and a table of
three rows. For each volume it prints a checksum of the density (SHA-256 of its float32 values), and, where the checksums differ,
the largest difference over the standard deviation of the first. Exit code 1 if a volume in memory differs at all, or a streamed
volume by more than 1e-5.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import mrcfile
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
SAMPLE = ROOT / "data_samples"
# Largest difference of a streamed restoration, over the standard deviation of the volume.
STREAMED_LIMIT = 1e-5
SMALL_SETTINGS = {
    "training.patch": "16", "training.steps": "40", "training.validate_every": "10", "training.learning_rate": "0.005",
    "training.ema": "0.9", "training.binnings": "2", "ladder.widths": "[4,6,8]", "ladder.latents": "[2,3,4]",
    "ladder.blocks": "1", "restoration.samples": "4",
}  # fmt: skip
SMALL = [word for key, value in SMALL_SETTINGS.items() for word in ("--set", f"{key}={value}")]


def _cryovae(checkout: Path, *arguments: object) -> None:
    """Run the command line of a checkout with the interpreter that runs this script, on one thread."""
    environment = os.environ | {"PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "cryovae", *map(str, arguments)]
    done = subprocess.run(command, env=environment, cwd=checkout, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)} in {checkout} ended with {done.returncode}:\n{done.stderr[-2000:]}")


def _halves(folder: Path, small: bool) -> tuple[Path, Path]:
    """The two halves of the sample, or a corner of 32 x 48 x 40 voxels of them."""
    paths = (SAMPLE / "sample_half1.mrc", SAMPLE / "sample_half2.mrc")
    if not small:
        return paths
    for path in paths:
        with mrcfile.open(path) as source, mrcfile.new(folder / path.name, overwrite=True) as corner:
            corner.set_data(source.data[:32, :48, :40].copy())
            corner.voxel_size = source.voxel_size
    return folder / paths[0].name, folder / paths[1].name


def _table(folder: Path, halves: tuple[Path, Path]) -> Path:
    """A table of three rows: the two halves, the same exchanged, and the same again."""
    table = folder / "tomograms.star"
    rows = [(*halves, "a"), (*halves[::-1], "b"), (*halves, "c")]
    names = ("rlnTomoReconstructedTomogramHalf1", "rlnTomoReconstructedTomogramHalf2", "rlnTomoName")
    columns = "".join(f"_{name} #{number}\n" for number, name in enumerate(names, 1))
    lines = "".join(f"{one} {two} {name}\n" for one, two, name in rows)
    table.write_text(f"\ndata_tomograms\n\nloop_\n{columns}{lines}\n")
    return table


def run_cases(checkout: Path, folder: Path, small: bool) -> None:
    """Run all cases with a checkout; each writes into a folder of its own below ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    half1, half2 = _halves(folder, small)
    tilts = ["--tilts", SAMPLE / "sample.tlt"]
    sample = ["--steps", "240", "--config", ROOT / "pipelines" / "quickstart.toml"]
    settings = ["--preset", "quick", *(SMALL if small else sample),
                "--set", "restoration.halves=true", "--samples-out", 2, "--overwrite", "--threads", 1]  # fmt: skip
    halves = ["--half1", half1, "--half2", half2, *tilts]
    _cryovae(checkout, "restore", *halves, *settings, "-o", folder / "memory")
    streamed = ["--model", folder / "memory", "--memory", "520MB" if small else "1GB"]
    _cryovae(checkout, "restore", *halves, *settings, *streamed, "-o", folder / "streamed")
    network = [*settings[: settings.index("--samples-out")], "--overwrite", "--threads", 1]
    steps = [] if small else ["--set", "training.steps=60"]
    _cryovae(checkout, "restore", *halves, *network, *steps, "--objective", "deepdewedge", "-o", folder / "network")
    _cryovae(
        checkout, "restore", _table(folder, (half1, half2)), "--tilt-range", -60, 60, *settings, *steps, "-o", folder / "table"
    )


def _densities(folder: Path) -> dict[str, np.ndarray]:
    paths = sorted(path for path in folder.rglob("*.mrc") if path.parent != folder and "restoring" not in path.parts)
    return {str(path.relative_to(folder)): mrcfile.read(path).astype(np.float32) for path in paths}


def compare(first: Path, second: Path) -> bool:
    """Print a line for each volume; True if all agree as they have to."""
    before, after = _densities(first), _densities(second)
    agree = before.keys() == after.keys() and bool(before)
    for name in sorted(before.keys() | after.keys()):
        if name not in before or name not in after:
            print(f"{name:45s} only in {'the first' if name in before else 'the second'}")
            continue
        sums = [hashlib.sha256(np.ascontiguousarray(d).tobytes()).hexdigest()[:16] for d in (before[name], after[name])]
        difference = float(np.abs(before[name] - after[name]).max()) / max(float(before[name].std()), 1e-30)
        limit = STREAMED_LIMIT if name.startswith("streamed") else 0.0
        agree &= difference <= limit
        print(f"{name:45s} {sums[0]} {sums[1]}  {'same' if sums[0] == sums[1] else f'differs by {difference:.2g} std'}")
    for name in after:
        twin = name.replace("memory/", "streamed/", 1)
        if name.startswith("memory/") and twin in after:
            difference = float(np.abs(after[name] - after[twin]).max()) / max(float(after[name].std()), 1e-30)
            print(f"{twin:45s} against memory: {difference:.2g} std")
    return agree


def main() -> None:
    """Run what is missing, compare, and end with 0 if all agree."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkout", type=Path, action="append", required=True, help="a checkout; given twice")
    parser.add_argument("--small", action="store_true", help="a corner of the sample and a few steps")
    parser.add_argument("--folder", type=Path, help="keep the results here; results that are there already are used")
    arguments = parser.parse_args()
    if len(arguments.checkout) != 2:
        parser.error("expected --checkout twice")
    with tempfile.TemporaryDirectory() as temporary:
        top = arguments.folder or Path(temporary)
        folders = [top / "first", top / "second"]
        for checkout, folder in zip(arguments.checkout, folders, strict=True):
            if not folder.exists():
                run_cases(checkout.resolve(), folder, arguments.small)
        sys.exit(0 if compare(*folders) else 1)


if __name__ == "__main__":
    main()
