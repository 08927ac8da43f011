"""A trained model on disk: weights, sizes, noise spectra and step, readable without running code from the file.

model.safetensors holds the averaged weights, with the ladder's sizes as JSON in its metadata; training.pt holds what a
resumed run needs, tensors and plain numbers only, and is read with weights_only.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from cryovae import __version__
from cryovae.aliases import current_state, current_weights
from cryovae.errors import BrokenResult, InputError
from cryovae.io.atomic import whole_file
from cryovae.models.ladder import Ladder, LadderConfig
from cryovae.models.unet import UNet

MODEL, STATE = "model.safetensors", "training.pt"


@dataclass(frozen=True)
class Checkpoint:
    """A trained variational model.

    Attributes:
        ladder: the model.
        patch: side of the patches it was trained on, in voxels.
        step: steps taken.
        encoders: 2 for q and r, 1 for r alone.
        noise: noise spectra of its training tomograms, by name.
    """

    ladder: Ladder
    patch: int
    step: int
    encoders: int
    noise: dict[str, Tensor]


def save_model(path: Path, checkpoint: Checkpoint) -> None:
    """Write weights and sizes to one safetensors file, whole or not at all."""
    tensors = {f"weights.{name}": tensor.contiguous() for name, tensor in checkpoint.ladder.state_dict().items()}
    tensors |= {f"noise.{name}": table.contiguous() for name, table in checkpoint.noise.items()}
    about = {
        "cryovae": __version__,
        "ladder": asdict(checkpoint.ladder.config),
        "patch": checkpoint.patch,
        "step": checkpoint.step,
        "encoders": checkpoint.encoders,
    }
    _write(path, tensors, about)


def _write(path: Path, tensors: dict[str, Tensor], about: dict[str, Any]) -> None:
    """Write a model whole or not at all. BrokenResult if a tensor is not finite."""
    _check_finite(path, tensors, "train it anew, with a smaller --learning-rate")
    with whole_file(path) as beside:
        save_file(tensors, beside, metadata={"cryovae": json.dumps(about)})


def _check_finite(path: Path, tensors: dict[str, Tensor], action: str) -> None:
    broken = [name for name, tensor in tensors.items() if tensor.is_floating_point() and not bool(tensor.isfinite().all())]
    if broken:
        raise BrokenResult(f"{path} has numbers that are NaN or infinite in {broken[0]}, expected weights: {action}")


@dataclass(frozen=True)
class NetworkCheckpoint:
    """A trained deterministic network.

    Attributes:
        network: the network.
        patch: side of the patches it was trained on, in voxels.
        step: steps taken.
        objective: name of its objective.
    """

    network: UNet
    patch: int
    step: int
    objective: str


def save_network(path: Path, checkpoint: NetworkCheckpoint) -> None:
    """Write a deterministic network to one safetensors file, whole or not at all."""
    tensors = {f"weights.{name}": tensor.contiguous() for name, tensor in checkpoint.network.state_dict().items()}
    about = {
        "cryovae": __version__,
        "objective": checkpoint.objective,
        "ladder": asdict(checkpoint.network.config),
        "patch": checkpoint.patch,
        "step": checkpoint.step,
    }
    _write(path, tensors, about)


def load_network(path: Path | str) -> NetworkCheckpoint:
    """Read a deterministic network, from its file or its run folder. InputError as for ``load_model``."""
    about, tensors = _read(path)
    if "objective" not in about:
        raise InputError(f"{path} holds a variational model, expected one of another objective")
    network = UNet(_sizes(about))
    network.load_state_dict({n.removeprefix("weights."): t for n, t in tensors.items() if n.startswith("weights.")})
    return NetworkCheckpoint(network.eval(), about["patch"], about["step"], about["objective"])


def objective_of(path: Path | str) -> str:
    """The objective of a model file or run folder, 'vae' for the variational model. InputError as for ``load_model``."""
    return str(_read(path)[0].get("objective", "vae"))


def load_model(path: Path | str) -> Checkpoint:
    """Read a model file, or the model of a run folder. InputError if there is none, or it is not cryovae's."""
    about, tensors = _read(path)
    if "objective" in about:
        raise InputError(f"{path} holds a network of objective {about['objective']}, expected a variational model")
    ladder = Ladder(_sizes(about), about["encoders"])
    weights = {n.removeprefix("weights."): t for n, t in tensors.items() if n.startswith("weights.")}
    ladder.load_state_dict(current_weights(weights))
    noise = {n.removeprefix("noise."): t for n, t in tensors.items() if n.startswith("noise.")}
    return Checkpoint(ladder.eval(), about["patch"], about["step"], about["encoders"], noise)


def _sizes(about: dict[str, Any]) -> LadderConfig:
    sizes = about["ladder"]
    # Older files do not name a posterior.
    posterior = {name: sizes[name] for name in ("posterior", "flow_levels") if name in sizes}
    return LadderConfig(tuple(sizes["widths"]), tuple(sizes["latents"]), sizes["blocks"], **posterior)


def _read(path: Path | str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    path = Path(path)
    if path.is_dir():
        path = path / MODEL
    if not path.is_file():
        raise InputError(f"{path} does not exist: give a run folder of 'cryovae train', or its {MODEL}")
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {}).get("cryovae", "null"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise InputError(f"{path} is no safetensors file ({error}): give a model that cryovae wrote") from error
    if about is None:
        raise InputError(f"{path} is a safetensors file of something else: give a model that cryovae wrote")
    _check_finite(path, tensors, "use another model, or train it anew")
    return about, tensors


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write a training state of tensors, numbers and strings."""
    with whole_file(path) as beside:
        torch.save(state, beside)


def load_state(path: Path) -> dict[str, Any]:
    """Read a training state, its tensors mapped from the file. InputError if there is none to resume from."""
    if not path.is_file():
        raise InputError(f"{path} does not exist, so there is nothing to resume: leave out --resume")
    return current_state(torch.load(path, weights_only=True, map_location="cpu", mmap=True))
