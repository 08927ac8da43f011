"""Compare, driven as by a user: layers chosen, the line dragged, a region measured, a voxel clicked, the dock closed."""

import json

import numpy as np
import pytest
from qtpy.QtCore import QEvent, QPointF, Qt
from qtpy.QtGui import QMouseEvent
from qtpy.QtWidgets import QApplication

from cryovae.io.geometry_record import recorded
from cryovae.napari_plugin.layers import layer_for
from cryovae.napari_plugin.swipe_line import canvas_of
from cryovae.napari_plugin.temporary_layers import camera_of, grid_of
from cryovae.tomogram import TiltGeometry

SHAPE = (20, 40, 36)


@pytest.fixture
def opened(make_viewer, tmp_path, qtbot, shown):
    """A viewer with the layers of a run, input 1 and mean 2 everywhere, and the widget in its dock."""
    record = {"name": "t", "inputs": {}, "tilts": recorded(TiltGeometry.from_range(-60, 60))}
    (tmp_path / "run.json").write_text(json.dumps(record))
    viewer = make_viewer(show=True)
    rng = np.random.default_rng(0)
    for role, value in (("input", 1.0), ("mean", 2.0), ("std", 0.5)):
        density = (value + 0.01 * rng.normal(size=SHAPE)).astype(np.float32)
        data, options, _ = layer_for(density, role, f"t {role}", 10.0, run=tmp_path, visible=role != "std")
        viewer.add_image(data, **options)
    stack = rng.normal(size=(4, *SHAPE)).astype(np.float32)
    data, options, _ = layer_for(stack, "samples", "t samples", 10.0, run=tmp_path, visible=False)
    viewer.add_image(data, **options)
    dock, widget = viewer.window.add_plugin_dock_widget("cryovae", "Compare")
    viewer.window._qt_window.resize(1200, 800)
    qtbot.wait(100)
    return viewer, dock, widget


def halves_of_canvas(viewer):
    """Mean brightness just left and right of the middle of the canvas."""
    picture = viewer.screenshot(canvas_only=True, flash=False)[..., 0].astype(float)
    rows, columns = picture.shape
    band = picture[rows // 2 - 20 : rows // 2 + 20]
    return band[:, columns // 2 - 60 : columns // 2 - 20].mean(), band[:, columns // 2 + 20 : columns // 2 + 60].mean()


def state(viewer):
    camera, grid = camera_of(viewer), grid_of(viewer)
    layers = [(layer.name, layer.visible, tuple(layer.contrast_limits)) for layer in viewer.layers]
    place = (grid.enabled, grid.stride, grid.shape, tuple(camera.center), camera.zoom)
    return layers, place, viewer.layers.selection.active


def drag(line, to):
    """Drag the line to a column of the canvas."""
    at = QPointF(to - line.grip.x(), 30)
    left, none = Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
    move = QMouseEvent(QEvent.Type.MouseMove, at, line.grip.mapToGlobal(at), left, left, none)
    QApplication.sendEvent(line.grip, move)


@pytest.mark.slow
def test_swipe_and_cells_show_both_and_leave_nothing_behind(opened, qtbot):
    viewer, dock, widget = opened
    controls = widget.controls
    assert (controls.one.currentText(), controls.other.currentText()) == ("t input", "t mean")
    before, callbacks = state(viewer), len(viewer.mouse_drag_callbacks)
    controls.mode.button(1).click()
    left, right = halves_of_canvas(viewer)
    assert right - left > 100
    canvas = widget.line.canvas.width()
    drag(widget.line, round(0.3 * canvas))
    assert controls.cut.value() < 400
    assert abs(widget.line.pixel_of(widget.line.place) - 0.3 * canvas) < 20
    left, right = halves_of_canvas(viewer)
    assert abs(right - left) < 20
    drag(widget.line, round(0.5 * canvas))
    controls.swap.click()
    left, right = halves_of_canvas(viewer)
    assert left - right > 100
    controls.swap.click()
    controls.mode.button(2).click()
    assert grid_of(viewer).enabled
    assert [layer.name for layer in viewer.layers if layer.visible] == ["A: t input", "B: t mean"]
    left, right = halves_of_canvas(viewer)
    assert right - left > 100
    controls.mode.button(0).click()
    assert state(viewer) == before
    controls.mode.button(1).click()
    dock.destroyOnClose()
    assert state(viewer) == before
    assert len(viewer.mouse_drag_callbacks) == callbacks - 1


def test_the_cut_follows_the_axes_until_a_layer_is_removed(opened, shown):
    viewer, _, widget = opened
    widget.controls.mode.button(1).click()
    viewer.dims.order = (0, 1, 3, 2)
    widget.controls.cut.setValue(250)
    layer = viewer.layers["B: t mean"]
    assert (layer.data.axis, layer.data.cut) == (1, 10)
    viewer.layers.remove(viewer.layers["t mean"])
    assert widget.controls.mode.checkedId() == 0
    assert [layer.name for layer in viewer.layers if layer.visible] == ["t input"]
    assert shown == []


def test_a_region_is_measured_and_a_clicked_voxel_described(opened, qtbot, shown):
    viewer, _, widget = opened
    widget.controls.region.setCurrentIndex(1)
    widget.controls.measure.click()
    assert len(shown) == 1
    assert "rectangle" in shown[0]
    shapes = viewer.add_shapes([[[100, 50], [100, 250], [300, 250], [300, 50]]], shape_type="rectangle")
    widget.controls.measure.click()
    qtbot.waitUntil(lambda: widget.comparison is not None and widget.worker is None, timeout=15000)
    assert widget.comparison.box.shape == (20, 21, 21)
    assert widget.comparison.box.start[1:] == (10, 5)
    assert len(widget.controls.spectra.figure.axes) == 3
    viewer.layers.remove(shapes)
    canvas = canvas_of(widget)
    qtbot.mouseMove(canvas, canvas.rect().center())
    qtbot.mouseClick(canvas, Qt.MouseButton.LeftButton, pos=canvas.rect().center())
    qtbot.waitUntil(lambda: widget.voxel is not None, timeout=5000)
    z, y, x = widget.voxel.index
    assert abs(y - 20) <= 1
    assert abs(x - 18) <= 1
    assert z == round(viewer.dims.point[1] / 10)
    assert set(widget.voxel.values) == {"input", "mean", "std"}
    assert len(widget.voxel.samples) == 4
    assert "Å" in widget.controls.text.text()
    widget.controls.other.setCurrentText("t input")
    widget.controls.mode.button(1).click()
    assert len(shown) == 2
    assert widget.controls.mode.checkedId() == 0
    assert not widget.temporary.shown
