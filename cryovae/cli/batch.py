"""cryovae batch: many tomograms as jobs, on this machine or on a cluster, and the state of these jobs."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from cryovae.cli.groups import grouped
from cryovae.cli.help import TwoLengths
from cryovae.cli.reporting import FAILED, reported
from cryovae.errors import InputError
from cryovae.io.names import in_one_line
from cryovae.workflows.compute import ComputeOptions, checked_device, cpus
from cryovae.workflows.geometry import GeometryOptions
from cryovae.workflows.options import ADVANCED, INPUT, TRAINING, argument, only, option, output_option, without
from cryovae.workflows.requests import OutputOptions
from cryovae.workflows.settings import RestorationSettings
from cryovae.workflows.signals import Terminated, received

if TYPE_CHECKING:
    from cryovae.batch.plan import Batch, Opened
    from cryovae.batch.site import Site
    from cryovae.batch.status import Status
    from cryovae.config import RunConfig

BATCH_SETTINGS = ("preset", "config", "settings", "steps", "patch", "quality", "samples", "samples_out", "objective", "seed")
Folder = Annotated[Path, typer.Argument(help="The folder of a batch.")]


class DefaultRun(TyperGroup):
    """A group of commands in which ``run`` is the default: cryovae batch tomograms.star. Its help shows that of ``run``."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Show the commands, then the options of ``run``."""
        super().format_help(ctx, formatter)
        command = self.commands["run"]
        command.format_help(type(ctx)(command, info_name="run", parent=ctx), formatter)

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
    """A table to restore, as jobs, or a folder in which tomograms appear."""

    table: Path | None = argument("A .star table of tomograms.", default=None)
    output: Path = output_option("restored")
    watch: Path | None = option(
        "A folder instead of a table. As of cryovae star import: its tomograms are restored as they appear. A file is taken in "
        "when its size no longer changes. Ctrl-C or SIGTERM ends it, and the same command goes on.",
        panel=INPUT,
        common=True,
    )
    idle: float | None = option("With --watch: end after so many minutes without anything new.", panel=ADVANCED)
    profile: str = option(
        "local, slurm, or a Snakemake profile's folder.", default="local", metavar="NAME", panel=ADVANCED, common=True
    )
    site: Path | None = option("TOML file of your cluster. cryovae batch site prints one.", panel=ADVANCED, common=True)
    model: Path | None = option(
        "Restore by a trained model. Without it, one is trained on all rows first.", metavar="MODEL", panel=INPUT, common=True
    )
    start: str | None = option(
        "What to begin with: base, a MODEL, or none. base is the network of the package, MODEL a file or a run folder. Without "
        "--steps it restores all rows at once, unless it predicts hidden data of the first worse than clipping; then, and with "
        "--steps, it is trained further. Without --from: base, trained further, if the sizes are those of base, as in quick.",
        "--from",
        metavar="MODEL",
        panel=TRAINING,
        common=True,
    )
    masks: bool = option("Make masks for the rows that have none, and train inside them.", "--masks", default=False, panel=INPUT)
    ctf: bool = option("Divide out the contrast transfer that the table has.", "--ctf", default=False, panel=INPUT)
    prepare: bool = option("Only write the plan, for jobs of your own.", "--prepare", default=False, panel=ADVANCED, common=True)
    geometry: Annotated[GeometryOptions, without("tilts", "tilts2", "mask")] = field(default_factory=GeometryOptions)
    settings: Annotated[RestorationSettings, only(*BATCH_SETTINGS)] = field(default_factory=RestorationSettings)
    compute: Annotated[ComputeOptions, without("memory")] = field(default_factory=ComputeOptions)
    results: Annotated[OutputOptions, only("output_format", "force")] = field(default_factory=OutputOptions)

    @property
    def listing(self) -> Path:
        """The table; of a watched folder, that of the tomograms that are ready. InputError if both are given, or neither."""
        if (self.table is None) == (self.watch is None):
            raise InputError("expected a table or --watch, a folder in which tomograms appear: pass one of them")
        if self.idle is not None and (self.watch is None or not self.idle > 0):
            raise InputError(f"--idle {self.idle:g} found, expected minutes above 0, and --watch with it: correct it")
        if self.prepare and self.watch is not None:
            raise InputError("--prepare and --watch found, expected one of them: a watch runs its jobs itself")
        return self.output / "batch" / "tomograms.star" if self.table is None else self.table

    def plan(self) -> Batch:
        """How the rows are read, and by which model they are restored."""
        from cryovae.batch.plan import Batch
        from cryovae.io.files import suffix_of
        from cryovae.workflows.start import BASE, NONE

        return Batch(
            table=str(self.listing.resolve()),
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
            start=self.start if self.start in (None, BASE, NONE) else str(Path(self.start).resolve()),
            trains=self.settings.names("training.steps"),
            sampler_asked=self.settings.names("restoration.sampler"),
        )

    def config(self, default: str) -> RunConfig:
        """The settings of the networks. default: preset where the user names none. InputError for a start that does not fit."""
        from cryovae.workflows.start import continued, start_of

        if self.model is not None and self.start is not None:
            raise InputError(
                "--model and --from found, expected one of them: --model restores, --from may also be trained further"
            )
        config, plan = self.settings.resolved(default), self.plan()
        start = start_of(plan.start, plan.trains)
        return config if start is None else continued(config, start, self.settings.names)


def run(request: BatchRequest) -> None:
    """Restore every row of a table by one model, as jobs. A second run computes only what is missing, failed or stale."""
    from cryovae.batch.engine import check_cluster_path, executor_of, local_gpus, profile_folder
    from cryovae.batch.site import read_site

    checked_device(request.compute.device, "--device")
    request.listing  # noqa: B018
    profile, site = profile_folder(request.profile), read_site(request.site)
    cluster = executor_of(profile) != "local"
    gpus = [] if cluster or request.compute.device == "cpu" else local_gpus()
    config = request.config("default" if gpus or (cluster and site.gpus) else "quick")
    check_cluster_path(request.output.resolve(), executor_of(profile))
    engine = Engine(profile, site, gpus, config)
    if request.watch is not None:
        _watch(request, engine)
        return
    states, code = _round(request, engine)
    if code or any(status.state != "done" for status in states):
        raise typer.Exit(FAILED)


@dataclass(frozen=True)
class Engine:
    """What runs the jobs of a batch: this machine, or a cluster.

    Attributes:
        profile: folder of the Snakemake profile.
        site: settings of the cluster.
        gpus: GPUs of this machine that the jobs share.
        config: settings of the networks.
    """

    profile: Path
    site: Site
    gpus: list[str]
    config: RunConfig


def _round(request: BatchRequest, engine: Engine, passed: Collection[str] = ()) -> tuple[list[Status], int]:
    """Restore the rows of the table as it is now.

    Args:
        request: the table, and how its rows are read.
        engine: by what the jobs run.
        passed: names of rows that are not tried.

    Returns:
        The states of the model and of the rows, and the exit code of the workflow.

    Raises:
        InputError: no row can be used.
        Terminated: jobs were interrupted.
    """
    from cryovae.batch.engine import executor_of
    from cryovae.batch.plan import SUMMARY, open_batch, opened, refresh, write_batch
    from cryovae.batch.site import as_plain
    from cryovae.batch.summary import write_summary

    plan, output, gpus = request.plan(), request.output.resolve(), engine.gpus
    batch = opened(output, plan, engine.config)
    if not batch.entries:
        raise InputError("; ".join(batch.problems.values()))
    threads = request.compute.threads or max(1, cpus() // max(1, len(gpus)))
    entries = [entry for entry in batch.entries if entry.name not in passed]
    about = {
        "profile": request.profile,
        "cluster": executor_of(engine.profile) != "local",
        "site": as_plain(engine.site),
        "gpus": gpus,
        "threads_each": threads,
        "model": plan.model,
        "masks": plan.masks,
        "rows": {str(entry.row): entry.name for entry in entries},
        "evaluated": [str(entry.row) for entry in entries if batch.scored(entry)],
    }
    write_batch(output, plan, engine.config, **about)
    batch = open_batch(output)
    _print_problems(batch)
    skipped = {f"{name}.{kind}" for name in passed for kind in ("masked", "restored", "evaluated")}
    to_do = [step for step in refresh(batch) if step not in skipped]
    print(f"to do: {', '.join(to_do) if to_do else 'nothing'}", flush=True)
    if request.prepare:
        return [], 0
    try:
        code = _run_jobs(output, engine.profile, _limits(engine.site, engine.profile, threads, gpus)) if to_do else 0
    finally:
        states = write_summary(open_batch(output))
    _print_states(states, output / SUMMARY)
    if code:
        _print_logs(output, code, states)
    if any(status.state == "interrupted" for status in states):
        raise Terminated("jobs were interrupted")
    return states, code


def _watch(request: BatchRequest, engine: Engine) -> None:
    """Restore the tomograms of a folder as they appear."""
    from cryovae.batch.watch import Watched, watch
    from cryovae.io.outputs import check_folder
    from cryovae.tomogram import TiltGeometry
    from cryovae.workflows.table import MODEL_FOLDER

    assert request.watch is not None
    if not request.watch.is_dir():
        raise InputError(f"--watch {request.watch} is no folder, expected one in which tomograms appear: make it, or correct it")
    check_folder(request.output)
    if request.output.resolve() == request.watch.resolve():
        raise InputError(f"--watch {request.watch} and -o are one folder, expected two: give another with -o")
    tilt_range = request.geometry.tilt_range
    tilts = None if tilt_range is None else TiltGeometry.from_range(*tilt_range)

    def restore(passed: Collection[str]) -> dict[str, str]:
        try:
            return {status.name: status.state for status in _round(request, engine, passed)[0] if status.name != MODEL_FOLDER}
        except InputError as error:
            # None of the rows can be used; others may come.
            print(in_one_line(f"cryovae: {error}"), file=sys.stderr)
            return {}

    watched = Watched(request.watch, request.listing, tilts, request.geometry.voxel_size)
    try:
        all_done = watch(watched, restore, request.idle)
    except KeyboardInterrupt:
        raise Terminated("stopped by Ctrl-C") from None
    if not all_done:
        raise typer.Exit(FAILED)


def _run_jobs(output: Path, profile: Path, limits: list[str]) -> int:
    """Run the jobs, and show how far they are; returns the exit code of Snakemake."""
    from cryovae.batch.board import Board
    from cryovae.batch.engine import run_workflow
    from cryovae.batch.plan import open_batch
    from cryovae.batch.status import statuses

    with Board(lambda: statuses(open_batch(output))) as board:
        return run_workflow(output, profile, limits, board)


def _print_logs(output: Path, code: int, states: list[Status]) -> None:
    """Say where to look for what went wrong; what Snakemake said last, if no row has a reason."""
    from cryovae.batch.engine import engine_log, last_words

    if not any(status.state in ("failed", "interrupted") for status in states):
        print(f"Snakemake ended with code {code}:\n{last_words(output)}", file=sys.stderr)
    print(f"logs: {engine_log(output).parent}", file=sys.stderr)


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
    from cryovae.progress.display import Display

    batch = open_batch(output)
    device = ComputeOptions(batch.batch.device, batch.batch.threads).open_device()
    name = batch.numbered(number) if number is not None else batch.named(row) if row is not None else None
    with Display():
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


app.command(cls=TwoLengths)(reported(grouped(run, two_lengths=True)))
for command in (status, step, site):
    app.command()(reported(grouped(command)))
