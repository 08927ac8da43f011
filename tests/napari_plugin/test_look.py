"""View: 3D with protein bright and back, slices by their std, particles with the std at each, keys, and small pictures."""

import json

import numpy as np
import pytest
from PIL import Image

from cryovae.io.files import write_volume
from cryovae.io.picks import Picks
from cryovae.napari_plugin.contents import short
from cryovae.napari_plugin.keys import KEYS, TITLE, help_menu, listed
from cryovae.napari_plugin.layers import layer_for
from cryovae.napari_plugin.look_model import averaged, is_dark, is_of_a_part, rated, slices_of_interest, solid_of
from cryovae.napari_plugin.opening import RUN_WIDGETS, layers_at, opened
from cryovae.napari_plugin.temporary_layers import scale_bar_of
from tests.napari_plugin.test_open import run  # noqa: F401

SHAPE = (20, 44, 36)


def specimen():
    """Dark particles on a bright ground."""
    density = np.random.default_rng(0).normal(10, 0.2, SHAPE).astype(np.float32)
    density[6:12, 10:20, 8:16] -= 5
    return density


def test_protein_is_bright_in_3d_whether_dark_or_bright_in_the_file():
    for density, dark in ((specimen(), True), (-specimen(), False)):
        assert is_dark(density) == dark
        solid = solid_of(density)
        assert solid.dark == dark
        inside = solid.density[7:11, 12:18, 10:14]
        assert inside.min() > np.percentile(solid.density, 95)
        low, high = solid.limits(90)
        assert low < solid.threshold(97) < high


def test_a_large_volume_is_averaged(monkeypatch):
    monkeypatch.setattr("cryovae.napari_plugin.look_model.MOST_VOXELS", 20 * 44 * 36 // 8)
    solid = solid_of(specimen())
    assert solid.step == 2
    assert solid.density.shape == (10, 22, 18)
    assert np.allclose(averaged(specimen(), 2)[3, 4, 5], specimen()[6:8, 8:10, 10:12].mean())


def test_slices_of_interest_are_apart_and_fall_in_std():
    std = np.full(SHAPE, 0.1, np.float32)
    for z, value in ((3, 0.9), (4, 0.8), (12, 0.7)):
        std[z] = value
    slices = slices_of_interest(std)
    assert slices[:2] == [3, 12]
    assert min(abs(a - b) for i, a in enumerate(slices) for b in slices[:i]) >= 4


def test_particles_are_rated_by_the_nearest_voxel():
    std = np.arange(np.prod(SHAPE), dtype=np.float32).reshape(SHAPE)
    picks = Picks(np.array([[30.0, 41.0, 99.0], [-90.0, 0.0, 0.0]]), ("a", "a"), "in angstrom")
    points = rated(picks, std, 10.0)
    assert points.std[0] == std[3, 4, 10]
    assert np.isnan(points.std[1])
    assert "2 particles" in points.summary()
    assert "1 lie outside" in points.summary()
    assert "No standard deviation" in rated(picks, None, 10.0).summary()


def test_names_of_layers_are_short():
    assert short("ts_01") == "ts_01"
    assert short("TS_2026_grid4_lamella7_pos12") == "TS_20…a7_pos12"
    assert len(short("x" * 80)) == 14


@pytest.fixture
def looking(make_viewer, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "run.json").write_text(json.dumps({"name": "ts"}))
    viewer = make_viewer(show=True)
    std = np.full(SHAPE, 0.1, np.float32)
    std[5], std[15] = 0.5, 0.4
    for role, density in (("input", specimen()), ("mean", specimen()), ("std", std)):
        data, options, _ = layer_for(density, role, role, 10.0, run=folder, visible=role == "mean")
        viewer.add_image(data, **options)
    _, widget = viewer.window.add_plugin_dock_widget("cryovae", "View")
    return viewer, widget


def test_one_button_for_3d_and_back(looking, qtbot, shown):
    viewer, widget = looking
    viewer.dims.set_point(0, 50)
    before = [(layer.name, layer.visible) for layer in viewer.layers]
    point = viewer.dims.point
    widget.controls.show_3d.click()
    qtbot.waitUntil(lambda: widget.temporary.shown and widget.worker is None, timeout=20_000)
    assert viewer.dims.ndisplay == 3
    assert [layer.name for layer in widget.temporary.layers] == ["3D: input", "3D: mean"]
    layer = widget.temporary.layers[-1]
    assert layer.rendering == "attenuated_mip"
    limits = tuple(layer.contrast_limits)
    widget.controls.level.setValue(950)
    assert layer.contrast_limits[0] > limits[0]
    widget.controls.style.setCurrentIndex(1)
    assert layer.rendering == "iso"
    threshold = layer.iso_threshold
    widget.controls.level.setValue(300)
    assert layer.iso_threshold < threshold
    widget.controls.show_3d.click()
    assert viewer.dims.ndisplay == 2
    assert [(layer.name, layer.visible) for layer in viewer.layers] == before
    assert viewer.dims.point == point
    assert shown == []


def test_keys_go_to_slices_and_toggle_and_are_under_help(looking, qtbot, shown):
    viewer, widget = looking
    keymap = {str(key): action for key, action in viewer.keymap.items()}
    pressed = {name: next(a for k, a in keymap.items() if k.replace("+", "-") == key.keys) for name, key in KEYS.items()}
    pressed["next"](viewer)
    qtbot.waitUntil(lambda: widget.slices is not None and widget.worker is None, timeout=10_000)
    assert viewer.dims.point[0] == pytest.approx(50)
    pressed["next"](viewer)
    assert viewer.dims.point[0] == pytest.approx(150)
    pressed["previous"](viewer)
    assert "Slice z 5: mean std 0.5" in widget.controls.where.text()
    assert (viewer.layers["mean"].visible, viewer.layers["input"].visible) == (True, False)
    pressed["toggle"](viewer)
    assert (viewer.layers["mean"].visible, viewer.layers["input"].visible) == (False, True)
    qtbot.waitUntil(lambda: help_menu(widget) is not None and widget._listed is not None, timeout=5_000)
    assert TITLE in [action.text() for action in help_menu(widget).actions()]
    assert all(key.keys in listed() for key in KEYS.values())
    assert shown == []


def test_particles_become_points_with_their_std(looking, tmp_path, shown):
    viewer, widget = looking
    path = tmp_path / "picks.json"
    points = [{"location": {"x": 100.0, "y": 120.0, "z": z}} for z in (50.0, 80.0, 150.0)]
    path.write_text(json.dumps({"pickable_object_name": "ribosome", "points": points}))
    widget.open_picks(path)
    layer = viewer.layers["particles picks"]
    assert np.allclose(layer.data * np.array(layer.scale), [[z, 120, 100] for z in (50, 80, 150)])
    assert viewer.dims.point[0] == pytest.approx(80)
    assert np.allclose(layer.features["std"], [0.5, 0.1, 0.4])
    assert "median 0.4" in widget.controls.picked.text()
    assert len({tuple(colour) for colour in layer.face_color}) == 3
    path.write_text("{}")
    widget.open_picks(path)
    assert len(shown) == 1


def test_a_picture_is_small(looking, tmp_path):
    _, widget = looking
    widget.save(tmp_path / "a.png")
    picture = Image.open(tmp_path / "a.png")
    assert picture.width == 1000
    assert (tmp_path / "a.png").stat().st_size < 400_000
    assert "a.png" in widget.controls.saved.text()


def test_view_opens_on_the_first_tab_with_short_names(window, qtbot, run):  # noqa: F811
    layers = layers_at(run)
    assert [options["name"] for _, options, _ in layers] == ["input", "mean", "std", "samples"]
    viewer = opened(layers, "cryovae: run", RUN_WIDGETS)
    try:
        qtbot.wait(600)
        docks = [dock for dock in viewer.window.dock_widgets if dock in RUN_WIDGETS or dock.split(" (")[0] in RUN_WIDGETS]
        widgets = {name.split(" (")[0]: viewer.window.dock_widgets[name] for name in docks}
        assert widgets["View"].visibleRegion().boundingRect().height() > 0
        assert widgets["Compare"].visibleRegion().isEmpty()
        assert scale_bar_of(viewer).visible
        assert viewer.layers.selection.active.name == "mean"
    finally:
        viewer.close()


@pytest.mark.parametrize(("note", "part"), [("voxels 10-40, 0-60, 4-50", True), ("as shown in napari", False)])
def test_a_run_of_a_part_is_known(tmp_path, note, part):
    """Particles of the tomogram would be drawn at other places in a part of it."""
    write_volume(tmp_path / "a.mrc", np.zeros((8, 12, 10), np.float32) + 1, None, 10.0, note)
    record = {"name": "a", "command": "restore", "inputs": {"tomogram": {"path": str(tmp_path / "a.mrc")}}}
    (tmp_path / "run.json").write_text(json.dumps(record))
    assert is_of_a_part(tmp_path) == part
