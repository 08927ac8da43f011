"""cryovae sample: new patches from a run; a folder of a restoration with a ladder that was not trained stands for one."""

import json
import shutil
from dataclasses import replace

import mrcfile
import numpy as np
import pytest
from typer.testing import CliRunner

from cryovae.checkpoint import MODEL, NetworkCheckpoint, load_model, save_model, save_network
from cryovae.cli.app import app
from cryovae.data.prepare import prepare
from cryovae.errors import InputError
from cryovae.io.orientation import as_stored
from cryovae.models.ladder_config import LadderConfig
from cryovae.models.unet import UNet
from cryovae.physics.traits import TRAITS
from cryovae.posterior.latent_map import Patches
from cryovae.posterior.suited import suited
from cryovae.workflows.run_inputs import place_upright, tomogram_of, voxel_size_in
from tests.helpers.film import film_ladder
from tests.helpers.runs import make_run, refused


@pytest.fixture
def run(tmp_path, ladder, small):
    """A folder as restore leaves it, as far as is asked for here."""
    return make_run(tmp_path / "run", tmp_path, ladder, small)


def sample(*arguments):
    return CliRunner().invoke(app, ["sample", *map(str, arguments), "--device", "cpu", "--threads", "1"])


@pytest.mark.parametrize("source", ["prior", "patches"])
def test_the_same_seed_gives_the_same_patches_and_another_others(run, tmp_path, source):
    for folder, seed in (("one", 3), ("two", 3), ("three", 4)):
        result = sample(run, "--from", source, "--count", 2, "--seed", seed, "-o", tmp_path / folder)
        assert result.exit_code == 0, result.output
    one, two, three = (mrcfile.read(tmp_path / folder / f"corner_{source}_1.mrc") for folder in ("one", "two", "three"))
    assert one.shape == (16, 16, 16)
    assert np.array_equal(one, two)
    assert not np.allclose(one, three)
    assert not np.allclose(one, mrcfile.read(tmp_path / f"one/corner_{source}_0.mrc"))
    with mrcfile.open(tmp_path / f"one/corner_{source}_0.mrc") as mrc:
        assert mrc.voxel_size.x == 10
        assert any("seed 3" in str(label) for label in mrc.header.label)
    assert mrcfile.validate(tmp_path / f"one/corner_{source}_0.mrc")
    assert (tmp_path / f"one/corner_{source}.png").stat().st_size > 5000
    assert len(list((tmp_path / "one").iterdir())) == 3


def test_draws_of_a_run_by_a_pretrained_ladder_are_those_of_the_ladder_that_suits_its_tomogram(tmp_path, ladder, small):
    film = film_ladder(TRAITS, 0.05, ladder.config)
    run = make_run(tmp_path / "run", tmp_path, film, small)
    folders = [tmp_path / "one", tmp_path / "two"]
    assert sample(run, "--count", 2, "--from", "prior", "-o", folders[0]).exit_code == 0
    checkpoint = load_model(run)
    suits = suited(checkpoint.ladder, [prepare(tomogram_of(run), checkpoint.patch, held_out=False)])
    save_model(run / MODEL, replace(checkpoint, ladder=suits))
    assert sample(run, "--count", 2, "--from", "prior", "-o", folders[1]).exit_code == 0
    one, two = (mrcfile.read(folder / "corner_prior_0.mrc") for folder in folders)
    np.testing.assert_allclose(one, two, atol=1e-5)


def test_draws_are_nearer_to_each_other_when_colder(run, tmp_path):
    for temperature in (0.1, 1.0):
        sample(run, "--count", 2, "--temperature", temperature, "-o", tmp_path / str(temperature))
    cold, warm = (np.std([mrcfile.read(tmp_path / t / f"corner_prior_{i}.mrc") for i in (0, 1)]) for t in ("0.1", "1.0"))
    assert cold < 0.5 * warm


def test_a_walk_leads_from_one_reconstruction_to_the_other(run, tmp_path, small):
    result = sample(run, "--between", "10,12,9", "14,20,20", "--steps", 3, "-o", tmp_path / "walk")
    assert result.exit_code == 0, result.output
    checkpoint = load_model(run)
    patches = Patches(checkpoint.ladder, 16, prepare(small, 16, held_out=False))
    for number, place in ((0, (10, 12, 9)), (2, (14, 20, 20))):
        code, _, level = patches.encoded([patches.around(place)])
        written = mrcfile.read(tmp_path / f"walk/corner_walk_{number}.mrc")
        assert np.allclose(written, patches.decoded(code, level)[0].numpy(), atol=1e-4)
    middle = mrcfile.read(tmp_path / "walk/corner_walk_1.mrc")
    assert not np.allclose(middle, written, atol=1e-3)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--between", "1,2", "3,4,5"], ("1,2", "z,y,x")),
        (["--between", "1,2,3", "3,400,5"], ("3,400,5", "(24, 36, 32)")),
        (["--steps", "1"], ("--steps 1",)),
        (["--count", "0"], ("--count 0",)),
        (["--temperature", "-1"], ("--temperature -1",)),
        (["--from", "posterior"], ("posterior", "prior or patches")),
        (["--voxel-size", "0"], ("voxel-size 0",)),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(run, tmp_path, arguments, words):
    refused(sample(run, "-o", tmp_path / "out", *arguments), *words)
    assert not (tmp_path / "out").exists()


def test_results_that_are_there_stay(run, tmp_path):
    for code in (0, 2):
        assert sample(run, "--count", 1, "-o", tmp_path / "out").exit_code == code
    assert sample(run, "--count", 1, "-o", tmp_path / "out", "--overwrite").exit_code == 0


def test_what_is_no_run_with_latents_is_refused_in_one_line(run, tmp_path):
    refused(sample(tmp_path), "no run.json")
    save_network(run / MODEL, NetworkCheckpoint(UNet(LadderConfig((4, 6), (1, 1), 1)), 16, 5, "deepdewedge"))
    refused(sample(run), "deepdewedge", "no latents")


def test_without_its_tomogram_only_the_prior_can_be_drawn_from(run, tmp_path):
    for path in tmp_path.glob("*.mrc"):
        path.unlink()
    refused(sample(run, "--from", "patches"), "is not there")
    refused(sample(run), "--voxel-size")
    assert sample(run, "--voxel-size", 8, "--count", 1).exit_code == 0
    with mrcfile.open(run / "drawn/corner_prior_0.mrc") as mrc:
        assert mrc.voxel_size.x == 8


def test_a_run_that_used_another_folders_model_finds_it(run, tmp_path, ladder, small):
    shutil.move(run / MODEL, tmp_path / "base.safetensors")
    refused(sample(run, "--count", 1), "finished")
    record = json.loads((run / "run.json").read_text()) | {"model": str(tmp_path / "base.safetensors")}
    (run / "run.json").write_text(json.dumps(record))
    assert sample(run, "--count", 1).exit_code == 0


def test_the_tomogram_of_a_run_is_that_which_was_restored(run, small, tmp_path, ladder):
    tomogram = tomogram_of(run)
    assert np.allclose(tomogram.density, small.density, atol=1e-6)
    assert tomogram.tilts == small.tilts
    assert voxel_size_in(run) == 10
    rotated = replace(small, halves=tuple(as_stored(half) for half in small.halves))
    (tmp_path / "b").mkdir()
    other = make_run(tmp_path / "turned", tmp_path / "b", ladder, rotated, unrotated=True)
    unrotated_tomogram = tomogram_of(other)
    assert np.allclose(unrotated_tomogram.density, small.density, atol=1e-6)
    stored = as_stored(small.density)
    place = (5, 7, 9)
    z, y, x = (int(v) for v in place_upright(place, unrotated_tomogram))
    assert stored[place] == small.density[z, y, x]


def test_a_record_without_tilts_names_no_tomogram(run):
    record = json.loads((run / "run.json").read_text())
    del record["tilts"]
    (run / "run.json").write_text(json.dumps(record))
    with pytest.raises(InputError, match="names no tomogram and its tilts"):
        tomogram_of(run)
