"""star import pairs by name: sorted order, numbers of files and strangers in a folder do not matter; what has no partner does."""

import numpy as np
import pytest
from typer.testing import CliRunner

from cryovae.cli.app import app
from cryovae.errors import InputError
from cryovae.io.names import common_name, half_of, stem, without_half
from cryovae.io.star.pairing import paired_halves
from cryovae.io.star.tomograms import read_tomograms
from tests.conftest import write_mrc


def made(folder, *names):
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b"")
    return folder


def test_halves_are_paired_by_name_whatever_their_order(tmp_path):
    even = made(tmp_path / "even", "b_EVN.mrc", "TS_1_even_bin4.mrc", "TS_10_even_bin4.mrc", "notes.txt", ".hidden.mrc")
    odd = made(tmp_path / "odd", "TS_10_odd_bin4.mrc", "TS_1_odd_bin4.mrc", "b_ODD.mrc")
    matched = paired_halves(even, odd)
    assert {name: (a.name, b.name) for name, (a, b) in matched.items()} == {
        "TS_1_bin4": ("TS_1_even_bin4.mrc", "TS_1_odd_bin4.mrc"),
        "TS_10_bin4": ("TS_10_even_bin4.mrc", "TS_10_odd_bin4.mrc"),
        "b": ("b_EVN.mrc", "b_ODD.mrc"),
    }


def test_halves_in_one_folder_are_known_by_their_markers(tmp_path):
    folder = made(
        tmp_path / "out", "TS_1_EVN_Vol.mrc", "TS_1_ODD_Vol.mrc", "TS_1_Vol.mrc", "TS_1_2_ODD_Vol.mrc", "TS_1_2_EVN_Vol.mrc"
    )
    made(folder, "rec_TS_3_half1.mrc", "rec_TS_3_half2.mrc")
    assert {name: (a.name, b.name) for name, (a, b) in paired_halves(folder, folder / "../out").items()} == {
        "TS_1_Vol": ("TS_1_EVN_Vol.mrc", "TS_1_ODD_Vol.mrc"),
        "TS_1_2_Vol": ("TS_1_2_EVN_Vol.mrc", "TS_1_2_ODD_Vol.mrc"),
        "rec_TS_3": ("rec_TS_3_half1.mrc", "rec_TS_3_half2.mrc"),
    }


def test_one_half_is_never_paired_with_itself(tmp_path):
    for names in (("TS_1_EVN.mrc", "TS_1_even.mrc"), ("TS_2_half2.rec", "TS_2_odd.rec"), ("h1_a.mrc", "a_half_1.mrc")):
        even, odd = made(tmp_path / f"even{names[0]}", names[0]), made(tmp_path / f"odd{names[0]}", names[1])
        with pytest.raises(InputError, match=r"are both half [12], expected different halves"):
            paired_halves(even, odd)
    even, odd = made(tmp_path / "even", "TS_1.mrc"), made(tmp_path / "odd", "TS_1.mrc")
    assert list(paired_halves(even, odd)) == ["TS_1"]


def test_what_has_no_partner_is_refused(tmp_path):
    even = made(tmp_path / "even", "TS_01_EVN.mrc", "TS_02_EVN.mrc")
    odd = made(tmp_path / "odd", "TS_01_ODD.mrc", "TS_03_ODD.mrc")
    with pytest.raises(InputError, match=r"TS_02_EVN\.mrc has no other half in .*odd"):
        paired_halves(even, odd)
    made(odd, "TS_02_ODD.mrc")
    with pytest.raises(InputError, match=r"TS_03_ODD\.mrc has no other half in .*even"):
        paired_halves(even, odd)
    made(even, "TS_03_EVN.mrc", "TS_03_even.rec")
    with pytest.raises(InputError, match="are both TS_03"):
        paired_halves(even, odd)
    with pytest.raises(InputError, match="holds no tomograms"):
        paired_halves(made(tmp_path / "none"), odd)
    with pytest.raises(InputError, match="is no folder"):
        paired_halves(tmp_path / "nowhere", odd)


def test_names():
    assert stem("a/b/TS_01.mrc.gz") == "TS_01"
    assert [without_half(n) for n in ("TS_01_EVN", "even_TS", "TS_half1_bin", "Evenson_1", "TS.odd")] == [
        "TS_01", "TS", "TS_bin", "Evenson_1", "TS"
    ]  # fmt: skip
    for name in ("TS_1_10.00Apx", "TS.01", "Position_1.2", "run.v2"):
        assert [stem(name + ending) for ending in ("", ".mrc", ".MRC.gz", ".rec.bz2", ".ome.zarr", ".zarr")] == [name] * 6
    assert stem(".mrc") == ".mrc"
    marked = (
        "TS_EVN",
        "TS_half_1",
        "TS-halfa",
        "h1_TS",
        "TS_ODD_Vol",
        "TS.half2",
        "TS_halfb",
        "TS_half",
        "TS_even_odd",
        "Evenson",
    )
    assert [half_of(name) for name in marked] == [1, 1, 1, 1, 2, 2, 2, None, None, None]
    assert common_name(("e/TS_01_EVN.mrc", "o/TS_01_ODD.mrc")) == "TS_01"
    assert common_name(("even/TS_01.mrc", "odd/TS_01.mrc")) == "TS_01"


def test_the_command_writes_a_table_that_is_read_again(tmp_path):
    rng = np.random.default_rng(1)
    for folder in ("even", "odd", "tilts", "tables"):
        (tmp_path / folder).mkdir()
    for number, size in ((2, 8.5), (1, 12.0)):
        write_mrc(tmp_path / f"even/TS_{number}_EVN.mrc", rng.normal(size=(4, 6, 5)).astype(np.float32), size)
        write_mrc(tmp_path / f"odd/TS_{number}_ODD.mrc", rng.normal(size=(4, 6, 5)).astype(np.float32), size)
        (tmp_path / f"tilts/TS_{number}.tlt").write_text(f"-5{number}\n0\n6{number}\n")
    command = ["star", "import", "--even", tmp_path / "even", "--odd", tmp_path / "odd"]
    out = tmp_path / "tables/t.star"
    result = CliRunner().invoke(app, [*map(str, command), "--tilts", str(tmp_path / "tilts"), "-o", str(out)])
    assert result.exit_code == 0, result.output
    assert str(tmp_path) not in out.read_text()
    first, second = read_tomograms(out).entries
    assert (first.name, first.voxel_size, first.tilts.angles) == ("TS_1", 12.0, (-51, 0, 61))
    assert (second.name, second.voxel_size, second.tilts.angles) == ("TS_2", 8.5, (-52, 0, 62))
    assert second.halves[0].samefile(tmp_path / "even/TS_2_EVN.mrc")
    again = CliRunner().invoke(app, [*map(str, command), "--tilt-range", "-60", "60", "-o", str(out)])
    assert again.exit_code == 2
    assert "is there already" in again.stderr
