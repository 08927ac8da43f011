"""What a cluster wants to be told: partition, account, GPUs, hours; and how a step is called there.

Imports nothing heavy, as every job reads it first.
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
    """A cluster's settings; ``site.toml`` documents each. Empty text leaves an option out, so that the cluster's own holds."""

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
        """What a job asks of Slurm, by the names of Snakemake's executor."""
        found: dict[str, Any] = {"runtime": max(1, round(60 * hours)), "mem_mb": round(1000 * self.memory_gb)}
        partition = self.partition if gpu else self.cpu_partition or self.partition
        named = {"slurm_partition": partition, "slurm_account": self.account, "qos": self.qos, "constraint": self.constraint}
        found |= {name: value for name, value in named.items() if value}
        if gpu and self.gpus:
            found |= {"gpu": 1} | ({"gpu_model": self.gpu_type} if self.gpu_type else {})
        # A job is told before its time is over, saves, and puts itself into the queue again.
        return found | {"slurm_extra": f"'--signal=USR1@{self.warning_seconds}' '--open-mode=append'"}

    def prefix(self) -> str:
        """Shell commands that come before a step."""
        lines = [f"module load {shlex.quote(name)}" for name in self.modules] + ([self.setup] if self.setup else [])
        return "".join(f"{line}; " for line in lines)

    def program(self) -> list[str]:
        """How cryovae is called in a job: by the Python that runs now, or in the container."""
        if self.container:
            return ["apptainer", "exec", "--nv", self.container, "cryovae"]
        return [sys.executable, "-m", "cryovae"]

    def step(self, kind: str, words: Sequence[str], log: str) -> str:
        """The shell command of a step. Its process takes the place of the shell, so that signals reach it and nothing else."""
        command = shlex.join([*self.program(), "batch", "step", kind, *words])
        return f"{self.prefix()}exec {command} >> {shlex.quote(log)} 2>&1"


def read_site(path: Path | None) -> Site:
    """The settings of a TOML file, the usual ones without it. InputError for unknown keys, wrong types, or no TOML."""
    if path is None:
        return Site()
    if not path.is_file():
        raise InputError(f"{path} does not exist: give the TOML file of your cluster, cryovae batch site prints one to fill in")
    try:
        given = tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is no TOML: {error}") from error
    return site_of(given, str(path))


def site_of(given: dict[str, Any], where: str) -> Site:
    """Settings from plain values. InputError for unknown keys and wrong types."""
    usual = Site()
    known = {f.name: getattr(usual, f.name) for f in fields(Site)}
    values: dict[str, Any] = {}
    for key, value in given.items():
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
    """Settings as plain values, for JSON."""
    return asdict(site) | {"modules": list(site.modules)}
