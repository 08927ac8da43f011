"""Two layers compared: a swipe or side by side, on one slice and one contrast; their spectra and FSC; the values of a voxel.

The pair is shown in temporary layers, which are views of the same voxels; the layers of the viewer are only hidden.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from superqt.utils import signals_blocked

from cryovae.errors import InputError
from cryovae.evaluation.region import SMALLEST, Box
from cryovae.napari_plugin.compare_controls import ALL, OFF, RECTANGLE, STEPS, SWIPE, Controls
from cryovae.napari_plugin.compare_model import (
    MAX_SIDE,
    CutDensity,
    RegionComparison,
    Voxel,
    box_in_view,
    comparable,
    compare_region,
    default_pair,
    slice_at,
    voxel_at,
)
from cryovae.napari_plugin.dock_widget import DockWidget
from cryovae.napari_plugin.layers import density_of, grey_range
from cryovae.napari_plugin.notices import reported
from cryovae.napari_plugin.plots import draw_fsc, draw_spectra, draw_voxel
from cryovae.napari_plugin.regions import box_within, last_rectangle, voxel_in_view
from cryovae.napari_plugin.swipe_line import SwipeLine, canvas_of
from cryovae.napari_plugin.temporary_layers import TemporaryLayers, is_temporary

if TYPE_CHECKING:
    from napari.viewer import Viewer

MEASURING = "Measuring …"


class CompareWidget(DockWidget):
    """The dock widget.

    Attributes:
        controls: The controls.
        temporary: The two layers that are shown.
        line: The line of the swipe, None if there is no swipe.
        comparison: The last spectra and FSC, None before.
        voxel: The last voxel that was clicked, None before.
    """

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__(napari_viewer)
        self.temporary = TemporaryLayers(napari_viewer, self.stop)
        self.controls = c = Controls()
        self.line: SwipeLine | None = None
        self.comparison: RegionComparison | None = None
        self.voxel: Voxel | None = None
        self._pair: tuple[Any, Any] | None = None
        self.stack(c.layers, c.display, c.measurement, c.voxel)
        c.mode.idToggled.connect(lambda mode, pressed: self._refresh() if pressed else None)
        c.one.currentIndexChanged.connect(self._refresh)
        c.other.currentIndexChanged.connect(self._refresh)
        c.swap.clicked.connect(self.swap)
        c.cut.valueChanged.connect(self._move_cut)
        c.contrast.currentIndexChanged.connect(self._match_contrast)
        c.measure.clicked.connect(self.measure)
        self.listen(self._list_layers, self.viewer.layers.events.inserted)
        self.listen(self._layer_removed, self.viewer.layers.events.removed)
        self.listen(self._axes_changed, self.viewer.dims.events.order, self.viewer.dims.events.ndisplay)
        self.listen_to_clicks(self.look_at, lambda: self.isVisible() and default_pair(self.viewer.layers) is not None)
        self._list_layers()

    # Which layers

    def _list_layers(self, event: Any = None) -> None:
        """Offer the layers that can be compared; input and mean of a run are the default."""
        if event is not None and is_temporary(event.value):
            return
        pair = default_pair(self.viewer.layers)
        names = [layer.name for layer in comparable(self.viewer.layers)]
        self.controls.offer(names, None if pair is None else (pair[0].name, pair[1].name))

    def _layer_removed(self, event: Any) -> None:
        if any(event.value is layer for layer in (*self.temporary.layers, *(self._pair or ()))):
            self.stop()
        self._list_layers(event)

    def pair(self) -> tuple[Any, Any]:
        """The two selected layers. InputError if there are no two."""
        one, other = self.controls.one.currentText(), self.controls.other.currentText()
        layers = {layer.name: layer for layer in comparable(self.viewer.layers)}
        if one == other or one not in layers or other not in layers:
            raise InputError("no two layers to compare found: open a run folder, or two volumes, and choose A and B")
        return layers[one], layers[other]

    def swap(self, *ignored: Any) -> None:
        """Exchange A and B."""
        c = self.controls
        with signals_blocked(c.one), signals_blocked(c.other):
            c.select(c.other.currentText(), c.one.currentText())
        self._refresh()

    # Swipe, and side by side

    @reported
    def _refresh(self, *ignored: Any) -> None:
        """Show the pair in the selected mode."""
        mode = self.controls.mode.checkedId()
        self._clear()
        if mode == OFF:
            return
        try:
            self._show(self.pair(), mode)
        except InputError:
            self.controls.set_mode(OFF)
            raise

    def _show(self, pair: tuple[Any, Any], mode: int) -> None:
        one, other = pair
        if density_of(one).shape != density_of(other).shape and mode == SWIPE:
            raise InputError("layers of two sizes found, expected one for a swipe: choose a tomogram and its own restoration")
        self.temporary.begin()
        self._pair = pair
        density = CutDensity(density_of(other), self._axis(), self._cut()) if mode == SWIPE else density_of(other)
        for letter, layer, data in (("A", one, density_of(one)), ("B", other, density)):
            name, colours = f"{letter}: {layer.name}", layer.colormap.name
            self.temporary.add(data, layer, name, colormap=colours, contrast_limits=(0, 1))
        self._match_contrast()
        if mode == SWIPE:
            self.line = SwipeLine(self.viewer, canvas_of(self), one.name, other.name)
            self.line.moved.connect(self.move_to)
        else:
            self.temporary.side_by_side()
            for layer in self.temporary.layers:
                # Older versions of napari have no such overlay.
                if hasattr(layer, "name_overlay"):
                    layer.name_overlay.visible = True
        self.controls.cut.setEnabled(mode == SWIPE)
        self._place_line()

    def _axis(self) -> int:
        """The axis of the density that is drawn from left to right."""
        return int(self.viewer.dims.order[-1] - (self.viewer.dims.ndim - 3))

    def _cut(self) -> int:
        """The first voxel of B along that axis."""
        assert self._pair is not None
        return round(self.controls.cut.value() / STEPS * density_of(self._pair[1]).shape[self._axis()])

    def _move_cut(self, *ignored: Any) -> None:
        if self.line is None or len(self.temporary.layers) < 2:
            return
        layer = self.temporary.layers[1]
        layer.data.axis, layer.data.cut = self._axis(), self._cut()
        layer.refresh(thumbnail=False, extent=False)
        self._place_line()

    def _place_line(self) -> None:
        if self.line is not None and self._pair is not None:
            axis, other = self._axis() - 3, self._pair[1]
            self.line.show_at(float(other.translate[axis] + (self._cut() - 0.5) * other.scale[axis]))

    def move_to(self, place: float) -> None:
        """Move the cut to a place along the horizontal axis, in angstrom."""
        if self._pair is not None:
            axis, other = self._axis(), self._pair[1]
            share = (place - other.translate[axis - 3]) / other.scale[axis - 3] / density_of(other).shape[axis]
            self.controls.cut.setValue(int(np.clip(round(STEPS * share), 0, STEPS)))

    def _axes_changed(self, *ignored: Any) -> None:
        self._match_contrast()
        self._move_cut()

    def _match_contrast(self, *ignored: Any) -> None:
        """Set the contrast of both layers from the slice in view."""
        if not self.temporary.shown or self._pair is None:
            return
        axis = self.viewer.dims.order[-3] - (self.viewer.dims.ndim - 3)
        slices = [slice_at(density_of(layer), axis, voxel_in_view(self.viewer, layer)[axis]) for layer in self._pair]
        own, both = [grey_range(values) for values in slices], grey_range(*slices)
        ranges = (own, [both] * 2, [own[0]] * 2, [own[1]] * 2)[self.controls.contrast.currentIndex()]
        for layer, limits in zip(self.temporary.layers, ranges, strict=True):
            layer.contrast_limits_range = limits
            layer.contrast_limits = limits

    # Spectra and FSC

    @reported
    def measure(self, *ignored: Any) -> None:
        """Spectra of the pair and the FSC of the region, in a thread."""
        if self.worker is not None:
            return
        pair = self.pair()
        box = self.region(pair[1])
        self.controls.measure.setEnabled(False)
        self.controls.state.setText(MEASURING)
        self.start_thread(compare_region, pair, box, done=self._measured)

    def region(self, layer: Any) -> Box:
        """The selected region of a layer. InputError if it is a rectangle and none was drawn."""
        dims, shape, kind = self.viewer.dims, density_of(layer).shape, self.controls.region.currentIndex()
        displayed = [axis - (dims.ndim - 3) for axis in dims.displayed if axis >= dims.ndim - 3]
        if kind == ALL or len(displayed) > 2:
            return box_within((0, 0, 0), shape, shape, SMALLEST, MAX_SIDE)
        if kind == RECTANGLE:
            corners = last_rectangle(self.viewer, layer)
            if corners is None:
                raise InputError("no rectangle found: add a Shapes layer, draw a rectangle, and press Measure again")
        else:
            shown = self.temporary.layers[0] if self.temporary.shown else layer
            corners = shown.corner_pixels
            # A layer that was not drawn yet has no corners in view.
            if not shown.visible or not (corners[1] > corners[0])[displayed].all():
                corners = np.array([[0, 0, 0], [n - 1 for n in shape]])
        return box_in_view(corners, displayed, voxel_in_view(self.viewer, layer), shape)

    def _measured(self, comparison: RegionComparison) -> None:
        self.comparison = comparison
        self.controls.state.setText(comparison.summary())
        draw_spectra(self.controls.spectra, comparison)
        draw_fsc(self.controls.fsc, comparison)

    def work_ended(self) -> None:
        """Another measurement can begin."""
        self.controls.measure.setEnabled(True)
        if self.controls.state.text() == MEASURING:
            self.controls.state.setText("")

    # One voxel

    @reported
    def look_at(self, position: Any) -> None:
        """Show the voxel at a place of the viewer, in angstrom."""
        self.voxel = voxel_at(tuple(position)[-3:], self.pair(), self.viewer.layers)
        self.controls.text.setText(self.voxel.text())
        draw_voxel(self.controls.strip, self.voxel)

    # The end

    def _clear(self) -> None:
        if self.line is not None:
            self.line.remove()
            self.line = None
        self._pair = None
        self.controls.cut.setEnabled(False)
        self.temporary.clear()

    def stop(self) -> None:
        """Remove the temporary layers and switch the mode off."""
        self._clear()
        self.controls.set_mode(OFF)

    def leave(self) -> None:
        """Restore the viewer."""
        self._clear()
