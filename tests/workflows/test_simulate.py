"""The files of a simulated tilt series: what is in them fits together, and the same seed makes the same ones."""

import re
from dataclasses import replace

import mrcfile
import numpy as np
import pytest
import starfile
from typer.testing import CliRunner

from cryovae.cli.app import app
from cryovae.errors import InputError
from cryovae.io.tilts import read_tilts
from cryovae.simulation.scene import SceneConfig
from cryovae.simulation.tilt_series import AcquisitionConfig, tilt_angles
from cryovae.workflows.simulate import write_tilt_series
from tests.conftest import write_mrc
from tests.helpers.relion import rotation_from_angles

SHAPE = (32, 48, 40)
SCENE = SceneConfig(shape=SHAPE, voxel_size=8.0, crowding=0.06, sheets=0, vesicles=0, filaments=0, beads=0)
SERIES = AcquisitionConfig(angles=tilt_angles(-50, 58, 4), voxel_size=8.0, snr=0.5, noise="poisson", seed=6)


@pytest.fixture(scope="module")
def molecules(tmp_path_factory):
    """A map with an arm along +x at twice the voxel size's detail, and a model of four atoms in a row along z."""
    folder = tmp_path_factory.mktemp("molecules")
    density = np.zeros((18, 20, 22), dtype=np.float32)
    density[8:11, 9:12, 10:17] = 180.0
    model = "".join(
        f"HETATM{i:5d} FE    FE A{i:4d}    {0:8.3f}{0:8.3f}{12 * i:8.3f}  1.00 20.00          FE\n" for i in range(1, 7)
    )
    (folder / "rod.pdb").write_text(model + "END\n")
    return [write_mrc(folder / "arm.mrc", density, 8.0), folder / "rod.pdb"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, molecules):
    out = tmp_path_factory.mktemp("series")
    write_tilt_series(out, "ts", SCENE, SERIES, molecules, overwrite=False)
    return out


def test_positions_and_angles_lie_on_the_molecules(folder):
    density = -mrcfile.read(folder / "ts_density.mrc")
    table = starfile.read(folder / "ts_molecules.star")["particles"]
    assert set(table["rlnGroupName"]) == {"arm", "rod"}
    orientations = rotation_from_angles(table[["rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"]].to_numpy())
    places = table[["rlnCoordinateX", "rlnCoordinateY", "rlnCoordinateZ"]].to_numpy()
    arms = np.array([(4, 0, 0) if name == "arm" else (0, 0, 3) for name in table["rlnGroupName"]])

    def mean_at(points):
        index = np.rint(points[:, ::-1]).astype(int)
        inside = ((index >= 0) & (index < SHAPE)).all(1)
        return density[tuple(index[inside].T)].mean()

    body = np.percentile(density, 99)
    assert mean_at(places) > 0.5 * body
    assert mean_at(places + orientations.apply(arms)) > 0.4 * body
    assert mean_at(places + orientations.inv().apply(arms)) < 0.8 * mean_at(places + orientations.apply(arms))


def test_volumes_images_and_tilts_fit_together(folder):
    for kind in ("full", "half1", "half2", "truth", "density"):
        with mrcfile.open(folder / f"ts_{kind}.mrc") as mrc:
            assert mrc.data.shape == SHAPE
            assert float(mrc.voxel_size.x) == pytest.approx(8.0)
    images = mrcfile.read(folder / "ts_tilts.mrc")
    assert images.shape[:2] == (len(SERIES.angles), SHAPE[1])
    assert images.shape[2] >= SHAPE[2]
    assert read_tilts(folder / "ts.tlt").angles == pytest.approx(SERIES.angles, abs=0.006)
    full, halves = mrcfile.read(folder / "ts_full.mrc"), [mrcfile.read(folder / f"ts_half{i}.mrc") for i in (1, 2)]
    np.testing.assert_allclose(full, (halves[0] + halves[1]) / 2, atol=1e-4)
    assert full.std() == pytest.approx(1, abs=1e-3)


def test_same_seed_same_files(folder, tmp_path, molecules):
    write_tilt_series(tmp_path, "ts", SCENE, SERIES, molecules, overwrite=False)
    for path in sorted(folder.iterdir()):
        assert path.read_bytes() == (tmp_path / path.name).read_bytes(), path.name


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ("--molecule none.mrc", "does not exist"),
        ("--shape 8 64 64", "expected three sizes"),
        ("--shape 64 64", "--shape 64 64 found, expected 3 values"),
        ("--acquisition magic", "expected tilt-series or ideal"),
        ("--acquisition ideal --lamella 300", "tilt-series only"),
        ("--noise pink", "expected gaussian or poisson"),
        ("--tilts none.tlt", "does not exist"),
        ("--crowding 2", "expected a share"),
    ],
)
def test_bad_input_is_one_line(tmp_path, monkeypatch, options, line):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["simulate", "-o", "out", *options.split()])
    assert done.exit_code == 2
    assert re.search(line, done.output + done.stderr)
    assert not (tmp_path / "out").exists()


def test_nothing_is_overwritten_unasked(folder, molecules):
    with pytest.raises(InputError, match="is there already"):
        write_tilt_series(folder, "ts", SCENE, SERIES, molecules, overwrite=False)


def test_molecules_of_one_name_get_numbers(tmp_path, molecules):
    write_tilt_series(tmp_path, "ts", SCENE, SERIES, [molecules[0], molecules[0]], overwrite=False)
    assert set(starfile.read(tmp_path / "ts_molecules.star")["particles"]["rlnGroupName"]) == {"arm", "arm_2"}


def test_real_molecules_are_accepted(tmp_path, shared):
    files = [shared / "phantom/10A/1bxn.mrc", shared / "phantom/1bxn.pdb.gz", shared / "phantom/4v1w.cif.gz"]
    write_tilt_series(tmp_path, "ts", replace(SCENE, crowding=0.25), SERIES, files, overwrite=False)
    assert len(starfile.read(tmp_path / "ts_molecules.star")["particles"]) > 1
