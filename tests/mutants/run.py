"""Puts the deliberate faults of faults.toml into a copy of the code, one at a time, and counts those that fast tests notice.

    python tests/mutants/run.py                        all faults
    python tests/mutants/run.py --module physics       those of one module
    python tests/mutants/run.py --only physics-1       one of them, with what pytest says
    python tests/mutants/run.py --near                 only the tests that a fault names: quicker, and catches fewer
    python tests/mutants/run.py --rest                 after the tests of its rooms, the rest of the fast suite for what survives

Ends with 1 if fewer than 95 % are caught.
"""

from __future__ import annotations

import argparse
import compileall
import multiprocessing
import os
import queue
import shutil
import sys
import tempfile
import tomllib
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
LEAST = 0.95
# Seconds for the tests of one fault; a fault that makes code run on without end is noticed too.
PATIENCE = 600
# What pytest ends with where the marks leave no test.
NOTHING_CHOSEN = 5
# Loaded once: a process of each fault is a fork of one that has them.
LOADED = ["torch", "numpy", "pytest", "scipy.stats", "scipy.ndimage", "scipy.spatial.transform", "mrcfile", "pytest_timeout"]
# Folders of tests that look at a module, the nearest first.
ROOMS = {
    "fourier.py": ["tests/test_fourier.py", "tests/physics"],
    "tomogram.py": ["tests/physics", "tests/io/tilts"],
    "physics": ["tests/physics", "tests/data"],
    "models": ["tests/models", "tests/objectives"],
    "objectives": ["tests/objectives", "tests/training", "tests/data"],
    "data": ["tests/data", "tests/training", "tests/objectives"],
    "training": ["tests/training"],
    "posterior": ["tests/posterior", "tests/restoration"],
    "calibration": ["tests/calibration", "tests/restoration"],
    "restoration": ["tests/restoration"],
    "evaluation": ["tests/evaluation"],
    "simulation": ["tests/simulation"],
    "tiling": ["tests/tiling", "tests/posterior"],
    "io": ["tests/io/tilts"],
    "checks": ["tests/checks", "tests/workflows"],
    "workflows": ["tests/workflows"],
}
# Folders without tests of the science, left out of the rest.
OTHERS = ("napari_plugin", "cluster", "batch", "pipelines", "report", "cli", "mutants", "helpers")


@dataclass(frozen=True)
class Fault:
    """A deliberate fault.

    Attributes:
        id: its name, the module first.
        file: the file, from the root of the checkout.
        old: text that is in the file exactly once.
        new: what it is replaced by.
        breaks: what is wrong then.
        tests: tests that run first.
        equivalent: why no test can notice it, or ''.
    """

    id: str
    file: str
    old: str
    new: str
    breaks: str
    tests: tuple[str, ...] = ()
    equivalent: str = ""

    @property
    def module(self) -> str:
        """The folder of the file below cryovae, or the file itself."""
        return Path(self.file).parts[1]

    def applied(self, root: Path = ROOT) -> str:
        """The text of the file with the fault. ValueError if the old text is not there exactly once."""
        text = (root / self.file).read_text()
        count = text.count(self.old)
        if count != 1 or self.old == self.new:
            raise ValueError(f"{self.id}: its text is {count} times in {self.file}, expected once, and another to replace it")
        return text.replace(self.old, self.new)


def faults() -> list[Fault]:
    """All faults of faults.toml."""
    rows = tomllib.loads((HERE / "faults.toml").read_text())["fault"]
    return [Fault(**{**row, "tests": tuple(row.get("tests", ()))}) for row in rows]


def _tests(fault: Fault, near: bool, rest: bool) -> list[list[str]]:
    """Arguments of pytest, in the order in which they run, as long as nothing fails."""
    rooms = [] if near and fault.tests else ROOMS[fault.module]
    stages = [[name] for name in dict.fromkeys((*fault.tests, *rooms)) if (ROOT / name).exists()]
    if rest:
        folders = sorted(p for p in (ROOT / "tests").iterdir() if p.is_dir() and p.name not in OTHERS and any(p.glob("test_*")))
        names = [f"tests/{p.name}" for p in folders]
        files = [f"tests/{p.name}" for p in sorted((ROOT / "tests").glob("test_*.py"))]
        stages.append([name for name in (*names, *files) if name not in rooms])
    return stages


def _pytest(root: str, arguments: list[str], log: str) -> None:
    """Run in a process of its own: pytest in a copy of the checkout."""
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.chdir(root)
    os.environ["PYTHONPATH"] = root
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    # Compiled files are distinguished by seconds and size, and a fault may change neither.
    sys.dont_write_bytecode = True
    sys.path[:] = [root, *(p for p in sys.path if p not in (str(HERE), str(ROOT)))]
    import pytest

    options = ["-x", "-q", "-m", "not slow and not slurm and not window", "-p", "no:cacheprovider", "-p", "pytest_timeout"]
    code = int(pytest.main([*options, *arguments]))
    sys.stdout.flush()
    # Nothing that the tests started may hold the process.
    os._exit(code)


def _copy(folder: Path) -> Path:
    """A copy of the checkout without what is not code."""
    left_out = shutil.ignore_patterns(".git", ".venv", "__pycache__", ".*_cache", "docs", "*.png", ".hypothesis")
    shutil.copytree(ROOT, folder, ignore=left_out)
    compileall.compile_dir(folder / "cryovae", quiet=2)
    return folder


def _caught(fault: Fault, root: Path, tests: list[list[str]], aloud: bool) -> str:
    """The first tests that fail with the fault, or '' if it survives."""
    path = root / fault.file
    before = path.read_text()
    path.write_text(fault.applied(root))
    for compiled in (path.parent / "__pycache__").glob(f"{path.stem}.*.pyc"):
        compiled.unlink()
    log = root.with_suffix(".log")
    try:
        for arguments in tests:
            process = multiprocessing.get_context("forkserver").Process(target=_pytest, args=(str(root), arguments, str(log)))
            process.start()
            process.join(PATIENCE)
            if process.is_alive():
                process.kill()
                return f"{' '.join(arguments)} ran for more than {PATIENCE} s"
            text = log.read_text(errors="replace")
            if aloud:
                print(text, flush=True)
            failed = [line for line in text.splitlines() if line.startswith(("FAILED", "ERROR"))]
            if process.exitcode not in (0, NOTHING_CHOSEN):
                if not failed:
                    raise RuntimeError(f"{fault.id}: pytest ended with {process.exitcode} and no failed test:\n{text[-2000:]}")
                return failed[0][:150]
    finally:
        path.write_text(before)
    return ""


def _table(results: dict[str, dict[str, list[str]]]) -> tuple[list[str], float]:
    """A line for each module, and the share that was caught of all faults."""
    lines, put_in, caught = [f"{'module':<14}{'put in':>7}{'caught':>8}{'share':>7}  survived"], 0, 0
    for module, by_result in sorted(results.items()):
        yes, no = by_result["caught"], by_result["survived"]
        lines.append(f"{module:<14}{len(yes) + len(no):>7}{len(yes):>8}{len(yes) / len(yes + no):>7.0%}  {' '.join(sorted(no))}")
        put_in, caught = put_in + len(yes + no), caught + len(yes)
    share = caught / max(put_in, 1)
    return [*lines, f"{'all':<14}{put_in:>7}{caught:>8}{share:>7.1%}"], share


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--module", action="append", help="faults of this folder of cryovae alone; can be given several times")
    parser.add_argument("--only", action="append", help="this fault alone; can be given several times")
    parser.add_argument("--jobs", type=int, default=1, help="faults at the same time")
    parser.add_argument("--near", action="store_true", help="run only the tests that a fault names")
    parser.add_argument("--rest", action="store_true", help="run the rest of the fast suite for what survives the nearest tests")
    options = parser.parse_args()
    selected = [f for f in faults() if not f.equivalent]
    selected = [f for f in selected if not options.module or f.module in options.module]
    selected = [f for f in selected if not options.only or f.id in options.only]
    for fault in selected:
        fault.applied()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    multiprocessing.get_context("forkserver").set_forkserver_preload(LOADED)
    results: dict[str, dict[str, list[str]]] = defaultdict(lambda: {"caught": [], "survived": []})
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder, ThreadPoolExecutor(options.jobs) as pool:
        copies: queue.Queue[Path] = queue.Queue()
        for number in range(options.jobs):
            copies.put(_copy(Path(folder) / f"copy{number}"))

        def tried(fault: Fault) -> str:
            root = copies.get()
            try:
                return _caught(fault, root, _tests(fault, options.near, options.rest), len(options.only or ()) == 1)
            finally:
                copies.put(root)

        for fault, result in zip(selected, pool.map(tried, selected), strict=True):
            results[fault.module]["caught" if result else "survived"].append(fault.id)
            print(f"{fault.id}: {result or 'SURVIVED: ' + fault.breaks}", flush=True)
    lines, share = _table(results)
    print("\n".join(["", *lines]))
    return 0 if selected and share >= LEAST else 1


if __name__ == "__main__":
    sys.exit(main())
