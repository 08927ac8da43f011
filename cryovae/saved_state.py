"""Reading a training state to resume from: a file of tensors and plain numbers, whose parts are checked before they are used.

No code runs when it is read (weights_only), and no more memory is taken than the file has bytes.
"""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cryovae.aliases import current_state
from cryovae.errors import InputError
from cryovae.ranges import Range, shown

ANEW = "train anew without --resume, or take the file from a copy"
WEIGHTS = ("network", "average")
NUMBERS: dict[str, tuple[type, Range]] = {
    "step": (int, Range(0, 10**12)),
    "stale": (int, Range(0, 10**12)),
    "skipped": (int, Range(0, 10**12)),
    "extended": (int, Range(0, 10**12)),
    "pace": (float, Range(0, 1)),
}
# Largest depth of dictionaries in dictionaries.
MOST_DEPTH = 8
# Settings of an optimiser that stay the same in a run.
CONSTANTS = ("betas", "eps", "weight_decay", "amsgrad", "maximize", "momentum")


def read_state(path: Path) -> dict[str, Any]:
    """A training state by the names of today, its tensors mapped from the file. InputError if it is damaged or holds code."""
    _check_archive(path)
    try:
        with warnings.catch_warnings():
            # Damaged files have odd numbers of their format, of which torch warns.
            warnings.simplefilter("ignore")
            state = torch.load(path, weights_only=True, map_location="cpu", mmap=True)
    except Exception as error:
        # Whatever a damaged pickle raises: torch has no error of its own for it.
        why = "it holds more than tensors and numbers" if "weights_only" in str(error).lower() else type(error).__name__
        raise InputError(f"{path} is no training state that can be read ({why}), expected one of cryovae: {ANEW}") from error
    problem = _problem(state)
    if problem is None:
        state = current_state(state)
        problem = _missing(state)
    if problem is not None:
        raise InputError(f"{path} is a damaged training state, {problem}: {ANEW}")
    return dict(state)


def _check_archive(path: Path) -> None:
    """InputError if a file is no archive of torch, or would take more memory than it has bytes."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} is no training state, or is cut short, expected an archive of torch: {ANEW}") from error
    size = path.stat().st_size
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries) or sum(e.file_size for e in entries) > size:
        raise InputError(f"{path} is compressed, expected a training state as cryovae writes it: {ANEW}")


def _problem(value: Any, where: str = "it", depth: int = 0) -> str | None:
    """What is wrong with the types of the values; None if nothing is. ``_missing`` checks the names."""
    if depth == 0 and not isinstance(value, dict):
        return f"{shown(type(value).__name__)} found, expected a dictionary"
    if depth > MOST_DEPTH:
        return "dictionaries in dictionaries without end found"
    if isinstance(value, Tensor):
        return None if value.device.type == "cpu" and value.layout == torch.strided else f"tensor {where} has no values"
    if isinstance(value, Mapping):
        for name, part in value.items():
            if not isinstance(name, str | int):
                return f"name {shown(name)} found in {where}, expected a word"
            if depth == 0 and name in ("config", "good", "ladder", "network") and not isinstance(part, dict):
                if name == "good" and part is None:
                    continue
                return f"{name} {shown(part)} found, expected a dictionary"
            problem = _problem(part, shown(str(name)), depth + 1)
            if problem is not None:
                return problem
        return None
    if isinstance(value, list | tuple):
        return next((p for part in value if (p := _problem(part, where, depth + 1)) is not None), None)
    return None if value is None or isinstance(value, bool | int | float | str) else f"{type(value).__name__} found in {where}"


def _missing(state: Mapping[str, Any]) -> str | None:
    """Which entry of a state is missing, or is of the wrong type; None if all are right."""
    for name in (*WEIGHTS, "optimiser", "step"):
        if name not in state:
            return f"no '{name}' found, expected one"
    for name in (*WEIGHTS, *(("best",) if "best" in state else ())):
        if not isinstance(state[name], dict) or not all(isinstance(part, Tensor) for part in state[name].values()):
            return f"'{name}' found without tensors by name, expected weights"
    if not _is_optimiser(state["optimiser"]):
        return "'optimiser' found without the state of each weight, expected one"
    good = state.get("good")
    if good and not (all(isinstance(good.get(name), dict) for name in WEIGHTS) and _is_optimiser(good.get("optimiser"))):
        return "'good' found without weights, expected those to go back to"
    for name, (kind, limits) in NUMBERS.items():
        value = state.get(name, limits.highest)
        integer = isinstance(value, int) and not isinstance(value, bool)
        if not (integer or (kind is float and isinstance(value, float))) or not limits.holds(value):
            return f"{name} {shown(value)} found, expected a number {limits.words}"
    norms = state.get("norms", [])
    if not isinstance(norms, list) or not all(isinstance(norm, float | int) for norm in norms):
        return f"norms {shown(norms)} found, expected a list of numbers"
    if not isinstance(state.get("best_gain", 0.0), float | int):
        return f"best_gain {shown(state['best_gain'])} found, expected a number"
    wrong = next((name for name, part in state.get("config", {}).items() if not isinstance(part, dict)), None)
    return None if wrong is None else f"config.{shown(wrong)} found, expected a section"


def _is_optimiser(value: Any) -> bool:
    """Whether a value has the structure of the state of an optimiser."""
    groups, states = (value.get(name) for name in ("param_groups", "state")) if isinstance(value, dict) else (None, None)
    if not isinstance(groups, list) or not isinstance(states, dict):
        return False
    return all(isinstance(g, dict) and isinstance(g.get("params"), list) for g in groups) and all(
        isinstance(part, dict) for part in states.values()
    )


def check_fits(path: Path, state: Mapping[str, Any], network: nn.Module, optimiser: torch.optim.Optimizer) -> None:
    """InputError if the weights of a state are not those of a network, or are not finite.

    Args:
        path: of the state.
        state: as ``read_state`` gives it.
        network: the network whose training is resumed.
        optimiser: of the network.
    """
    expected = {name: tensor.shape for name, tensor in network.state_dict().items()}
    good = state.get("good") or {}
    sets = {
        **{name: state[name] for name in (*WEIGHTS, "best") if name in state},
        **{f"good {n}": good[n] for n in WEIGHTS if good},
    }
    for where, weights in sets.items():
        shapes = {name: getattr(tensor, "shape", None) for name, tensor in weights.items()}
        if shapes != expected:
            wrong = sorted(str(name) for name in expected.keys() | shapes.keys() if expected.get(name) != shapes.get(name))
            raise InputError(
                f"{path} holds other weights than its model has ({len(wrong)} in '{where}', e.g. {shown(wrong[0])}), expected "
                f"those of the run: {ANEW}"
            )
        if any(not bool(torch.isfinite(tensor).all()) for tensor in weights.values()):
            raise InputError(f"{path} holds NaN or infinity in '{where}', expected finite weights: {ANEW}")
    weights_of = [weight for group in optimiser.param_groups for weight in group["params"]]
    for where, saved in (("optimiser", state["optimiser"]), ("good optimiser", good.get("optimiser"))):
        if saved is not None and not _fits_optimiser(saved, weights_of, optimiser):
            raise InputError(f"{path} holds an '{where}' of other weights, expected that of the run: {ANEW}")


def _fits_optimiser(saved: Mapping[str, Any], weights: list[Tensor], optimiser: torch.optim.Optimizer) -> bool:
    """Whether the saved state of an optimiser is of these weights, with the same settings, and finite."""
    counts = [len(group["params"]) for group in optimiser.param_groups]
    if [len(group["params"]) for group in saved["param_groups"]] != counts:
        return False
    order = [index for group in saved["param_groups"] for index in group["params"]]
    groups = zip(saved["param_groups"], optimiser.param_groups, strict=True)
    if any(then.get(name, now[name]) != now[name] for then, now in groups for name in CONSTANTS if name in now):
        return False
    for index, part in saved["state"].items():
        if index not in order:
            return False
        weight = weights[order.index(index)]
        for name, value in part.items():
            expected = torch.Size([]) if name == "step" else weight.shape
            if not isinstance(value, Tensor) or value.shape != expected or not bool(torch.isfinite(value).all()):
                return False
    return True
