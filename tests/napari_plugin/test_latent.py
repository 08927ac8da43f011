"""The latent space: the model of its window without Qt, and the window driven as by a user."""

import json
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from cryovae.checkpoint import MODEL, Checkpoint, NetworkCheckpoint, save_model, save_network
from cryovae.errors import InputError
from cryovae.io.geometry_record import recorded
from cryovae.models.ladder import Ladder
from cryovae.models.ladder_config import LadderConfig
from cryovae.models.unet import UNet
from cryovae.napari_plugin import latent_model
from tests.conftest import write_mrc


@pytest.fixture(scope="module")
def run(tmp_path_factory, small):
    """A run folder as restore leaves it, its model a small ladder of random weights."""
    place = tmp_path_factory.mktemp("latent")
    folder = place / "run"
    folder.mkdir()
    torch.manual_seed(0)
    ladder = Ladder(LadderConfig(widths=(4, 6, 8), latents=(2, 3, 4), blocks=1))
    for parameter in ladder.parameters():
        if parameter.ndim > 1 and not parameter.any():
            torch.nn.init.normal_(parameter, std=0.05)
    halves = [write_mrc(place / f"corner_half{i + 1}.mrc", half, 10.0) for i, half in enumerate(small.halves)]
    write_mrc(folder / "corner_mean.mrc", small.density, 10.0)
    save_model(folder / MODEL, Checkpoint(ladder, 16, 5, 2, {}))
    inputs = {f"half{i + 1}": {"path": str(path)} for i, path in enumerate(halves)}
    record = {"name": "corner", "status": "done", "inputs": inputs, "tilts": recorded(small.tilts)}
    (folder / "run.json").write_text(json.dumps(record))
    return folder


@pytest.fixture(scope="module")
def encoded(run):
    work = latent_model.encode_run(run, 1, 100)
    while True:
        try:
            next(work)
        except StopIteration as end:
            return end.value


@pytest.fixture
def explorer(encoded):
    """One with its own ends and selected patch."""
    return replace(encoded, ends={})


def test_the_selected_patch_is_decoded_at_its_own_point(explorer):
    own = explorer.select(explorer.plane.positions[5])
    point = explorer.selected.point
    assert np.allclose(point, explorer.points[5], atol=1e-3)
    assert torch.allclose(explorer.decode(point, about_selected=True), own, atol=1e-3)
    assert not torch.allclose(explorer.decode(point, about_selected=False), own, atol=1e-3)
    assert not torch.allclose(explorer.decode((point[0] + 2, point[1]), about_selected=True), own, atol=1e-3)


def test_a_point_is_hit_within_reach_and_not_beyond(explorer):
    place = explorer.points[7]
    assert explorer.nearest(place + 0.01, (0.1, 0.1)) == 7
    assert explorer.nearest(place + 1e4, (0.1, 0.1)) is None


def test_a_place_becomes_the_patch_about_it(explorer):
    explorer.select_about((12, 20, 15))
    assert explorer.selected.position == (4, 12, 7)
    assert explorer.middle((4, 12, 7)) == (115.0, 195.0, 145.0)
    assert explorer.place((4, 12, 7)) == (40.0, 120.0, 70.0)
    with pytest.raises(InputError, match="outside"):
        explorer.select_about((12, 20, 32))


def test_a_walk_has_two_ends_and_goes_from_one_to_the_other(explorer):
    with pytest.raises(InputError, match="without two ends"):
        explorer.walk(0.5)
    for name, index in (("from", 2), ("to", 9)):
        density = explorer.select(explorer.plane.positions[index])
        explorer.ends[name] = explorer.selected
        walked, point = explorer.walk(float(name == "to")) if name == "to" else (density, explorer.selected.point)
        assert torch.allclose(walked, density, atol=1e-3)
        assert np.allclose(point, explorer.points[index], atol=1e-3)


@pytest.mark.parametrize("like_patches", [True, False])
def test_draws_repeat_with_their_seed(explorer, like_patches):
    one, same, other = (explorer.draw(like_patches, 1.0, seed)[0] for seed in (3, 3, 4))
    assert torch.equal(one, same)
    assert not torch.allclose(one, other)


def test_the_summary_says_what_is_on_the_map(explorer):
    count = len(explorer.plane.positions)
    assert explorer.summary().startswith(f"{count} patches of 16 voxels (16 nm); latents from stride 4 down to 2 voxels")
    assert "% of variance" in explorer.labels()[0]


def test_a_box_cut_along_any_axis_is_an_outline():
    box = latent_model.shell(6)
    for axis in range(3):
        cut = box.take(3, axis)
        assert cut[0].all()
        assert cut[:, -1].all()
        assert not cut[1:-1, 1:-1].any()


def test_grey_values_become_bytes_between_the_limits():
    grey = latent_model.as_bytes(np.array([[-5.0, 0.0, 1.0], [2.0, 3.0, 9.0]]), (0.0, 2.0))
    assert grey.tolist() == [[0, 0, 127], [255, 255, 255]]


# The window


def settle(widget):
    """Wait for what is decoded beside the window."""
    from qtpy.QtWidgets import QApplication

    began = time.monotonic()
    while widget.latest.busy or widget.prior.latest.busy:
        assert time.monotonic() - began < 30
        QApplication.processEvents()
        time.sleep(0.002)


@pytest.fixture
def widget(make_viewer, qtbot, shown):
    from cryovae.napari_plugin.latent_widget import LatentWidget

    viewer = make_viewer(show=True)
    made = LatentWidget(viewer)
    viewer.window.add_dock_widget(made, name="latent")
    yield made
    made.cancel()
    qtbot.waitUntil(lambda: made.worker is None, timeout=20000)


@pytest.fixture
def ready(widget, explorer):
    """The widget with the patches of a run in its plane."""
    widget.explore(explorer)
    settle(widget)
    return widget


def pixels(widget):
    return [picture.pixmap().toImage() for picture in widget.controls.slices.pictures.values()]


def press(widget, qtbot, point):
    """A click in the plane, by the mouse, at a point."""
    from qtpy.QtCore import QPoint, Qt

    canvas = widget.controls.canvas
    canvas.draw()
    x, y = canvas.axes.transData.transform(point)
    ratio = canvas.device_pixel_ratio
    qtbot.mouseClick(canvas, Qt.MouseButton.LeftButton, pos=QPoint(round(x / ratio), round(canvas.height() - y / ratio)))


def drag(widget, point):
    """The mouse moved with its button down; Qt's own test events carry no buttons on the way."""
    from matplotlib.backend_bases import MouseButton, MouseEvent

    canvas = widget.controls.canvas
    x, y = canvas.axes.transData.transform(point)
    event = MouseEvent("motion_notify_event", canvas, x, y, buttons=[MouseButton.LEFT])
    canvas.callbacks.process("motion_notify_event", event)


def test_patches_are_encoded_and_shown_with_what_they_explain(widget, run, qtbot, shown):
    """By the buttons; the first time it is cancelled."""
    ready = widget
    ready.controls.run.setCurrentText(str(run))
    ready.controls.levels.setCurrentText("stride 2 and coarser")
    ready.controls.encode.click()
    assert not ready.controls.encode.isEnabled()
    ready.controls.cancel.click()
    qtbot.waitUntil(lambda: ready.worker is None, timeout=60000)
    assert ready.explorer is None
    assert not ready.controls.drawing.isEnabled()
    ready.controls.encode.click()
    qtbot.waitUntil(lambda: ready.explorer is not None and ready.worker is None, timeout=60000)
    assert not shown
    assert "patches of 16 voxels" in ready.controls.state.text()
    assert "% of variance" in ready.controls.canvas.axes.get_xlabel()
    assert len(ready.controls.canvas.points.get_offsets()) == len(ready.explorer.plane.positions)
    assert ready.controls.drawing.isEnabled()
    runs = [layer.metadata["cryovae"]["run"] for layer in ready.viewer.layers if "cryovae" in layer.metadata]
    assert str(run) in runs
    assert ready.controls.run.currentText() == str(run)


def test_a_click_on_a_point_goes_to_its_patch(ready, qtbot):
    explorer = ready.explorer
    alone = int(np.argmax(np.abs(explorer.points - explorer.points.mean(0)).max(1)))
    before = pixels(ready)
    press(ready, qtbot, explorer.points[alone])
    settle(ready)
    position = explorer.plane.positions[alone]
    assert explorer.selected.position == position
    box = ready.viewer.layers["patch in the latent space"]
    assert np.allclose(box.translate, np.array(position) * 10)
    assert np.allclose(ready.viewer.scene.camera.center[-2:], explorer.middle(position)[-2:])
    assert abs(ready.viewer.dims.point[0] - explorer.middle(position)[0]) <= 10
    assert pixels(ready) != before


def test_dragging_morphs_the_density_at_once(ready, qtbot):
    explorer = ready.explorer
    at_rest = pixels(ready)
    ready.controls.canvas.draw()
    own = np.array(explorer.selected.point)
    way = explorer.points[np.abs(explorer.points - own).sum(1).argmax()] - own
    for share in (0.2, 0.4, 0.6, 0.8):
        drag(ready, own + share * way)
    qtbot.waitUntil(lambda: pixels(ready) != at_rest, timeout=5000)
    expected = explorer.decode(own + 0.8 * way, True).numpy()
    qtbot.waitUntil(lambda: np.allclose(ready.controls.slices.density, expected, atol=1e-3), timeout=5000)
    assert np.allclose(np.ravel(ready.controls.canvas.cursor.get_data()), own + 0.8 * way, atol=1e-3)
    ready.controls.centre.setCurrentIndex(1)
    settle(ready)
    assert np.allclose(ready.controls.slices.density, explorer.decode(ready._target, False).numpy(), atol=1e-4)


def test_draws_differ_and_a_seed_brings_one_back(ready):
    for button in (ready.controls.prior, ready.controls.like):
        ready.controls.seed.setValue(5)
        button.click()
        settle(ready)
        first = ready.controls.slices.density
        button.click()
        settle(ready)
        assert not np.allclose(first, ready.controls.slices.density)
        ready.controls.seed.setValue(5)
        button.click()
        settle(ready)
        assert np.array_equal(first, ready.controls.slices.density)
    assert ready.controls.slices.caption.text() == "drawn like the patches, temperature 1, seed 5"


def test_a_walk_between_two_patches(ready):
    seen = []
    for index, button in ((1, ready.controls.start), (8, ready.controls.stop)):
        ready.select(ready.explorer.plane.positions[index])
        settle(ready)
        seen.append(ready.controls.slices.density)
        button.click()
        settle(ready)
    ready.controls.way.setValue(50)
    settle(ready)
    middle = ready.controls.slices.density
    ready.controls.way.setValue(100)
    settle(ready)
    assert np.allclose(ready.controls.slices.density, seen[1], atol=1e-3)
    ready.controls.way.setValue(0)
    settle(ready)
    assert np.allclose(ready.controls.slices.density, seen[0], atol=1e-3)
    assert not np.allclose(middle, seen[0], atol=1e-3)
    assert not np.allclose(middle, seen[1], atol=1e-3)


def test_a_click_in_the_viewer_takes_the_patch_there(ready, shown):
    def click(place, pick=True):
        ready.controls.pick.setChecked(pick)
        event = SimpleNamespace(button=1, type="mouse_press", position=place)
        work = ready._clicked(ready.viewer, event)
        next(work, None)
        event.type = "mouse_release"
        next(work, None)

    click((120.0, 200.0, 150.0))
    settle(ready)
    assert ready.explorer.selected.position == (4, 12, 7)
    click((50.0, 80.0, 80.0), pick=False)
    settle(ready)
    assert ready.explorer.selected.position == (4, 12, 7)
    assert not shown
    click((120.0, 200.0, 1500.0))
    settle(ready)
    assert len(shown) == 1
    assert "outside" in shown[0]


def test_the_decoded_patch_is_a_layer_where_the_patch_lies(ready):
    ready.select(ready.explorer.plane.positions[4])
    settle(ready)
    ready.controls.in_viewer.setChecked(True)
    layer = ready.viewer.layers["decoded patch"]
    assert np.allclose(layer.translate, np.array(ready.explorer.plane.positions[4]) * 10)
    before = np.array(layer.data)
    ready.draw(True)
    settle(ready)
    assert not np.allclose(ready.viewer.layers["decoded patch"].data, before)
    ready.select(ready.explorer.plane.positions[6])
    settle(ready)
    assert np.allclose(layer.translate, np.array(ready.explorer.plane.positions[6]) * 10)
    ready.controls.in_viewer.setChecked(False)
    assert "decoded patch" not in ready.viewer.layers
    ready.viewer.layers.clear()
    ready.select(ready.explorer.plane.positions[2])
    settle(ready)
    assert "patch in the latent space" in ready.viewer.layers


def test_out_of_its_dock_it_does_not_listen(widget):
    """Closing a napari dock releases the widget and does not close it."""
    viewer = widget.viewer
    callbacks = len(viewer.mouse_drag_callbacks)
    viewer.window.remove_dock_widget(widget)
    assert len(viewer.mouse_drag_callbacks) == callbacks - 1
    viewer.add_image(np.zeros((4, 5, 6)))


@pytest.mark.parametrize("kind", ["nothing", "no folder", "no latents"])
def test_what_cannot_be_explored_is_one_notification(widget, tmp_path, qtbot, shown, kind):
    save_network(tmp_path / MODEL, NetworkCheckpoint(UNet(LadderConfig((4, 6), (1, 1), 1)), 16, 5, "deepdewedge"))
    folder = {"nothing": "", "no folder": str(tmp_path / "none"), "no latents": str(tmp_path)}[kind]
    widget.controls.run.setCurrentText(folder)
    widget.controls.encode.click()
    qtbot.waitUntil(lambda: len(shown) == 1 and widget.worker is None, timeout=20000)
    words = {"nothing": "no run found", "no folder": "no run.json", "no latents": "no latents"}[kind]
    assert words in shown[0]
    assert widget.explorer is None
    assert widget.controls.encode.isEnabled()


def test_other_planes_keep_the_patches_and_the_selected_one(ready):
    explorer, c = ready.explorer, ready.controls
    assert c.across.count() == c.up.count() == min(6, len(explorer.plane.positions) - 1)
    before = np.array(explorer.points)
    c.up.setCurrentIndex(3)
    assert explorer.shown == (0, 3)
    assert np.allclose(explorer.points[:, 0], before[:, 0], atol=1e-4)
    assert not np.allclose(explorer.points[:, 1], before[:, 1], atol=1e-2)
    assert "axis 4" in c.canvas.axes.get_ylabel()
    number = explorer.plane.positions.index(explorer.selected.position)
    assert np.allclose(explorer.selected.point, explorer.points[number], atol=1e-3)
    own = explorer.patch(explorer.selected.position)[1]
    assert torch.allclose(explorer.decode(explorer.selected.point, True), own, atol=1e-3)


def test_a_group_is_outlined_shown_in_the_tomogram_and_exported(ready, tmp_path, shown):
    from cryovae.io.picks import read_picks

    explorer, c = ready.explorer, ready.controls
    low, high = explorer.points.min(0), explorer.points.max(0)
    middle = float(np.median(explorer.points[:, 0]))
    outline = [(middle, low[1] - 1), (high[0] + 1, low[1] - 1), (high[0] + 1, high[1] + 1), (middle, high[1] + 1)]
    c.lasso.click()
    assert c.canvas.lasso.active
    c.canvas.outlined.emit(outline)
    expected = np.flatnonzero(explorer.points[:, 0] > middle)
    assert set(expected) == set(ready.group)
    layer = ready.viewer.layers["group of patches"]
    assert np.allclose(layer.data * 10, [explorer.middle(explorer.plane.positions[number]) for number in ready.group])
    assert "shown as points" in c.members.text()
    ready.export(tmp_path / "group.star")
    picks = read_picks(tmp_path / "group.star", explorer.patches.shape, explorer.voxel_size)
    assert np.allclose(picks.positions, layer.data * 10, atol=0.02)
    c.canvas.outlined.emit([(0, 0)])
    assert "group of patches" not in ready.viewer.layers
    assert not shown
    ready.export(tmp_path / "none.star")
    assert len(shown) == 1
    assert not (tmp_path / "none.star").exists()
    c.lasso.click()
    assert not c.canvas.lasso.active


def test_a_lasso_is_drawn_with_the_mouse(ready):
    from matplotlib.backend_bases import MouseButton, MouseEvent

    canvas, seen = ready.controls.canvas, []
    ready.controls.lasso.click()
    canvas.draw()
    canvas.outlined.connect(seen.append)
    selected = ready.explorer.selected.position
    corners = [(0.2, 0.2), (0.8, 0.2), (0.8, 0.8), (0.2, 0.8), (0.2, 0.2)]
    pixels_of = [canvas.axes.transAxes.transform(corner) for corner in corners]
    names = ["button_press_event", *["motion_notify_event"] * 3, "button_release_event"]
    for name, (x, y) in zip(names, pixels_of, strict=True):
        pressed = {"buttons": [MouseButton.LEFT]} if name == "motion_notify_event" else {}
        event = MouseEvent(name, canvas, x, y, button=MouseButton.LEFT, **pressed)
        canvas.callbacks.process(name, event)
    assert len(seen) == 1
    assert len(seen[0]) >= 4
    settle(ready)
    assert ready.explorer.selected.position == selected


def test_the_window_does_not_stall_while_patches_are_decoded(ready, qtbot, monkeypatch):
    """Decoding that takes a second runs beside the window: a drag returns at once, and the window goes on."""
    from qtpy.QtCore import QTimer

    decode = ready.explorer.decode
    monkeypatch.setattr(ready.explorer, "decode", lambda *words: time.sleep(1.0) or decode(*words))
    ticks, timer = [], QTimer()
    timer.timeout.connect(lambda: ticks.append(time.thread_time()))
    timer.start(5)
    spent = []
    qtbot.wait(50)
    for share in np.linspace(0, 1, 6):
        began = time.thread_time()
        ready.drag(*(ready.explorer.points[3] * share))
        spent.append(time.thread_time() - began)
        qtbot.wait(60)
    busy = ready.latest.busy
    qtbot.waitUntil(lambda: not ready.latest.busy, timeout=20_000)
    timer.stop()
    assert busy, "decoding ended before it could have stalled anything"
    assert max(spent) < 0.1
    assert max(np.diff(ticks)) < 0.2
    assert len(ticks) > 50
    assert np.allclose(ready.controls.slices.density, decode(ready._target, True).numpy(), atol=1e-3)
