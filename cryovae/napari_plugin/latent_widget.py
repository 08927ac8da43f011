"""Explore a latent space: patches of a run in a plane, a cursor that decodes, draws and walks; or the learned prior."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Layer
from napari.utils import progress
from qtpy.QtWidgets import QFileDialog
from torch import Tensor

from cryovae.errors import InputError
from cryovae.napari_plugin.contents import layers_of_run
from cryovae.napari_plugin.dock_widget import DockWidget
from cryovae.napari_plugin.latent_controls import NO_GROUP, WAITING, Controls
from cryovae.napari_plugin.latent_layers import PatchLayers
from cryovae.napari_plugin.latent_model import Explorer, SelectedPatch, encode_run
from cryovae.napari_plugin.latest import Latest
from cryovae.napari_plugin.layers import run_of
from cryovae.napari_plugin.notices import reported
from cryovae.napari_plugin.prior_panel import PriorPanel

if TYPE_CHECKING:
    from napari.viewer import Viewer


class LatentWidget(DockWidget):
    """The dock widget.

    Attributes:
        controls: The controls, with the plane and the slices.
        layers: The selected patch in the viewer.
        prior: The learned prior, shown in place of a run.
        explorer: The latent space that is shown, None until the patches of a run are encoded.
        group: Numbers of the patches of the group that was outlined.
        latest: Decodes beside the window.
    """

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__(napari_viewer)
        self.layers = PatchLayers(napari_viewer)
        self.explorer: Explorer | None = None
        self._bar: Any = None
        self._target: tuple[float, float] | None = None
        self.group: tuple[int, ...] = ()
        # Only the last position of a drag counts.
        self.latest = Latest(self)
        self.controls = c = Controls()
        self.prior = PriorPanel(self)
        self.stack(c.model, *c.of_run, self.prior)
        c.source.currentIndexChanged.connect(self._switch)
        self.prior.running.connect(c.source.setDisabled)
        c.browse.clicked.connect(self._browse)
        c.encode.clicked.connect(self.start)
        c.cancel.clicked.connect(self.cancel)
        c.prior.clicked.connect(partial(self.draw, False))
        c.like.clicked.connect(partial(self.draw, True))
        c.start.clicked.connect(partial(self._set_end, "from"))
        c.stop.clicked.connect(partial(self._set_end, "to"))
        c.way.valueChanged.connect(self.walk)
        c.centre.currentIndexChanged.connect(self._decode)
        c.in_viewer.toggled.connect(self._show_layer)
        c.canvas.pressed.connect(self._pressed)
        c.canvas.dragged.connect(self.drag)
        c.canvas.outlined.connect(self.choose_group)
        c.lasso.toggled.connect(c.canvas.set_lasso)
        c.export.clicked.connect(self._choose_table)
        for box in (c.across, c.up):
            box.currentIndexChanged.connect(self._change_axes)
        self.listen_to_clicks(self.pick, lambda: self.explorer is not None and c.is_run and c.pick.isChecked())
        self.listen(self._list_runs, self.viewer.layers.events.inserted)
        self._list_runs()
        c.set_running(False)
        c.set_ready(False)
        self._switch()

    def _switch(self, *ignored: Any) -> None:
        """Show the controls of a run, or those of the learned prior."""
        for part in self.controls.of_run:
            part.setVisible(self.controls.is_run)
        self.prior.setVisible(not self.controls.is_run)

    # Runs, and the encoding of their patches

    def _list_runs(self, event: Any = None) -> None:
        """Offer the runs whose layers are in the viewer."""
        self.controls.offer_runs([run for layer in self.viewer.layers if (run := run_of(layer))])

    def _browse(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "Folder of a run of cryovae restore")
        if folder:
            self.controls.run.setCurrentText(folder)

    @reported
    def start(self, *ignored: Any) -> None:
        """Encode the patches of the run, in a thread."""
        c, folder = self.controls, self.controls.run.currentText().strip()
        if not folder:
            raise InputError("no run found, expected the folder of one: choose it, or open it with cryovae view")
        if self.worker is not None:
            return
        c.set_running(True)
        c.state.setText("Encoding the patches …")
        self.start_thread(encode_run, Path(folder), c.finest, c.most.value(), done=self.explore, yielded=self._show_progress)

    def cancel(self, *ignored: Any) -> None:
        """Stop encoding after the current patches."""
        if self.worker is not None:
            self.worker.quit()

    def _show_progress(self, patches: tuple[int, int]) -> None:
        done, total = patches
        if self._bar is None:
            self._bar = progress(total=total, desc="encoding patches")
        self._bar.update(done - self._bar.n)

    def work_ended(self) -> None:
        """Encoding or drawing has ended, with or without a result."""
        if not self.controls.is_run:
            self.prior.work_ended()
            return
        if self._bar is not None:
            self._bar.close()
            self._bar = None
        self.controls.set_running(False)
        self.controls.state.setText(WAITING if self.explorer is None else self.explorer.summary())

    @reported
    def explore(self, explorer: Explorer) -> None:
        """Show a map, and the layers of its run if none of them is in the viewer."""
        self.explorer = explorer
        self.controls.state.setText(explorer.summary())
        self.controls.set_ready(True)
        self.controls.offer_axes(explorer.axis_names(short=True), explorer.shown)
        self.controls.canvas.show_plane(explorer.points, explorer.labels())
        self.choose_group(())
        if all(run_of(layer) != explorer.run for layer in self.viewer.layers):
            for layer in layers_of_run(explorer.run):
                self.viewer.add_layer(Layer.create(*layer))
        self.select(explorer.selected.position)

    # The selected patch

    @reported
    def select(self, position: tuple[int, int, int]) -> None:
        """Select a patch: its point is marked, the viewer goes there, and a box shows it."""
        if self.explorer is not None:
            explorer = self.explorer
            self.latest.submit("select", lambda: explorer.patch(position), partial(self._show_selected, explorer))

    @reported
    def pick(self, position: Sequence[float]) -> None:
        """Select the patch about a place of the viewer, in angstrom."""
        if self.explorer is not None:
            place = [at / self.explorer.voxel_size for at in position[-3:]]
            self.select(self.explorer.position_about(place))

    def _show_selected(self, explorer: Explorer, patch: tuple[SelectedPatch, Tensor]) -> None:
        if explorer is not self.explorer:
            return
        explorer.selected, density = patch[0], patch[1].numpy()
        position = explorer.selected.position
        self.layers.put(explorer.place(position), explorer.patches.side, explorer.voxel_size)
        self.layers.go_to(explorer.middle(position))
        self._mark(explorer)
        self._target = None
        self._show(density, f"selected patch, first voxel {position} (z, y, x)", explorer.selected.point)

    def _mark(self, explorer: Explorer) -> None:
        ends = [explorer.ends[name].point for name in ("from", "to") if name in explorer.ends]
        self.controls.canvas.show_selected(explorer.selected.point, ends)

    def _pressed(self, x: float, y: float, reach_x: float, reach_y: float) -> None:
        if self.explorer is not None:
            index = self.explorer.nearest((x, y), (reach_x, reach_y))
            if index is None:
                self.drag(x, y)
            else:
                self.select(self.explorer.plane.positions[index])

    # Decoding

    def drag(self, x: float, y: float) -> None:
        """Move the cursor to a point of the plane; the density there follows as fast as it can be decoded."""
        if self.explorer is not None:
            self._target = (x, y)
            self.controls.canvas.show_cursor(self._target)
            self._decode()

    @reported
    def _decode(self, *ignored: Any) -> None:
        if self.explorer is not None and self._target is not None:
            x, y = self._target
            about_selected = self.controls.about_selected
            caption = f"point ({x:.1f}, {y:.1f}), about the {'selected patch' if about_selected else 'mean'}"
            self._later("point", partial(self.explorer.decode, (x, y), about_selected), caption)

    def _later(self, kind: str, compute: Callable[[], Any], caption: str) -> None:
        """Decode in the thread; the result is a density, or a density and its point in the plane."""

        def show(result: Any) -> None:
            density, point = result if isinstance(result, tuple) else (result, None)
            if self.explorer is not None:
                self._show(density.numpy(), caption, point)

        self.latest.submit(kind, compute, show)

    @reported
    def draw(self, like_patches: bool, *ignored: Any) -> None:
        """Draw a new patch; the seed is increased by one."""
        if self.explorer is not None:
            temperature, seed = self.controls.temperature.value(), self.controls.seed.value()
            source = "like the patches" if like_patches else "from the prior"
            compute = partial(self.explorer.draw, like_patches, temperature, seed)
            self._later("draw", compute, f"drawn {source}, temperature {temperature:g}, seed {seed}")
            self.controls.seed.setValue(seed + 1)

    def _set_end(self, name: str, *ignored: Any) -> None:
        if self.explorer is not None:
            self.explorer.ends[name] = self.explorer.selected
            self.controls.show_ends({key: patch.position for key, patch in self.explorer.ends.items()})
            self._mark(self.explorer)

    @reported
    def walk(self, percent: int) -> None:
        """Decode the point at ``percent`` of the way between the two ends."""
        if self.explorer is not None:
            self._later("walk", partial(self.explorer.walk, percent / 100), f"{percent} % of the way")

    # Planes and groups

    def _change_axes(self, *ignored: Any) -> None:
        """Show the patches in the plane of the two axes that are selected."""
        c, explorer = self.controls, self.explorer
        first, second = c.across.currentIndex(), c.up.currentIndex()
        if explorer is None or first < 0 or second < 0:
            return
        explorer.show_axes(first, second)
        self._target = None
        c.canvas.show_plane(explorer.points, explorer.labels())
        c.canvas.show_group(explorer.points[list(self.group)])
        self._mark(explorer)

    @reported
    def choose_group(self, outline: Sequence[Sequence[float]]) -> None:
        """Take the patches inside an outline in the plane as the group, and show where they lie in the tomogram."""
        explorer = self.explorer
        if explorer is None:
            return
        self.group = tuple(int(number) for number in explorer.inside(outline))
        self.controls.canvas.show_group(explorer.points[list(self.group)])
        self.layers.show_group(explorer.middles(self.group), self.group, explorer.patches.side, explorer.voxel_size)
        count = len(explorer.plane.positions)
        text = f"{len(self.group)} of {count} patches, shown as points in the viewer" if self.group else NO_GROUP
        self.controls.members.setText(text)

    def _choose_table(self, *ignored: Any) -> None:
        path = QFileDialog.getSaveFileName(self, "Positions of the group", "patches.star", "STAR (*.star)")[0]
        if path:
            self.export(Path(path))

    @reported
    def export(self, path: Path) -> None:
        """Write the middles of the patches of the group as a STAR table."""
        if self.explorer is not None:
            self.explorer.export(path, self.group)
            self.controls.members.setText(f"{len(self.group)} patches written to {path.name}")

    def _show(self, density: np.ndarray, caption: str, cursor: tuple[float, float] | None = None) -> None:
        assert self.explorer is not None
        self.controls.slices.show_density(density, self.explorer.limits, caption)
        if self.controls.in_viewer.isChecked():
            self.layers.show_density(density, self.explorer.limits)
        if cursor is not None:
            self.controls.canvas.show_cursor(cursor)

    def _show_layer(self, shown: bool) -> None:
        """Add the decoded patch to the viewer, or remove it."""
        density = self.controls.slices.density
        if self.explorer is not None and shown and density is not None:
            self.layers.show_density(density, self.explorer.limits)
        elif not shown:
            self.layers.remove_density()

    def leave(self) -> None:
        """Stop encoding and decoding."""
        self.cancel()
        self.latest.stop()
        self.prior.latest.stop()
