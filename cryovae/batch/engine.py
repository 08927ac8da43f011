"""Runs the workflow of a batch by Snakemake, in a process of its own that stops when this one is stopped."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from cryovae.batch.plan import FOLDER
from cryovae.errors import InputError

HERE = Path(__file__).parent
SNAKEFILE, PROFILES = HERE / "Snakefile", HERE / "profiles"
# How long jobs may take to save and exit, in seconds.
EXIT_SECONDS = 60.0
# How often the state of the jobs is looked at, in seconds.
LOOK_SECONDS = 1.0
# Snakemake quotes the path of a job's files as Python does, not as a shell does; Slurm has patterns in the names of logs.
CLUSTER_CHARACTERS = ("'", "\\", "%")


def profile_folder(name: str) -> Path:
    """The folder of a Snakemake profile.

    Args:
        name: local or slurm, or a folder of the user's own.

    Raises:
        InputError: there is no such profile, or Snakemake or its executor is not installed.
    """
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


def check_cluster_path(out: Path, executor: str) -> None:
    """InputError if the path of a folder has characters that Snakemake or Slurm would replace in the jobs of a cluster."""
    odd = next((character for character in CLUSTER_CHARACTERS if character in str(out)), None)
    if executor != "local" and odd is not None:
        raise InputError(f"-o {out} found, expected a folder without {odd} in its path for jobs on a cluster: give another")


def local_gpus() -> list[str]:
    """The GPUs that this process may use, by the names that CUDA_VISIBLE_DEVICES takes."""
    import torch

    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = torch.cuda.device_count()
    names = visible.split(",") if visible else [str(number) for number in range(count)]
    return names[:count]


def queue_options() -> list[str]:
    """Options of Snakemake for a Slurm without accounting: the state of jobs is read from its queue.

    Snakemake's executor asks sacct wherever that is installed, and loses its jobs when sacct fails.
    """
    try:
        asked = subprocess.run(["sacct", "-n", "-X"], capture_output=True, check=False)
    except OSError:
        return ["--slurm-status-command", "squeue"]
    return ["--slurm-status-command", "squeue"] if asked.returncode else []


def run_workflow(out: Path, profile: Path, limits: Sequence[str], watch: Callable[[], None] = lambda: None) -> int:
    """Run all steps that are not marked as done. When this process is stopped, the jobs save their state and stop.

    Args:
        out: folder of the batch.
        profile: folder of a Snakemake profile.
        limits: options of Snakemake for the number of jobs and their resources.
        watch: called every second while it runs. What Snakemake says goes to ``engine_log``.

    Returns:
        The exit code of Snakemake.
    """
    engine_log(out).parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(SNAKEFILE), "--directory", str(out / FOLDER)]
    command += ["--workflow-profile", str(profile), *limits]
    # A new session: the terminal must not send Ctrl-C to the engine as well as to this process.
    with engine_log(out).open("wb") as log:
        running = subprocess.Popen(
            command, start_new_session=True, preexec_fn=_heed_interrupts, stdout=log, stderr=subprocess.STDOUT
        )
    try:
        while True:
            with suppress(subprocess.TimeoutExpired):
                return running.wait(LOOK_SECONDS)
            watch()
    except BaseException:
        _stop(running)
        raise


def _heed_interrupts() -> None:
    """Undo that a shell lets commands in the background ignore SIGINT, by which the jobs are stopped."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def engine_log(out: Path) -> Path:
    """The file for what Snakemake says."""
    return out / FOLDER / "logs" / "snakemake.log"


def last_words(out: Path, lines: int = 12) -> str:
    """The last lines that Snakemake said."""
    text = engine_log(out).read_text(errors="replace") if engine_log(out).is_file() else ""
    return "\n".join(text.strip().splitlines()[-lines:])


def _stop(running: subprocess.Popen[bytes]) -> None:
    """Interrupt Snakemake and the jobs on this machine; on a cluster it cancels its jobs."""
    os.killpg(running.pid, signal.SIGINT)
    try:
        running.wait(EXIT_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(running.pid, signal.SIGKILL)
        running.wait()
