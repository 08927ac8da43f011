"""Runs the workflow of a batch by Snakemake, in a process of its own, and stops it with us."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from cryovae.batch.plan import FOLDER
from cryovae.errors import InputError
from cryovae.workflows.signals import Terminated

HERE = Path(__file__).parent
SNAKEFILE, PROFILES = HERE / "Snakefile", HERE / "profiles"
# Seconds for jobs to save and leave.
LEAVE = 60.0


def profile_folder(name: str) -> Path:
    """A profile of ours by its name, or a folder of the user's. InputError if there is none, or no Snakemake."""
    folder = PROFILES / name if (PROFILES / name).is_dir() else Path(name)
    if not (folder / "config.yaml").is_file():
        raise InputError(f"--profile {name} found, expected local, slurm or the folder of a Snakemake profile with a config.yaml")
    if importlib.util.find_spec("snakemake") is None:
        raise InputError("Snakemake is not installed: pip install 'cryovae[cluster]'")
    if executor_of(folder) == "slurm" and importlib.util.find_spec("snakemake_executor_plugin_slurm") is None:
        raise InputError("Snakemake's Slurm executor is not installed: pip install 'cryovae[cluster]'")
    return folder.resolve()


def executor_of(folder: Path) -> str:
    """The executor that a profile names, 'local' if none."""
    lines = [line.split("#")[0].split(":") for line in (folder / "config.yaml").read_text().splitlines()]
    named = [parts[1].strip() for parts in lines if parts[0].strip() == "executor" and len(parts) == 2]
    return named[-1] if named else "local"


def local_gpus() -> list[str]:
    """The GPUs that this process may use, by the names that CUDA_VISIBLE_DEVICES takes."""
    import torch

    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = torch.cuda.device_count()
    named = given.split(",") if given else [str(number) for number in range(count)]
    return named[:count]


def queue_options() -> list[str]:
    """Options for a Slurm that keeps no accounts: its queue tells what became of jobs.

    Snakemake's executor asks sacct wherever that is installed, and forgets its jobs when it fails.
    """
    try:
        asked = subprocess.run(["sacct", "-n", "-X"], capture_output=True, check=False)
    except OSError:
        return ["--slurm-status-command", "squeue"]
    return ["--slurm-status-command", "squeue"] if asked.returncode else []


def run_workflow(out: Path, profile: Path, limits: Sequence[str]) -> int:
    """Run all that is not marked as done in ``out``, and return Snakemake's exit code.

    limits: Snakemake's options of how much at once. Asked to leave, it stops the jobs and lets them save first.
    """
    (out / FOLDER / "logs").mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(SNAKEFILE), "--directory", str(out / FOLDER)]
    command += ["--workflow-profile", str(profile), "--config", f"out={out}", *limits]
    # A session of its own: a Ctrl-C comes once, from here.
    running = subprocess.Popen(command, start_new_session=True)
    try:
        return running.wait()
    except (KeyboardInterrupt, Terminated):
        _stop(running)
        raise


def _stop(running: subprocess.Popen[bytes]) -> None:
    """Interrupt Snakemake and the jobs on this machine; on a cluster it cancels its jobs."""
    os.killpg(running.pid, signal.SIGINT)
    try:
        running.wait(LEAVE)
    except subprocess.TimeoutExpired:
        os.killpg(running.pid, signal.SIGKILL)
        running.wait()
