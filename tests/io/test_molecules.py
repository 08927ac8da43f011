"""Molecules from maps and atomic models: normalised, resampled, placed by their middle."""

import gzip

import gemmi
import numpy as np
import pytest

from cryovae.errors import InputError
from cryovae.io.molecules import molecule, read_molecule
from tests.conftest import write_mrc


def blob(shape, centre, sigma):
    z, y, x = np.ogrid[tuple(slice(0, n) for n in shape)]
    square = (z - centre[0]) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2
    return np.exp(-square / (2 * sigma**2)).astype(np.float32)


def structure(places, copies=()):
    """A tiny model of carbon atoms at (x, y, z) in angstrom, with an assembly of translated copies."""
    made, model, chain, residue = gemmi.Structure(), gemmi.Model(1), gemmi.Chain("A"), gemmi.Residue()
    residue.name, residue.seqid = "ALA", gemmi.SeqId("1")
    for i, place in enumerate(places):
        atom = gemmi.Atom()
        atom.name, atom.element, atom.pos = f"C{i}", gemmi.Element("C"), gemmi.Position(*place)
        residue.add_atom(atom)
    chain.add_residue(residue)
    model.add_chain(chain)
    made.add_model(model)
    if copies:
        assembly, generator = gemmi.Assembly("1"), gemmi.Assembly.Gen()
        generator.chains = ["A"]
        for copy in copies:
            operator = gemmi.Assembly.Operator()
            operator.transform = gemmi.Transform(gemmi.Mat33(), gemmi.Vec3(*copy))
            generator.operators.append(operator)
        assembly.generators.append(generator)
        made.assemblies.append(assembly)
    made.setup_entities()
    return made


def test_grey_scale_and_offset_of_a_map_do_not_matter(tmp_path):
    density = blob((24, 28, 26), (12, 14, 13), 3.0)
    first = read_molecule(write_mrc(tmp_path / "a.mrc", density), 10.0)
    second = read_molecule(write_mrc(tmp_path / "b.mrc", 250 * density - 17), 10.0)
    assert first.density.shape[0] % 2 == 1
    np.testing.assert_allclose(first.density, second.density, atol=1e-4)
    body = first.density > 0.2 * first.density.max()
    assert first.density[body].mean() == pytest.approx(1.0, abs=1e-5)
    assert first.radius == pytest.approx(3.0 * np.sqrt(2 * np.log(5)), abs=0.6)
    assert np.unravel_index(first.density.argmax(), first.density.shape) == (first.density.shape[0] // 2,) * 3


@pytest.mark.parametrize("voxel_size", [5.0, 20.0])
def test_a_map_is_resampled_to_the_voxel_size(tmp_path, voxel_size):
    path = write_mrc(tmp_path / "a.mrc", blob((40, 44, 42), (20, 22, 21), 5.0), 10.0)
    with gzip.open(tmp_path / "a.mrc.gz", "wb") as packed:
        packed.write(path.read_bytes())
    loaded = read_molecule(tmp_path / "a.mrc.gz", voxel_size)
    radius = 5.0 * np.sqrt(2 * np.log(5)) * 10 / voxel_size
    assert loaded.radius == pytest.approx(radius, rel=0.12)
    assert loaded.name == "a"


@pytest.mark.parametrize("ending", [".pdb", ".cif", ".pdb.gz"])
def test_atoms_are_where_the_model_says(tmp_path, ending):
    """Two atoms 60 angstrom apart along x, one at 30 along z: heavier there, twice."""
    made = structure([(-30, 0, 0), (30, 0, 0), (0, 0, 45), (0, 0, 45)])
    path = tmp_path / f"tiny{ending.removesuffix('.gz')}"
    if ".cif" in ending:
        made.make_mmcif_document().write_file(str(path))
    else:
        made.write_pdb(str(path))
    if ending.endswith(".gz"):
        (tmp_path / "tiny.pdb.gz").write_bytes(gzip.compress(path.read_bytes()))
        path = tmp_path / "tiny.pdb.gz"
    loaded = read_molecule(path, 7.5)
    half = loaded.density.shape[0] // 2
    # Centre of mass at z = 22.5 angstrom: the pair lies 3 voxels below, the heavy place 3 above.
    assert loaded.density[half - 3, half, half - 4] == pytest.approx(loaded.density[half - 3, half, half + 4], rel=1e-3)
    assert loaded.density[half + 3, half, half] == pytest.approx(2 * loaded.density[half - 3, half, half + 4], rel=1e-3)
    assert loaded.density[half, half, half] < 0.05 * loaded.density.max()


def test_the_biological_assembly_is_built(tmp_path):
    path = tmp_path / "two.cif"
    structure([(0, 0, 0)], copies=[(0, 0, 0), (60, 0, 0)]).make_mmcif_document().write_file(str(path))
    loaded = read_molecule(path, 10.0)
    half = loaded.density.shape[0] // 2
    assert loaded.density[half, half, [half - 3, half + 3]] == pytest.approx(loaded.density.max(), rel=1e-3)


def test_what_is_no_molecule_is_refused(tmp_path):
    (tmp_path / "bad.pdb").write_text("REMARK nothing\n")
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "broken.cif.gz").write_bytes(b"no gzip")
    for name, line in {
        "none.mrc": "does not exist",
        "bad.pdb": "no atoms",
        "notes.txt": "expected one of",
        "broken.cif.gz": "molecule",
    }.items():
        with pytest.raises(InputError, match=line):
            read_molecule(tmp_path / name, 10.0)
    with pytest.raises(InputError, match="flat"):
        molecule("flat", np.ones((8, 9, 10)), np.array([4, 4, 5]))
    with pytest.raises(InputError, match="voxels wide"):
        read_molecule(write_mrc(tmp_path / "a.mrc", blob((24, 28, 26), (12, 14, 13), 3.0)), 0.5)


def test_real_molecules(shared):
    """One molecule as a map and as an atomic model, from different sources, has one size."""
    model = read_molecule(shared / "phantom/3j9i.pdb.gz", 10.0)
    coarse = read_molecule(shared / "phantom/10A/3j9i.mrc", 10.0)
    fine = read_molecule(shared / "phantom/5A/3j9i.mrc.gz", 10.0)
    assert model.volume == pytest.approx(coarse.volume, rel=0.2)
    assert fine.volume == pytest.approx(coarse.volume, rel=0.25)
    assert model.radius == pytest.approx(coarse.radius, abs=1.5)
