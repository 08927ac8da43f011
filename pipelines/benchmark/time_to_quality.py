"""How good a restoration is after how many processor seconds: trainings of several lengths against a truth, table and plot.

    python pipelines/benchmark/time_to_quality.py OUT --data dense_a --steps 100 200 400
    python pipelines/benchmark/time_to_quality.py OUT --data dense_a --steps 100 200 --options='--quality fast'
    python pipelines/benchmark/time_to_quality.py OUT --data dense_a --steps 100 200 400 --code OLD --label old

Each row is one `cryovae restore`, so schedules end where the row ends. `--code` is the root of another checkout, whose rows go
into the same table if OUT is the same. Seconds are of processor time, of all threads, reading and report included. The wedge and
the measured part are scored as in run.py, 0.01 to 0.2 cycles per voxel.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from data import load
from scoring import scores

from cryovae.io.files import read_volume

ROOT = Path(__file__).resolve().parents[2]


def main() -> None:
    """Restore, score, and write OUT/time_to_quality.json, .md and .png."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", nargs="+", default=["dense_a"], help="as in run.py")
    parser.add_argument("--simulated", type=Path, help="folder of volumes that are not in CRYOVAE_SHARED_DATA")
    parser.add_argument("--steps", type=int, nargs="+", default=[100, 200, 400])
    parser.add_argument("--objective", nargs="+", default=["vae"], help="vae, deepdewedge, isonet2_mw, ...")
    parser.add_argument("--code", type=Path, default=ROOT, help="root of the checkout that restores")
    parser.add_argument("--label", default="now", help="name of that checkout in the table")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--options", default="", help="further options of cryovae restore, e.g. --options='--quality fast'")
    asked = parser.parse_args()
    asked.out = asked.out.resolve()
    asked.out.mkdir(parents=True, exist_ok=True)
    kept = asked.out / "time_to_quality.json"
    rows: list[dict[str, Any]] = json.loads(kept.read_text()) if kept.exists() else []
    for name in asked.data:
        for objective in asked.objective:
            for steps in asked.steps:
                row = {"data": name, "code": asked.label, "objective": objective, "steps": steps, "options": asked.options}
                rows = [one for one in rows if any(one[key] != value for key, value in row.items())]
                rows.append(row | _restored(asked, name, objective, steps))
                kept.write_text(json.dumps(rows, indent=1))
                print(_line(rows[-1]), flush=True)
    (asked.out / "time_to_quality.md").write_text(_table(rows))
    _plot(rows, asked.out / "time_to_quality.png")


def _restored(asked: argparse.Namespace, name: str, objective: str, steps: int) -> dict[str, Any]:
    """Restore, and score."""
    subject = load(name, asked.simulated)
    files = _inputs(name, asked.simulated)
    run = asked.out / "_".join((name, asked.label, objective, str(steps), *re.findall(r"[\w.=]+", asked.options)))
    command = [sys.executable, "-m", "cryovae", "restore"]
    command += ["--half1", files[0], "--half2", files[1], "--tilts", files[2]]
    command += ["--preset", "quick", "--objective", objective, "--steps", steps, "--threads", asked.threads, "--overwrite"]
    command += ["-o", run, *shlex.split(asked.options)]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = os.environ | {"PYTHONPATH": str(asked.code.resolve()), "OMP_NUM_THREADS": str(asked.threads)}
    subprocess.run([str(part) for part in command], check=True, env=environment, cwd=asked.out)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    mean = next(iter(sorted(run.glob("*_mean.mrc"))))
    figures = scores(torch.from_numpy(np.array(read_volume(mean).density, dtype=np.float32)), subject)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": seconds, "wedge": figures["wedge"], "measured": figures["measured"]}


def _inputs(name: str, simulated: Path | None) -> list[Path]:
    """Both halves and the tilts of a data set. SystemExit if there are none of that name, as of NAME_single."""
    shared = os.environ.get("CRYOVAE_SHARED_DATA")
    folders = [*([Path(shared).resolve() / "bench"] if shared else []), *([simulated.resolve()] if simulated else [])]
    for folder in folders:
        files = [folder / f"{name}{ending}" for ending in ("_half1.mrc", "_half2.mrc", ".tlt")]
        if all(file.exists() for file in files):
            return files
    raise SystemExit(
        f"no halves of {name} found in {', '.join(map(str, folders)) or 'any folder'}: name a data set that has them"
    )


def _line(row: dict[str, Any]) -> str:
    about = f"{row['data']} | {row['code']} | {row['objective']} {row['options']} | {row['steps']}"
    return f"| {about} | {row['seconds']:.0f} | {row['wedge']:.3f} | {row['measured']:.3f} |"


def _table(rows: list[dict[str, Any]]) -> str:
    head = "| data | code | objective, options | steps | processor s | wedge | measured |"
    return "\n".join((head, "| --- | --- | --- | --- | --- | --- | --- |", *map(_line, rows))) + "\n"


def _plot(rows: list[dict[str, Any]], path: Path) -> None:
    """One panel for each volume, one line for each code and objective."""
    from matplotlib.figure import Figure

    names = sorted({row["data"] for row in rows})
    figure = Figure(figsize=(5 * len(names), 4), layout="constrained")
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        for label in sorted({(row["code"], row["objective"], row["options"]) for row in rows if row["data"] == name}):
            own = sorted(
                (row["seconds"], row["wedge"])
                for row in rows
                if row["data"] == name and (row["code"], row["objective"], row["options"]) == label
            )
            axes.plot(*zip(*own, strict=True), marker="o", label=" ".join(label).strip())
        axes.set(title=name, xlabel="processor seconds", ylabel="correlation with the truth in the wedge")
        axes.legend()
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
