"""star import FOLDER: what AreTomo3, Warp and others write is recognised without options; what is not complete is one line."""

import numpy as np
import pytest
from typer.testing import CliRunner

from cryovae.cli.app import app
from cryovae.errors import InputError
from cryovae.io.star.layouts import complete, layout_of
from cryovae.io.star.tomograms import read_tomograms
from tests.conftest import write_mrc

SHAPE = (12, 18, 16)
ALN = "# AreTomo Alignment / Priims bprmMn\n# RawSize = 64 64 3\n# SEC ROT GMAG TX TY SMEAN SFIT SCALE BASE TILT\n" + "".join(
    f"{i} 85.0 1.0 0.0 0.0 1.0 1.0 1.0 0.0 {tilt:.2f}\n" for i, tilt in enumerate((-51.0, 0.5, 48.0))
)
USE = "<UseTilt>True\nTrue\nTrue</UseTilt>"
XML = f'<?xml version="1.0"?><TiltSeries AreAnglesInverted="False"><Angles>-54\n0\n57</Angles>{USE}</TiltSeries>'


def volumes(folder, *names, shape=SHAPE):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        write_mrc(folder / name, np.zeros(shape, np.float32) + len(name), 10.0)


def aretomo(folder, *names):
    for name in names:
        volumes(folder, f"{name}_Vol.mrc", f"{name}_EVN_Vol.mrc", f"{name}_ODD_Vol.mrc", f"{name}_2ND_Vol.mrc")
        # Tilt series, which are no tomograms, and power spectra.
        volumes(folder, f"{name}.mrc", f"{name}_EVN.mrc", f"{name}_ODD.mrc", f"{name}_CTF.mrc", shape=(3, 64, 64))
        (folder / f"{name}.aln").write_text(ALN)
        (folder / f"{name}_Imod").mkdir()
        (folder / f"{name}_TLT.txt").write_text("-50 1\n0 2\n50 3\n")


def warp(folder, *names, pixel="10.00"):
    for name in names:
        for part in ("", "even", "odd", "deconv"):
            volumes(folder / "reconstruction" / part, f"{name}_{pixel}Apx.mrc")
        (folder / f"{name}.xml").write_text(XML)


def imported(folder, *options):
    out = folder.parent / "out" / "tomograms.star"
    result = CliRunner().invoke(app, ["star", "import", str(folder), "-o", str(out), *options])
    return result, out


def test_aretomo3_is_recognised_with_its_alignments(tmp_path):
    aretomo(tmp_path / "at3", "TS_1", "TS_1_2", "TS_10")
    result, out = imported(tmp_path / "at3")
    assert result.exit_code == 0, result.output
    entries = read_tomograms(out).entries
    assert [(e.name, [f.name for f in e.files]) for e in entries] == [
        (name, [f"{name}_EVN_Vol.mrc", f"{name}_ODD_Vol.mrc"]) for name in ("TS_1", "TS_10", "TS_1_2")
    ]
    assert entries[0].tilts.angles == (-51.0, 0.5, 48.0)
    assert "AreTomo3" in result.output


def test_aretomo3_without_halves_gives_its_volumes(tmp_path):
    volumes(tmp_path / "at3", "TS_1_Vol.mrc")
    volumes(tmp_path / "at3", "TS_1.mrc", shape=(3, 64, 64))
    (tmp_path / "at3" / "TS_1.aln").write_text(ALN)
    result, out = imported(tmp_path / "at3")
    assert result.exit_code == 0, result.output
    (entry,) = read_tomograms(out).entries
    assert (entry.name, entry.halves, entry.full.name) == ("TS_1", None, "TS_1_Vol.mrc")


@pytest.mark.parametrize("inner", ["", "reconstruction"])
def test_warp_is_recognised_from_its_processing_folder_or_its_reconstructions(tmp_path, inner):
    warp(tmp_path / "warp_tiltseries", "TS_1", "TS_2")
    result, out = imported(tmp_path / "warp_tiltseries" / inner)
    out = tmp_path / "out" / "tomograms.star" if not inner else tmp_path / "warp_tiltseries" / "out" / "tomograms.star"
    assert result.exit_code == 0, result.output
    entries = read_tomograms(out).entries
    assert [e.name for e in entries] == ["TS_1_10.00Apx", "TS_2_10.00Apx"]
    assert all([f.parent.name for f in e.files] == ["even", "odd"] for e in entries)
    assert (entries[0].tilts.lowest, entries[0].tilts.highest) == (-57, 54)  # Warp turns the signs around.


def test_warp_without_halves_gives_its_reconstructions(tmp_path):
    volumes(tmp_path / "warp" / "reconstruction", "TS_1_10.00Apx.mrc")
    result, out = imported(tmp_path / "warp", "--tilt-range", "-60", "60")
    assert result.exit_code == 0, result.output
    (entry,) = read_tomograms(out).entries
    assert (entry.halves, entry.full.name, entry.tilts.lowest) == (None, "TS_1_10.00Apx.mrc", -60)


@pytest.mark.parametrize(("even", "odd"), [("even", "odd"), ("EVN", "ODD"), ("half1", "half2")])
def test_folders_of_halves_are_recognised(tmp_path, even, odd):
    volumes(tmp_path / "tomo" / even, "TS_1.mrc", "TS_2_EVN.mrc")
    volumes(tmp_path / "tomo" / odd, "TS_1.mrc", "TS_2_ODD.mrc")
    for name in ("TS_1", "TS_2"):
        (tmp_path / "tomo" / f"{name}.rawtlt").write_text("-42\n0\n42\n")
    result, out = imported(tmp_path / "tomo")
    assert result.exit_code == 0, result.output
    assert [(e.name, e.tilts.lowest) for e in read_tomograms(out).entries] == [("TS_1", -42), ("TS_2", -42)]


def test_the_table_says_where_its_files_are_from_where_it_lies(tmp_path):
    aretomo(tmp_path / "at3", "TS_1")
    _, out = imported(tmp_path / "at3")
    text = out.read_text()
    assert "../at3/TS_1_EVN_Vol.mrc" in text
    assert str(tmp_path) not in text


def refusal(folder, *options):
    result, out = imported(folder, *options)
    assert result.exit_code == 2
    assert not out.exists()
    assert result.stderr.count("\n") == 1
    return result.stderr


def test_a_half_without_its_partner_is_one_line(tmp_path):
    aretomo(tmp_path / "at3", "TS_1", "TS_2")
    (tmp_path / "at3" / "TS_2_ODD_Vol.mrc").unlink()
    assert "TS_2_EVN_Vol.mrc has no other half" in refusal(tmp_path / "at3")
    warp(tmp_path / "warp", "TS_1", "TS_2")
    (tmp_path / "warp" / "reconstruction" / "even" / "TS_1_10.00Apx.mrc").unlink()
    assert "odd/TS_1_10.00Apx.mrc has no other half" in refusal(tmp_path / "warp")


def test_a_tomogram_without_halves_among_others_is_one_line(tmp_path):
    aretomo(tmp_path / "at3", "TS_1")
    volumes(tmp_path / "at3", "TS_2_Vol.mrc")
    assert "TS_2_Vol.mrc has no halves" in refusal(tmp_path / "at3")


def test_what_is_ambiguous_is_one_line(tmp_path):
    warp(tmp_path / "warp", "TS_1")
    warp(tmp_path / "warp", "TS_1", pixel="12.50")
    assert "expected one voxel size of TS_1" in refusal(tmp_path / "warp")
    volumes(tmp_path / "both" / "even", "TS_1.mrc")
    assert "no folder of the other half" in refusal(tmp_path / "both")
    volumes(tmp_path / "both" / "odd", "TS_1.mrc")
    volumes(tmp_path / "both", "TS_1_EVN.mrc")
    assert "expected one layout" in refusal(tmp_path / "both")


def test_tilts_that_are_missing_are_one_line(tmp_path):
    aretomo(tmp_path / "at3", "TS_1", "TS_2")
    for name in ("TS_2.aln", "TS_2_TLT.txt"):
        (tmp_path / "at3" / name).unlink()
    line = refusal(tmp_path / "at3")
    assert "no file of tilts for TS_2" in line
    assert "--tilt-range" in line


def test_an_empty_folder_is_one_line_and_no_table(tmp_path):
    (tmp_path / "empty").mkdir()
    assert "holds no tomograms" in refusal(tmp_path / "empty")
    assert layout_of(tmp_path / "empty").rows == {}
    with pytest.raises(InputError, match="holds no tomograms"):
        complete(layout_of(tmp_path / "empty"))


def test_a_folder_or_two_folders_are_given(tmp_path):
    result = CliRunner().invoke(app, ["star", "import"])
    assert result.exit_code == 2
    assert "pass one or the other" in result.stderr


@pytest.mark.parametrize("name", ["TLT", "tilts"])
def test_a_folder_of_tilts_beside_the_halves_is_looked_into(tmp_path, name):
    for part in ("EVN", "ODD"):
        volumes(tmp_path / "set" / part, f"ts_01_{part}.mrc", f"ts_02_{part}.mrc")
    (tmp_path / "set" / name).mkdir()
    for number in (1, 2):
        (tmp_path / "set" / name / f"ts_0{number}.tlt").write_text("-51\n0\n48\n")
    result, out = imported(tmp_path / "set")
    assert result.exit_code == 0, result.output
    assert [(e.name, e.tilts.highest) for e in read_tomograms(out).entries] == [("ts_01", 48.0), ("ts_02", 48.0)]
