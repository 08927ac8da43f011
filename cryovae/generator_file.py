"""The generative model on disk: weights in half precision, sizes and recipe in one safetensors file; the base of the package."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from cryovae import __version__
from cryovae.errors import BrokenResult, InputError
from cryovae.io.atomic import whole_file
from cryovae.model_header import not_finite
from cryovae.models.generator import Generator, GeneratorConfig
from cryovae.models.latent_flow import LatentFlowConfig
from cryovae.models.patch_vae import PatchVAEConfig
from cryovae.ranges import shown

KIND, FILE = "cryovae.generator", "generator.safetensors"
BASE = Path(__file__).parent / "base" / FILE
# Type of the weights, by the name that safetensors has for it.
TYPE = "F16"
# The package's base may have 12 MB; a file of a GPU's recipe more.
MOST_WEIGHTS = 10**9


@dataclass(frozen=True)
class GeneratorFile:
    """A generative model and what it was trained on.

    Attributes:
        generator: the model.
        patch: side of the patches it was trained on, in voxels.
        recipe: settings, seed and steps of its training, as plain values.
    """

    generator: Generator
    patch: int
    recipe: dict[str, Any] = field(default_factory=dict)


def save_generator(path: Path, file: GeneratorFile) -> None:
    """Write a model in half precision, whole or not at all. BrokenResult if a weight is not finite."""
    tensors = {name: tensor.half().contiguous() for name, tensor in file.generator.state_dict().items()}
    broken = not_finite(tensors)
    if broken:
        raise BrokenResult(f"{path} has numbers that are NaN or infinite in {broken[0]}, expected weights: train it anew")
    about = {
        "kind": KIND,
        "cryovae": __version__,
        "sizes": asdict(file.generator.config),
        "patch": file.patch,
        "recipe": file.recipe,
    }
    with whole_file(path) as beside:
        save_file(tensors, beside, metadata={"cryovae": json.dumps(about)})


def load_generator(path: Path | str) -> GeneratorFile:
    """Read a model, from its file or its folder. InputError if there is none, it is of something else, or it is damaged."""
    path = Path(path)
    path = path / FILE if path.is_dir() else path
    if not path.is_file():
        raise InputError(f"{path} does not exist: give the folder of 'cryovae pretrain', or its {FILE}")
    try:
        with safe_open(path, framework="pt") as file:
            about = _about(path, file.metadata())
            generator = _outlined(path, about["sizes"], about["patch"])
            parts = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            _check_shapes(path, generator, {n: (str(part.get_dtype()), tuple(part.get_shape())) for n, part in parts.items()})
            generator.load_state_dict({name: file.get_tensor(name).float() for name in parts}, assign=True)
    except SafetensorError as error:
        raise InputError(f"{path} is no safetensors file ({shown(str(error))}): give a model of 'cryovae pretrain'") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error}): give a model of 'cryovae pretrain'") from error
    if not all(bool(torch.isfinite(tensor).all()) for tensor in generator.state_dict().values()):
        raise InputError(f"{path} holds NaN or infinity, expected finite weights: train it anew")
    if not bool((generator.latent_scale > 0).all()):
        raise InputError(f"{path} has a latent_scale of {float(generator.latent_scale.min()):g}, expected above 0: train it anew")
    return GeneratorFile(generator.eval(), about["patch"], about["recipe"])


def lineage(recipe: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The recipe of a model, that of the model it began with, and so on; the newest first."""
    past = [recipe]
    while isinstance(past[-1].get("before"), dict):
        past.append(past[-1]["before"])
    return past


def load_base() -> GeneratorFile:
    """The base model that the package brings."""
    return load_generator(BASE)


def _about(path: Path, metadata: dict[str, str] | None) -> dict[str, Any]:
    """The checked metadata of a model file."""
    try:
        about = json.loads((metadata or {}).get("cryovae", "null"))
    except (ValueError, RecursionError):
        about = None
    if not isinstance(about, dict) or about.get("kind") != KIND:
        raise InputError(f"{path} is no generative model, expected one of 'cryovae pretrain': give that")
    sizes, patch, recipe = about.get("sizes"), about.get("patch"), about.get("recipe", {})
    for name, value in (("sizes", sizes), ("recipe", recipe)):
        if not isinstance(value, dict):
            raise InputError(f"{path} is a damaged model, {name} {shown(value)} found, expected a dictionary: train it anew")
    if not isinstance(patch, int) or not 8 <= patch <= 1024:
        raise InputError(f"{path} is a damaged model, patch {shown(patch)} found, expected 8 to 1024 voxels: train it anew")
    return {"sizes": sizes, "patch": patch, "recipe": recipe}


def _outlined(path: Path, sizes: dict[str, Any], patch: int) -> Generator:
    """A model of these sizes whose weights take no memory yet."""
    parts = {"vae": PatchVAEConfig, "flow": LatentFlowConfig}
    made: dict[str, Any] = {}
    for name, kind in parts.items():
        values = sizes.get(name)
        known = {f.name for f in fields(kind)}
        if not isinstance(values, dict) or not values.keys() <= known:
            raise InputError(f"{path} is a damaged model, {name} {shown(values)} found, expected its sizes: train anew")
        try:
            made[name] = kind(**values)
        except InputError as error:
            raise InputError(f"{path} is a damaged model, {error}: train anew") from error
    unit = 2 * made["vae"].stride
    if patch % unit:
        raise InputError(f"{path} is a damaged model, patch {patch} found, expected a multiple of {unit}: train anew")
    with torch.device("meta"):
        generator = Generator(GeneratorConfig(**made))
    if sum(math.prod(t.shape) for t in generator.state_dict().values()) > MOST_WEIGHTS:
        raise InputError(f"{path} is a damaged model, its sizes ask for more than {MOST_WEIGHTS:.0e} weights: train anew")
    return generator


def _check_shapes(path: Path, generator: Generator, tensors: dict[str, tuple[str, tuple[int, ...]]]) -> None:
    """InputError if a file has other tensors than a model; ``tensors`` are type, as safetensors calls it, and shape by name."""
    expected = {name: tuple(tensor.shape) for name, tensor in generator.state_dict().items()}
    shapes = {name: shape for name, (_, shape) in tensors.items()}
    wrong = sorted(name for name in expected.keys() | shapes.keys() if expected.get(name) != shapes.get(name))
    if wrong:
        raise InputError(f"{path} holds other weights than its sizes say ({shown(wrong[0])}), expected those: train anew")
    for name, (kind, _) in tensors.items():
        if kind != TYPE:
            raise InputError(f"{path} has {shown(name)} of type {shown(kind)}, expected {TYPE}: train anew")
