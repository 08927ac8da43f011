"""star import finds the tilt file of each series by its name: never another's, and those of all programs."""

import numpy as np
import pytest
from typer.testing import CliRunner

from cryovae.cli.app import app
from cryovae.errors import InputError
from cryovae.io.star.tilt_files import names_of, tilts_of
from cryovae.io.star.tomograms import read_tomograms
from tests.conftest import write_mrc


def made(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    return folder


def taken(folder, *tomograms):
    return {name: path.relative_to(folder).as_posix() for name, path in tilts_of(tomograms, folder).items()}


SERIES = [
    ("TS_1", "TS_1_2"),
    ("Position_1", "Position_1_2"),
    ("TS_1", "TS_10"),
    ("a", "a.b"),
    ("L1-2", "L1-2 3"),
    ("TS_1", "TS_1_a"),
]


@pytest.mark.parametrize(("short", "long"), SERIES)
@pytest.mark.parametrize("ending", [".tlt", ".mrc.mdoc", "_st.aln", "_TLT.txt"])
@pytest.mark.parametrize("added", ["", "_Vol", "_10.00Apx", "_bin4"])
def test_a_series_never_takes_the_tilts_of_another_whose_name_begins_alike(tmp_path, short, long, ending, added):
    both = [short + added, long + added]
    for missing, there in ((short, long), (long, short)):
        folder = made(tmp_path / there, there + ending)
        with pytest.raises(InputError) as caught:
            tilts_of(both, folder)
        assert f"no file of tilts for {missing}{added} (none is there" in str(caught.value)
        assert "\n" not in str(caught.value)
        made(folder, missing + ending)
        assert taken(folder, *both) == {both[0]: short + ending, both[1]: long + ending}


@pytest.mark.parametrize(
    ("tomogram", "file"),
    [
        ("TS_01_Vol", "TS_01_st.tlt"), ("TS_01_Vol", "TS_01_TLT.txt"), ("TS_01_EVN_Vol", "TS_01.aln"),
        ("TS_01_Vol", "TS_01.mrc.mdoc"),
        ("TS_01_Vol", "TS_01_Imod/TS_01_st.tlt"), ("rec_TS_01", "TS_01.star"), ("rec_TS_01_half1", "TS_01.star"),
        ("TS_01_10.00Apx", "TS_01.xml"), ("TS_01_10.00Apx", "TS_01_10.00Apx.xml"), ("TS_01_full_rec", "TS_01_fid.tlt"),
        ("TS_01_bin4", "TS_01.mrc.tlt"), ("TS_01-wbp", "TS_01.rawtlt"), ("TS_01_rec_bin8_denoised", "TS_01_aligned.mrc.tlt"),
        ("TS_01", "TS_01.st.aln"), ("TS_01", "TS_01_EVN.tlt"), ("Position_1_2_Vol", "Position_1_2.MDOC"),
        ("run#2's", "run#2's.tlt"), ("TS_01_ODD", "TS_01_even.tlt"),
    ],
)  # fmt: skip
def test_names_of_all_programs_are_one_series(tmp_path, tomogram, file):
    folder = made(tmp_path, file, "TS_010.tlt", "TS_0.tlt", "TS_01_2.tlt", "Position_1.tlt", "notes.txt", "TS_01_CTF.txt")
    assert taken(folder, tomogram) == {tomogram: file}


def test_the_longest_name_wins_and_then_aligned_angles(tmp_path):
    folder = made(
        tmp_path, "TS_1.rawtlt", "TS_1.tlt", "TS_10.mrc.mdoc", "TS_2.xml", "TS_2.tomostar", "TS_1_st.tlt", "TS_3_Vol.mdoc"
    )
    made(folder, "TS_3.tlt", "TS_4.mdoc", "TS_4_TLT.txt", "TS_4_st.tlt", "TS_4.aln")
    assert taken(folder, "TS_1_10.00Apx", "TS_10_10.00Apx", "TS_2", "TS_3_Vol", "TS_4_Vol") == {
        "TS_1_10.00Apx": "TS_1.tlt", "TS_10_10.00Apx": "TS_10.mrc.mdoc", "TS_2": "TS_2.xml", "TS_3_Vol": "TS_3_Vol.mdoc",
        "TS_4_Vol": "TS_4_st.tlt",
    }  # fmt: skip
    assert names_of("rec_TS_01_EVN_bin4") == ("rec_TS_01_EVN_bin4", "rec_TS_01_EVN", "rec_TS_01", "TS_01")
    assert [names_of(name) for name in ("rec_", "_Vol", "Evenson", "TS_1_2")] == [
        ("rec_", "rec"),
        ("_Vol", "Vol"),
        ("Evenson",),
        ("TS_1_2",),
    ]


def test_what_may_be_the_tilts_of_two_is_refused(tmp_path):
    folder = made(tmp_path, "TS_1.tlt")
    assert taken(folder, "TS_1") == taken(folder, "TS_1") == {"TS_1": "TS_1.tlt"}
    with pytest.raises(InputError, match=r"tilts for TS_1_bin4 .*TS_1\.tlt may be that of TS_1_bin8 as well"):
        tilts_of(["TS_1_bin4", "TS_1_bin8"], folder)
    with pytest.raises(InputError, match=r"tilts for TS_1_bin4 .none is there; TS_1\.tlt is of another name"):
        tilts_of(["TS_1", "TS_1_bin4"], folder)
    made(folder, "TS_1_bin4.mdoc", "TS_1_bin8.mdoc")
    assert taken(folder, "TS_1_bin4", "TS_1_bin8") == {"TS_1_bin4": "TS_1_bin4.mdoc", "TS_1_bin8": "TS_1_bin8.mdoc"}
    made(folder, "TS_4_bin2.tlt", "TS_4_bin3.tlt", "TS_5_a.tlt", "TS_5_b.tlt")
    with pytest.raises(InputError, match=r"both TS_4_bin2\.tlt and TS_4_bin3\.tlt may be it"):
        tilts_of(["TS_4_Vol"], folder)
    with pytest.raises(InputError, match=r"TS_5 .none is there; TS_5_a\.tlt is of another name"):
        tilts_of(["TS_5"], folder)


def imported(folder, names, **options):
    """The outcome of star import for halves NAME_EVN.mrc and NAME_ODD.mrc in even/ and odd/."""
    for half, mark in (("even", "EVN"), ("odd", "ODD")):
        (folder / half).mkdir(exist_ok=True)
        for name in names:
            write_mrc(folder / f"{half}/{name.format(mark)}.mrc", np.ones((4, 6, 5), np.float32), 8.0)
    command = ["star", "import", "--even", folder / "even", "--odd", folder / "odd", "--tilts", folder / "tilts"]
    return CliRunner().invoke(app, [*map(str, command), "-o", str(folder / "t.star"), "--overwrite"])


def test_the_command_names_the_series_without_tilts(tmp_path):
    (made(tmp_path, "tilts/TS_1.tlt") / "tilts/TS_1.tlt").write_text("-50\n0\n60\n")
    result = imported(tmp_path, ["TS_1_{}_Vol", "TS_1_2_{}_Vol"])
    assert result.exit_code == 2
    assert "no file of tilts for TS_1_2_Vol" in " ".join(result.stderr.split())
    assert not (tmp_path / "t.star").exists()
    (tmp_path / "tilts/TS_1_2_TLT.txt").write_text("-40 1\n0 3\n30 2\n")
    result = imported(tmp_path, ["TS_1_{}_Vol", "TS_1_2_{}_Vol"])
    assert result.exit_code == 0, result.output
    assert {e.name: e.tilts.angles for e in read_tomograms(tmp_path / "t.star").entries} == {
        "TS_1_Vol": (-50, 0, 60), "TS_1_2_Vol": (-40, 0, 30)
    }  # fmt: skip


def test_names_with_signs_of_star_come_back_or_are_refused(tmp_path):
    import starfile

    made(tmp_path, "tilts/none")
    names = ["run#2", "#3", "a b", "data_4", "_5", "loop_", "ü"]
    for name in names:
        (tmp_path / f"tilts/{name}.tlt").write_text("-50\n0\n60\n")
    result = imported(tmp_path, [name + "_{}" for name in names])
    assert result.exit_code == 0, result.output
    entries = read_tomograms(tmp_path / "t.star").entries
    # The separator at the beginning of a name goes with the marker of the half.
    assert sorted(entry.name for entry in entries) == sorted(name.strip("_") for name in names)
    assert all(entry.halves[0].is_file() and entry.tilts.lowest == -50 for entry in entries)
    assert sorted(starfile.read(tmp_path / "t.star")["rlnTomoName"]) == sorted(entry.name for entry in entries)
    for name, words in (("it's", "has a quote in it"), ('a"b', "has a quote in it"), ("None", "missing value")):
        (tmp_path / f"tilts/{name}.tlt").write_text("-50\n0\n60\n")
        before = (tmp_path / "t.star").read_bytes()
        result = imported(tmp_path, [name + "_{}"])
        assert result.exit_code == 2
        assert words in " ".join(result.stderr.split())
        assert (tmp_path / "t.star").read_bytes() == before
        for half in ("even/{}_EVN.mrc", "odd/{}_ODD.mrc"):
            (tmp_path / half.format(name)).unlink()
