"""The one table through which files of version 0.1 are read: the names that it wrote, and what they are called now.

To rename a setting, a weight or a column, add a row here; tests/test_aliases.py reads run folders that version 0.1 wrote.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Settings, as section.key: in config.toml, in --set, in run.json and in states to resume from.
SETTINGS = {
    "objective.solo": "objective.completion_fraction",
    "objective.turned": "masking.rotated_fraction",
    "objective.rotated_fraction": "masking.rotated_fraction",
    "objective.drop": "masking.drop",
    "objective.rotations": "masking.rotations",
    "objective.hide": "masking.hide",
    "objective.tolerance": "masking.tolerance",
    "objective.noise": "masking.noise",
    "restoration.turns": "restoration.orientations",
}
# Parts of the names of weights, in model.safetensors and in states to resume from.
WEIGHTS = {".partial.": ".masked_posterior."}
# Entries of a state to resume from, and of the last good weights within it.
STATE = {"ladder": "network"}
# Columns of metrics.csv.
COLUMNS = {"told": "critic_accuracy"}


def current_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Rename the settings of a nested dictionary.

    Args:
        settings: section to key to value, with names of any version.

    Returns:
        The same settings by the names of today. A section that is not a dictionary is kept as it is.
    """
    renamed: dict[str, Any] = {}
    for section, values in settings.items():
        if not isinstance(values, Mapping):
            renamed[section] = values
            continue
        for key, value in values.items():
            place, _, name = SETTINGS.get(f"{section}.{key}", f"{section}.{key}").partition(".")
            renamed.setdefault(place, {})[name] = value
        renamed.setdefault(section, {})
    return renamed


def current_record(record: Mapping[str, Any]) -> dict[str, Any]:
    """Rename the settings in a run.json.

    Args:
        record: what run.json holds, of any version.

    Returns:
        The same record, its settings by the names of today.
    """
    config = record.get("config")
    return {**record, "config": current_settings(config)} if isinstance(config, Mapping) else dict(record)


def current_weights(weights: Mapping[str, Any]) -> dict[str, Any]:
    """Rename the tensors of a state dictionary, and of those within it.

    Args:
        weights: name to tensor, number or dictionary, with names of any version.

    Returns:
        The same values by the names of today.
    """
    renamed = {}
    for name, value in weights.items():
        for old, new in WEIGHTS.items() if isinstance(name, str) else ():
            name = name.replace(old, new)
        renamed[name] = current_weights(value) if isinstance(value, Mapping) else value
    return renamed


def current_state(state: Mapping[str, Any]) -> dict[str, Any]:
    """Rename the entries, settings and weights of a state to resume from."""
    renamed = {STATE.get(name, name): value for name, value in current_weights(state).items()}
    if "good" in renamed:
        renamed["good"] = {STATE.get(name, name): value for name, value in renamed["good"].items()}
    return renamed | ({"config": current_settings(state["config"])} if "config" in state else {})


def current_columns(names: list[str]) -> list[str]:
    """Rename columns of metrics.csv."""
    return [COLUMNS.get(name, name) for name in names]
