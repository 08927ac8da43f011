"""cryovae sample with a generative model: draws of its prior, and of the posterior of a patch of a tomogram that is no cube."""

from functools import cache

import mrcfile
import numpy as np
import pytest
import torch

from cryovae.generator_file import GeneratorFile, load_generator, save_generator
from cryovae.io.orientation import as_stored
from cryovae.models.generator import Generator, GeneratorConfig
from cryovae.models.latent_flow import LatentFlowConfig
from cryovae.models.patch_vae import PatchVAEConfig
from cryovae.posterior import patch_sampler
from cryovae.workflows import draw_base
from tests.conftest import write_mrc
from tests.helpers.cli import RANGE, cryovae, refused
from tests.helpers.runs import make_run

SIDE = 16
CPU = ("--device", "cpu", "--threads", "1")
# Reading a model takes longer than drawing from it.
loaded = cache(load_generator)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The file of a very small model without training, whose draws depend on the noise and on the observed patch."""
    torch.manual_seed(0)
    vae = PatchVAEConfig(channels=2, width=4, fine_width=4, blocks=1)
    flow = LatentFlowConfig(width=8, coarse_width=8, blocks=1, condition_width=8, condition_blocks=1, embedding=8)
    generator = Generator(GeneratorConfig(vae, flow))
    for parameter in generator.parameters():
        if parameter.ndim > 1 and not parameter.any():
            torch.nn.init.normal_(parameter, std=0.2)
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    save_generator(path, GeneratorFile(generator, SIDE))
    return path


@pytest.fixture
def sample(model, undrawn, monkeypatch):
    """The command with the small model, and two steps of the flow."""
    monkeypatch.setattr(draw_base, "load_generator", loaded)
    monkeypatch.setattr(patch_sampler.PatchSampler.__init__, "__defaults__", (None, 2))
    return lambda *arguments: cryovae("sample", *arguments, "--model", model, *CPU)


@pytest.fixture
def halves(small, tmp_path):
    """Options that name the corner, 24 x 36 x 32, as two files."""
    paths = [write_mrc(tmp_path / f"corner_half{i + 1}.mrc", half) for i, half in enumerate(small.halves)]
    return ["--half1", paths[0], "--half2", paths[1], *RANGE]


def read(path):
    assert mrcfile.validate(path)
    return mrcfile.read(path)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_draws_of_the_prior_are_the_same_bytes_for_the_same_seed(sample, tmp_path):
    for folder, seed in (("one", 3), ("two", 3), ("three", 4)):
        result = sample("--from", "base", "--count", 3, "--seed", seed, "-o", tmp_path / folder)
        assert result.returncode == 0, result.stderr
    one, two, three = (contents(tmp_path / folder) for folder in ("one", "two", "three"))
    assert sorted(one) == ["tiny.png", "tiny_0.mrc", "tiny_1.mrc", "tiny_2.mrc"]
    assert one == two
    assert one["tiny_0.mrc"] != three["tiny_0.mrc"]
    with mrcfile.open(tmp_path / "one/tiny_0.mrc") as mrc:
        assert mrc.data.shape == (SIDE, SIDE, SIDE)
        assert mrc.voxel_size.x == 10
        assert any("seed 3" in str(label) for label in mrc.header.label)


def test_more_draws_begin_with_those_of_a_smaller_number(sample, tmp_path):
    sample("--count", 1, "-o", tmp_path / "one")
    sample("--count", 3, "-o", tmp_path / "three")
    few, more = (read(tmp_path / folder / "tiny_0.mrc") for folder in ("one", "three"))
    assert np.allclose(few, more, atol=1e-5)
    assert not np.allclose(more, read(tmp_path / "three/tiny_1.mrc"), atol=0.1)


def test_draws_in_several_batches_are_those_of_one_and_progress_counts_all_steps(model, monkeypatch):
    sampler = patch_sampler.PatchSampler(loaded(model).generator, steps=2)
    whole_batch, seen = sampler.prior(SIDE, 3, 7), []
    monkeypatch.setattr(patch_sampler, "BATCH", 2)
    parts = sampler.prior(SIDE, 3, 7, watch=lambda done, total: seen.append((done, total)))
    assert torch.allclose(whole_batch, parts, atol=1e-5)
    assert torch.allclose(sampler.decoded(whole_batch), sampler.decoded(parts), atol=1e-5)
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_side_voxel_size_and_temperature_of_draws_can_be_chosen(sample, tmp_path):
    sample("--count", 2, "--side", 24, "--voxel-size", 7.5, "-o", tmp_path / "warm")
    sample("--count", 2, "--side", 24, "--temperature", 0.1, "-o", tmp_path / "cold")
    with mrcfile.open(tmp_path / "warm/tiny_1.mrc") as mrc:
        assert mrc.data.shape == (24, 24, 24)
        assert mrc.voxel_size.x == 7.5
    warm, cold = (np.subtract(*(read(tmp_path / t / f"tiny_{i}.mrc") for i in (0, 1))).std() for t in ("warm", "cold"))
    assert cold < 0.5 * warm


def test_a_walk_of_the_prior_leads_from_its_first_draw_to_its_second(sample, tmp_path):
    assert sample("--walk", "--steps", 3, "--seed", 5, "-o", tmp_path).returncode == 0
    sample("--count", 2, "--seed", 5, "-o", tmp_path)
    first, middle, last = (read(tmp_path / f"tiny_walk_{i}.mrc") for i in range(3))
    assert np.allclose(first, read(tmp_path / "tiny_0.mrc"), atol=1e-5)
    assert np.allclose(last, read(tmp_path / "tiny_1.mrc"), atol=1e-5)
    # On a straight line the contrast would drop with the noise, to about sqrt(1/2).
    assert middle.std() > 0.85 * min(first.std(), last.std())


def test_the_posterior_at_a_place_has_draws_with_their_mean_and_std(sample, halves, small, tmp_path):
    for folder in ("one", "two"):
        result = sample(*halves, "--at", "13,12,20", "--count", 3, "--seed", 2, "-o", tmp_path / folder)
        assert result.returncode == 0, result.stderr
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    kinds = ["mean", "observed", "sample_0", "sample_1", "sample_2", "std"]
    names = [f"corner_at_13_12_20_{kind}.mrc" for kind in kinds]
    assert sorted(contents(tmp_path / "one")) == ["corner_at_13_12_20.png", *names]
    mean, observed, *samples, std = (read(tmp_path / "one" / name) for name in names)
    assert np.array_equal(observed, small.density[5:21, 4:20, 12:28])
    assert np.allclose(mean, np.mean(samples, 0), atol=1e-5)
    assert np.allclose(std, np.std(samples, 0, ddof=1), atol=1e-5)
    assert std.min() > 0
    with mrcfile.open(tmp_path / "one" / names[0]) as mrc:
        assert mrc.voxel_size.x == 10
        assert (mrc.header.origin.x, mrc.header.origin.y, mrc.header.origin.z) == (120, 40, 50)


def test_posterior_draws_are_on_the_grey_scale_of_the_tomogram(sample, small, tmp_path):
    for name, scale, offset in (("plain", 1, 0), ("other", 40, 700)):
        path = write_mrc(tmp_path / f"{name}.mrc", small.density * scale + np.float32(offset))
        result = sample(path, *RANGE, "--at", "13,12,20", "--count", 2, "-o", tmp_path)
        assert result.returncode == 0, result.stderr
    plain, other = (read(tmp_path / f"{name}_at_13_12_20_sample_1.mrc") for name in ("plain", "other"))
    assert np.allclose(other, 40 * plain + 700, atol=0.4)


def test_a_place_near_the_border_gets_the_patch_inside_the_tomogram(sample, halves, small, tmp_path):
    assert sample(*halves, "--at", "23,0,3.5", "--count", 2, "-o", tmp_path).returncode == 0
    assert np.array_equal(read(tmp_path / "corner_at_23_0_3.5_observed.mrc"), small.density[8:, :16, :16])


def test_patches_of_an_unrotated_tomogram_lie_as_its_file_does(sample, small, tmp_path):
    stored = as_stored(small.density)
    path = write_mrc(tmp_path / "lying.mrc", stored)
    result = sample(path, *RANGE, "--unrotated", "--at", "12,13,20", "--count", 2, "-o", tmp_path)
    assert result.returncode == 0, result.stderr
    with mrcfile.open(tmp_path / "lying_at_12_13_20_observed.mrc") as mrc:
        first = [round(float(mrc.header.origin[axis]) / 10) for axis in "zyx"]
        z, y, x = (slice(at, at + SIDE) for at in first)
        assert np.array_equal(mrc.data, stored[z, y, x])
    assert all(at < start + SIDE and at >= start for at, start in zip((12, 13, 20), first, strict=True))


def test_a_walk_between_places_begins_and_ends_with_a_draw_of_each(sample, halves, tmp_path):
    places = "13,12,20", "10,24,9"
    assert sample(*halves, "--between", *places, "--steps", 3, "--seed", 1, "-o", tmp_path).returncode == 0
    for place in places:
        sample(*halves, "--at", place, "--count", 2, "--seed", 1, "-o", tmp_path)
    first, middle, last = (read(tmp_path / f"corner_tiny_walk_{i}.mrc") for i in range(3))
    assert np.allclose(first, read(tmp_path / "corner_at_13_12_20_sample_0.mrc"), atol=1e-4)
    assert np.allclose(last, read(tmp_path / "corner_at_10_24_9_sample_0.mrc"), atol=1e-4)
    assert not np.allclose(first, last, atol=0.01)
    assert np.abs(middle - first).mean() < np.abs(last - first).mean()


def test_a_run_stands_for_its_tomogram_at_a_place(sample, tmp_path, ladder, small):
    run = make_run(tmp_path / "run", tmp_path, ladder, small)
    assert sample(run, "--at", "13,12,20", "--count", 2).returncode == 0
    assert np.array_equal(read(run / "drawn/corner_at_13_12_20_observed.mrc"), small.density[5:21, 4:20, 12:28])
    assert sample(run, "--from", "base", "--count", 1).returncode == 0
    assert read(run / "drawn/tiny_0.mrc").shape == (SIDE, SIDE, SIDE)


def test_results_that_are_there_stay_unless_they_are_overwritten(sample, halves, tmp_path):
    out = tmp_path / "out"
    for arguments in (["--count", 1], ["--walk", "--steps", 2], [*halves, "--at", "13,12,20", "--count", 2]):
        assert sample(*arguments, "-o", out).returncode == 0
        before = contents(out)
        refused(sample(*arguments, "--seed", 1, "-o", out), "is there already", "--overwrite")
        assert contents(out) == before
        assert sample(*arguments, "--seed", 1, "-o", out, "--overwrite").returncode == 0
        assert contents(out).keys() == before.keys()
        assert contents(out) != before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--at", "13,12,40"], ["13,12,40", "(24, 36, 32)"]),
        (["--at", "-1,12,20"], ["-1,12,20", "(24, 36, 32)"]),
        (["--between", "13,12,20", "13,nan,20"], ["13,nan,20", "(24, 36, 32)"]),
        (["--at", "13,12,20", "--side", "32"], ["(24, 36, 32)", "smaller than a patch", "32"]),
    ],
)
def test_a_place_without_a_patch_is_refused_in_one_line(sample, halves, tmp_path, arguments, words):
    refused(sample(*halves, *arguments, "-o", tmp_path / "out"), *words)
    assert not (tmp_path / "out").exists()


def test_a_place_in_a_constant_region_is_refused(sample, small, tmp_path):
    density = np.pad(small.density, ((0, 0), (0, 0), (0, 24)))
    path = write_mrc(tmp_path / "padded.mrc", density)
    refused(sample(path, *RANGE, "--at", "13,12,46", "-o", tmp_path / "out"), "constant region", "100 %")


def test_halves_of_noise_alone_are_refused_in_one_line(sample, tmp_path):
    rng = np.random.default_rng(0)
    paths = [write_mrc(tmp_path / f"noise_half{i}.mrc", rng.standard_normal((40, 56, 48), np.float32)) for i in (1, 2)]
    result = sample("--half1", paths[0], "--half2", paths[1], *RANGE, "--at", "13,12,20", "-o", tmp_path / "out")
    refused(result, "halves do not correlate")
    assert not (tmp_path / "out").exists()


def test_a_tomogram_without_signal_is_refused_in_one_line(sample, halves, tmp_path, monkeypatch):
    monkeypatch.setattr(patch_sampler, "LEAST_SIGNAL", 1e9)
    refused(sample(*halves, "--at", "13,12,20", "-o", tmp_path / "out"), "noise alone", "corner")
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_no_generative_model_is_refused(tmp_path):
    (tmp_path / "other.safetensors").write_text("something else")
    for path, words in ((tmp_path / "other.safetensors", "no safetensors file"), (tmp_path, "does not exist")):
        refused(cryovae("sample", "--model", path, "-o", tmp_path / "out", *CPU), words)
    assert not (tmp_path / "out").exists()
