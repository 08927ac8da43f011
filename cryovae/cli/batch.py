"""cryovae batch: many tomograms as jobs, on this machine or on a cluster, and how far they are."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from cryovae.cli.geometry import Adjusted, AxisAngle, Cone, Handedness, Pretilt, Thickness, Unrotated, XTilt
from cryovae.cli.options import (
    Config,
    Device,
    Format,
    Objective,
    Patch,
    Preset,
    Seed,
    Settings,
    Steps,
    Threads,
    TiltRange,
    VoxelSize,
    cpus,
    device_of,
    settings_of,
)
from cryovae.cli.reporting import FAILED, reported
from cryovae.errors import InputError
from cryovae.workflows.signals import Terminated, received

if TYPE_CHECKING:
    from cryovae.batch.plan import Opened
    from cryovae.batch.site import Site

Folder = Annotated[Path, typer.Argument(help="The folder of a batch.")]


class DefaultRun(TyperGroup):
    """A group of commands of which ``run`` need not be named: cryovae batch tomograms.star."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """The words, with ``run`` before them where they begin with no command."""
        if args and args[0] not in self.commands and args[0] != "--help":
            args = ["run", *args]
        return list(super().parse_args(ctx, args))


app = typer.Typer(
    name="batch",
    cls=DefaultRun,
    help="Many tomograms as jobs, on this machine or on a cluster: cryovae batch tomograms.star -o out/ [--profile slurm].",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.callback()(lambda: None)


def run(
    table: Annotated[Path, typer.Argument(help="A .star table of tomograms.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.")] = Path("restored"),
    profile: Annotated[str, typer.Option(help="local, slurm, or the folder of a Snakemake profile.")] = "local",
    site: Annotated[Path | None, typer.Option(help="TOML file of your cluster; cryovae batch site prints one.")] = None,
    model: Annotated[Path | None, typer.Option(help="A trained model; without it, train one on all rows first.")] = None,
    masks: Annotated[bool, typer.Option("--masks", help="Make masks of the rows that have none, and train inside.")] = False,
    tilt_range: TiltRange = None,
    voxel_size: VoxelSize = None,
    ctf: Annotated[bool, typer.Option("--ctf", help="Divide out the contrast transfer that the table tells.")] = False,
    axis_angle: AxisAngle = None,
    pretilt: Pretilt = None,
    x_tilt: XTilt = None,
    thickness: Thickness = None,
    cone: Cone = False,
    handedness: Handedness = 1,
    unrotated: Unrotated = None,
    preset: Preset = None,
    config: Config = None,
    settings: Settings = None,
    steps: Steps = None,
    patch: Patch = None,
    samples: Annotated[int | None, typer.Option(help="Posterior samples behind mean and standard deviation, even.")] = None,
    objective: Objective = None,
    seed: Seed = None,
    output_format: Format = "mrc",
    device: Device = "auto",
    threads: Threads = None,
    prepare: Annotated[bool, typer.Option("--prepare", help="Only write the plan, for jobs of your own.")] = False,
) -> None:
    """Restore every row of a table by one model, as jobs. Run again, it does what is missing, failed or stale, nothing else."""
    import torch

    from cryovae.batch.engine import executor_of, local_gpus, profile_folder, run_workflow
    from cryovae.batch.plan import Batch, open_batch, opened, refresh, write_batch
    from cryovae.batch.site import as_plain, read_site
    from cryovae.batch.summary import SUMMARY, write_summary
    from cryovae.io.files import suffix_of

    where, chosen = profile_folder(profile), read_site(site)
    cluster = executor_of(where) != "local"
    gpus = [] if cluster or device == "cpu" else local_gpus()
    run_config = settings_of(
        preset or ("default" if gpus or (cluster and chosen.gpus) else "quick"), config, settings, torch.device("cpu"),
        training__steps=steps, training__patch=patch, training__seed=seed, restoration__seed=seed,
        restoration__samples=samples, objective__name=objective,
    )  # fmt: skip
    batch = Batch(
        table=str(table.resolve()),
        tilt_range=tilt_range,
        voxel_size=voxel_size,
        ctf=ctf,
        adjusted=asdict(Adjusted(axis_angle, pretilt, x_tilt, thickness, handedness, cone)),
        unrotated=unrotated,
        model=None if model is None else str(model.resolve()),
        masks=masks,
        device=device,
        threads=threads,
        suffix=suffix_of(output_format),
    )
    output = output.resolve()
    found = opened(output, batch, run_config)
    if not found.entries:
        raise InputError("; ".join(found.problems.values()))
    usable = [entry.name for entry in found.entries]
    each = threads or max(1, cpus() // max(1, len(gpus)))
    about = {
        "profile": profile,
        "cluster": cluster,
        "site": as_plain(chosen),
        "gpus": gpus,
        "threads_each": each,
        "model": batch.model,
        "masks": masks,
        "rows": usable,
        "evaluated": [entry.name for entry in found.entries if found.scored(entry)],
    }
    write_batch(output, batch, run_config, **about)
    found = open_batch(output)
    _tell_problems(found)
    to_do = refresh(found)
    print(f"to do: {', '.join(to_do) if to_do else 'nothing'}", flush=True)
    if prepare:
        return
    try:
        code = run_workflow(output, where, _limits(chosen, where, each, gpus)) if to_do else 0
    finally:
        states = write_summary(open_batch(output))
    _say(states, output / SUMMARY)
    if any(status.state == "interrupted" for status in states):
        raise Terminated("jobs were interrupted")
    if code or any(status.state != "done" for status in states):
        raise typer.Exit(FAILED)


def _limits(site: Site, profile: Path, each: int, gpus: list[str]) -> list[str]:
    """Snakemake's options of how much runs at once: on a cluster so many jobs, here as many as there are GPUs, or one."""
    from cryovae.batch.engine import executor_of, queue_options

    executor = executor_of(profile)
    if executor != "local":
        return ["--jobs", str(site.at_once), *(queue_options() if executor == "slurm" else [])]
    return ["--cores", str(each * max(1, len(gpus))), "--resources", f"gpu={len(gpus)}"]


def _tell_problems(batch: Opened) -> None:
    """Rows that cannot be read: on the terminal, and in records of their own."""
    from cryovae.batch.steps import note_failure
    from cryovae.workflows.run_folder import RunFolder

    for name, why in batch.problems.items():
        print(f"{name} cannot be restored: {why}", file=sys.stderr)
        note_failure(RunFolder(batch.out / name, name, batch.batch.suffix), why)


def _say(states: list[Any], page: Path) -> None:
    from cryovae.batch.status import table_of

    print(table_of(states))
    print(f"summary: {page}")


def status(output: Folder) -> None:
    """Show what is done, running, failed and why, with times and figures; write summary.html and summary.csv anew."""
    from cryovae.batch.plan import open_batch
    from cryovae.batch.summary import SUMMARY, write_summary

    _say(write_summary(open_batch(output.resolve())), output / SUMMARY)


def step(
    kind: Annotated[str, typer.Argument(help="mask, train, restore or evaluate.")],
    output: Folder,
    row: Annotated[str | None, typer.Option(help="Name or number, from 1, of a row of the table.")] = None,
    mark: Annotated[Path | None, typer.Option(help="File that is made when the step is done.")] = None,
) -> None:
    """One job of a batch: what the workflow runs, and what a script of your own may run. Resumes what was interrupted."""
    if kind not in ("mask", "train", "restore", "evaluate"):
        raise InputError(f"step {kind} found, expected mask, train, restore or evaluate")
    if (kind == "train") != (row is None):
        found = "without --row" if row is None else "with --row"
        raise InputError(f"step {kind} found {found}, expected a row, by name or number, for every step but train")
    try:
        with _one_gpu(output):
            _step(kind, output.resolve(), row)
    except Exception:
        if signal.SIGUSR1 in received:
            from cryovae.batch.steps import queue_again

            queue_again()
        raise
    if mark is not None:
        mark.touch()


def _step(kind: str, output: Path, row: str | None) -> None:
    from cryovae.batch import steps
    from cryovae.batch.plan import open_batch

    batch = open_batch(output)
    device = device_of(batch.batch.device, batch.batch.threads)
    name = None if row is None else batch.named(row)
    if name is None:
        steps.train_step(batch, device)
    elif kind == "restore":
        steps.restore_step(batch, name, device)
    elif kind == "evaluate":
        steps.evaluate_step(batch, name)
    else:
        steps.mask_step(batch, name)


@contextmanager
def _one_gpu(output: Path) -> Iterator[None]:
    """On a machine with several GPUs and no scheduler: the first that no other job of the batch has. Before torch is imported."""
    import fcntl
    import json

    plan = output / "batch" / "batch.json"
    gpus = json.loads(plan.read_text()).get("gpus", []) if plan.is_file() else []
    for gpu in gpus if len(gpus) > 1 else []:
        with (plan.parent / f".gpu_{gpu}").open("w") as held:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                continue
            os.environ["CUDA_VISIBLE_DEVICES"] = gpu
            yield
            return
    yield


def site() -> None:
    """Print the file that tells what your cluster wants to be told, to fill in: cryovae batch site > site.toml."""
    from cryovae.batch.site import TEMPLATE

    print(TEMPLATE.read_text(), end="")


for command in (run, status, step, site):
    app.command()(reported(command))
