"""Model files that are damaged, hostile or of something else are refused in one line, before memory is taken."""

import json
import time

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from cryovae.checkpoint import (
    Checkpoint,
    NetworkCheckpoint,
    TrainedOn,
    load_model,
    load_network,
    objective_of,
    save_model,
    save_network,
)
from cryovae.errors import InputError
from cryovae.models.unet import UNet

HERE = TrainedOn("ts_01", 10.0, 0.8, -60.0, 57.0, 63.0)


def _parts(path):
    with safe_open(path, framework="pt") as file:
        about = json.loads(file.metadata()["cryovae"])
        return about, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def _written(path, about, tensors):
    text = about if isinstance(about, str) else json.dumps(about)
    save_file(tensors, path, metadata={"cryovae": text})
    return path


@pytest.fixture
def model(ladder, tmp_path):
    save_model(tmp_path / "model.safetensors", Checkpoint(ladder, 16, 120, 2, {"ts_01": torch.rand(24, 4, 4)}, (HERE,)))
    return tmp_path / "model.safetensors"


def _refused(path, words):
    began = time.monotonic()
    with pytest.raises(InputError, match=words) as caught:
        load_model(path)
    assert "\n" not in str(caught.value)
    assert path.name in str(caught.value)
    assert time.monotonic() - began < 2


HEADERS = {
    "no JSON": (lambda about: "{", "no JSON"),
    "a list": (lambda about: "[1, 2]", "expected a dictionary"),
    "nested without end": (lambda about: "[" * 100000, "no JSON"),
    "no ladder": (lambda about: {k: v for k, v in about.items() if k != "ladder"}, "no 'ladder'"),
    "no encoders": (lambda about: {k: v for k, v in about.items() if k != "encoders"}, "no 'encoders'"),
    "ladder is a word": (lambda about: about | {"ladder": "x"}, "ladder 'x' found"),
    "ladder is empty": (lambda about: about | {"ladder": {}}, "other|missing|shape"),
    "patch big": (lambda about: about | {"patch": "big"}, "patch 'big' found"),
    "patch -16": (lambda about: about | {"patch": -16}, "patch -16 found"),
    "patch 18": (lambda about: about | {"patch": 18}, "multiple of 4"),
    "encoders 7": (lambda about: about | {"encoders": 7}, "encoders 7 found"),
    "step is a list": (lambda about: about | {"step": [1]}, "step"),
    "objective swapped": (lambda about: about | {"objective": "isonet2"}, "expected a variational model"),
    "objective unknown": (lambda about: about | {"objective": "x"}, "objective 'x' found"),
    "trained_on a word": (lambda about: about | {"trained_on": "x"}, "trained_on"),
    "voxel size 0": (lambda about: about | {"trained_on": [about["trained_on"][0] | {"voxel_size": 0}]}, "voxel_size 0 found"),
}
SIZES = {"widths": [10**7, 6, 8], "blocks": 10**6, "latents": [2, 3], "posterior": "x"}


@pytest.mark.parametrize("name", HEADERS)
def test_metadata_of_another_kind_are_refused(name, model):
    change, words = HEADERS[name]
    about, tensors = _parts(model)
    _refused(_written(model, change(about), tensors), words)


@pytest.mark.parametrize("name", SIZES)
def test_sizes_that_no_model_has_are_refused_at_once(name, model):
    about, tensors = _parts(model)
    about["ladder"][name] = SIZES[name]
    _refused(_written(model, about, tensors), name)


@pytest.mark.parametrize("change", [{"widths": [4, 6, 16]}, {"blocks": 2}, {"latents": [2, 3, 5]}, {"posterior": "flow"}])
def test_weights_of_another_architecture_are_refused(change, model):
    about, tensors = _parts(model)
    about["ladder"] |= change
    _refused(_written(model, about, tensors), "shape|missing|expected at least")


def test_weights_that_are_missing_unknown_or_of_another_type_are_refused(model):
    about, tensors = _parts(model)
    name = next(n for n in tensors if n.startswith("weights."))
    _refused(_written(model, about, {n: t for n, t in tensors.items() if n != name}), "no weights")
    _refused(_written(model, about, tensors | {"weights.x": torch.ones(2)}), "unknown tensor 'x'")
    _refused(_written(model, about, tensors | {"x": torch.ones(2)}), "unknown tensor 'x'")
    _refused(_written(model, about, tensors | {name: tensors[name].double()}), "type 'F64'")
    _refused(_written(model, about, tensors | {name: tensors[name][None]}), "shape")
    _refused(_written(model, about, tensors | {"noise.ts_01": torch.ones(2)}), "noise spectrum")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_not_finite_are_refused(value, model):
    about, tensors = _parts(model)
    tensors["weights.top"][0] = value
    _refused(_written(model, about, tensors), "NaN or infinity in 1 of")


def test_a_cut_or_foreign_file_is_refused(model):
    content = model.read_bytes()
    for cut in (0, 7, 300, len(content) - 1):
        model.write_bytes(content[:cut])
        _refused(model, "no safetensors file")
    save_file({"a": torch.ones(2)}, model)
    _refused(model, "something else")


def test_a_network_is_checked_as_a_model_is(small_config, model):
    save_network(model, NetworkCheckpoint(UNet(small_config), 16, 5, "deepdewedge", (HERE,)))
    assert objective_of(model) == "deepdewedge"
    assert load_network(model).trained_on == (HERE,)
    about, tensors = _parts(model)
    _written(model, {n: v for n, v in about.items() if n != "objective"} | {"encoders": 2}, tensors)
    _refused(model, "unknown")
    with pytest.raises(InputError, match="variational model"):
        load_network(model)


def test_what_a_model_was_trained_on_comes_back(model):
    assert load_model(model).trained_on == (HERE,)
    about, tensors = _parts(model)
    _written(model, {name: value for name, value in about.items() if name != "trained_on"}, tensors)
    assert load_model(model).trained_on == ()
