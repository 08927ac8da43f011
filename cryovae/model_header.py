"""The header of a model file, and the checks of the file before its weights are read.

The sizes in the metadata are checked first, then whether the file holds as many numbers as they need. Only then is the network
built, so that it takes little more memory than the file has bytes. Its names and shapes are compared with those of the file.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any

import torch
from torch import nn

from cryovae.aliases import current_weights
from cryovae.errors import BrokenModel, InputError
from cryovae.models.ladder_config import LadderConfig
from cryovae.objectives.deterministic import NAMES
from cryovae.ranges import OneOf, Range, check_fields, shown
from cryovae.units import MOST_VOXEL

MODEL, VARIATIONAL = "model.safetensors", "vae"
WEIGHTS, NOISE = "weights.", "noise."
# Largest number of entries of a noise spectrum.
MOST_NOISE = 10**6
# Types of tensors, as safetensors calls them.
TYPES = ("F32", "F16")
OTHER = "give a model that cryovae wrote, or train anew"


@dataclass(frozen=True)
class TrainedOn:
    """A tomogram that a model was trained on.

    Attributes:
        name: of the tomogram.
        voxel_size: in angstrom.
        noise: standard deviation of its noise, relative to that of the tomogram.
        lowest: lowest tilt in degrees.
        highest: highest tilt in degrees.
        missing: degrees of tilt that were not measured.
    """

    name: str
    voxel_size: Annotated[float, Range(0, MOST_VOXEL, above=True, what="angstrom")]
    noise: Annotated[float, Range(0, 1e6)]
    lowest: Annotated[float, Range(-90, 90, what="degrees")]
    highest: Annotated[float, Range(-90, 90, what="degrees")]
    missing: Annotated[float, Range(0, 180, what="degrees")]

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class Header:
    """The metadata of a model file.

    Attributes:
        sizes: of the ladder.
        patch: side of the patches it was trained on, in voxels.
        step: steps taken.
        encoders: 2 for q and r, 1 for r alone; 2 where it has no meaning.
        objective: 'vae' for a variational model, else the name of the objective.
        trained_on: its training tomograms; empty if the file is of version 0.1.
        traits: how many traits of a tomogram a variational model can be conditioned on; 0 for none.
    """

    sizes: LadderConfig
    patch: Annotated[int, Range(2, 1024, what="voxels")]
    step: Annotated[int, Range(0, 10**12)]
    encoders: Annotated[int, Range(1, 2)] = 2
    objective: Annotated[str, OneOf((VARIATIONAL, *NAMES))] = VARIATIONAL
    trained_on: tuple[TrainedOn, ...] = ()
    traits: Annotated[int, Range(0, 10**4)] = 0

    def __post_init__(self) -> None:
        check_fields(self)
        stride = self.sizes.stride
        if self.patch % stride or self.patch < 2 * stride:
            raise InputError(f"patch {self.patch} found, expected a multiple of {stride}, and at least {2 * stride} voxels")


def header_of(path: Path, metadata: Mapping[str, str] | None) -> Header:
    """The checked header of a model file. InputError if it is of something else, or damaged."""
    text = (metadata or {}).get("cryovae")
    if text is None:
        raise InputError(f"{path} is a safetensors file of something else: give a model that cryovae wrote")
    try:
        about = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} has metadata that are no JSON, expected those of cryovae: {OTHER}") from error
    if not isinstance(about, dict):
        raise InputError(f"{path} has metadata {shown(about)}, expected a dictionary: {OTHER}")
    try:
        return _header(about)
    except InputError as error:
        raise InputError(f"{path} is a damaged model, {error}: {OTHER}") from error


def _header(about: dict[str, Any]) -> Header:
    known: dict[str, Any] = {name: about[name] for name in ("patch", "step", "encoders", "objective", "traits") if name in about}
    for name in ("ladder", "patch", "step", *(() if "objective" in about else ("encoders",))):
        if name not in about:
            raise InputError(f"no '{name}' found in its metadata, expected one")
    if "objective" in known and known["objective"] == VARIATIONAL:
        raise InputError("objective 'vae' found, expected none for a variational model")
    origins = about.get("trained_on", [])
    if not isinstance(origins, list):
        raise InputError(f"trained_on {shown(origins)} found, expected a list")
    trained_on = tuple(_made(TrainedOn, origin, "trained_on") for origin in origins)
    return Header(sizes=_made(LadderConfig, about["ladder"], "ladder"), trained_on=trained_on, **known)


def _made(kind: Callable[..., Any], values: Any, where: str) -> Any:
    """A dataclass from a dictionary; older files lack settings that were added since, newer ones may have more."""
    if not isinstance(values, dict):
        raise InputError(f"{where} {shown(values)} found, expected a dictionary")
    names = [f.name for f in fields(kind)]  # type: ignore[arg-type]
    try:
        return kind(**{name: values[name] for name in names if name in values})
    except TypeError as error:
        raise InputError(f"{where} with {shown(', '.join(map(str, values)))} found, expected {', '.join(names)}") from error


def check_size(path: Path, header: Header, shapes: Mapping[str, tuple[str, tuple[int, ...]]]) -> None:
    """InputError if a file holds fewer numbers than its sizes need at least; ``shapes`` as for ``check_tensors``."""
    sizes, held = header.sizes, sum(math.prod(shape) for _, shape in shapes.values())
    # Encoder and decoder have two convolutions of 27 taps in each block. Each level has two heads, which end in its latents.
    least = sum(108 * sizes.blocks * width**2 for width in sizes.widths)
    if header.objective == VARIATIONAL:
        pairs = list(zip(sizes.widths, sizes.latents, strict=True))
        least += sum(2 * width * latents * (27 if level else 1) for level, (width, latents) in enumerate(pairs))
    if held < least:
        raise InputError(
            f"{path} holds {held} numbers, expected at least {least} for widths {shown(list(sizes.widths))}, latents "
            f"{shown(list(sizes.latents))} and blocks {sizes.blocks}: {OTHER}"
        )


def check_tensors(path: Path, network: nn.Module, shapes: Mapping[str, tuple[str, tuple[int, ...]]]) -> None:
    """InputError if a file has other tensors than a network.

    Args:
        path: of the model.
        network: of the sizes that the file names.
        shapes: name in the file to type, as safetensors calls it, and shape.
    """
    expected = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    weights = current_weights({n.removeprefix(WEIGHTS): about for n, about in shapes.items() if n.startswith(WEIGHTS)})
    missing = [name for name in expected if name not in weights]
    extra = [name for name in weights if name not in expected] + [n for n in shapes if not n.startswith((WEIGHTS, NOISE))]
    if missing or extra:
        which = f"no weights {shown(missing[0])}" if missing else f"unknown tensor {shown(extra[0])}"
        raise InputError(
            f"{path} has {which}, and {len(missing)} of {len(expected)} that its sizes ask for are missing, {len(extra)} are "
            f"unknown, expected those of one model: {OTHER}"
        )
    for name, shape in expected.items():
        if weights[name][1] != shape:
            raise InputError(f"{path} has weights {name} of shape {_by(weights[name][1])}, expected {_by(shape)}: {OTHER}")
    for name, (kind, _) in shapes.items():
        if kind not in TYPES:
            raise InputError(f"{path} has {shown(name)} of type {shown(kind)}, expected {' or '.join(TYPES)}: {OTHER}")
    for name, (_, shape) in shapes.items():
        if name.startswith(NOISE) and (len(shape) != 3 or not 0 < shape[0] * shape[1] * shape[2] <= MOST_NOISE):
            raise InputError(f"{path} has a noise spectrum {shown(name)} of shape {_by(shape)}, expected three sides: {OTHER}")


def not_finite(tensors: Mapping[str, torch.Tensor]) -> list[str]:
    """The names of the tensors that hold NaN or infinity."""
    return [name for name, tensor in tensors.items() if not bool(torch.isfinite(tensor).all())]


def check_weights(path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    """BrokenModel if a tensor of a file holds NaN or infinity."""
    bad = not_finite(tensors)
    if bad:
        raise BrokenModel(
            f"{path} holds NaN or infinity in {len(bad)} of {len(tensors)} tensors, e.g. {shown(bad[0])}, expected finite "
            f"weights: {OTHER}"
        )


def _by(shape: tuple[int, ...]) -> str:
    return shown(" x ".join(map(str, shape))) if shape else "a number"
