"""The public functions: what they import, what their examples show, and that they agree with the command line."""

import doctest
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import cryovae
from cryovae.io.files import read_volume
from tests.conftest import write_mrc

FUNCTIONS = ("evaluate", "load_model", "read_tomogram", "restore", "save", "simulate", "train")
LIGHT = {"ladder.widths": [4, 8], "ladder.latents": [2, 2], "training.binnings": 1, "restoration.sampler": "amortised"}
# Seconds, several times what it takes on a busy machine: torch alone takes longer.
IMPORT_LIMIT = 0.2


@pytest.fixture(scope="module")
def model_file(small, tmp_path_factory):
    """A light model of two steps."""
    output = tmp_path_factory.mktemp("model") / "run"
    cryovae.train(small, preset="quick", steps=2, patch=16, settings=LIGHT, device="cpu", output=output)
    return output / "model.safetensors"


@pytest.fixture
def folder(small_files, model_file, tmp_path, monkeypatch):
    """A working folder with even.mrc, odd.mrc, ts.tlt and the run folder of a model."""
    (tmp_path / "run").mkdir()
    shutil.copy(model_file, tmp_path / "run")
    for name, role in (("even.mrc", "half1"), ("odd.mrc", "half2"), ("ts.tlt", "tilts")):
        small_files[role].rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()


def test_import_is_quick_and_imports_no_heavy_package():
    code = """
import sys, time
began = time.perf_counter()
import cryovae
print(time.perf_counter() - began)
print(*(name for name in ("torch", "numpy", "scipy", "rich", "typer") if name in sys.modules))
"""
    seconds, *heavy = min((_python(code) for _ in range(3)), key=lambda words: float(words[0]))
    assert not heavy
    assert float(seconds) < IMPORT_LIMIT


def test_every_public_name_exists_and_others_do_not():
    assert set(FUNCTIONS) < set(cryovae.__all__) == set(dir(cryovae)) - {"__version__"}
    assert all(getattr(cryovae, name) is not None for name in cryovae.__all__)
    with pytest.raises(AttributeError, match="no attribute 'retrain'"):
        _ = cryovae.retrain


def test_the_package_declares_its_types():
    assert (Path(cryovae.__file__).parent / "py.typed").is_file()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_example_of_each_function_runs(name, folder, capfd):
    function = getattr(cryovae, name)
    assert all(part in function.__doc__ for part in ("Args:", "Returns:", "Examples:"))
    (example,) = doctest.DocTestFinder(recurse=False).find(function, name, globs={})
    lines: list[str] = []
    results = doctest.DocTestRunner().run(example, out=lines.append)
    assert results.attempted > 1
    assert results.failed == 0, "".join(lines)


@pytest.mark.slow
def test_functions_and_commands_give_the_same_restoration(folder):
    options = [
        "--half1",
        "even.mrc",
        "--half2",
        "odd.mrc",
        "--tilts",
        "ts.tlt",
        "--steps",
        "3",
        "--patch",
        "16",
        "--preset",
        "quick",
    ]
    options += ["--device", "cpu", "--set", "restoration.samples=2", "--threads", "1"]
    options += [word for key, value in LIGHT.items() for word in ("--set", f"{key}={value}")]
    command = [sys.executable, "-m", "cryovae", "restore", *options, "-o", "shell"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    tomogram = cryovae.read_tomogram("even.mrc", "odd.mrc", tilts="ts.tlt")
    model = cryovae.train(tomogram, preset="quick", steps=3, patch=16, device="cpu", settings=LIGHT)
    restoration = cryovae.restore(tomogram, model, samples=2, device="cpu")
    paths = cryovae.save(restoration, tomogram, "notebook")
    for kind in ("mean", "std", "measured", "mean_half1", "mean_half2"):
        shell, notebook = read_volume(Path("shell") / paths[kind].name), read_volume(paths[kind])
        assert np.array_equal(shell.density, notebook.density)
        assert shell.voxel_size == notebook.voxel_size
    assert torch.equal(cryovae.restore(tomogram, Path("shell"), samples=2, device="cpu").mean, restoration.mean)


def test_training_is_kept_in_a_folder_and_not_overwritten(folder):
    tomogram = cryovae.read_tomogram("even.mrc", "odd.mrc", tilts=(-60, 60))
    trained = cryovae.train(tomogram, steps=2, patch=16, settings=LIGHT, output="trained", device="cpu")
    assert {"model.safetensors", "run.json", "config.toml", "metrics.csv"} <= {path.name for path in Path("trained").iterdir()}
    with pytest.raises(cryovae.InputError, match="resume=True"):
        cryovae.train(tomogram, steps=2, patch=16, settings=LIGHT, output="trained", device="cpu")
    again = cryovae.train(tomogram, steps=2, patch=16, settings=LIGHT, output="trained", device="cpu", resume=True)
    assert all(torch.equal(a, b) for a, b in zip(trained.ladder.parameters(), again.ladder.parameters(), strict=True))


def test_tilts_are_a_file_a_range_or_all_angles(folder):
    angles = [float(line) for line in Path("ts.tlt").read_text().split()]
    geometries = [cryovae.read_tomogram("even.mrc", tilts=tilts).tilts for tilts in ("ts.tlt", Path("ts.tlt"), angles)]
    assert geometries[0] == geometries[1] == geometries[2]
    assert cryovae.read_tomogram("even.mrc", tilts=geometries[0]).tilts is geometries[0]
    assert cryovae.read_tomogram("even.mrc", tilts=(-50, 60)).tilts.missing == 70


def test_a_density_of_an_unrotated_tomogram_is_scored_upright(folder):
    tomogram, truth = cryovae.simulate(shape=(24, 36, 32), seed=0)
    unrotated = cryovae.Tomogram(tomogram.name, tomogram.density, 10.0, tomogram.tilts, tomogram.halves, unrotated=True)
    restoration = cryovae.Restoration(truth, truth.abs())
    paths = cryovae.save(restoration, unrotated, "restored")
    assert read_volume(paths["mean"]).density.shape == (36, 24, 32)
    scores = cryovae.evaluate(paths["mean"], unrotated, truth)
    assert scores.rows[0].score.wedge.band == pytest.approx(1)


def test_saving_honours_the_outputs_of_the_restoration_and_leaves_nothing_of_an_earlier_one(folder):
    tomogram, truth = cryovae.simulate(shape=(24, 36, 32), seed=0)
    volumes = {"mean": truth, "std": truth.abs(), "measured": truth, "halves": (truth, truth), "samples": [truth]}
    everything = cryovae.save(cryovae.Restoration(**volumes), tomogram, "restored")
    assert set(everything) == {"mean", "std", "measured", "mean_half1", "mean_half2", "sample_0"}
    fewer = cryovae.Restoration(truth, truth.abs(), measured=truth, outputs=("measured",))
    assert set(cryovae.save(fewer, tomogram, "restored")) == {"mean", "measured"}
    assert {path.name for path in Path("restored").iterdir()} == {"simulated_mean.mrc", "simulated_measured.mrc"}
    write_mrc(Path("restored/simulated_sample_2.mrc"), truth.numpy())
    rescaled = replace(fewer, outputs=(), measured=None, output_voxel_size=20.0)
    assert set(cryovae.save(rescaled, tomogram, "restored")) == {"mean", "mean_20A"}
    kept = {"simulated_mean.mrc", "simulated_mean_20A.mrc", "simulated_sample_2.mrc"}
    assert {path.name for path in Path("restored").iterdir()} == kept
    model = cryovae.train(tomogram, preset="quick", steps=1, patch=16, device="cpu", settings=LIGHT)
    settings = {"restoration.outputs": ["measured"]}
    restoration = cryovae.restore(tomogram, model, samples=2, device="cpu", settings=settings)
    assert set(cryovae.save(restoration, tomogram, "measured")) == {"mean", "measured"}


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda t: cryovae.train(t, preset="fast"), "expected one of quick"),
        (lambda t: cryovae.train(t, settings={"training.step": 2}), "did you mean 'steps'"),
        (lambda t: cryovae.train(t, settings={"objective.name": "deepdewedge"}), "expected vae or wae"),
        (lambda t: cryovae.train([]), "no tomogram"),
        (lambda t: cryovae.train(t, device="gpu"), "expected auto, cpu"),
        (lambda t: cryovae.restore(t, "nowhere"), "does not exist"),
        (lambda t: cryovae.evaluate(np.zeros((4, 4, 4)), t), "expected that of the tomogram"),
        (lambda t: cryovae.read_tomogram("even.mrc", tilts=(60, -60)), "lower angle first"),
    ],
)
def test_what_cannot_be_used_is_an_input_error(call, words, folder):
    tomogram, _ = cryovae.simulate(shape=(24, 36, 32), seed=0)
    with pytest.raises(cryovae.InputError, match=words):
        call(tomogram)
