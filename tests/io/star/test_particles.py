"""Particle tables: Warp's real 2D stacks, 3D subtomograms, and in one line what cannot be used."""

import numpy as np
import pytest

from cryovae.errors import InputError
from cryovae.io.files import read_volume
from cryovae.io.star.particles import is_particle_table, read_particles
from cryovae.physics.subtomogram import axis_upright
from cryovae.tomogram import TiltGeometry
from cryovae.workflows.particles import images_of, tomogram_of, tomograms_of_particles
from tests.conftest import write_mrc

NAME = "real/tomodrgn_warp_subtomo/warptools_test_4-tomos_10-ptcls_box-32_angpix-12"


def test_warps_stacks_have_their_own_tilts(shared):
    for path in (shared / f"{NAME}_optimisation_set.star", shared / f"{NAME}.star"):
        assert is_particle_table(path)
        particles = read_particles(path)
        assert len(particles) == 40
        first = particles[0]
        assert (first.name, first.stacked, first.voxel_size) == ("Unt_083_000001", True, 12.0)
        assert sorted({len(p.geometry.angles) for p in particles}) == [34, 35, 37]
        # The first row's matrix, of the tilt that is not visible: it is excluded, and the range is the smaller for it.
        assert first.series.excluded[0]
        assert first.series.angles[0] == pytest.approx(47.22, abs=0.01)
        assert first.series.axis_angle == pytest.approx(83.5, abs=1.5)
    assert not is_particle_table(shared / "star/isonet2_readme_0.star")


def test_a_stack_is_reconstructed_on_its_grid(shared):
    made = tomogram_of(read_particles(shared / f"{NAME}.star")[7])
    assert made.shape == (32, 32, 32)
    assert made.voxel_size == 12.0
    assert all(np.isfinite(half).all() for half in made.halves)
    assert np.allclose(made.density, (made.halves[0] + made.halves[1]) / 2)


def common_line(particle, rotated):
    """Mean correlation between tilts, four apart or more, of the images' profiles along their axis rotated by some degrees."""
    images, angles, axes = images_of(particle, np.asarray(read_volume(particle.file).density, dtype=np.float32))
    order = np.argsort(angles)
    upright = axis_upright(images[order], [axes[i] + rotated for i in order]).numpy()
    profiles = upright[:, 4:-4, 8:24].sum(2)
    return np.corrcoef(profiles)[np.triu_indices(len(angles), 4)].mean()


def test_the_tilt_axis_read_is_the_common_line_of_real_images(shared):
    """Projections of one object share the line along the tilt axis and no other, so the microscope itself tells the axis."""
    particles = read_particles(shared / f"{NAME}.star")[::2]
    particles = {rotated: np.mean([common_line(p, rotated) for p in particles]) for rotated in (-60, -30, 0, 30, 60, 90)}
    others = [value for rotated, value in particles.items() if rotated]
    assert particles[0] > 0.03
    assert particles[0] > 2 * max(others)


def relion(folder, rows, columns, dimensions=3, tomograms=True):
    lines = ["data_optics", "", "loop_", "_rlnOpticsGroup #1", "_rlnImagePixelSize #2", "_rlnImageDimensionality #3"]
    lines += [f"1 8.5 {dimensions}", "", "data_particles", "", "loop_", *(f"_{c} #{i}" for i, c in enumerate(columns, 1)), *rows]
    (folder / "particles.star").write_text("\n".join(lines) + "\n")
    if tomograms:
        series = "data_a\n\nloop_\n_rlnTomoYTilt #1\n_rlnTomoZRot #2\n" + "".join(f"{t} 85\n" for t in range(-50, 61, 10))
        (folder / "a_series.star").write_text(series)
        table = "data_global\n\nloop_\n_rlnTomoName #1\n_rlnTomoTiltSeriesStarFile #2\na a_series.star\n"
        (folder / "tomograms.star").write_text(table)
    return folder / "particles.star"


COLUMNS = ("rlnTomoName", "rlnImageName", "rlnOpticsGroup", "rlnTomoSubtomogramRot")


def test_volumes_take_the_tilts_of_their_tomogram(tmp_path):
    density = np.random.default_rng(0).normal(size=(12, 12, 12)).astype(np.float32)
    write_mrc(tmp_path / "1_data.mrc", density, 1.0)
    path = relion(tmp_path, ["a 1_data.mrc 1 0.0"], COLUMNS)
    (particle,) = read_particles(path)
    made = tomograms_of_particles([particle])[0]
    assert (made.tilts.lowest, made.tilts.highest, made.voxel_size) == (-50, 60, 8.5)
    assert np.array_equal(made.density, density)
    (tmp_path / "tomograms.star").unlink()
    with pytest.raises(InputError, match=r"tilts of a are not known.*--tilt-range"):
        read_particles(path)
    assert read_particles(path, TiltGeometry.from_range(-40, 40))[0].geometry.highest == 40


def test_a_linked_table_of_particles_has_its_tomograms_beside_its_target(tmp_path):
    write_mrc(tmp_path / "1_data.mrc", np.zeros((12, 12, 12), dtype=np.float32), 1.0)
    path = relion(tmp_path, ["a 1_data.mrc 1 0.0"], COLUMNS)
    (tmp_path / "links").mkdir()
    (tmp_path / "links/p.star").symlink_to(path)
    (particle,) = read_particles(tmp_path / "links/p.star")
    assert particle.geometry.highest == 60
    assert particle.file.samefile(tmp_path / "1_data.mrc")


def test_stacks_of_all_and_of_visible_tilts_are_the_same_particle(tmp_path):
    """Warp writes the images that are not visible too, RELION leaves them out."""
    stack = np.random.default_rng(0).normal(size=(12, 8, 8)).astype(np.float32)
    visible = [1] * 12
    visible[3] = 0
    write_mrc(tmp_path / "all.mrcs", stack)
    write_mrc(tmp_path / "some.mrcs", np.delete(stack, 3, 0))
    text = "[" + ",".join(map(str, visible)) + "]"
    columns = ("rlnTomoName", "rlnImageName", "rlnOpticsGroup", "rlnTomoVisibleFrames")
    both = read_particles(relion(tmp_path, [f"a all.mrcs 1 {text}", f"a some.mrcs 1 {text}"], columns, 2))
    particles = [tomogram_of(particle) for particle in both]
    assert np.array_equal(particles[0].density, particles[1].density)
    assert len(both[0].geometry.angles) == 11
    with pytest.raises(InputError, match=r"shape \(5, 8, 8\), expected 11 square ones"):
        images_of(both[0], stack[:5])


@pytest.mark.parametrize(
    ("rows", "dimensions", "tomograms", "words"),
    [
        (["a 1_data.mrc 1 30.0"], 3, True, "row 1 was rotated on extraction"),
        (["a 1_data.mrc 1 0", "a 2_data.mrc 1 0"], 3, True, r"row 2: .*2_data\.mrc does not exist"),
        (["a 000001@1_data.mrc 1 0"], 2, True, "single particles have no tilts"),
        (["a 1_data.mrc 1 0"], 2, False, "tilts of a are not known.*optimisation set"),
        (["b 1_data.mrc 1 0"], 2, True, "tilts of b are not known"),
        (["a 1_data.mrc 1 0 [" + "0," * 11 + "1]"], 2, True, "row 1: 1 tilt angle found"),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path, rows, dimensions, tomograms, words):
    write_mrc(tmp_path / "1_data.mrc", np.zeros((12, 12, 12), dtype=np.float32))
    with pytest.raises(InputError, match=words) as caught:
        read_particles(relion(tmp_path, rows, (*COLUMNS, "rlnTomoVisibleFrames")[: len(rows[0].split())], dimensions, tomograms))
    assert "\n" not in str(caught.value)
    assert "particles.star" in str(caught.value)


def test_what_is_there_twice_is_refused(tmp_path):
    write_mrc(tmp_path / "1_data.mrc", np.zeros((12, 12, 12), dtype=np.float32))
    path = relion(tmp_path, ["a 1_data.mrc 1 0"], COLUMNS)
    optics, rows = path.read_text().split("data_particles")
    tomograms = (tmp_path / "tomograms.star").read_text()
    cases = [
        (f"{optics}data_particles{rows}" * 2, tomograms, "two blocks of one name, data_optics"),
        (f"{optics}data_particles{rows}\ndata_more{rows}", tomograms, "particles in 2 blocks .data_particles, data_more."),
        (f"{optics.strip()}\n1 17 3\n\ndata_particles{rows}", tomograms, "two optics groups of one number"),
        (f"{optics}data_particles{rows}", tomograms + "a b_series.star\n", "has two rows of a, expected one"),
        (f"{optics}data_particles{rows}", tomograms + tomograms, "two blocks of one name, data_global"),
    ]
    for text, table, words in cases:
        path.write_text(text)
        (tmp_path / "tomograms.star").write_text(table)
        with pytest.raises(InputError, match=words) as caught:
            read_particles(path)
        assert "\n" not in str(caught.value)


def test_the_shared_tables_of_particles_name_what_is_missing(shared):
    """None of their images is there; those that cannot be subtomograms are distinguished."""
    cases = {
        "cryocat_R5_tutorial_run_data_first400lines": "does not exist", "cryocat_warp2_particles_matching": "does not exist",
        "cryocat_relion_4.0_first400lines": "does not exist", "cylindra_relion5_run_it050_data": "does not exist",
        "dynamo2m_relion3.1": "does not exist", "dynamo2m_warp_example_first200lines": "does not exist",
        "cryocat_relion_3.0": "does not exist", "cryodrgn_relion5": "single particles",
        "cylindra_relion5_particles": "no particles",
    }  # fmt: skip
    for name, words in cases.items():
        with pytest.raises(InputError, match=words):
            read_particles(shared / f"star/{name}.star", TiltGeometry.from_range(-60, 60))
