"""A trained model on disk: weights, sizes, noise spectra and step, readable without running code from the file.

model.safetensors holds the averaged weights, with the ladder's sizes as JSON in its metadata; training.pt holds what a
resumed run needs, tensors and plain numbers only, and is read with weights_only.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from cryovae import __version__
from cryovae.aliases import current_weights
from cryovae.errors import BrokenResult, InputError
from cryovae.io.atomic import whole_file
from cryovae.model_header import (
    MODEL,
    NOISE,
    VARIATIONAL,
    WEIGHTS,
    Header,
    TrainedOn,
    check_size,
    check_tensors,
    check_weights,
    header_of,
    not_finite,
)
from cryovae.models.generator import Generator
from cryovae.models.ladder import Ladder
from cryovae.models.unet import UNet
from cryovae.ranges import shown
from cryovae.saved_state import read_state

__all__ = [
    "BASE_LADDER",
    "MODEL",
    "STATE",
    "Checkpoint",
    "NetworkCheckpoint",
    "TrainedOn",
    "load_model",
    "load_network",
    "load_state",
    "objective_of",
    "save_model",
    "save_network",
    "save_state",
]

STATE = "training.pt"
# The ladder that comes with the package, trained on simulated scenes.
BASE_LADDER = Path(__file__).parent / "base" / "ladder.safetensors"
Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True)
class Checkpoint:
    """A trained variational model.

    Attributes:
        ladder: the model.
        patch: side of the patches it was trained on, in voxels.
        step: steps taken.
        encoders: 2 for q and r, 1 for r alone.
        noise: noise spectra of its training tomograms, by name.
        trained_on: its training tomograms; empty if they are unknown.
        flow: the generative model that was fitted to them with the estimates of the ladder; it has a file of its own.
    """

    ladder: Ladder
    patch: int
    step: int
    encoders: int
    noise: dict[str, Tensor]
    trained_on: tuple[TrainedOn, ...] = ()
    flow: Generator | None = None


def save_model(path: Path, checkpoint: Checkpoint, half: bool = False) -> None:
    """Write weights and sizes to one safetensors file, whole or not at all; ``half``: weights in half precision."""
    kind = torch.float16 if half else torch.float32
    tensors = {f"{WEIGHTS}{name}": tensor.to(kind).contiguous() for name, tensor in checkpoint.ladder.state_dict().items()}
    tensors |= {f"{NOISE}{name}": table.contiguous() for name, table in checkpoint.noise.items()}
    about = {
        "cryovae": __version__,
        "ladder": asdict(checkpoint.ladder.config),
        "patch": checkpoint.patch,
        "step": checkpoint.step,
        "encoders": checkpoint.encoders,
        **({"traits": checkpoint.ladder.film.traits} if checkpoint.ladder.film is not None else {}),
        "trained_on": [asdict(origin) for origin in checkpoint.trained_on],
    }
    _write(path, tensors, about)


def _write(path: Path, tensors: dict[str, Tensor], about: dict[str, Any]) -> None:
    """Write a model whole or not at all. BrokenResult if a tensor is not finite."""
    broken = not_finite(tensors)
    if broken:
        raise BrokenResult(
            f"{path} has numbers that are NaN or infinite in {broken[0]}, expected weights: train it anew, with a smaller "
            "--learning-rate"
        )
    with whole_file(path) as beside:
        save_file(tensors, beside, metadata={"cryovae": json.dumps(about)})


@dataclass(frozen=True)
class NetworkCheckpoint:
    """A trained deterministic network.

    Attributes:
        network: the network.
        patch: side of the patches it was trained on, in voxels.
        step: steps taken.
        objective: name of its objective.
        trained_on: its training tomograms; empty if they are unknown.
    """

    network: UNet
    patch: int
    step: int
    objective: str
    trained_on: tuple[TrainedOn, ...] = ()


def save_network(path: Path, checkpoint: NetworkCheckpoint) -> None:
    """Write a deterministic network to one safetensors file, whole or not at all."""
    tensors = {f"{WEIGHTS}{name}": tensor.contiguous() for name, tensor in checkpoint.network.state_dict().items()}
    about = {
        "cryovae": __version__,
        "objective": checkpoint.objective,
        "ladder": asdict(checkpoint.network.config),
        "patch": checkpoint.patch,
        "step": checkpoint.step,
        "trained_on": [asdict(origin) for origin in checkpoint.trained_on],
    }
    _write(path, tensors, about)


def load_network(path: Path | str) -> NetworkCheckpoint:
    """Read a deterministic network, from its file or its run folder. InputError as for ``load_model``."""
    with _opened(path) as (file, where, header):
        if header.objective == VARIATIONAL:
            raise InputError(f"{where} holds a variational model, expected one of another objective")
        network, _ = _filled(where, file, header, lambda: UNet(header.sizes))
    return NetworkCheckpoint(network.eval(), header.patch, header.step, header.objective, header.trained_on)


def objective_of(path: Path | str) -> str:
    """The objective of a model file or run folder, 'vae' for the variational model. InputError as for ``load_model``."""
    with _opened(path) as (_, _, header):
        return header.objective


def load_model(path: Path | str) -> Checkpoint:
    """Read a model file, or the model of a run folder. InputError if there is none, it is not cryovae's, or it is damaged."""
    with _opened(path) as (file, where, header):
        if header.objective != VARIATIONAL:
            raise InputError(f"{where} holds a network of objective {header.objective}, expected a variational model")
        ladder, noise = _filled(where, file, header, lambda: Ladder(header.sizes, header.encoders, header.traits))
    return Checkpoint(ladder.eval(), header.patch, header.step, header.encoders, noise, header.trained_on)


@contextmanager
def _opened(path: Path | str) -> Iterator[tuple[Any, Path, Header]]:
    """A model file, its path and its checked header."""
    path = Path(path)
    if path.is_dir():
        path = path / MODEL
    if not path.is_file():
        raise InputError(f"{path} does not exist: give a run folder of 'cryovae train', or its {MODEL}")
    try:
        with safe_open(path, framework="pt") as file:
            yield file, path, header_of(path, file.metadata())
    except SafetensorError as error:
        why = shown(str(error))
        raise InputError(f"{path} is no safetensors file ({why}): give a model that cryovae wrote") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error}): give a model that cryovae wrote") from error


def _filled(path: Path, file: Any, header: Header, build: Callable[[], Network]) -> tuple[Network, dict[str, Tensor]]:
    """The network with its weights, and noise spectra: read once their names, types and shapes are those of the network."""
    pieces = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
    shapes = {name: (str(piece.get_dtype()), tuple(piece.get_shape())) for name, piece in pieces.items()}
    check_size(path, header, shapes)
    network = build()
    check_tensors(path, network, shapes)
    tensors = {name: file.get_tensor(name) for name in pieces}
    check_weights(path, tensors)
    weights = {n.removeprefix(WEIGHTS): t for n, t in tensors.items() if n.startswith(WEIGHTS)}
    network.load_state_dict(current_weights(weights))
    return network, {n.removeprefix(NOISE): t for n, t in tensors.items() if n.startswith(NOISE)}


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write a training state of tensors, numbers and strings."""
    with whole_file(path) as beside:
        torch.save(state, beside)


def load_state(path: Path) -> dict[str, Any]:
    """Read a training state, its tensors mapped from the file. InputError if there is none to resume from, or it is damaged."""
    if not path.is_file():
        raise InputError(f"{path} does not exist, so there is nothing to resume: leave out --resume")
    return read_state(path)
