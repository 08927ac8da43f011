"""OME-Zarr: what is written reads back, by the specification, whole or not at all; what others write is read or refused."""

import json

import mrcfile
import numpy as np
import pytest

zarr = pytest.importorskip("zarr", reason="the extra zarr is not installed")

from cryovae.io.files import read_volume, write_volume  # noqa: E402
from cryovae.io.load import load_tomogram  # noqa: E402
from cryovae.io.ome_zarr.writing import halved  # noqa: E402
from cryovae.io.volume import voxel_size_of  # noqa: E402
from cryovae.tomogram import InputError, TiltGeometry  # noqa: E402
from tests.conftest import write_mrc  # noqa: E402
from tests.io.made import made  # noqa: E402

DENSITY = np.random.default_rng(0).normal(size=(37, 150, 66)).astype(np.float32)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    path = tmp_path_factory.mktemp("zarr") / "ts_01_mean.zarr"
    write_volume(path, DENSITY, None, 13.48, "posterior mean")
    return path


def test_what_is_written_reads_back(written):
    volume = read_volume(written)
    assert np.array_equal(np.asarray(volume.density), DENSITY)
    assert voxel_size_of(volume, None) == 13.48
    assert volume.labels[-1].endswith("posterior mean")
    assert volume.notes == ()
    assert volume.stored == "OME-Zarr 0.5, float32"


def test_voxels_are_read_when_they_are_asked_for(written):
    density = read_volume(written).density
    assert not isinstance(density, np.ndarray)
    assert density.shape == DENSITY.shape
    assert density.dtype == np.float32
    assert np.array_equal(density[3], DENSITY[3])
    assert np.array_equal(density[3:9], DENSITY[3:9])
    assert np.array_equal(density[:, 5, 10:20], DENSITY[:, 5, 10:20])


def test_levels_are_means_and_lie_where_they_say(written):
    group = zarr.open_group(written, mode="r")
    datasets = group.attrs["ome"]["multiscales"][0]["datasets"]
    assert [d["path"] for d in datasets] == ["0", "1", "2"]
    assert [group[d["path"]].shape for d in datasets] == [(37, 150, 66), (19, 75, 33), (10, 38, 17)]
    assert float(group["1"][4, 5, 6]) == pytest.approx(DENSITY[8:10, 10:12, 12:14].mean(), rel=1e-5)
    assert float(group["2"][4, 5, 6]) == pytest.approx(DENSITY[16:20, 20:24, 24:28].mean(), rel=1e-5)
    z = np.arange(37) * 13.48
    scale, shift = (d[k][0] for d, k in zip(datasets[2]["coordinateTransformations"], ("scale", "translation"), strict=True))
    # The middle of a coarse voxel is the mean of the middles of the fine ones.
    assert 4 * scale + shift == pytest.approx(z[16:20].mean())


def test_means_of_a_ramp_and_of_an_odd_edge():
    ramp = np.arange(5, dtype=np.float32)[None, None, :] + np.zeros((3, 2, 1), np.float32)
    assert np.array_equal(halved(ramp), np.broadcast_to(np.array([0.5, 2.5, 4.0], np.float32), (2, 1, 3)))
    assert halved(ramp).dtype == np.float32


def test_metadata_are_those_of_the_specification(written):
    """OME-NGFF 0.5, sections axes, multiscales and coordinateTransformations: each MUST that concerns an image."""
    raw = json.loads((written / "zarr.json").read_text())
    assert (raw["zarr_format"], raw["node_type"]) == (3, "group")
    ome = raw["attributes"]["ome"]
    assert ome["version"] == "0.5"
    (image,) = ome["multiscales"]
    assert image["axes"] == [{"name": n, "type": "space", "unit": "angstrom"} for n in "zyx"]
    sizes = []
    for dataset in image["datasets"]:
        array = json.loads((written / dataset["path"] / "zarr.json").read_text())
        assert array["dimension_names"] == [axis["name"] for axis in image["axes"]]
        kinds = [t["type"] for t in dataset["coordinateTransformations"]]
        assert kinds == ["scale", "translation"]
        assert all(len(t[t["type"]]) == 3 for t in dataset["coordinateTransformations"])
        sizes.append(np.prod(array["shape"]))
    assert sizes == sorted(sizes, reverse=True)


def test_an_independent_model_of_the_specification_accepts_it(written):
    models = pytest.importorskip("ome_zarr_models.v05", reason="ome-zarr-models is not installed")
    image = models.Image.from_zarr(zarr.open_group(written, mode="r"))
    assert [axis.unit for axis in image.ome_attributes.multiscales[0].axes] == ["angstrom"] * 3


def test_place_and_history_go_from_mrc_to_zarr_and_back(tmp_path):
    values = np.arange(4 * 6 * 5).reshape(4, 6, 5).astype(np.float32)
    place = {"nxstart": -3, "nystart": 4, "nzstart": 5, "origin": (-10.0, 20.0, 30.5)}
    source = made(tmp_path / "a.mrc", values, label=[b"by somebody", *[b""] * 9], **place)
    write_volume(tmp_path / "a.zarr", values, source, 10.0, "first")
    volume = read_volume(tmp_path / "a.zarr")
    assert volume.origin == (-10, 20, 30.5)
    write_volume(tmp_path / "b.mrc", values, tmp_path / "a.zarr", 10.0, "second")
    assert mrcfile.validate(tmp_path / "b.mrc")
    with mrcfile.open(tmp_path / "b.mrc") as mrc:
        assert np.array_equal(mrc.data, values)
        assert mrc.header.origin.tolist() == (-10, 20, 30.5)
        assert mrc.nstart.tolist() == (-3, 4, 5)
        assert [label.split()[-1] for label in mrc.get_labels()] == ["somebody", "first", "second"]


def test_more_labels_than_mrc_holds_lose_our_oldest(tmp_path):
    source = made(tmp_path / "a.mrc", DENSITY[:4, :5, :6], label=[f"label {i}".encode() for i in range(10)])
    for number in range(3):
        write_volume(tmp_path / f"{number}.zarr", DENSITY[:4, :5, :6], source, 10.0, f"note {number}")
        source = tmp_path / f"{number}.zarr"
    write_volume(tmp_path / "b.mrc", DENSITY[:4, :5, :6], source, 10.0, "last\nof all")
    with mrcfile.open(tmp_path / "b.mrc") as mrc:
        labels = mrc.get_labels()
    assert labels[:9] == [f"label {i}" for i in range(9)]
    assert labels[9].endswith("last?of all")


def foreign(path, data, axes, units=None, scale=None, version="0.5", shift=()):
    """An OME-Zarr group as others write it."""
    group = zarr.open_group(path, mode="w", zarr_format=3 if version == "0.5" else 2)
    group.create_array("s0", data=data)
    units, size = units or [None] * len(axes), {"type": "scale", "scale": scale or [1.0] * len(axes)}
    image = {
        "axes": [{"name": a, "type": "space"} | ({"unit": u} if u else {}) for a, u in zip(axes, units, strict=True)],
        "datasets": [{"path": "s0", "coordinateTransformations": [size, *shift]}],
    }
    if version == "0.5":
        group.attrs["ome"] = {"version": "0.5", "multiscales": [image]}
    else:
        group.attrs["multiscales"] = [image | {"version": version}]
    return path


@pytest.mark.parametrize(("unit", "angstrom"), [("angstrom", 1.5), ("nanometer", 15), ("micrometer", 15000)])
@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_units_and_versions_of_others_are_read(tmp_path, unit, angstrom, version):
    data = np.arange(2 * 3 * 4, dtype=np.int16).reshape(2, 3, 4)
    shift = [{"type": "translation", "translation": [10.0, 20.0, 30.0]}]
    volume = read_volume(foreign(tmp_path / "a.zarr", data, "zyx", [unit] * 3, [1.5] * 3, version, shift))
    assert np.array_equal(np.asarray(volume.density), data)
    assert volume.voxel_size == pytest.approx((angstrom,) * 3)
    assert volume.origin == pytest.approx(tuple(n * angstrom / 1.5 for n in (30, 20, 10)))


def test_other_orders_of_axes_and_single_channels_are_put_in_order(tmp_path):
    data = np.arange(2 * 3 * 4, dtype=np.float64).reshape(2, 3, 4)
    stored = data.transpose(2, 0, 1)[None, None]
    volume = read_volume(foreign(tmp_path / "a.zarr", stored, "tcxzy", [None, None, *["nanometer"] * 3], [1, 1, 3.0, 1.0, 2.0]))
    assert np.array_equal(np.asarray(volume.density), data)
    assert np.array_equal(volume.density[1, :, 2], data[1, :, 2])
    assert volume.voxel_size == pytest.approx((30, 20, 10))


def test_no_unit_means_no_voxel_size(tmp_path):
    volume = read_volume(foreign(tmp_path / "a.zarr", np.ones((2, 3, 4), np.uint8), "zyx"))
    assert any("no unit" in note for note in volume.notes)
    with pytest.raises(InputError, match="pass --voxel-size"):
        voxel_size_of(volume, None)


def test_what_is_no_volume_is_refused_in_one_line(tmp_path):
    ones = np.ones((2, 3, 4), np.float32)
    zarr.create_array(tmp_path / "array.zarr", data=ones)
    zarr.open_group(tmp_path / "group.zarr", mode="w")
    foreign(tmp_path / "image.zarr", ones[0], "yx")
    foreign(tmp_path / "thin.zarr", ones[:1], "zyx")
    foreign(tmp_path / "channels.zarr", np.ones((2, 2, 3, 4)), "czyx")
    foreign(tmp_path / "complex.zarr", ones.astype(np.complex64), "zyx")
    foreign(tmp_path / "axes.zarr", ones, "czyx")
    empty = foreign(tmp_path / "empty.zarr", ones, "zyx")
    for chunk in (empty / "s0" / "c").rglob("*"):
        if chunk.is_file():
            chunk.unlink()
    torn = foreign(tmp_path / "torn.zarr", ones, "zyx")
    (torn / "zarr.json").write_text((torn / "zarr.json").read_text()[:200])
    (tmp_path / "folder.zarr").mkdir()
    expected = {
        "array": "without the metadata", "group": "without multiscales", "image": "axes y, x", "thin": "not an image",
        "channels": "2 volumes along c", "complex": "complex64", "axes": "as many", "empty": "holds 0 of the 1 pieces",
        "torn": "cannot be read as OME-Zarr", "folder": "is a folder",
    }  # fmt: skip
    for name, words in expected.items():
        with pytest.raises(InputError, match=words) as refusal:
            read_volume(tmp_path / f"{name}.zarr")
        assert "\n" not in str(refusal.value)


def test_a_damaged_chunk_is_refused_when_it_is_read(tmp_path):
    write_volume(tmp_path / "a.zarr", DENSITY[:20, :20, :20], None, 10.0, "torn")
    (chunk,) = [p for p in (tmp_path / "a.zarr" / "0" / "c").rglob("*") if p.is_file()]
    chunk.write_bytes(chunk.read_bytes()[:50])
    with pytest.raises(InputError, match=r"a\.zarr cannot be read"):
        np.asarray(read_volume(tmp_path / "a.zarr").density)


def test_a_tomogram_may_be_of_zarr_or_half_of_it(tmp_path):
    tilts = TiltGeometry.from_range(-60, 60)
    first, second = DENSITY[:20, :24, :28], DENSITY[10:30, 10:34, 10:38]
    write_volume(tmp_path / "ts_01_EVN.zarr", first, None, 10.0, "even")
    write_mrc(tmp_path / "ts_01_ODD.mrc", second)
    one = load_tomogram(tmp_path / "ts_01_EVN.zarr", None, tilts)
    assert isinstance(one.density, np.ndarray)
    assert np.array_equal(one.density, first)
    assert (one.name, one.voxel_size) == ("ts_01_EVN", 10.0)
    both = load_tomogram(None, (tmp_path / "ts_01_EVN.zarr", tmp_path / "ts_01_ODD.mrc"), tilts)
    assert both.name == "ts_01"
    assert np.allclose(both.density, (first + second) / 2)


def test_a_folder_is_replaced_whole_and_a_failure_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "a.zarr"
    write_volume(path, DENSITY[:20, :20, :20], None, 10.0, "first")
    write_volume(path, DENSITY[:8, :9, :10], None, 10.0, "second")
    assert read_volume(path).density.shape == (8, 9, 10)
    assert sorted(p.name for p in path.iterdir()) == ["0", "zarr.json"]
    monkeypatch.setattr("cryovae.io.ome_zarr.writing._multiscale", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_volume(path, DENSITY[:20, :20, :20], None, 10.0, "third")
    assert read_volume(path).density.shape == (8, 9, 10)
    assert [p.name for p in tmp_path.iterdir()] == ["a.zarr"]
