"""Names of tomograms: strange ones work at every door, impossible ones are refused before anything is made of them."""

from dataclasses import replace

import mrcfile
import numpy as np
import pytest

from cryovae import api
from cryovae.errors import InputError
from cryovae.io import names
from cryovae.io.atomic import whole_file
from cryovae.io.names import MAX_BYTES, checked_name, fault_of, possible_name
from cryovae.io.star.tomograms import read_tomograms
from cryovae.restoration.steps import Restoration
from cryovae.tomogram import TiltGeometry, Tomogram
from cryovae.workflows.run_folder import RunFolder, folder_name
from tests.conftest import write_mrc
from tests.helpers.cli import RANGE, cryovae, refused

STRANGE = [
    "TS_1", "run #2", "it's", 'a"b', "ts{x}", "<b>ts", "a$_^$", "$HOME", "50%", "[0-9]", "a*?", "-60", "--help", "名前", "é",
    "a\\b", "1", "model.1", ".hidden", "a&b;c|d", "!x", "~", "nul.txt.", "a:b", "...", "x" * MAX_BYTES,
]  # fmt: skip
IMPOSSIBLE = {
    "": "empty", "  ": "empty", ".": "folder", "..": "folder", "a/b": "separator", "/etc/x": "separator", "../x": "separator",
    "a\nb": "U+000A", "a\tb": "U+0009", "\0": "U+0000", "a\x7f": "U+007F", "a\x9b": "U+009B", "a\u2028b": "U+2028",
    "a\udcffb": "U+DCFF", "x" * (MAX_BYTES + 1): "151 bytes", "é" * 76: "152 bytes",
}  # fmt: skip


def table_of(folder, name):
    from cryovae.io.star.table import Block, write_blocks

    write_mrc(folder / "v.mrc", np.random.default_rng(0).normal(size=(16, 20, 18)).astype(np.float32))
    columns = {"rlnTomoName": name, "rlnTomoReconstructedTomogram": "v.mrc", "rlnTiltMin": "-60", "rlnTiltMax": "60"}
    write_blocks(folder / "t.star", {"": Block({key: [value] for key, value in columns.items()})})
    return folder / "t.star"


@pytest.mark.parametrize("name", STRANGE, ids=ascii)
def test_a_strange_name_is_allowed_and_makes_a_file(name, tmp_path):
    assert fault_of(name) is None
    assert checked_name(name, "x") == possible_name(name, "other") == name
    file = tmp_path / f"{name}_mean_half1.mrc"
    with whole_file(file) as beside:
        beside.write_text("x")
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


@pytest.mark.parametrize(("name", "why"), IMPOSSIBLE.items(), ids=ascii)
def test_an_impossible_name_is_refused_in_one_line(name, why):
    with pytest.raises(InputError) as error:
        checked_name(name, "row 3")
    line = str(error.value)
    assert line.startswith("row 3 has the name ")
    assert why in line
    assert line.isprintable()
    assert len(line) < 200
    assert fault_of(possible_name(name, "tomogram")) is None


def test_what_cannot_be_in_a_name_becomes_an_underscore():
    assert possible_name("a/b\n[1] {x}", "tomogram") == "a_b_[1] {x}"
    assert possible_name("..", "tomogram") == possible_name("", "tomogram") == "tomogram"
    assert possible_name("é" * 100, "tomogram") == "é" * 75


def test_windows_takes_fewer_names(monkeypatch):
    monkeypatch.setattr(names, "WINDOWS", True)
    for name in ("a:b", "a?", "con", "NUL.mrc", "lpt1.a", "x.", "x ", 'a"b', "<b>"):
        assert fault_of(name) == "Windows takes no such file"
    for name in ("a", "console", "con1", "a b", "#1", "TS_1_10.00Apx"):
        assert fault_of(name) is None


@pytest.mark.parametrize("name", ["..", ".", "a\u2028b"])
def test_a_row_of_a_table_with_an_impossible_name_is_refused(name, tmp_path):
    table = table_of(tmp_path, name)
    with pytest.raises(InputError, match=r"row 1 has the name .* rename it"):
        read_tomograms(table)
    problems = {}
    assert read_tomograms(table, None, problems).entries == ()
    assert problems[1][0] == ""


def test_a_run_folder_of_an_impossible_name_is_not_made(tmp_path):
    for name in ("..", "a/b", "", "a\nb"):
        with pytest.raises(InputError, match="has the name"):
            RunFolder(tmp_path / "out", name)
    assert not (tmp_path / "out").exists()


def test_the_folder_dot_has_the_name_of_the_real_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert RunFolder(tmp_path, folder_name(tmp_path / ".")).name == tmp_path.name
    assert folder_name(type(tmp_path)("/")) == "run"


def test_a_tomogram_of_an_impossible_name_is_not_saved(tmp_path):
    import torch

    tomogram = Tomogram("../x", np.zeros((4, 6, 5), np.float32), 10.0, TiltGeometry.from_range(-60, 60))
    volume = torch.zeros(4, 6, 5)
    restoration = Restoration(mean=volume, std=volume, samples=(), halves=None, figures={}, held_out=None, search=None)
    with pytest.raises(InputError, match="the tomogram has the name"):
        api.save(restoration, tomogram, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
    saved = api.save(restoration, replace(tomogram, name="ts{x} #1 [0]"), tmp_path / "out")
    assert saved["mean"].name == "ts{x} #1 [0]_mean.mrc"
    assert mrcfile.read(saved["mean"]).shape == (4, 6, 5)


def test_commands_refuse_impossible_names_before_any_work(tmp_path):
    volume = np.random.default_rng(0).normal(size=(16, 20, 18)).astype(np.float32)
    for folder in ("even", "odd"):
        (tmp_path / folder).mkdir()
        write_mrc(tmp_path / folder / "a\nb.mrc", volume)
    file, out = tmp_path / "even" / "a\nb.mrc", tmp_path / "out"
    for words in (
        ["restore", file, *RANGE, "-o", out],
        ["train", file, *RANGE, "-o", out],
        ["star", "import", "--even", tmp_path / "even", "--odd", tmp_path / "odd", *RANGE, "-o", out / "t.star"],
        ["simulate", "--name", "a/b", "-o", out],
        ["mask", file],
    ):
        refused(cryovae(*words), "has the name", "rename it")
    assert not out.exists()


def test_a_mask_of_a_strange_name_is_made_beside_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    volume = np.random.default_rng(0).normal(size=(16, 20, 18)).astype(np.float32)
    write_mrc(tmp_path / "ts{x} '[0]' $_^$ #%.mrc", volume)
    done = cryovae("mask", "ts{x} '[0]' $_^$ #%.mrc", "--upright")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "ts{x} '[0]' $_^$ #%_mask.mrc").exists()


def test_a_folder_whose_name_is_no_utf8_is_written_about(tmp_path):
    from cryovae.io.atomic import write_text

    folder = tmp_path / "a\udcff"
    folder.mkdir()
    write_text(folder / "page.html", f"of {folder.name}")
    assert (folder / "page.html").read_bytes() == b"of a\\udcff"


@pytest.mark.parametrize("name", ["model", "MODEL", "t.star"])
def test_a_row_called_as_one_of_our_files_is_refused_before_training(name, tmp_path):
    done = cryovae("restore", table_of(tmp_path, name), *RANGE, "--voxel-size", "10", "-o", tmp_path / "out")
    refused(done, f"row 1 is called {name}", "rename it")
    assert not (tmp_path / "out").exists()
