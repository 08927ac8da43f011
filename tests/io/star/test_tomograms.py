"""Tables of tomograms: those of IsoNet, RELION and Warp are understood, paths found, and the same table comes out, longer."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import starfile

from cryovae.errors import InputError
from cryovae.io.files import read_volume
from cryovae.io.star.loading import checked_sizes, sizes_differ, tomograms_of
from cryovae.io.star.results import write_results
from cryovae.io.star.table import read_blocks
from cryovae.io.star.tomograms import read_tomograms
from cryovae.tomogram import TiltGeometry
from tests.conftest import write_mrc

RNG = np.random.default_rng(0)


def volume(path, size=10.0, shape=(6, 8, 7)):
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_mrc(path, RNG.normal(size=shape).astype(np.float32), size)


def copied(shared, name, folder, **files):
    """A shared table in ``folder``, and empty files for what it names."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(shared / "star" / name, folder / name)
    return folder / name


def test_isonet_1(shared, tmp_path):
    path = copied(shared, "isonet1_tutorial_0.star", tmp_path)
    for name in ("TS01", "TS43", "TS45"):
        volume(tmp_path / f"tomoset/{name}-wbp.rec")
    table = read_tomograms(path, TiltGeometry.from_range(-60, 60))
    assert [e.name for e in table.entries] == ["TS01-wbp", "TS43-wbp", "TS45-wbp"]
    first = table.entries[0]
    assert (first.full, first.halves, first.voxel_size) == (tmp_path / "tomoset/TS01-wbp.rec", None, 10.8)
    assert first.optics.defocus == (pytest.approx(38838.257812),)
    assert first.tilts == TiltGeometry.from_range(-60, 60)
    assert read_tomograms(path).entries[0].tilts is None
    with pytest.raises(InputError, match="row 1 has no tilts: pass --tilt-range"):
        checked_sizes(read_tomograms(path))


def test_isonet_2(shared, tmp_path):
    path = copied(shared, "isonet2_readme_0.star", tmp_path)
    for number in ("01", "03", "43", "45", "54"):
        for half in ("EVN", "ODD"):
            volume(tmp_path / f"tomograms_split/{half}/TS_{number}_{half}.mrc", 5.4)
    table = read_tomograms(path)
    entry = table.entries[1]
    assert (entry.name, entry.row, entry.full, entry.mask) == ("TS_03", 2, None, None)
    assert entry.halves[1] == tmp_path / "tomograms_split/ODD/TS_03_ODD.mrc"
    assert (entry.tilts.lowest, entry.tilts.highest, entry.voxel_size) == (-60, 60, 5.4)
    optics = entry.optics
    assert (optics.defocus, optics.voltage, optics.spherical_aberration, optics.amplitude_contrast) == ((14817,), 300, 2.7, 0.1)
    loaded = tomograms_of(table)[1]
    assert loaded.halves is not None
    assert (loaded.name, loaded.voxel_size, loaded.optics) == ("TS_03", 5.4, optics)


def relion_project(shared, folder):
    """RELION writes paths from its project folder, two above the table's."""
    path = copied(shared, "cryocat_R5_tutorial_run_tomograms.star", folder / "Tomograms/job006")
    series = folder / "Tomograms/job006/tilt_series"
    series.mkdir()
    for number in ("01", "03", "43", "45", "54"):
        for half in (1, 2):
            volume(folder / f"Tomograms/job006/tomograms/rec_TS_{number}_half{half}.mrc")
        shutil.copyfile(shared / "star/relion5_220728_TS_01.star", series / f"TS_{number}.star")
    return path


def test_relion_5(shared, tmp_path):
    table = read_tomograms(relion_project(shared, tmp_path))
    assert table.listing == "global"
    entry = table.entries[0]
    assert entry.name == "TS_01"
    assert entry.halves[0] == tmp_path / "Tomograms/job006/tomograms/rec_TS_01_half1.mrc"
    assert entry.voxel_size == pytest.approx(10.0, abs=1e-4)
    assert (entry.tilts.lowest, entry.tilts.highest, len(entry.tilts.angles)) == pytest.approx((-50.98, 69.02, 41), abs=0.05)
    assert len(entry.optics.defocus) == 41
    assert (entry.optics.voltage, entry.optics.amplitude_contrast) == (300, 0.1)


def test_warp_with_projection_matrices(shared, tmp_path):
    """The matrices of the shared particles, with tomograms that they never had."""
    source = shared / "real/tomodrgn_warp_subtomo"
    name = "warptools_test_4-tomos_10-ptcls_box-32_angpix-12_tomograms.star"
    with pytest.raises(InputError, match="names no reconstructed tomograms"):
        read_tomograms(source / name)
    text = (source / name).read_text()
    head, rest = text.split("_rlnTomoImportFractionalDose #13\n")
    rows = [f"{line} rec/{line.split('.')[0].strip()}.mrc" for line in rest.splitlines()[:4]]
    more = "\n".join(["_rlnTomoImportFractionalDose #13", "_rlnTomoReconstructedTomogram #14", *rows, *rest.splitlines()[4:]])
    (tmp_path / name).write_text(head + more + "\n")
    for tomogram in ("Unt_083", "Unt_050", "Unt_076", "Unt_088"):
        volume(tmp_path / f"rec/{tomogram}.mrc", 12.0)
    table = read_tomograms(tmp_path / name)
    assert [e.name for e in table.entries] == ["Unt_083", "Unt_050", "Unt_076", "Unt_088"]
    first = table.entries[0]
    assert len(first.tilts.angles) == 37
    assert first.tilts.angles[0] == pytest.approx(np.degrees(np.arctan2(0.73251, 0.6779126)), abs=1e-3)
    assert first.optics.defocus[0] == pytest.approx((33350.7 + 28632.1) / 2)


def test_the_same_table_comes_out_with_columns_added(shared, tmp_path):
    path = relion_project(shared, tmp_path / "project")
    before, table = path.read_text(), read_tomograms(path)
    out = tmp_path / "restored/run_tomograms.star"
    results = [{"mean": out.parent / f"{e.name}/{e.name}_mean.mrc"} if e.row != 2 else {} for e in table.entries]
    for files in results:
        for file in files.values():
            volume(file)
    write_results(out, table, results)
    assert path.read_text() == before
    rows, was = read_blocks(out)["global"], read_blocks(path)["global"]
    assert set(rows.columns) == {*was.columns, "rlnTomoReconstructedTomogramDenoised"}
    # It lies outside the project: RELION, which starts there, finds absolute paths alone.
    denoised = rows.columns["rlnTomoReconstructedTomogramDenoised"]
    assert denoised[:3] == (f"{out.parent}/TS_01/TS_01_mean.mrc", "None", f"{out.parent}/TS_43/TS_43_mean.mrc")
    assert rows.columns["rlnTomoSizeX"] == was.columns["rlnTomoSizeX"]
    # It is read again from its new place, and finds the same inputs.
    again = read_tomograms(out)
    assert [e.halves for e in again.entries] == [e.halves for e in table.entries]
    with pytest.raises(InputError, match="never written in place"):
        write_results(path, table, results)


def as_relion_reads(table, project, monkeypatch):
    """The block "global" by name of the tomogram, as RELION 5's Python programs read it, from the folder of the project."""
    monkeypatch.chdir(project)
    return starfile.read(table, always_dict=True)["global"].set_index("rlnTomoName", drop=False)


def test_relion_finds_all_files_of_results_in_its_project(shared, tmp_path, monkeypatch):
    """RELION's readers: _metadata_models/relion/tilt_series_set.py, denoise/cryoCARE, get_particle_poses/particles.py."""
    project = tmp_path / "project"
    table = read_tomograms(relion_project(shared, project))
    out = project / "External/job010/tomograms.star"
    results = [
        {kind: out.parent / f"{e.name}/{e.name}_{kind}.mrc" for kind in ("mean", "std", "mean_half1")} for e in table.entries
    ]
    for files in results:
        for file in files.values():
            volume(file)
    write_results(out, table, results, "base")
    read = as_relion_reads(out, project, monkeypatch)
    for column in ("Denoised", "Half1", "Half2"):
        for text in read[f"rlnTomoReconstructedTomogram{column}"]:
            assert not Path(text).is_absolute()
            assert Path(text).is_file()
    assert read.loc["TS_01", "rlnTomoReconstructedTomogramDenoised"] == "External/job010/TS_01/TS_01_mean.mrc"
    assert all(Path(text).is_file() for text in read["rlnTomoTiltSeriesStarFile"])
    sizes = read["rlnTomoTiltSeriesPixelSize"].astype(float) * read["rlnTomoTomogramBinning"].astype(float)
    assert sizes.to_numpy() == pytest.approx(10.0, abs=1e-3)
    assert list(read["crvStart"]) == ["base"] * len(table.entries)
    again = read_tomograms(out)
    assert [e.halves for e in again.entries] == [e.halves for e in table.entries]


def test_the_results_of_a_table_without_paths_of_relion_begin_where_it_lies(tmp_path):
    volume(tmp_path / "in/x.mrc")
    volume(tmp_path / "in/x_mask.mrc")
    columns = ("rlnMicrographName", "rlnMaskName", "rlnPixelSize", "rlnTiltMin", "rlnTiltMax")
    (tmp_path / "tables").mkdir()
    path = isonet(tmp_path / "tables", "../in/x.mrc ../in/x_mask.mrc 10 -60 60", columns=columns)
    out = tmp_path / "a/b/results.star"
    volume(out.parent / "x/x_mean.mrc")
    write_results(out, read_tomograms(path), [{"mean": out.parent / "x/x_mean.mrc"}])
    row = starfile.read(out)
    named = [row[column] for column in ("rlnMicrographName", "rlnMaskName", "rlnCorrectedTomoName")]
    texts = [text if isinstance(text, str) else text.iloc[0] for text in named]
    assert texts == ["../../in/x.mrc", "../../in/x_mask.mrc", "x/x_mean.mrc"]
    assert all((out.parent / text).is_file() for text in texts)


def test_paths_of_a_table_begin_at_its_folder(shared, tmp_path):
    path = copied(shared, "isonet1_tutorial_2.star", tmp_path)
    volume(tmp_path / "tomograms/TS01-wbp.rec")
    table = read_tomograms(path)
    write_results(tmp_path / "out/a.star", table, [{"mean": tmp_path / "out/TS01/m.mrc"}])
    rows = read_blocks(tmp_path / "out/a.star")[""]
    assert rows.columns["rlnMicrographName"] == ("../tomograms/TS01-wbp.rec",)
    assert rows.columns["rlnCorrectedTomoName"] == ("TS01/m.mrc",)


def isonet(folder, *rows, columns=("rlnMicrographName", "rlnPixelSize", "rlnTiltMin", "rlnTiltMax")):
    lines = ["data_", "", "loop_", *(f"_{c} #{i}" for i, c in enumerate(columns, 1)), *rows]
    (folder / "a.star").write_text("\n".join(lines) + "\n")
    return folder / "a.star"


def test_all_files_are_checked_before_anything_else(tmp_path):
    volume(tmp_path / "x.mrc")
    volume(tmp_path / "y.mrc")
    path = isonet(tmp_path, "x.mrc nonsense 70 60", "y.mrc 10 -60 60", "z.mrc 10 -60 60", "w.mrc 10 -60 60")
    with pytest.raises(InputError, match=r"row 3: .*z\.mrc does not exist, and 1 more"):
        read_tomograms(path)


def test_a_name_that_no_file_can_have_is_a_file_that_is_missing(tmp_path):
    """Found by damaged tables: the system says 'file name too long' for these, which is no answer for a person."""
    with pytest.raises(InputError, match=r"row 1: .*mrc does not exist: correct the path"):
        read_tomograms(isonet(tmp_path, f"{'x' * 300}.mrc 10 -60 60"))
    with pytest.raises(InputError, match=r"does not exist: check the path"):
        read_volume(tmp_path / f"{'x' * 300}.mrc")


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (["x.mrc 10 60 -60"], "row 1: tilt range 60 -60"),
        (["x.mrc ten -60 60"], "rlnPixelSize 'ten'"),
        (["x.mrc -4 -60 60"], "voxel size -4"),
        (["None 10 -60 60"], "row 1 has no tomogram"),
        (["x.mrc 10 -60 60", "./x.mrc 10 -60 60"], "rows 1 and 2 are both x"),
        (["x.mrc 10 -60 260"], "within -90 to 90"),
    ],
)
def test_rows_that_cannot_be_used_are_named(tmp_path, rows, words):
    volume(tmp_path / "x.mrc")
    with pytest.raises(InputError, match=words) as caught:
        read_tomograms(isonet(tmp_path, *rows))
    assert "a.star" in str(caught.value)


def test_paths_of_a_linked_table_are_beside_its_target(tmp_path):
    for folder, size in (("data", 8.0), ("links", 5.0)):
        volume(tmp_path / folder / "x.mrc", size)
    table = isonet(tmp_path / "data", "x.mrc None -60 60")
    link = tmp_path / "links/b.star"
    link.symlink_to("../data/a.star")
    read = read_tomograms(link)
    assert read.entries[0].full.samefile(tmp_path / "data/x.mrc")
    assert checked_sizes(read) == {"x": 8.0}
    # Of a table in a store of files, which has no volumes beside it, they are beside the link.
    (tmp_path / "store").mkdir()
    table.rename(tmp_path / "store/1234")
    link.unlink()
    link.symlink_to(tmp_path / "store/1234")
    assert checked_sizes(read_tomograms(link)) == {"x": 5.0}


def test_parents_of_a_linked_folder_count_on_both_sides(tmp_path):
    """RELION's project may link its folder of tomograms to another disk; the paths in the table are from the project."""
    volume(tmp_path / "project/rec/x.mrc", 8.0)
    (tmp_path / "disk/Tomograms/job006").mkdir(parents=True)
    (tmp_path / "project/Tomograms").symlink_to(tmp_path / "disk/Tomograms")
    isonet(tmp_path / "disk/Tomograms/job006", "rec/x.mrc None -60 60")
    table = read_tomograms(tmp_path / "project/Tomograms/job006/a.star")
    assert checked_sizes(table) == {"x": 8.0}
    # A table that is written through the link is read from either side.
    volume(tmp_path / "disk/out/m.mrc")
    write_results(tmp_path / "project/Tomograms/b.star", table, [{"mean": tmp_path / "disk/out/m.mrc"}])
    for side in ("project", "disk"):
        (text,) = read_blocks(tmp_path / side / "Tomograms/b.star")[""].columns["rlnCorrectedTomoName"]
        assert text == "../out/m.mrc"
    assert checked_sizes(read_tomograms(tmp_path / "project/Tomograms/b.star")) == {"x": 8.0}


def test_two_tables_in_one_file_are_refused(tmp_path):
    volume(tmp_path / "x.mrc")
    text = isonet(tmp_path, "x.mrc 10 -60 60").read_text()
    for second, words in (
        ("data_", "two blocks of one name, data_ on line 1 and data_ on line 9"),
        ("data_b", "tomograms in 2 blocks .data_, data_b."),
    ):
        (tmp_path / "a.star").write_text(text + text.replace("data_", second))
        with pytest.raises(InputError, match=words) as caught:
            read_tomograms(tmp_path / "a.star")
        assert "\n" not in str(caught.value)
        assert "a.star" in str(caught.value)


def test_headers_are_checked_before_any_work(tmp_path):
    volume(tmp_path / "x_even.mrc", 10.0)
    volume(tmp_path / "x_odd.mrc", 10.0, (6, 8, 9))
    columns = ("rlnTomoReconstructedTomogramHalf1", "rlnTomoReconstructedTomogramHalf2", "rlnTiltMin", "rlnTiltMax")
    with pytest.raises(InputError, match="row 1 has halves of shapes"):
        checked_sizes(read_tomograms(isonet(tmp_path, "x_even.mrc x_odd.mrc -60 60", columns=columns)))
    with pytest.raises(InputError, match="row 1 has one half"):
        read_tomograms(isonet(tmp_path, "x_even.mrc None -60 60", columns=columns))
    (tmp_path / "t.mrc").write_text("no volume")
    with pytest.raises(InputError, match=r"row 1: .*t\.mrc"):
        checked_sizes(read_tomograms(isonet(tmp_path, "t.mrc 10 -60 60")))


def test_voxel_sizes_that_differ_are_said_in_one_line():
    assert sizes_differ({"a": 10.0, "b": 10.1}) is None
    line = sizes_differ({"a": 10.0, "b": 13.0, "c": 8.0})
    assert "8 (c)" in line
    assert "13 angstrom (b)" in line
    assert "\n" not in line


TABLE_OF = {
    "isonet": ("does not exist", ["isonet1_tutorial_0", "isonet1_tutorial_2", "isonet2_readme_0"]),
    "relion": ("does not exist", ["relion5_tilt_series", "cryocat_R5_tutorial_run_tomograms"]),
    "optimisation": ("does not exist", ["cryocat_warp2_matching_optimisation_set", "cylindra_relion5_optimisation_set"]),
    "tilts": (
        "table of tilts",
        ["cryocat_017_gctf", "cryocat_dc02t01_ctf", "cryocat_wedge_list", "cylindra_relion5_13pf_MT", "relion5_220728_TS_01"],
    ),
    "particles": (
        "table of particles",
        [
            "cryocat_R5_tutorial_run_data_first400lines", "cryocat_bin1_1deg_500", "cryocat_relion_3.0",
            "cryocat_relion_3.1_optics2", "cryocat_relion_4.0_first400lines", "cryocat_warp2_particles_matching",
            "cryodrgn_relion5", "cylindra_relion5_particles", "cylindra_relion5_run_it050_data", "dynamo2m_relion3.1",
            "dynamo2m_warp_example_first200lines", "mtfit_CCDC147C_009_first200lines", "starfilepkg_empty_loop",
            "starfilepkg_one_loop", "starfilepkg_rln3.1_data_style", "starfilepkg_single_line_end_of_multiblock",
            "starfilepkg_single_line_middle_of_multiblock",
        ],
    ),
    "others": (
        "no table of tomograms",
        [
            "cryocat_stopgap_motl_class6_first200lines", "starfilepkg_basic_double_quote", "starfilepkg_basic_single_quote",
            "starfilepkg_default_pipeline", "starfilepkg_loop_double_quote", "starfilepkg_loop_single_quote",
            "starfilepkg_postprocess", "starfilepkg_two_basic_blocks", "starfilepkg_two_single_line_loop_blocks",
        ],
    ),
}  # fmt: skip


def test_every_shared_star_file_is_known_for_what_it_is(shared):
    """Their volumes are not there, so that even good tables are refused, for that reason and no other."""
    seen = []
    for words, names in TABLE_OF.values():
        for name in names:
            with pytest.raises(InputError, match=words) as caught:
                read_tomograms(shared / f"star/{name}.star", TiltGeometry.from_range(-60, 60))
            assert "\n" not in str(caught.value)
            seen.append(f"{name}.star")
    assert sorted(seen) == sorted(path.name for path in (shared / "star").glob("*.star"))
