"""Files of the generative model: they come back as written, and all that is damaged or hostile is refused in one line."""

import json
import time

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from cryovae.errors import BrokenResult, InputError
from cryovae.generator_file import FILE, GeneratorFile, load_generator, save_generator
from cryovae.models.generator import Generator
from tests.helpers.generative import tiny_generator

RECIPE = {"seed": 3, "patches": {"voxel_size": [6.0, 16.0]}}


@pytest.fixture
def model(tmp_path):
    save_generator(tmp_path / FILE, GeneratorFile(tiny_generator(), 16, RECIPE))
    return tmp_path / FILE


def _parts(path):
    with safe_open(path, framework="pt") as file:
        about = json.loads(file.metadata()["cryovae"])
        return about, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def _written(path, about, tensors):
    text = about if isinstance(about, str) else json.dumps(about)
    save_file(tensors, path, metadata={"cryovae": text})
    return path


def _refused(path, words):
    began = time.monotonic()
    with pytest.raises(InputError, match=words) as caught:
        load_generator(path)
    assert "\n" not in str(caught.value)
    assert path.name in str(caught.value)
    assert time.monotonic() - began < 2


@pytest.mark.parametrize("folder", [False, True])
def test_a_model_comes_back_in_half_precision(folder, model):
    file, made = load_generator(model.parent if folder else model), tiny_generator()
    assert file.recipe == RECIPE
    assert file.patch == 16
    assert file.generator.config == made.config
    assert not file.generator.training
    assert all(weight.requires_grad for weight in file.generator.parameters())
    for name, weight in file.generator.state_dict().items():
        assert weight.dtype == torch.float32
        assert torch.equal(weight, made.state_dict()[name].half().float()), name
    assert model.stat().st_size < 2.2 * sum(w.numel() for w in made.state_dict().values()) + 20_000


def test_reading_a_model_draws_no_random_numbers(model):
    before = torch.get_rng_state()
    load_generator(model)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_model_with_a_weight_that_is_not_finite_is_not_written(tmp_path):
    made = tiny_generator()
    with torch.no_grad():
        # Too large for half precision.
        made.vae.expand.weight[0] = 1e6
    with pytest.raises(BrokenResult, match=r"vae\.expand\.weight"):
        save_generator(tmp_path / FILE, GeneratorFile(made, 16))
    assert list(tmp_path.iterdir()) == []


def test_a_path_without_a_model_is_refused(tmp_path):
    with pytest.raises(InputError, match="does not exist: give the folder"):
        load_generator(tmp_path)
    with pytest.raises(InputError, match="does not exist: give the folder"):
        load_generator(tmp_path / "none.safetensors")


def _sizes(part, **changes):
    return lambda about: about | {"sizes": about["sizes"] | {part: about["sizes"][part] | changes}}


HEADERS = {
    "no JSON": (lambda about: "{", "no generative model"),
    "a list": (lambda about: "[1, 2]", "no generative model"),
    "nested without end": (lambda about: "[" * 100000, "no generative model"),
    "nested dictionaries": (lambda about: '{"a":' * 100000, "no generative model"),
    "a number of digits": (lambda about: "9" * 100000, "no generative model"),
    "another kind": (lambda about: about | {"kind": "cryovae.ladder"}, "no generative model"),
    "no kind": (lambda about: {n: v for n, v in about.items() if n != "kind"}, "no generative model"),
    "no sizes": (lambda about: {n: v for n, v in about.items() if n != "sizes"}, "sizes"),
    "sizes a word": (lambda about: about | {"sizes": "x"}, "sizes 'x'"),
    "recipe a list": (lambda about: about | {"recipe": [1]}, r"recipe \[1\]"),
    "patch big": (lambda about: about | {"patch": "big"}, "patch 'big'"),
    "patch true": (lambda about: about | {"patch": True}, "patch True"),
    "patch 1e30": (lambda about: about | {"patch": 1e30}, "patch 1e"),
    "patch 18": (lambda about: about | {"patch": 18}, "patch 18 found, expected a multiple of 8"),
    "patch -16": (lambda about: about | {"patch": -16}, "patch -16"),
    "no patch": (lambda about: {n: v for n, v in about.items() if n != "patch"}, "patch None"),
    "vae a word": (lambda about: about | {"sizes": about["sizes"] | {"vae": "x"}}, "vae 'x' found"),
    "no flow": (lambda about: about | {"sizes": {"vae": about["sizes"]["vae"]}}, "flow None found"),
    "unknown size": (_sizes("vae", depth=3), "vae .* found"),
    "stride 3": (_sizes("vae", stride=3), "stride 3 found"),
    "stride a list": (_sizes("vae", stride=[4]), r"stride \[4\] found"),
    "width of terabytes": (_sizes("flow", width=10**9), "width 1000000000 found"),
    "width 1.5": (_sizes("flow", width=8.5), "width 8.5 found"),
    "width null": (_sizes("flow", width=None), "width None found"),
    "blocks true": (_sizes("flow", blocks=True), "blocks True found"),
    "variance NaN": (_sizes("vae", model_variance=float("nan")), "model_variance nan found"),
    "as large as allowed": (
        _sizes("flow", width=2048, coarse_width=2048, blocks=32, condition_blocks=32, condition_width=1024),
        "more than|other weights",
    ),
    "large, below the limit": (_sizes("flow", width=1024, coarse_width=1024, blocks=4), "other weights"),
    "another width": (_sizes("flow", width=16), "other weights"),
    "another stride": (_sizes("vae", stride=2), "other weights"),
}


@pytest.mark.parametrize("name", HEADERS)
def test_metadata_of_another_kind_are_refused(name, model):
    change, words = HEADERS[name]
    about, tensors = _parts(model)
    _refused(_written(model, change(about), tensors), words)


def test_sizes_that_the_file_does_not_hold_take_no_memory(model, monkeypatch):
    about, tensors = _parts(model)
    _written(model, HEADERS["large, below the limit"][0](about), tensors)

    def outlined(config):
        generator = Generator(config)
        assert {weight.device.type for weight in generator.parameters()} == {"meta"}
        return generator

    monkeypatch.setattr("cryovae.generator_file.Generator", outlined)
    _refused(model, "other weights")


def test_metadata_without_recipe_are_of_an_unknown_one(model):
    about, tensors = _parts(model)
    assert load_generator(_written(model, {n: v for n, v in about.items() if n != "recipe"}, tensors)).recipe == {}


def test_weights_that_are_missing_unknown_or_of_another_shape_are_refused(model):
    about, tensors = _parts(model)
    name = "flow.enter.weight"
    _refused(_written(model, about, {n: t for n, t in tensors.items() if n != name}), name)
    _refused(_written(model, about, tensors | {"x": torch.ones(2)}), "'x'")
    _refused(_written(model, about, tensors | {name: tensors[name][:1].clone()}), name)
    _refused(_written(model, about, tensors | {name: tensors[name].to(torch.int32)}), "type 'I32'")
    _refused(_written(model, about, tensors | {name: torch.zeros(tensors[name].shape, dtype=torch.complex64)}), "type 'C64'")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_not_finite_are_refused(value, model):
    about, tensors = _parts(model)
    tensors["vae.project.weight"][0] = value
    _refused(_written(model, about, tensors), "NaN or infinity")


@pytest.mark.parametrize("value", [0.0, -1.0])
def test_a_scale_of_latents_that_is_not_above_0_is_refused(value, model):
    about, tensors = _parts(model)
    tensors["latent_scale"][1] = value
    _refused(_written(model, about, tensors), "latent_scale")


def test_a_cut_or_foreign_file_is_refused(model):
    content = model.read_bytes()
    for cut in (0, 7, 300, len(content) - 1):
        model.write_bytes(content[:cut])
        _refused(model, "no safetensors file")
    model.write_bytes(b"not a model at all" * 99)
    _refused(model, "no safetensors file")
    save_file({"a": torch.ones(2)}, model)
    _refused(model, "no generative model")


def test_the_metadata_of_another_program_are_refused(model):
    _, tensors = _parts(model)
    save_file(tensors, model, metadata={"format": "pt"})
    _refused(model, "no generative model")
    save_file(tensors, model, metadata={"cryovae": "null"})
    _refused(model, "no generative model")
