"""Checks that a run is resumed with the settings, inputs and geometry that it began with, before anything is written."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from cryovae import distributed
from cryovae.checkpoint import MODEL, STATE
from cryovae.config import RunConfig, as_plain
from cryovae.errors import InputError
from cryovae.restoration.config import is_old_default
from cryovae.workflows.adapt import SAMPLER, lap_files
from cryovae.workflows.adapt import STATE as ADAPTING
from cryovae.workflows.extend import EXTENDED, check_steps, is_extended
from cryovae.workflows.run_folder import RunFolder, read_record, same_file

# Sections of the settings that a training and a restoration depend on.
TRAINING = ("ladder", "masking", "objective", "training", "adaptation")
RESTORATION = ("restoration",)
# Settings that change the speed of a run, not its result.
SPEED = {("restoration", "batch")}
STEPS = ("training", "steps")
# Largest number of differences that a message lists.
MOST_LISTED = 4


def check_resumed(
    folder: RunFolder,
    command: str,
    inputs: Mapping[str, Any],
    config: RunConfig,
    geometry: Mapping[str, Any],
    sections: Sequence[str],
    model: str | None = None,
) -> bool:
    """Compare a run that is resumed with the record of the run that it continues.

    Args:
        folder: of both.
        command: "train" or "restore".
        inputs: checksums of the inputs by their role.
        config: the settings.
        geometry: of ``geometry_record.described``, by key of run.json.
        sections: of the settings that are compared.
        model: checksum of the model that restores, or None if the run trains its own.

    Returns:
        Whether the earlier run ended well, so that only missing results are left to do; not if it goes on to more steps.

    Raises:
        InputError: something differs; the message names it.
    """
    differences: list[str] = []
    finished = False
    if not distributed.rank():
        record = read_record(folder.saved("run.json"))
        if not record and folder.saved(MODEL).exists():
            differences = ["a model but no run.json that can be read, so what it is of is unknown"]
        elif _has_begun(folder, record, command):
            if "training" in sections:
                check_steps(folder, record, config)
            differences = _differences(record, command, inputs, config, geometry, sections, model)
            more = "training" in sections and is_extended(record, config)
            finished = record.get("status") == "done" and not differences and not more
    differences, finished = distributed.broadcast((differences, finished))
    if differences:
        raise InputError(
            f"--resume found a run in {folder.folder} with {_listed(differences)}: resume with what it began with, or begin anew "
            "with --overwrite and without --resume, or with another -o"
        )
    return finished


def forget(folder: RunFolder) -> None:
    """Remove the model, the flow that was fitted with it and the states of an earlier training before a new one.

    Otherwise a new run that stops before it has saved anything would leave them with its own record, which is not theirs.
    """
    if not distributed.rank():
        for name in (STATE, MODEL, EXTENDED, SAMPLER, ADAPTING):
            folder.saved(name).unlink(missing_ok=True)
        for path in lap_files(folder).values():
            path.unlink(missing_ok=True)


def check_model(
    where: Path,
    record: Mapping[str, Any],
    config: RunConfig,
    inputs: Mapping[str, Path],
    geometry: Mapping[str, Any],
    start: Mapping[str, Any] | None = None,
) -> None:
    """Compare the finished model of a table with the settings, files and tilts of now. Rows added or removed since do not count.

    Args:
        where: folder of the model.
        record: its run.json.
        config: the settings.
        inputs: input files by their role.
        geometry: what is known of each row without reading its volumes, by name and by key of ``geometry_record.described``.
        start: what a training would begin with, for its record; None for nothing.

    Raises:
        InputError: something differs; the message names it.
    """
    lines = _differing_entries("start", record.get("start"), start)
    lines += _differing_settings(record.get("config") or {}, config, TRAINING)
    known = record.get("inputs") or {}
    for role in sorted((known.keys() & inputs.keys()) - {"table"}):
        if not same_file(known[role], inputs[role]):
            lines.append(f"another {role} ({Path(str(known[role].get('path'))).name}, now {inputs[role].name})")
    before = record.get("geometry") or {}
    for name in sorted(before.keys() & geometry.keys()):
        now = json.loads(json.dumps(geometry[name]))
        for key in now:
            if key in before[name]:
                lines += _differing_entries(f"{name} {key}", before[name][key], now[key])
    if lines:
        raise InputError(
            f"the model in {where} was trained with {_listed(lines)}: pass --overwrite to train anew, another -o, or --model "
            f"{where} to restore by it all the same"
        )


def _listed(lines: Sequence[str]) -> str:
    return "; ".join(lines[:MOST_LISTED]) + (f"; {len(lines) - MOST_LISTED} more" if len(lines) > MOST_LISTED else "")


def _has_begun(folder: RunFolder, record: Mapping[str, Any], command: str) -> bool:
    """Whether there is something to resume: a model or a state of training, files of a restoration, or results."""
    if not record or record.get("name") != folder.name:
        return False
    is_restored = command == "restore" and (record.get("status") == "done" or folder.saved("restoring").exists())
    return is_restored or any(folder.saved(name).exists() for name in (MODEL, STATE, EXTENDED))


def _differences(
    record: Mapping[str, Any],
    command: str,
    inputs: Mapping[str, Any],
    config: RunConfig,
    geometry: Mapping[str, Any],
    sections: Sequence[str],
    model: str | None,
) -> list[str]:
    """Each difference as "KEY OLD, now NEW"."""
    old_command = record.get("command", command)
    lines = [] if old_command == command else [f"command {old_command}, now {command}"]
    lines += _differing_settings(record.get("config") or {}, config, sections, goes_on=True)
    lines += _differing_inputs(record.get("inputs") or {}, inputs)
    if record.get("model_sha256") != model and "model_sha256" in record:
        lines.append("another model")
    # Records of earlier versions lack some keys.
    plain = json.loads(json.dumps(geometry))
    for key, now in plain.items():
        if key in record or key == "start":
            lines += _differing_entries(key, record.get(key), now)
    return lines


def _differing_settings(old: Mapping[str, Any], config: RunConfig, sections: Sequence[str], goes_on: bool = False) -> list[str]:
    lines = []
    now = json.loads(json.dumps(as_plain(config)))
    for section in sections:
        if section not in old:
            continue
        default = {f.name: getattr(type(getattr(config, section))(), f.name) for f in fields(getattr(config, section))}
        for key, value in now[section].items():
            # A setting that is newer than the run had its default in it.
            then = old[section].get(key, json.loads(json.dumps(default[key])))
            if key == "samples_out" and is_old_default(then, value):
                continue
            # More steps are gone on to (workflows/extend.py).
            is_more = (section, key) == STEPS and isinstance(then, int) and value > then
            if then != value and (section, key) not in SPEED and not (is_more and goes_on):
                lines.append(f"{section}.{key} {then}, now {value}")
    return lines


def _differing_inputs(old: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Inputs whose content differs, by their role; tilts are compared as geometry."""
    lines = []
    for role in sorted({*old, *now} - {"tilts"}):
        before, after = (side.get(role) for side in (old, now))
        # Masks were no inputs in earlier versions.
        if before is None and role.startswith("mask"):
            continue
        if before is None or after is None:
            lines.append(f"{'no ' if before is None else ''}{role}, now {'none' if after is None else 'one'}")
        elif before.get("sha256") != after.get("sha256"):
            names = (Path(str(about.get("path"))).name for about in (before, after))
            lines.append(f"another {role} ({', now '.join(names)})")
    return lines


def _differing_entries(key: str, old: Any, now: Any) -> list[str]:
    """What differs in one entry of the geometry, key by key if both are dictionaries."""
    if old == now:
        return []
    if isinstance(old, dict) and isinstance(now, dict):
        # Records of earlier versions hold the ends of the tilts alone.
        keys = [k for k in {**old, **now} if k != "angles" or k in old]
        return [line for k in keys for line in _differing_entries(f"{key}.{k}", old.get(k), now.get(k))]
    return [f"{key} {_short(old)}, now {_short(now)}"]


def _short(value: Any) -> str:
    if isinstance(value, list) and len(value) > 4:
        ends = (f"{item:g}" if isinstance(item, float) else str(item) for item in (value[0], value[-1]))
        return f"{len(value)} values from {' to '.join(ends)}"
    return f"{value:g}" if isinstance(value, float) else str(value)


def say_finished(what: str) -> None:
    """Tell the user that there is nothing left to do."""
    if not distributed.rank():
        print(f"{what} is already finished: nothing was done", file=sys.stderr)
