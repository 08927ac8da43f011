"""Two layers compared: a swipe or side by side, on one slice and one contrast; their spectra and FSC; the values of a voxel.

The pair is shown as two layers of the widget's own, which are views of the same voxels; the layers of the viewer are only hidden.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from napari.qt.threading import create_worker
from qtpy.QtWidgets import QGroupBox, QLabel, QVBoxLayout

from cryovae.errors import InputError
from cryovae.evaluate.region import Box
from cryovae.napari_plugin import notices
from cryovae.napari_plugin.compare_canvas import Plot
from cryovae.napari_plugin.compare_controls import OFF, STEPS, SWIPE, Controls
from cryovae.napari_plugin.compare_model import (
    Beyond,
    Measured,
    Voxel,
    box_between,
    box_in_view,
    comparable,
    default_pair,
    measured,
    shown_range,
    slice_at,
    voxel_at,
)
from cryovae.napari_plugin.docked import Docked
from cryovae.napari_plugin.notices import reported
from cryovae.napari_plugin.stage import Stage, is_prop
from cryovae.napari_plugin.swipe_line import SwipeLine, canvas_of

if TYPE_CHECKING:
    from napari.viewer import Viewer

CLICK = "Click a voxel in the viewer: its place, and its values in input, mean, std and samples."


def _safely(pair: tuple[Any, Any], box: Box) -> tuple[Measured | None, BaseException | None]:
    """``measured`` for a thread, where an error would count as the program's: those that users can mend are returned."""
    try:
        return measured(pair, box), None
    except notices.EXPECTED as error:
        return None, error


class CompareWidget(Docked):
    """The dock widget. found: the last spectra and FSC; voxel: the last one clicked; both None before."""

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__()
        self.viewer = napari_viewer
        self.stage = Stage(napari_viewer, self.stop)
        self.controls = Controls()
        self.line: SwipeLine | None = None
        self.worker: Any = None
        self.found: Measured | None = None
        self.voxel: Voxel | None = None
        self._shown: tuple[Any, Any] | None = None
        self.spectra, self.fsc, self.strip = Plot(235, "compressed"), Plot(280), Plot(130)
        self.state = QLabel("")
        self.text = QLabel(CLICK)
        self._lay_out()
        self._connect()
        self._list()

    def _lay_out(self) -> None:
        at_voxel = QGroupBox("Voxel")
        rows = QVBoxLayout(at_voxel)
        for label in (self.state, self.text):
            label.setWordWrap(True)
        for plot, tip in (
            (self.spectra, "Mean power of the xz slices of A and B; between the dashed lines along k_x was measured"),
            (self.fsc, "Fourier shell correlation in the region, measured part and missing wedge apart"),
            (self.strip, "Values of one voxel in grey levels of the tomogram"),
        ):
            plot.setToolTip(tip)
            plot.hide()
        rows.addWidget(self.text)
        rows.addWidget(self.strip)
        c = self.controls
        self.stack(c.choosing, c.showing, c.measuring, self.state, self.spectra, self.fsc, at_voxel)

    def _connect(self) -> None:
        c = self.controls
        c.mode.idToggled.connect(self._mode_toggled)
        c.one.currentIndexChanged.connect(self._again)
        c.other.currentIndexChanged.connect(self._again)
        c.swap.clicked.connect(self.swap)
        c.cut.valueChanged.connect(self._cut_moved)
        c.contrast.currentIndexChanged.connect(self._match)
        c.measure.clicked.connect(self.measure)
        self.viewer.layers.events.inserted.connect(self._list)
        self.viewer.layers.events.removed.connect(self._removed)
        self.viewer.dims.events.order.connect(self._rotated)
        self.viewer.dims.events.ndisplay.connect(self._rotated)
        self.viewer.mouse_drag_callbacks.append(self._clicked)

    # Which layers

    def _list(self, event: Any = None) -> None:
        """Offer the layers that can be compared, input and mean of a run first chosen."""
        if event is not None and is_prop(event.value):
            return
        pair = default_pair(self.viewer.layers)
        names = [layer.name for layer in comparable(self.viewer.layers)]
        self.controls.offer(names, None if pair is None else (pair[0].name, pair[1].name))

    def _removed(self, event: Any) -> None:
        gone = event.value
        if self.stage.set and (gone in self.stage.props or any(gone is layer for layer in self._shown or ())):
            self.stop()
        self._list(event)

    def pair(self) -> tuple[Any, Any]:
        """The two layers chosen. InputError if there are no two."""
        names = (self.controls.one.currentText(), self.controls.other.currentText())
        found = {layer.name: layer for layer in comparable(self.viewer.layers)}
        if names[0] == names[1] or any(name not in found for name in names):
            raise InputError("no two layers to compare found: open a run folder, or two volumes, and choose A and B")
        return found[names[0]], found[names[1]]

    def swap(self, *ignored: Any) -> None:
        """Exchange A and B."""
        c = self.controls
        one, other = c.one.currentText(), c.other.currentText()
        c.one.blockSignals(True)
        c.choose(other, one)
        c.one.blockSignals(False)
        self._again()

    # Swipe, and side by side

    def _mode_toggled(self, mode: int, pressed: bool) -> None:
        if pressed:
            self._again()

    @reported
    def _again(self, *ignored: Any) -> None:
        """Show the pair as the buttons say."""
        mode = self.controls.mode.checkedId()
        self._clear()
        if mode == OFF:
            return
        try:
            self._begin(self.pair(), mode)
        except InputError:
            self.controls.set_mode(OFF)
            raise

    def _begin(self, pair: tuple[Any, Any], mode: int) -> None:
        one, other = pair
        if one.data.shape != other.data.shape and mode == SWIPE:
            raise InputError("layers of two sizes found, expected one for a swipe: choose a tomogram and its own restoration")
        self.stage.enter()
        self._shown = pair
        self.stage.add(one.data, one, f"A: {one.name}", colormap=one.colormap.name, contrast_limits=(0, 1))
        density = Beyond(other.data, self._axis(), self._voxel()) if mode == SWIPE else other.data
        self.stage.add(density, other, f"B: {other.name}", colormap=other.colormap.name, contrast_limits=(0, 1))
        self._match()
        if mode == SWIPE:
            self.line = SwipeLine(self.viewer, canvas_of(self), one.name, other.name)
            self.line.moved.connect(self.move_to)
        else:
            self.stage.side_by_side()
            for layer in self.stage.props:
                _name_in_cell(layer)
        self.controls.cut.setEnabled(mode == SWIPE)
        self._place_line()

    def _axis(self) -> int:
        """The axis of the density that is drawn from left to right."""
        return int(self.viewer.dims.order[-1] - (self.viewer.dims.ndim - 3))

    def _voxel(self) -> int:
        """The first voxel of B along that axis."""
        assert self._shown is not None
        return round(self.controls.cut.value() / STEPS * self._shown[1].data.shape[self._axis()])

    def _cut_moved(self, *ignored: Any) -> None:
        if self.line is None or len(self.stage.props) < 2:
            return
        layer = self.stage.props[1]
        layer.data.axis, layer.data.cut = self._axis(), self._voxel()
        layer.refresh(thumbnail=False, extent=False)
        self._place_line()

    def _place_line(self) -> None:
        if self.line is not None and self._shown is not None:
            axis, other = self._axis() - 3, self._shown[1]
            self.line.show_at(float(other.translate[axis] + (self._voxel() - 0.5) * other.scale[axis]))

    def move_to(self, place: float) -> None:
        """Move the cut to a place along the horizontal axis, in angstrom."""
        if self._shown is not None:
            axis, other = self._axis(), self._shown[1]
            share = (place - other.translate[axis - 3]) / other.scale[axis - 3] / other.data.shape[axis]
            self.controls.cut.setValue(int(np.clip(round(STEPS * share), 0, STEPS)))

    def _rotated(self, *ignored: Any) -> None:
        """Other axes are displayed: the cut runs along another."""
        if self.stage.set:
            self._match()
            self._cut_moved()

    def _match(self, *ignored: Any) -> None:
        """Set the contrast of both from the slice in view."""
        if not self.stage.set or self._shown is None:
            return
        across = self.viewer.dims.order[-3] - (self.viewer.dims.ndim - 3)
        slices = [slice_at(layer.data, across, self._slice(layer, across)) for layer in self._shown]
        chosen = self.controls.contrast.currentIndex()
        own = [shown_range(values) for values in slices]
        ranges = (own, [shown_range(*slices)] * 2, [own[0]] * 2, [own[1]] * 2)[chosen]
        for layer, limits in zip(self.stage.props, ranges, strict=True):
            layer.contrast_limits_range = limits
            layer.contrast_limits = limits

    def _slice(self, layer: Any, axis: int) -> int:
        place = self.viewer.dims.point[self.viewer.dims.ndim - 3 + axis]
        return round((place - layer.translate[axis]) / layer.scale[axis])

    # Spectra and FSC

    @reported
    def measure(self, *ignored: Any) -> None:
        """Spectra of the pair and the FSC of the region, in a thread of its own."""
        if self.worker is not None:
            return
        pair = self.pair()
        box = self.region(pair[1])
        self.controls.measure.setEnabled(False)
        self.state.setText("Measuring …")
        self.worker = create_worker(_safely, pair, box, _start_thread=False)
        self.worker.returned.connect(self._measured)
        self.worker.finished.connect(self._finished)
        self.worker.start()

    def region(self, layer: Any) -> Box:
        """The voxels of a layer that the controls ask for. InputError if a rectangle is asked for and none is drawn."""
        dims, shape = self.viewer.dims, layer.data.shape
        chosen = self.controls.region.currentIndex()
        displayed = [axis - (dims.ndim - 3) for axis in dims.displayed if axis >= dims.ndim - 3]
        if chosen == 2 or len(displayed) > 2:
            return box_between((0, 0, 0), tuple(n - 1 for n in shape), shape)
        shown = self.stage.props[0] if self.stage.set else layer
        corners = shown.corner_pixels if chosen == 0 and shown.visible else np.array([[0, 0, 0], [n - 1 for n in shape]])
        if not (corners[1] > corners[0])[displayed].all():
            # Not drawn yet: what is in view is not known before.
            corners = np.array([[0, 0, 0], [n - 1 for n in shape]])
        if chosen == 1:
            corners = self._drawn(layer)
        return box_in_view(corners, displayed, [self._slice(layer, axis) for axis in range(3)], shape)

    def _drawn(self, layer: Any) -> np.ndarray:
        """Two corners (2, 3) in voxels of the last rectangle of a Shapes layer."""
        drawn = [one for one in self.viewer.layers if hasattr(one, "shape_type") and "rectangle" in one.shape_type]
        if not drawn:
            raise InputError("no rectangle found: add a Shapes layer, draw a rectangle with its tool, and press Measure again")
        shapes = drawn[-1]
        number = len(shapes.shape_type) - 1 - list(reversed(shapes.shape_type)).index("rectangle")
        world = np.array([shapes.data_to_world(corner) for corner in shapes.data[number]])
        missing = np.array(self.viewer.dims.point[-3:])[None].repeat(len(world), 0)
        missing[:, 3 - min(world.shape[1], 3) :] = world[:, -3:]
        voxels = (missing - np.array(layer.translate)) / np.array(layer.scale)
        return np.stack([voxels.min(0), voxels.max(0)])

    def _measured(self, answer: tuple[Measured | None, BaseException | None]) -> None:
        found, error = answer
        if found is None:
            self.state.setText("")
            notices.show(notices.in_words(error or InputError("nothing was measured")))
            return
        self.found = found
        sides = " x ".join(f"{n} ({n * found.voxel_size / 10:.3g} nm)" for n in found.box.shape)
        self.state.setText(f"Region z x y x x: {sides}, first voxel {found.box.start}, edges faded")
        self.spectra.show()
        self.fsc.show()
        self.spectra.show_spectra(found)
        self.fsc.show_fsc(found)

    def _finished(self) -> None:
        self.worker = None
        self.controls.measure.setEnabled(True)

    # One voxel

    def _clicked(self, viewer: Any, event: Any) -> Any:
        """A click in the viewer, not a drag, while this widget is in view."""
        if viewer.dims.ndisplay != 2 or event.button != 1 or not self.isVisible():
            return
        yield
        if event.type != "mouse_move" and default_pair(viewer.layers) is not None:
            self.look_at(event.position)

    @reported
    def look_at(self, position: Any) -> None:
        """Show the voxel at a place of the viewer's world, in angstrom."""
        self.voxel = voxel_at(tuple(position)[-3:], self.pair(), self.viewer.layers)
        self.text.setText(self.voxel.text())
        self.strip.show()
        self.strip.show_voxel(self.voxel)

    # The end

    def _clear(self) -> None:
        if self.line is not None:
            self.line.remove()
            self.line = None
        self._shown = None
        self.controls.cut.setEnabled(False)
        self.stage.clear()

    def stop(self) -> None:
        """Show nothing any more."""
        self._clear()
        self.controls.set_mode(OFF)

    def leave(self) -> None:
        """Leave the viewer as it was found."""
        self._clear()
        self.viewer.layers.events.inserted.disconnect(self._list)
        self.viewer.layers.events.removed.disconnect(self._removed)
        self.viewer.dims.events.order.disconnect(self._rotated)
        self.viewer.dims.events.ndisplay.disconnect(self._rotated)
        self.viewer.mouse_drag_callbacks.remove(self._clicked)


def _name_in_cell(layer: Any) -> None:
    """Write the name of a layer into its cell, where this napari can."""
    overlay = getattr(layer, "name_overlay", None)
    if overlay is not None:
        overlay.visible = True
