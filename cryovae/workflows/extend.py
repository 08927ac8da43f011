"""Going on with a training beyond the steps that it was begun with: ``--resume --steps 2000`` on a run of 800.

The model of a finished run is put aside as EXTENDED until a new one is written, so that a run that is broken off at any moment
goes on. What was made with the old model, its flow and unfinished restorations, is removed.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping
from typing import Any

from cryovae import distributed
from cryovae.checkpoint import MODEL, STATE, load_model, load_network, load_state, objective_of
from cryovae.config import RunConfig
from cryovae.errors import InputError
from cryovae.model_header import VARIATIONAL
from cryovae.workflows.adapt import SAMPLER, lap_files
from cryovae.workflows.adapt import STATE as ADAPTING
from cryovae.workflows.run_folder import RunFolder, log
from cryovae.workflows.streaming import WORK

EXTENDED = "extended.safetensors"


def steps_begun(record: Mapping[str, Any]) -> int | None:
    """The number of steps that a run was begun with, by its run.json; None if it is unknown."""
    steps = ((record.get("config") or {}).get("training") or {}).get("steps")
    return steps if isinstance(steps, int) else None


def is_extended(record: Mapping[str, Any], config: RunConfig) -> bool:
    """Whether the settings ask for more steps than a run was begun with."""
    begun = steps_begun(record)
    return begun is not None and config.training.steps > begun


def check_steps(folder: RunFolder, record: Mapping[str, Any], config: RunConfig) -> None:
    """InputError if the settings ask for fewer steps than a run has done, or was begun with."""
    begun, now = steps_begun(record), config.training.steps
    if begun is None or now >= begun:
        return
    done = (record.get("training") or {}).get("steps")
    if done is None and folder.saved(STATE).exists():
        done = load_state(folder.saved(STATE))["step"]
    taken = "" if done is None else f" and has done {done}"
    raise InputError(
        f"--steps {now} found, but the run in {folder.folder} was begun with {begun}{taken}: resume with {begun} or more, or "
        "begin anew with --overwrite and without --resume, or with another -o"
    )


def begin_extension(folder: RunFolder, record: Mapping[str, Any], config: RunConfig) -> list[dict[str, int]]:
    """Make a run folder ready to go on to more steps, and say so.

    Args:
        folder: of the run.
        record: run.json as the run left it.
        config: the settings of now.

    Returns:
        For the new record: each extension of the run, the number of steps before and after it.
    """
    before: list[dict[str, int]] = list(record.get("extended") or [])
    there = any(folder.saved(name).exists() for name in (MODEL, STATE, EXTENDED))
    if not (there and is_extended(record, config)):
        return before
    begun, now = steps_begun(record) or 0, config.training.steps
    if not distributed.rank():
        if folder.saved(MODEL).exists():
            folder.saved(MODEL).replace(folder.saved(EXTENDED))
        for path in (folder.saved(SAMPLER), folder.saved(ADAPTING), *lap_files(folder).values()):
            path.unlink(missing_ok=True)
        shutil.rmtree(folder.saved(WORK), ignore_errors=True)
        print(f"the run in {folder.folder} was begun with {begun} steps: it goes on to {now}", file=sys.stderr)
    distributed.barrier()
    log.info("begun with %d steps, goes on to %d", begun, now)
    return [*before, {"from": begun, "to": now}]


def extended_step(folder: RunFolder) -> tuple[Any, int] | None:
    """The network of the finished run that is extended, and its step; None if there is none."""
    path = folder.saved(EXTENDED)
    if not path.exists():
        return None
    if objective_of(path) == VARIATIONAL:
        model = load_model(path)
        return model.ladder, model.step
    trained = load_network(path)
    return trained.network, trained.step
