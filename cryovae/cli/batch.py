"""cryovae batch: many tomograms as jobs, on this machine or on a cluster, and the state of these jobs."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from cryovae.cli.groups import grouped
from cryovae.cli.reporting import FAILED, reported
from cryovae.errors import InputError
from cryovae.io.names import in_one_line
from cryovae.workflows.compute import ComputeOptions, checked_device, cpus
from cryovae.workflows.geometry import GeometryOptions
from cryovae.workflows.options import argument, only, option, output_option, without
from cryovae.workflows.requests import OutputOptions
from cryovae.workflows.settings import RestorationSettings
from cryovae.workflows.signals import Terminated, received

if TYPE_CHECKING:
    from cryovae.batch.plan import Batch, Opened
    from cryovae.batch.site import Site

BATCH_SETTINGS = ("preset", "config", "settings", "steps", "patch", "samples", "objective", "seed")
Folder = Annotated[Path, typer.Argument(help="The folder of a batch.")]


class DefaultRun(TyperGroup):
    """A group of commands in which ``run`` is the default: cryovae batch tomograms.star."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Insert ``run`` before arguments that do not begin with a command."""
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


@dataclass(frozen=True)
class BatchRequest:
    """A table to restore, as jobs."""

    table: Path = argument("A .star table of tomograms.")
    output: Path = output_option("restored")
    profile: str = option("local, slurm, or the folder of a Snakemake profile.", default="local")
    site: Path | None = option("TOML file of your cluster; cryovae batch site prints one.")
    model: Path | None = option("A trained model; without it, train one on all rows first.")
    masks: bool = option("Make masks for the rows that have none, and train inside them.", "--masks", default=False)
    ctf: bool = option("Divide out the contrast transfer that the table has.", "--ctf", default=False)
    prepare: bool = option("Only write the plan, for jobs of your own.", "--prepare", default=False)
    geometry: Annotated[GeometryOptions, without("tilts", "tilts2", "mask")] = field(default_factory=GeometryOptions)
    settings: Annotated[RestorationSettings, only(*BATCH_SETTINGS)] = field(default_factory=RestorationSettings)
    compute: Annotated[ComputeOptions, without("memory")] = field(default_factory=ComputeOptions)
    results: Annotated[OutputOptions, only("output_format", "force")] = field(default_factory=OutputOptions)

    def plan(self) -> Batch:
        """How the rows are read, and by which model they are restored."""
        from cryovae.batch.plan import Batch
        from cryovae.io.files import suffix_of

        return Batch(
            table=str(self.table.resolve()),
            tilt_range=self.geometry.tilt_range,
            voxel_size=self.geometry.voxel_size,
            ctf=self.ctf,
            adjusted=asdict(self.geometry.adjustment),
            unrotated=self.geometry.unrotated,
            model=None if self.model is None else str(self.model.resolve()),
            masks=self.masks,
            device=self.compute.device,
            threads=self.compute.threads,
            suffix=suffix_of(self.results.output_format),
            force=self.results.force,
        )


def run(request: BatchRequest) -> None:
    """Restore every row of a table by one model, as jobs. A second run computes only what is missing, failed or stale."""
    from cryovae.batch.engine import check_cluster_path, executor_of, local_gpus, profile_folder, run_workflow
    from cryovae.batch.plan import SUMMARY, open_batch, opened, refresh, write_batch
    from cryovae.batch.site import as_plain, read_site
    from cryovae.batch.summary import write_summary

    checked_device(request.compute.device, "--device")
    profile, site = profile_folder(request.profile), read_site(request.site)
    cluster = executor_of(profile) != "local"
    gpus = [] if cluster or request.compute.device == "cpu" else local_gpus()
    config = request.settings.resolved("default" if gpus or (cluster and site.gpus) else "quick")
    plan, output = request.plan(), request.output.resolve()
    check_cluster_path(output, executor_of(profile))
    batch = opened(output, plan, config)
    if not batch.entries:
        raise InputError("; ".join(batch.problems.values()))
    threads = request.compute.threads or max(1, cpus() // max(1, len(gpus)))
    about = {
        "profile": request.profile,
        "cluster": cluster,
        "site": as_plain(site),
        "gpus": gpus,
        "threads_each": threads,
        "model": plan.model,
        "masks": plan.masks,
        "rows": {str(entry.row): entry.name for entry in batch.entries},
        "evaluated": [str(entry.row) for entry in batch.entries if batch.scored(entry)],
    }
    write_batch(output, plan, config, **about)
    batch = open_batch(output)
    _print_problems(batch)
    to_do = refresh(batch)
    print(f"to do: {', '.join(to_do) if to_do else 'nothing'}", flush=True)
    if request.prepare:
        return
    try:
        code = run_workflow(output, profile, _limits(site, profile, threads, gpus)) if to_do else 0
    finally:
        states = write_summary(open_batch(output))
    _print_states(states, output / SUMMARY)
    if any(status.state == "interrupted" for status in states):
        raise Terminated("jobs were interrupted")
    if code or any(status.state != "done" for status in states):
        raise typer.Exit(FAILED)


def _limits(site: Site, profile: Path, threads: int, gpus: list[str]) -> list[str]:
    """Snakemake's limits on parallel jobs: on a cluster ``site.at_once`` jobs, here one for each GPU, or a single one."""
    from cryovae.batch.engine import executor_of, queue_options

    executor = executor_of(profile)
    if executor != "local":
        return ["--jobs", str(site.at_once), *(queue_options() if executor == "slurm" else [])]
    return ["--cores", str(threads * max(1, len(gpus))), "--resources", f"gpu={len(gpus)}"]


def _print_problems(batch: Opened) -> None:
    """Print the rows that cannot be read, and write a record of each."""
    from cryovae.batch.steps import note_failure
    from cryovae.workflows.run_folder import RunFolder

    for name, why in batch.problems.items():
        print(in_one_line(f"{name} cannot be restored: {why}"), file=sys.stderr)
        note_failure(RunFolder(batch.out / name, name, batch.batch.suffix), why)


def _print_states(states: list[Any], page: Path) -> None:
    from cryovae.batch.status import table_of

    print(table_of(states))
    print(f"summary: {page}")


def status(output: Folder) -> None:
    """Show which rows are done, running or failed and why, with times and figures; rewrite summary.html and summary.csv."""
    from cryovae.batch.plan import SUMMARY, open_batch
    from cryovae.batch.summary import write_summary

    _print_states(write_summary(open_batch(output.resolve())), output / SUMMARY)


def step(
    kind: Annotated[str, typer.Argument(help="mask, train, restore or evaluate.")],
    output: Folder,
    row: Annotated[str | None, typer.Option(help="Name or number, from 1, of a row of the table.")] = None,
    number: Annotated[int | None, typer.Option(help="Number of a row, from 1, whatever the rows are called.")] = None,
    mark: Annotated[Path | None, typer.Option(help="File that is created when the step is done.")] = None,
) -> None:
    """Run one job of a batch, as the workflow or a script of your own does. Resumes what was interrupted."""
    if kind not in ("mask", "train", "restore", "evaluate"):
        raise InputError(f"step {kind} found, expected mask, train, restore or evaluate")
    if (row is not None) + (number is not None) != (kind != "train"):
        usage = "without --row" if row is None and number is None else "with --row" if number is None else "with --number"
        raise InputError(f"step {kind} found {usage}, expected a row, by name or number, for every step but train")
    try:
        with _one_gpu(output):
            _step(kind, output.resolve(), row, number)
    except Exception:
        if signal.SIGUSR1 in received:
            from cryovae.batch.steps import queue_again

            queue_again()
        raise
    if mark is not None:
        mark.touch()


def _step(kind: str, output: Path, row: str | None, number: int | None) -> None:
    from cryovae.batch import steps
    from cryovae.batch.plan import open_batch

    batch = open_batch(output)
    device = ComputeOptions(batch.batch.device, batch.batch.threads).open_device()
    name = batch.numbered(number) if number is not None else batch.named(row) if row is not None else None
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
    """Select the first GPU that no other job of the batch uses, on a machine without a scheduler. Call before importing torch."""
    import fcntl
    import json

    plan = output / "batch" / "batch.json"
    gpus = json.loads(plan.read_text()).get("gpus", []) if plan.is_file() else []
    for gpu in gpus if len(gpus) > 1 else []:
        with (plan.parent / f".gpu_{gpu}").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                continue
            os.environ["CUDA_VISIBLE_DEVICES"] = gpu
            yield
            return
    yield


def site() -> None:
    """Print a template for the settings of your cluster: cryovae batch site > site.toml."""
    from cryovae.batch.site import TEMPLATE

    print(TEMPLATE.read_text(), end="")


for command in (run, status, step, site):
    app.command()(reported(grouped(command)))
