"""Interrupts, starves and collides small runs of cryovae, and prints a table of what came of it.

    python pipelines/reliability.py                 all of it, about ten minutes on two cores
    python pipelines/reliability.py --only kills    one part: kills, together, disk, places, keys, batch

A run counts as good if it ends as it must (exit code, one line) and leaves only complete files under final names. Killed runs are
resumed, and must end with the bytes of a run that nobody disturbed. Exit code 1 if anything is not good.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import mrcfile
import numpy as np

KILLS = 20
SHAPE = (24, 40, 36)
SETTINGS = {
    "training.patch": 16,
    "training.batch": 1,
    "training.validate_every": 5,
    "training.checkpoint_minutes": 0.001,
    "training.binnings": 1,
    "ladder.widths": "[4,6]",
    "ladder.latents": "[1,2]",
    "ladder.blocks": 1,
    "restoration.samples": 2,
    "restoration.samples_out": 1,
}
OPTIONS = ["--tilt-range", "-60", "60", "--preset", "quick", "--device", "cpu", "--threads", "1"]
OPTIONS += [word for key, value in SETTINGS.items() for word in ("--set", f"{key}={value}")]
STEPS = 40
# The sizes in bytes after which a full disk stops a file, from the first record to the last volume.
LIMITS = (0, 300, 2_000, 8_000, 30_000, 60_000, 100_000, 130_000)


@dataclass
class Part:
    """A row of the table: what was done, how often, and what was not good."""

    name: str
    tried: int = 0
    faults: list[str] = field(default_factory=list)

    def check(self, good: bool, what: str) -> None:
        """Note a fault unless all is good."""
        if not good:
            self.faults.append(what)


class Bench:
    """Runs of one tomogram in a temporary folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        rng = np.random.default_rng(0)
        density = rng.normal(100, 5, SHAPE).astype(np.float32)
        density[8:16, 12:24, 10:22] -= 15
        self.tomogram = self.save("ts_01", density)
        self.other = self.save("ts_02", np.flip(density, 1).copy())

    def save(self, name: str, density: np.ndarray) -> Path:
        """Write a density as a tomogram."""
        path = self.folder / f"{name}.mrc"
        with mrcfile.new(path, overwrite=True) as file:
            file.set_data(density)
            file.voxel_size = 10.0
        return path

    def words(self, command: str, out: Path, *more: str, tomogram: Path | None = None) -> list[str]:
        """The command line of a run."""
        steps = [] if "--model" in more else ["--set", f"training.steps={STEPS}"]
        return [sys.executable, "-m", "cryovae", command, str(tomogram or self.tomogram), *OPTIONS, *steps, "-o", str(out), *more]

    def start(self, words: list[str], limit: int | None = None) -> subprocess.Popen[str]:
        """Start a process, with a limit on the size of its files if one is given."""

        def limited() -> None:
            import resource

            resource.setrlimit(resource.RLIMIT_FSIZE, (limit or 0, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))

        environment = os.environ | {"OMP_NUM_THREADS": "1", "TMPDIR": str(self.folder)}
        return subprocess.Popen(
            words,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            preexec_fn=limited if limit is not None else None,
        )

    def run(self, words: list[str], limit: int | None = None) -> tuple[int, str]:
        """Exit code, and what was said on stderr."""
        process = self.start(words, limit)
        _, said = process.communicate(timeout=600)
        return process.returncode, said


def incomplete(folder: Path) -> list[str]:
    """Files that have their final name and cannot be read."""
    broken = []
    for path in sorted(folder.rglob("*")) if folder.is_dir() else []:
        parts = path.relative_to(folder).parts
        if not path.is_file() or any(part.startswith(".") for part in parts) or len(parts) > 1:
            continue
        try:
            if path.suffix == ".mrc":
                with warnings.catch_warnings():
                    warnings.simplefilter("error")
                    if not np.isfinite(mrcfile.read(path)).all():
                        broken.append(path.name)
            elif path.suffix == ".json":
                json.loads(path.read_text())
            elif path.suffix == ".html" and not path.read_text().rstrip().endswith("</html>"):
                broken.append(path.name)
            elif path.suffix == ".safetensors":
                from safetensors.numpy import load_file

                load_file(path)
        except Exception as error:
            broken.append(f"{path.name}: {error}")
    return broken


def same(one: Path, two: Path) -> bool:
    """Whether two folders have the same weights and volumes."""
    from safetensors.numpy import load_file

    names = [p.name for p in one.iterdir() if p.suffix in (".mrc", ".safetensors")]
    for name in names:
        if not (two / name).exists():
            return False
        if name.endswith(".mrc"):
            if not np.array_equal(mrcfile.read(one / name), mrcfile.read(two / name)):
                return False
        else:
            first, second = load_file(one / name), load_file(two / name)
            if any(not np.array_equal(first[key], second[key]) for key in first):
                return False
    return bool(names)


def one_line(said: str) -> bool:
    """Whether the end of what was said is one line of ours, and no traceback."""
    lines = [line for line in said.splitlines() if line.startswith("cryovae: ")]
    return len(lines) == 1 and "Traceback" not in said


def kills(bench: Bench) -> Iterator[Part]:
    """kill -9 at random moments, then --resume."""
    random.seed(0)
    for command in ("train", "restore"):
        part = Part(f"kill -9 of {command} at a random moment, then --resume")
        whole = bench.folder / f"{command}_whole"
        began = time.monotonic()
        code, said = bench.run(bench.words(command, whole))
        lasting = time.monotonic() - began
        part.check(code == 0, f"undisturbed: {said[-200:]}")
        number = 0
        while part.tried < KILLS:
            number += 1
            out = bench.folder / f"{command}_{number}"
            process = bench.start(bench.words(command, out, "--resume"))
            try:
                # The first third of a run is the start of Python.
                process.wait(random.uniform(0.3, 1.0) * lasting)
            except subprocess.TimeoutExpired:
                process.kill()
                part.tried += 1
            process.communicate()
            part.check(not incomplete(out), f"run {number}: {incomplete(out)}")
            code, said = bench.run(bench.words(command, out, "--resume"))
            part.check(code == 0, f"run {number}, resumed: {said[-200:]}")
            part.check(code != 0 or same(whole, out), f"run {number}: other bytes than the undisturbed run")
            shutil.rmtree(out, ignore_errors=True)
        yield part


def together(bench: Bench) -> Iterator[Part]:
    """Runs at the same time, in one folder and in several."""
    part = Part("two runs of one tomogram in one folder at once: one is refused")
    for number in range(5):
        out = bench.folder / f"together_{number}"
        running = [bench.start(bench.words("restore", out)) for _ in range(2)]
        said = [process.communicate()[1] for process in running]
        codes = sorted(process.returncode for process in running)
        part.tried += 1
        part.check(codes == [0, 2], f"exit codes {codes}: {said}")
        part.check(not incomplete(out), f"{incomplete(out)}")
    yield part
    part = Part("three runs in three folders at once")
    folders = [bench.folder / f"three_{number}" for number in range(3)]
    running = [bench.start(bench.words("restore", out)) for out in folders]
    for process in running:
        process.communicate()
        part.tried += 1
    part.check(all(p.returncode == 0 for p in running), f"exit codes {[p.returncode for p in running]}")
    part.check(all(same(folders[0], out) for out in folders[1:]), "three results that differ")
    yield part
    part = Part("two tomograms into one folder at once")
    out, model = bench.folder / "both", bench.folder / "three_0"
    running = [
        bench.start(bench.words("restore", out, "--model", str(model), tomogram=tomogram))
        for tomogram in (bench.tomogram, bench.other)
    ]
    for process in running:
        process.communicate()
        part.tried += 1
    records = {json.loads(p.read_text())["name"] for p in out.glob("*run.json")}
    part.check(all(p.returncode == 0 for p in running) and records == {"ts_01", "ts_02"}, f"records {records}")
    yield part


def disk(bench: Bench) -> Iterator[Part]:
    """A full disk at every output: a limit on the size of a file stops it in the middle."""
    part = Part("full disk, at each of the outputs: one line, exit 1, nothing cut short, then resumed")
    whole = bench.folder / "disk_whole"
    bench.run(bench.words("restore", whole))
    for limit in LIMITS:
        out = bench.folder / f"disk_{limit}"
        code, said = bench.run(bench.words("restore", out), limit)
        part.tried += 1
        part.check(code == 1 and one_line(said) and "no room left" in said, f"{limit} bytes: exit {code}, {said[-300:]}")
        part.check(not incomplete(out), f"{limit} bytes: {incomplete(out)}")
        part.check(not list(out.glob(".*.part*")), f"{limit} bytes: temporary files are left")
        code, said = bench.run(bench.words("restore", out, "--resume"))
        part.check(code == 0 and same(whole, out), f"{limit} bytes, resumed: exit {code}, {said[-300:]}")
    yield part


def places(bench: Bench) -> Iterator[Part]:
    """Folders that cannot be written, and inputs that may only be read."""
    part = Part("an output below a file, or a folder that may not be written: exit 2 at once")
    (bench.folder / "file").write_text("mine")
    for command in ("restore", "train"):
        code, said = bench.run(bench.words(command, bench.folder / "file" / "out"))
        part.tried += 1
        part.check(code == 2 and one_line(said), f"{command}: exit {code}, {said[-200:]}")
    part.check((bench.folder / "file").read_text() == "mine", "the file was changed")
    yield part
    part = Part("a tomogram in a folder that may only be read")
    readable = bench.folder / "readable"
    readable.mkdir()
    shutil.copy(bench.tomogram, readable / "ts_01.mrc")
    before = sorted(readable.iterdir())
    readable.chmod(0o555)
    code, said = bench.run(bench.words("restore", bench.folder / "from_readable", tomogram=readable / "ts_01.mrc"))
    readable.chmod(0o755)
    part.tried += 1
    part.check(code == 0 and sorted(readable.iterdir()) == before, f"exit {code}, {said[-200:]}")
    yield part


def keys(bench: Bench) -> Iterator[Part]:
    """Ctrl-C, once and twice."""
    part = Part("Ctrl-C once during training: saved, exit 75, resumed to the same bytes; twice: ends at once")
    whole = bench.folder / "keys_whole"
    bench.run(bench.words("restore", whole))
    for presses in (1, 2, 1, 2):
        out = bench.folder / f"keys_{part.tried}"
        process = bench.start(bench.words("restore", out))
        metrics = out / "metrics.csv"
        while process.poll() is None and not (metrics.exists() and metrics.read_text().count("\n") > 1):
            time.sleep(0.02)
        for _ in range(presses):
            process.send_signal(signal.SIGINT)
            time.sleep(0.01)
        _, said = process.communicate()
        part.tried += 1
        part.check(process.returncode in (75, 130) and "Traceback" not in said, f"exit {process.returncode}: {said[-200:]}")
        part.check(not incomplete(out), f"{incomplete(out)}")
        code, said = bench.run(bench.words("restore", out, "--resume"))
        part.check(code == 0 and same(whole, out), f"resumed: exit {code}, {said[-200:]}")
    yield part


def batch(bench: Bench) -> Iterator[Part]:
    """A batch in which one row is corrupt, one is missing, and one has braces and a quote in its name."""
    part = Part("a batch with a corrupt row, a missing one, and one with braces and a quote in its name")
    strange = bench.folder / "ts {x} 'y'.mrc"
    shutil.copy(bench.other, strange)
    corrupt = bench.folder / "corrupt.mrc"
    corrupt.write_bytes(bench.tomogram.read_bytes()[:5000])
    rows = [bench.tomogram, strange, corrupt, bench.folder / "gone.mrc"]
    table = bench.folder / "set.star"
    head = "data_\n\nloop_\n_rlnTomoName #1\n_rlnTomoReconstructedTomogram #2\n"
    table.write_text(head + "".join(f'"{path.stem}" "{path}"\n' for path in rows))
    out = bench.folder / "set"
    settings = [f"{key}={value}" for key, value in SETTINGS.items()] + [f"training.steps={STEPS}"]
    words = [sys.executable, "-m", "cryovae", "batch", "run", str(table), "--tilt-range", "-60", "60", "--preset", "quick"]
    words += ["--device", "cpu", *(word for one in settings for word in ("--set", one)), "-o", str(out)]
    code, said = bench.run(words)
    part.tried = len(rows)
    means = [out / path.stem / f"{path.stem}_mean.mrc" for path in rows]
    part.check(code != 0, "exit 0 although two rows failed")
    part.check([mean.exists() for mean in means] == [True, True, False, False], f"{[m.exists() for m in means]}: {said[-400:]}")
    yield part


PARTS: dict[str, Callable[[Bench], Iterator[Part]]] = {
    "kills": kills,
    "together": together,
    "disk": disk,
    "places": places,
    "keys": keys,
    "batch": batch,
}


def main() -> int:
    """Run the parts that are asked for, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--only", choices=PARTS, action="append", help="one part; may be repeated")
    chosen = parser.parse_args().only or list(PARTS)
    faults: list[str] = []
    print("| what | tried | good |\n|---|---|---|", flush=True)
    for name in chosen:
        with tempfile.TemporaryDirectory(prefix="cryovae_reliability_") as folder:
            for part in PARTS[name](Bench(Path(folder))):
                good = "all" if not part.faults else f"{len(part.faults)} faults"
                print(f"| {part.name} | {part.tried} | {good} |", flush=True)
                faults += [f"{part.name}: {fault}" for fault in part.faults]
    for fault in faults:
        print(fault, file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
