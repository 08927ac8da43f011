"""View: 3D in which dark protein shows, slices where the restoration is least sure, picked particles, and pictures."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtWidgets import QFileDialog

from cryovae.errors import InputError
from cryovae.io.picks import read_picks
from cryovae.napari_plugin.compare_model import default_pair
from cryovae.napari_plugin.contents import without_half
from cryovae.napari_plugin.controls import set_checked
from cryovae.napari_plugin.dock_widget import DockWidget
from cryovae.napari_plugin.keys import bind_keys, list_under_help
from cryovae.napari_plugin.layers import about, density_of, of_role
from cryovae.napari_plugin.look_controls import SURFACE, Controls
from cryovae.napari_plugin.look_model import Rated, Solid, densities_of, is_of_a_part, rated, slices_of_interest, solid_of
from cryovae.napari_plugin.notices import reported
from cryovae.napari_plugin.picture import save_picture
from cryovae.napari_plugin.temporary_layers import TemporaryLayers, camera_of, show_depth
from cryovae.workflows.run_inputs import record_of

if TYPE_CHECKING:
    from napari.viewer import Viewer

# Angles of the camera in degrees, and its zoom over that of a full canvas.
ANGLES, ZOOM = (-12.0, 28.0, -12.0), 0.72


class LookWidget(DockWidget):
    """The dock widget.

    Attributes:
        controls: The controls.
        temporary: The layers that are shown in 3D.
        slices: Slices of interest of the standard deviation, None before they are computed.
    """

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__(napari_viewer)
        self.temporary = TemporaryLayers(napari_viewer, self.flat)
        self.controls = c = Controls()
        self.slices: list[int] | None = None
        self._std: Any = None
        self._solids: list[Solid] = []
        self._after: Any = None
        self._point: tuple[float, ...] = ()
        self._listed: Any = None
        self.stack(c.space, c.interest, c.particles, c.picture)
        c.show_3d.toggled.connect(lambda on: self.solid() if on else self.flat())
        c.style.currentIndexChanged.connect(self._set_level)
        c.level.valueChanged.connect(self._set_level)
        c.beside.toggled.connect(lambda on: self._again())
        c.previous.clicked.connect(partial(self.go, -1))
        c.next.clicked.connect(partial(self.go, 1))
        c.toggle.clicked.connect(lambda: self.toggle())
        c.open.clicked.connect(lambda: self._choose_picks())
        c.save.clicked.connect(lambda: self._choose_picture())
        self.listen(self._layer_removed, self.viewer.layers.events.removed)
        self._disconnect.append(bind_keys(napari_viewer, self))

    def _layer_removed(self, event: Any) -> None:
        if event.value is self._std:
            self.slices = self._std = None
        if event.value in self.temporary.layers:
            self.flat()

    # 3D

    @reported
    def solid(self) -> None:
        """Show the restoration in 3D, protein bright; large volumes are averaged in a thread first."""
        if self.worker is not None:
            return
        pair = default_pair(self.viewer.layers)
        layers = list(pair) if pair and self.controls.beside.isChecked() else [pair[1]] if pair else []
        layers = layers or densities_of(self.viewer.layers)[-1:]
        if not layers:
            self._uncheck()
            raise InputError("no volume found in the viewer, expected a tomogram or a restoration: open one")
        self.controls.say("Preparing 3D …")
        self._after = layers
        self.start_thread(_solids, [density_of(layer) for layer in layers], done=self._show_solids)

    def _show_solids(self, solids: list[Solid]) -> None:
        if not self.controls.show_3d.isChecked():
            return
        self._solids, self._point = solids, tuple(self.viewer.dims.point)
        self.temporary.begin()
        for layer, solid in zip(self._after, solids, strict=True):
            scale = tuple(solid.step * one for one in layer.scale)
            self.temporary.add(solid.density, layer, f"3D: {layer.name}", scale=scale, colormap="gray", interpolation3d="linear")
        self.viewer.dims.ndisplay = 3
        self._set_level()
        if len(self.temporary.layers) > 1:
            self.temporary.side_by_side()
            for layer in self.temporary.layers:
                if hasattr(layer, "name_overlay"):
                    layer.name_overlay.visible = True
        self.viewer.reset_view()
        lens = camera_of(self.viewer)
        lens.angles, lens.zoom = ANGLES, ZOOM * lens.zoom
        self.controls.say("Bright is protein. Drag to turn; the slider sets what is shown.")

    def _set_level(self, *ignored: Any) -> None:
        level = self.controls.percentile
        for layer, solid in zip(self.temporary.layers, self._solids, strict=False):
            if self.controls.style.currentIndex() == SURFACE:
                layer.rendering, layer.contrast_limits = "iso", solid.limits(1)
                layer.iso_threshold = solid.threshold(level)
            else:
                layer.rendering, layer.attenuation = "attenuated_mip", 0.02
                layer.contrast_limits = solid.limits(level)

    def _again(self) -> None:
        if self.controls.show_3d.isChecked() and self.worker is None:
            self.flat()
            self.controls.show_3d.setChecked(True)

    def flat(self) -> None:
        """Back to slices, as they were."""
        self._uncheck()
        if self.temporary.shown:
            self.viewer.dims.ndisplay = 2
            self.temporary.clear()
            self.viewer.reset_view()
            self.viewer.dims.point = self._point[-self.viewer.dims.ndim :]
        self._solids = []
        self.controls.say("")

    def _uncheck(self) -> None:
        set_checked(self.controls.show_3d, False)

    def work_ended(self) -> None:
        """Nothing is being prepared any more."""
        if not self.temporary.shown:
            self.controls.say("")

    # Slices of interest, input and mean

    @reported
    def go(self, step: int, *ignored: Any) -> None:
        """Go to the next slice of interest, by falling standard deviation, or to the previous one."""
        std = of_role(self.viewer.layers, "std")
        if std is None:
            raise InputError("no standard deviation found in the viewer, expected that of a run: open its folder")
        if std is not self._std or self.slices is None:
            if self.worker is not None:
                return
            self._std = std
            self.controls.where.setText("Looking for the slices …")
            self.start_thread(slices_of_interest, density_of(std), done=partial(self._slices_known, step))
            return
        self._go(step)

    def _slices_known(self, step: int, slices: list[int]) -> None:
        self.slices = slices
        self.controls.rank = -1
        self._go(step)

    def _go(self, step: int) -> None:
        assert self.slices is not None
        c, count = self.controls, len(self.slices)
        c.rank = (c.rank + step) % count if c.rank >= 0 else (0 if step > 0 else count - 1)
        z, std = self.slices[c.rank], self._std
        self.viewer.dims.set_point(self.viewer.dims.ndim - 3, float(std.translate[-3] + z * std.scale[-3]))
        value = float(np.mean(np.asarray(density_of(std)[z], dtype=np.float32)))
        c.where.setText(f"Slice z {z}: mean std {value:.3g} grey levels, {c.rank + 1} of {count} by std")

    @reported
    def toggle(self) -> None:
        """Show the input in place of the mean, or the other way round."""
        pair = default_pair(self.viewer.layers)
        if pair is None:
            raise InputError("no input and mean found in the viewer, expected those of a run: open its folder")
        source, mean = pair
        showing = mean.visible
        mean.visible, source.visible = not showing, showing
        self.viewer.layers.selection.active = source if showing else mean

    # Picked particles

    def _choose_picks(self) -> None:
        kinds = "Particles (*.star *.json);;All files (*)"
        path = QFileDialog.getOpenFileName(self, "Picked particles: STAR, or picks of copick", "", kinds)[0]
        if path:
            self.open_picks(Path(path))

    @reported
    def open_picks(self, path: Path) -> None:
        """Add picked particles as points, coloured by the standard deviation at each."""
        mean = of_role(self.viewer.layers, "mean") or next(iter(densities_of(self.viewer.layers)), None)
        if mean is None:
            raise InputError("no tomogram found in the viewer, expected the one of the particles: open it first")
        run, std = about(mean).get("run"), of_role(self.viewer.layers, "std", about(mean).get("run"))
        name = record_of(Path(run)).get("name", "") if run else without_half(Path(about(mean).get("path") or "").stem)
        if run and is_of_a_part(Path(run)):
            raise InputError("the run restored a part of its tomogram, expected all of it: open the particles with the tomogram")
        size = float(mean.scale[-1])
        picks = read_picks(path, density_of(mean).shape[-3:], size, name)
        self._add_points(rated(picks, None if std is None else density_of(std), size), path.stem, mean)

    def _add_points(self, points: Rated, name: str, mean: Any) -> None:
        size, known = float(mean.scale[-1]), points.std[np.isfinite(points.std)]
        colours: dict[str, Any] = {"face_color": "yellow"}
        if len(known):
            limits = (float(known.min()), float(max(known.max(), known.min() + 1e-9)))
            colours = {"face_color": "std", "face_colormap": "viridis", "face_contrast_limits": limits}
        layer = self.viewer.add_points(
            points.picks.positions / size,
            scale=(size,) * 3,
            translate=mean.translate[-3:],
            name=f"particles {name}",
            features={"std": points.std, "particle": list(points.picks.names)},
            size=8,
            border_color="white",
            units=("angstrom",) * 3,
            **colours,
        )
        show_depth(layer)
        if len(layer.data):
            # A particle is drawn in the slice nearest to it: go to one that has some.
            middle = np.sort(layer.data[:, 0])[len(layer.data) // 2]
            self.viewer.dims.set_point(self.viewer.dims.ndim - 3, float(mean.translate[-3] + round(middle) * size))
        layer.editable = False
        self.controls.picked.setText(points.summary())

    # Pictures

    def _choose_picture(self) -> None:
        path = QFileDialog.getSaveFileName(self, "Picture", "picture.png", "PNG (*.png)")[0]
        if path:
            self.save(Path(path))

    @reported
    def save(self, path: Path) -> None:
        """Save the window, or the canvas alone, as a small PNG."""
        file = save_picture(self.viewer, path, canvas_only=self.controls.canvas_only.isChecked())
        self.controls.saved.setText(f"{file.name}: {file.stat().st_size / 1000:.0f} kB")

    def showEvent(self, event: Any) -> None:
        """Docked now: the keys can be listed under Help."""
        super().showEvent(event)
        if self._listed is None:
            self._listed = list_under_help(self)
            if self._listed is not None:
                self._disconnect.append(self._listed)

    def leave(self) -> None:
        """Restore the viewer."""
        self.flat()


def _solids(densities: list[Any]) -> list[Solid]:
    """Densities for 3D; protein is as dark in all of them as in the last, the restoration."""
    last = solid_of(densities[-1])
    return [*(solid_of(density, last.dark) for density in densities[:-1]), last]
