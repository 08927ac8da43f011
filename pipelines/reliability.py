"""Kills runs, fills the disk and starts runs at once, on tiny volumes, and prints what happened as a table.

    python pipelines/reliability.py                 20 kills of train and of restore each; the rest
    python pipelines/reliability.py --kills 5 --seed 1

kills       SIGKILL at a random moment of the time that an undisturbed run takes, then --resume until it ends; the model, mean
            and std must be those of the undisturbed run bit for bit, and files with a final name complete at any time
at once     two runs in one folder: one is refused with exit code 2; three runs in three folders: all end alike
full disk   each command on a small file system that is filled up to a few kilobytes: exit code 1 and one line, no traceback, no
            half-written file; with room made, the same command ends well. Needs the right to mount a tmpfs.
Ctrl-C      once and twice during training: saved or ended at once, then --resume to the undisturbed result
batch       rows that are corrupt, missing, and called with braces and a quote: the others are restored
read-only   input and output folders that cannot be written: exit code 0 and 2. Needs the same right.

Exit code 1 if anything is not as it must be.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import mrcfile
import numpy as np

SETTINGS = (
    "training.patch=16", "training.steps=30", "training.validate_every=10", "training.binnings=1",
    "training.checkpoint_minutes=0.005", "ladder.widths=[2,2]", "ladder.latents=[1,1]", "ladder.blocks=1",
    "restoration.samples=2",
)  # fmt: skip
OPTIONS = ["--tilt-range", "-60", "60", "--preset", "quick", "--device", "cpu", "--threads", "1"]
OPTIONS += [word for setting in SETTINGS for word in ("--set", setting)]
BATCH = [word for word in OPTIONS if word not in ("--threads", "1")]
# Kilobytes that are left on the full disk, and its size.
LEFT, SIZE = (0, 8, 40, 120, 300), 4096
LIMIT = 300


def start(*words: object) -> subprocess.Popen[str]:
    """Begin a command in a process of its own."""
    command = [sys.executable, "-m", "cryovae", *map(str, words)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def run(*words: object) -> tuple[int, str]:
    """Exit code and stderr of a command."""
    process = start(*words)
    _, said = process.communicate(timeout=LIMIT)
    return process.returncode, said


def sums(folder: Path) -> dict[str, str]:
    """Checksums of the model and of the voxels of all volumes; reading them fails if a file is not complete."""
    checked = {}
    for path in sorted(folder.glob("*")):
        if path.suffix == ".mrc":
            checked[path.name] = hashlib.sha256(np.ascontiguousarray(mrcfile.read(path)).tobytes()).hexdigest()
        elif path.suffix == ".safetensors":
            checked[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return checked


def kills(command: list[object], where: Path, count: int, random_moments: random.Random) -> str:
    """Kill a command until ``count`` kills are done, each folder resumed to its end."""
    began = time.monotonic()
    code, said = run(*command, "-o", where / "whole" / "run")
    lasting, expected = time.monotonic() - began, sums(where / "whole" / "run")
    if code:
        return f"the undisturbed run failed: {said}"
    killed = number = 0
    while killed < count:
        number += 1
        folder, code = where / f"broken_{number}" / "run", -1
        while code:
            process = start(*command, "--resume", "-o", folder)
            try:
                process.communicate(timeout=random_moments.uniform(0, lasting) if killed < count else LIMIT)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
                killed += 1
                sums(folder)
                continue
            code = process.returncode
            if code:
                return f"exit code {code} after {killed} kills"
        if sums(folder) != expected:
            return f"other results after {killed} kills"
    return f"ok: {killed} kills, {number} runs, all bit for bit"


def two_at_once(command: list[object], where: Path) -> str:
    """Two runs in one folder at the same moment."""
    processes = [start(*command, "-o", where / "run") for _ in range(2)]
    said = [process.communicate(timeout=LIMIT)[1] for process in processes]
    codes = [process.returncode for process in processes]
    refused = said[codes.index(2)].strip().splitlines() if 2 in codes else []
    right = sorted(codes) == [0, 2] and len(refused) == 1
    return f"ok: {refused[0][:60]}..." if right else f"exit codes {codes}: {said}"


def three_at_once(command: list[object], where: Path) -> str:
    """Three runs in three folders at the same moment."""
    folders = [where / str(number) / "run" for number in range(3)]
    processes = [start(*command, "-o", folder) for folder in folders]
    for process in processes:
        process.communicate(timeout=LIMIT)
    codes, results = [process.returncode for process in processes], [sums(folder) for folder in folders]
    return "ok: three alike" if codes == [0, 0, 0] and results[0] == results[1] == results[2] else f"exit codes {codes}"


def two_tomograms(command: list[object], where: Path, tomogram: Path) -> str:
    """Two tomograms restored into one folder at the same moment."""
    other = where / "other.mrc"
    where.mkdir()
    shutil.copy(tomogram, other)
    listed = [[path if word == tomogram else word for word in command] for path in (tomogram, other)]
    processes = [start(*words, "-o", where / "run") for words in listed]
    said = [process.communicate(timeout=LIMIT)[1] for process in processes]
    codes = [process.returncode for process in processes]
    names = sorted(json.loads(path.read_text())["name"] for path in (where / "run").glob("*run.json"))
    right = codes == [0, 0] and names == sorted((tomogram.stem, other.stem))
    return "ok: two records" if right else f"exit codes {codes}, records of {names}: {said}"


def ctrl_c(command: list[object], where: Path, presses: int) -> str:
    """Ctrl-C in the middle of training, and the same again with --resume."""
    run(*command, "-o", where / "whole")
    process, metrics = start(*command, "-o", where / "run"), where / "run/metrics.csv"
    while process.poll() is None and not (metrics.exists() and metrics.read_text().count("\n") > 1):
        time.sleep(0.02)
    for _ in range(presses):
        process.send_signal(signal.SIGINT)
        time.sleep(0.01)
    said = process.communicate(timeout=LIMIT)[1]
    if process.returncode not in (75, 130) or "Traceback" in said:
        return f"exit code {process.returncode}: {said[-300:]}"
    sums(where / "run")
    code, said = run(*command, "--resume", "-o", where / "run")
    right = code == 0 and sums(where / "run") == sums(where / "whole")
    return (
        f"ok: exit code {process.returncode}, resumed bit for bit" if right else f"resumed with exit code {code}: {said[-300:]}"
    )


def damaged_batch(where: Path, tomogram: Path) -> str:
    """A batch with a corrupt row, a missing row, and a row with braces and a quote in its name."""
    where.mkdir()
    strange, corrupt = where / "ts {x} y's.mrc", where / "corrupt.mrc"
    shutil.copy(tomogram, strange)
    corrupt.write_bytes(tomogram.read_bytes()[:5000])
    files = [tomogram, strange, corrupt, where / "gone.mrc"]
    rows = "".join(f'"{path.stem}" "{path}"\n' for path in files)
    table = where / "set.star"
    table.write_text(f"data_\n\nloop_\n_rlnTomoName #1\n_rlnTomoReconstructedTomogram #2\n{rows}")
    code, said = run("batch", "run", table, *BATCH, "-o", where / "out")
    there = [(where / "out" / path.stem / f"{path.stem}_mean.mrc").exists() for path in files]
    right = code == 1 and there == [True, True, False, False]
    return "ok: the two good rows are restored, exit code 1" if right else f"exit code {code}, restored {there}: {said[-600:]}"


@contextmanager
def small_disk(where: Path) -> Iterator[Path]:
    """A file system of SIZE kilobytes."""
    where.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}k", "tmpfs", where], check=True, capture_output=True)
    try:
        yield where
    finally:
        subprocess.run(["umount", "-l", where], check=True)


def full_disk(command: list[object], where: Path) -> str:
    """A command on disks with less and less left, and the same again when there is room."""
    stopped = 0
    for left in LEFT:
        with small_disk(where) as disk:
            ballast = disk / "ballast"
            with ballast.open("wb") as file:
                file.write(bytes(1024 * (SIZE - left)))
            code, said = run(*command, "-o", disk / "run")
            lines = [line for line in said.splitlines() if line.startswith("cryovae: ")]
            half = [path.name for path in disk.rglob("*.part*")]
            if code not in (0, 1) or "Traceback" in said or "Logging error" in said or half or (code and len(lines) != 1):
                return f"{left} kB left: exit code {code}, {half}, {said[-400:]}"
            sums(disk / "run")
            stopped += code
            ballast.unlink()
            again = ["--resume"] if command[0] in ("train", "restore") else ["--overwrite"]
            code, said = run(*command, *again, "-o", disk / "run")
            if code:
                return f"{left} kB left, then room: exit code {code}, {said[-400:]}"
    return f"ok: {stopped} of {len(LEFT)} stopped in one line, all ended once there was room"


def read_only(command: list[object], where: Path) -> str:
    """A results folder that cannot be written."""
    with small_disk(where) as disk:
        (disk / "run").mkdir()
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        code, said = run(*command, "-o", disk / "run")
    return "ok: refused in one line" if code == 2 and len(said.strip().splitlines()) == 1 else f"exit code {code}: {said[-300:]}"


def read_only_input(command: list[object], where: Path, tomogram: Path) -> str:
    """A tomogram in a folder that cannot be written."""
    with small_disk(where / "in") as disk:
        (disk / tomogram.name).write_bytes(tomogram.read_bytes())
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        words = [disk / tomogram.name if word == tomogram else word for word in command]
        code, said = run(*words, "-o", where / "run")
    return "ok: read" if code == 0 else f"exit code {code}: {said[-300:]}"


def may_mount(where: Path) -> bool:
    """Whether a tmpfs can be mounted here."""
    try:
        with small_disk(where):
            return True
    except (OSError, subprocess.CalledProcessError):
        return False


def checks(where: Path, count: int, seed: int) -> dict[str, Callable[[], str]]:
    """All checks by name."""
    tomogram = where / "ts_01.mrc"
    smooth = np.random.default_rng(seed).normal(size=(20, 28, 24)).astype(np.float32)
    smooth = smooth + np.roll(smooth, 1, 1) + np.roll(smooth, 1, 2)
    with mrcfile.new(tomogram) as mrc:
        mrc.set_data(smooth)
        mrc.voxel_size = 10.0
    train: list[object] = ["train", tomogram, *OPTIONS]
    restore: list[object] = ["restore", tomogram, *OPTIONS]
    listed: dict[str, Callable[[], str]] = {
        "kills of train": lambda: kills(train, where / "train", count, random.Random(seed)),
        "kills of restore": lambda: kills(restore, where / "restore", count, random.Random(seed + 1)),
        "two restore at once in one folder": lambda: two_at_once(restore, where / "two"),
        "two train at once in one folder": lambda: two_at_once(train, where / "two_train"),
        "three restore at once in three": lambda: three_at_once(restore, where / "three"),
    }
    listed["two tomograms into one folder at once"] = lambda: two_tomograms(restore, where / "both", tomogram)
    for presses, word in ((1, "once"), (2, "twice")):
        listed[f"Ctrl-C {word}"] = lambda presses=presses: ctrl_c(restore, where / f"keys_{presses}", presses)  # type: ignore[misc]
    listed["batch with damaged rows"] = lambda: damaged_batch(where / "batch", tomogram)
    if not may_mount(where / "disk"):
        print("no right to mount a tmpfs: full disk and read-only folders are left out", file=sys.stderr)
        return listed
    model = where / "whole_model"
    simulate: list[object] = ["simulate", "--acquisition", "ideal", "--shape", 20, 28, 24]
    sample: list[object] = ["sample", model, "--count", 2, "--device", "cpu"]
    run(*train, "-o", model)
    for name, command in (("train", train), ("restore", restore), ("simulate", simulate), ("sample", sample)):
        listed[f"full disk, {name}"] = lambda command=command: full_disk(command, where / "disk")  # type: ignore[misc]
        listed[f"read-only results, {name}"] = lambda command=command: read_only(command, where / "disk")  # type: ignore[misc]
    listed["read-only input, restore"] = lambda: read_only_input(restore, where / "read_only", tomogram)
    return listed


def main() -> int:
    """Run all checks and print their table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="kills of each command")
    parser.add_argument("--seed", type=int, default=0, help="of the moments and of the volume")
    parser.add_argument("--only", default="", help="only checks whose name contains this")
    arguments = parser.parse_args()
    failed = 0
    with tempfile.TemporaryDirectory(prefix="reliability_") as folder:
        listed = checks(Path(folder), arguments.kills, arguments.seed)
        for name, check in listed.items():
            if arguments.only in name:
                result = check()
                failed += not result.startswith("ok")
                print(f"| {name} | {result} |", flush=True)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
