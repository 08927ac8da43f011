"""Metadata for the CryoET Data Portal: the fields of its schema, what the run knows, and null for what it does not know."""

import json

import numpy as np
import pytest

from cryovae import __version__
from tests.conftest import write_mrc
from tests.helpers.cli import cryovae, refused

# Attributes of the class Tomogram of the portal's core schema v2.0.0, with those of its mixin and of its parts.
FIELDS = {
    "voxel_spacing", "fiducial_alignment_status", "ctf_corrected", "align_software", "reconstruction_method",
    "reconstruction_software", "processing", "processing_software", "tomogram_version", "affine_transformation_matrix", "size",
    "offset", "is_visualization_default", "cross_references", "dates", "authors",
}  # fmt: skip
RECORD = {"name": "TS_01", "command": "restore", "status": "done", "versions": {"cryovae": "0.9.1"}, "optics": None}


@pytest.fixture
def run_folder(tmp_path):
    write_mrc(tmp_path / "TS_01_mean.mrc", np.zeros((12, 30, 18), np.float32), 13.48)

    def made(**changed):
        (tmp_path / "run.json").write_text(json.dumps(RECORD | changed))
        return tmp_path

    return made


def test_what_the_run_knows_is_there_and_the_rest_is_null_and_listed(run_folder, tmp_path):
    result = cryovae("metadata", run_folder(), "-o", tmp_path / "m.json")
    assert result.returncode == 0, result.stderr
    written = json.loads((tmp_path / "m.json").read_text())
    assert written.keys() <= FIELDS
    known = {name: value for name, value in written.items() if value is not None}
    assert known == {
        "voxel_spacing": 13.48,
        "size": {"x": 18, "y": 30, "z": 12},
        "processing": "denoised",
        "processing_software": "cryovae 0.9.1",
    }
    listed = [line.split()[0] for line in result.stderr.splitlines() if line.startswith("  ")]
    assert sorted(listed) == sorted(written.keys() - known.keys())
    assert {"reconstruction_method", "align_software", "offset", "tomogram_version", "ctf_corrected"} <= set(listed)


def test_a_contrast_transfer_that_was_divided_out_is_known(run_folder):
    result = cryovae("metadata", run_folder(optics={"defocus": [2.5]}))
    assert json.loads(result.stdout)["ctf_corrected"] is True
    assert "ctf_corrected" not in result.stderr


def test_the_version_is_that_of_the_run_and_never_that_of_now(run_folder):
    assert json.loads(cryovae("metadata", run_folder(versions=None)).stdout)["processing_software"] == "cryovae"
    assert __version__ not in cryovae("metadata", run_folder()).stdout.replace("0.9.1", "")


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"status": "stopped"}, "no finished restoration"),
        ({"command": "train"}, "no finished"),
        ({"name": "TS_02"}, "no TS_02_mean.mrc"),
    ],
)
def test_a_folder_without_a_finished_restoration_is_one_line(run_folder, tmp_path, changed, words):
    refused(cryovae("metadata", run_folder(**changed), "-o", tmp_path / "m.json"), words)
    assert not (tmp_path / "m.json").exists()


def test_files_are_json_and_not_replaced_unasked(run_folder, tmp_path):
    refused(cryovae("metadata", run_folder(), "-o", tmp_path / "m.txt"), "expected a .json file")
    (tmp_path / "m.json").write_text("mine")
    refused(cryovae("metadata", run_folder(), "-o", tmp_path / "m.json"), "there already")
    assert (tmp_path / "m.json").read_text() == "mine"
    assert cryovae("metadata", run_folder(), "-o", tmp_path / "m.json", "--overwrite").returncode == 0
