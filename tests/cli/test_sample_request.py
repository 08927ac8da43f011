"""What the options of cryovae sample mean together, and which are refused before anything is opened."""

import pytest

from cryovae.cli.sample_request import SampleRequest, is_run
from cryovae.errors import InputError
from cryovae.workflows.geometry import GeometryOptions
from tests.helpers.cli import cryovae, refused


@pytest.fixture
def run(tmp_path):
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


def test_without_a_run_the_base_is_drawn_from_and_with_one_its_prior(run, tmp_path):
    assert SampleRequest().origin == "base"
    assert SampleRequest(run).origin == "prior"
    for named in ({"at": "1,2,3"}, {"walk": True}, {"model": tmp_path}, {"side": 16}, {"source": "base"}):
        assert SampleRequest(run, **named).origin == "base"
    assert SampleRequest(run, between=("1,2,3", "4,5,6")).origin == "prior"
    assert SampleRequest(tmp_path / "a.mrc", between=("1,2,3", "4,5,6")).origin == "base"


def test_a_folder_is_a_run_unless_it_is_a_zarr_and_a_file_a_tomogram(run, tmp_path):
    (tmp_path / "a.zarr").mkdir()
    (tmp_path / "a.zarr/.zattrs").touch()
    (tmp_path / "file").touch()
    assert is_run(run)
    assert is_run(tmp_path / "missing")
    assert not any(is_run(tmp_path / name) for name in ("a.zarr", "file", "missing.mrc"))


def test_patches_go_into_the_folder_of_a_run_or_into_the_current_one(run, tmp_path):
    assert SampleRequest(run).folder == run / "drawn"
    assert str(SampleRequest(tmp_path / "a.mrc", at="1,2,3").folder) == "drawn"
    assert SampleRequest(run, output=tmp_path).folder == tmp_path


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--count", "0"], ["--count 0", "1 or more"]),
        (["--steps", "1"], ["--steps 1", "2 or more"]),
        (["--side", "20"], ["--side 20", "multiple of 8"]),
        (["--side", "0"], ["--side 0"]),
        (["--side", "264"], ["--side 264", "256"]),
        (["--temperature", "nan"], ["--temperature nan"]),
        (["--seed", "1" * 30], ["--seed 1.11e+29"]),
        (["--voxel-size", "0"], ["voxel-size 0"]),
        (["--from", "noise"], ["--from noise", "base, prior or patches"]),
        (["--from", "prior"], ["--from prior", "without a run"]),
        (["--at", "1,2,3"], ["without a tomogram"]),
        (["--tilt-range", "-60", "60"], ["tilts", "without a tomogram"]),
        (["TOMOGRAM"], ["without a position", "--at Z,Y,X"]),
        (["TOMOGRAM", "--at", "1,2"], ["--at 1,2", "z,y,x"]),
        (["EMPTY", "--at", "1,2,3"], ["no tilt angles"]),
        (["TOMOGRAM", "--at", "1,2,3"], ["a.mrc", "does not exist"]),
        (["TOMOGRAM", "--at", "1,2,3", "--tilt-range", "-60", "60"], ["a.mrc", "does not exist"]),
        (["TOMOGRAM", "--at", "1,2,3", "--count", "1"], ["--count 1", "2 or more"]),
        (["TOMOGRAM", "--at", "1,2,3", "--temperature", "0.5"], ["--temperature 0.5", "expected 1"]),
        (["TOMOGRAM", "--at", "1,2,3", "--walk"], ["--at and --walk", "one of them"]),
        (["TOMOGRAM", "--half1", "a", "--half2", "b", "--at", "1,2,3"], ["and halves"]),
        (["--half1", "a", "--at", "1,2,3"], ["one half found"]),
        (["RUN", "--from", "patches", "--side", "16"], ["--side", "--from patches"]),
        (["RUN", "--at", "1,2,3", "--unrotated"], ["with a run", "leave them out"]),
    ],
    ids=" ".join,
)
def test_options_that_cannot_be_are_refused_in_one_line(run, tmp_path, arguments, words):
    named = {"RUN": run, "TOMOGRAM": tmp_path / "a.mrc", "EMPTY": tmp_path / "empty.mrc"}
    named["EMPTY"].touch()
    refused(cryovae("sample", *(named.get(a, a) for a in arguments), "-o", tmp_path / "out"), *words)
    assert not (tmp_path / "out").exists()


def test_the_voxel_size_alone_may_be_named_with_a_run(run):
    SampleRequest(run, geometry=GeometryOptions(voxel_size=8.0)).check()
    with pytest.raises(InputError, match="leave them out"):
        SampleRequest(run, geometry=GeometryOptions(tilt_range=(-60.0, 60.0))).check()
