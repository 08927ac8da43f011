"""The settings of a cluster (partition, account, GPUs, hours), and the shell command of a step there.

It imports no heavy package, since every job reads it first.
"""

from __future__ import annotations

import shlex
import sys
import tomllib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from cryovae.errors import InputError

TEMPLATE = Path(__file__).with_name("site.toml")


@dataclass(frozen=True)
class Site:
    """The settings of a cluster; ``site.toml`` documents each. Where a text is empty, the default of the cluster holds."""

    partition: str = ""
    cpu_partition: str = ""
    account: str = ""
    qos: str = ""
    constraint: str = ""
    gpus: int = 1
    gpu_type: str = ""
    cpus: int = 8
    memory_gb: float = 32.0
    train_hours: float = 12.0
    restore_hours: float = 4.0
    warning_seconds: int = 120
    at_once: int = 32
    modules: tuple[str, ...] = ()
    setup: str = ""
    container: str = ""

    def resources(self, hours: float, gpu: bool) -> dict[str, Any]:
        """The resources that a job requests.

        Args:
            hours: time limit.
            gpu: whether the job uses a GPU.

        Returns:
            Name to value, by the names of Snakemake's Slurm executor.
        """
        requested: dict[str, Any] = {"runtime": max(1, round(60 * hours)), "mem_mb": round(1000 * self.memory_gb)}
        partition = self.partition if gpu else self.cpu_partition or self.partition
        named = {"slurm_partition": partition, "slurm_account": self.account, "qos": self.qos, "constraint": self.constraint}
        requested |= {name: value for name, value in named.items() if value}
        if gpu and self.gpus:
            requested |= {"gpu": 1} | ({"gpu_model": self.gpu_type} if self.gpu_type else {})
        # A job gets a signal before its time is over, saves its state, and puts itself into the queue again.
        return requested | {"slurm_extra": f"'--signal=USR1@{self.warning_seconds}' '--open-mode=append'"}

    def prefix(self) -> str:
        """The shell commands before a step: modules and set-up."""
        lines = [f"module load {shlex.quote(name)}" for name in self.modules] + ([self.setup] if self.setup else [])
        return "".join(f"{line}; " for line in lines)

    def program(self) -> list[str]:
        """The command that starts cryovae in a job: the Python that runs now, or the container."""
        if self.container:
            return ["apptainer", "exec", "--nv", self.container, "cryovae"]
        return [sys.executable, "-m", "cryovae"]

    def step(self, kind: str, words: Sequence[str], log: str) -> str:
        """The shell command of a step. Its process replaces the shell, so that signals reach it directly.

        Args:
            kind: mask, train, restore or evaluate.
            words: further arguments of ``cryovae batch step``.
            log: file to which output and errors are appended.
        """
        command = shlex.join([*self.program(), "batch", "step", kind, *words])
        return f"{self.prefix()}exec {command} >> {shlex.quote(log)} 2>&1"


def read_site(path: Path | None) -> Site:
    """Read the settings of a cluster.

    Args:
        path: a TOML file, or None for the default settings.

    Raises:
        InputError: the file is missing or not TOML, or a key is unknown or of the wrong type.
    """
    if path is None:
        return Site()
    if not path.is_file():
        raise InputError(f"{path} does not exist: give the TOML file of your cluster, cryovae batch site prints one to fill in")
    try:
        settings = tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is no TOML: {error}") from error
    return site_of(settings, str(path))


def site_of(settings: dict[str, Any], where: str) -> Site:
    """Settings of a cluster from plain values.

    Args:
        settings: key to value, as in site.toml.
        where: the file that the values come from, for error messages.

    Raises:
        InputError: a key is unknown, or a value is of the wrong type.
    """
    defaults = Site()
    known = {f.name: getattr(defaults, f.name) for f in fields(Site)}
    values: dict[str, Any] = {}
    for key, value in settings.items():
        if key not in known:
            near = get_close_matches(key, known, 1)
            raise InputError(
                f"{where}: unknown key '{key}', " + (f"did you mean '{near[0]}'?" if near else "see cryovae batch site")
            )
        kind = type(known[key])
        if kind is float and type(value) is int:
            value = float(value)
        if kind is tuple and isinstance(value, list) and all(isinstance(item, str) for item in value):
            value = tuple(value)
        if type(value) is not kind:
            raise InputError(f"{where}: '{key}' is {value!r}, expected {'a list of texts' if kind is tuple else kind.__name__}")
        values[key] = value
    return Site(**values)


def as_plain(site: Site) -> dict[str, Any]:
    """The settings as plain values, for JSON."""
    return asdict(site) | {"modules": list(site.modules)}
