"""Explore the latent space of a run: patches in a plane, and a cursor that decodes; draws and walks. No science is done here."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Layer
from napari.qt.threading import create_worker
from napari.utils import progress
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QFileDialog, QGroupBox, QLabel, QVBoxLayout

from cryovae.errors import InputError
from cryovae.napari_plugin import notices
from cryovae.napari_plugin.contents import layers_of_run
from cryovae.napari_plugin.docked import Docked
from cryovae.napari_plugin.latent_canvas import PlaneCanvas, SlicesView
from cryovae.napari_plugin.latent_controls import Controls
from cryovae.napari_plugin.latent_layers import PatchLayers
from cryovae.napari_plugin.latent_model import Explorer, explored
from cryovae.napari_plugin.layers import about
from cryovae.napari_plugin.notices import reported

if TYPE_CHECKING:
    from napari.viewer import Viewer

WAITING = "Choose a run of the variational model and press Encode."


def _safely(
    run: Path, finest: int | None, most: int
) -> Generator[tuple[int, int], None, tuple[Explorer | None, BaseException | None]]:
    """``explored`` for a thread, where an error would count as the program's: those that users can mend are returned."""
    try:
        return (yield from explored(run, finest, most)), None
    except notices.EXPECTED as error:
        return None, error


class LatentWidget(Docked):
    """The dock widget. explorer: what is shown, None until the patches of a run are encoded."""

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__()
        self.viewer = napari_viewer
        self.layers = PatchLayers(napari_viewer)
        self.explorer: Explorer | None = None
        self.worker: Any = None
        self._bar: Any = None
        self._target: tuple[float, float] | None = None
        # What the mouse asked for last is decoded when Qt is idle: of positions that came meanwhile only the last counts.
        self._soon = QTimer(self)
        self._soon.setSingleShot(True)
        self._soon.timeout.connect(self._decode)
        self.controls = Controls()
        self.canvas = PlaneCanvas()
        self.slices = SlicesView()
        self.state = QLabel(WAITING)
        self.state.setWordWrap(True)
        self._lay_out()
        self._connect()
        self._list_runs()
        self.controls.set_ready(False)

    def _lay_out(self) -> None:
        column = QVBoxLayout(self)
        column.addWidget(self.controls.encoding)
        column.addWidget(self.state)
        column.addWidget(self.canvas, 1)
        seen = QGroupBox("Decoded")
        inner = QVBoxLayout(seen)
        inner.addWidget(self.slices)
        column.addWidget(seen)
        column.addWidget(self.controls.dragging)
        column.addWidget(self.controls.drawing)
        column.addWidget(self.controls.walking)

    def _connect(self) -> None:
        c = self.controls
        c.browse.clicked.connect(self._browse)
        c.encode.clicked.connect(self.start)
        c.cancel.clicked.connect(self.cancel)
        c.prior.clicked.connect(partial(self.draw, False))
        c.like.clicked.connect(partial(self.draw, True))
        c.start.clicked.connect(partial(self._end, "from"))
        c.stop.clicked.connect(partial(self._end, "to"))
        c.way.valueChanged.connect(self.walk)
        c.about.currentIndexChanged.connect(self._decode_again)
        c.in_viewer.toggled.connect(self._show_layer)
        self.canvas.pressed.connect(self._pressed)
        self.canvas.dragged.connect(self.drag)
        self.viewer.mouse_drag_callbacks.append(self._clicked)
        self.viewer.layers.events.inserted.connect(self._list_runs)

    # Runs, and the encoding of their patches

    def _list_runs(self, event: Any = None) -> None:
        """Offer the runs whose layers are in the viewer."""
        known = [str(found["run"]) for layer in self.viewer.layers if (found := about(layer)) and found.get("run")]
        self.controls.offer_runs(list(dict.fromkeys(known)))

    def _browse(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "Folder of a run of cryovae restore")
        if folder:
            self.controls.run.setCurrentText(folder)

    @reported
    def start(self, *ignored: Any) -> None:
        """Encode the patches of the run, in a thread of its own."""
        chosen = self.controls.run.currentText().strip()
        if not chosen:
            raise InputError("no run found, expected the folder of one: choose it, or open it with cryovae view")
        if self.worker is not None:
            return
        self.controls.set_running(True)
        self.state.setText("Encoding the patches …")
        self.worker = create_worker(_safely, Path(chosen), self.controls.finest, self.controls.most.value(), _start_thread=False)
        self.worker.yielded.connect(self._told)
        self.worker.returned.connect(self._returned)
        self.worker.finished.connect(self._finished)
        self.worker.start()

    def cancel(self, *ignored: Any) -> None:
        """Stop encoding after the patches at hand."""
        if self.worker is not None:
            self.worker.quit()

    def _told(self, told: tuple[int, int]) -> None:
        done, total = told
        if self._bar is None:
            self._bar = progress(total=total, desc="encoding patches")
        self._bar.update(done - self._bar.n)

    def _finished(self) -> None:
        self.worker = None
        if self._bar is not None:
            self._bar.close()
            self._bar = None
        self.controls.set_running(False)
        if self.explorer is None:
            self.state.setText(WAITING)

    def _returned(self, found: tuple[Explorer | None, BaseException | None]) -> None:
        explorer, error = found
        if error is not None:
            notices.show(notices.in_words(error))
        elif explorer is not None:
            self.explore(explorer)

    @reported
    def explore(self, explorer: Explorer) -> None:
        """Show a map, and the layers of its run if none of them is in the viewer."""
        self.explorer = explorer
        self.state.setText(explorer.summary())
        self.controls.set_ready(True)
        self.canvas.show_plane(explorer.points, explorer.labels())
        if not any((found := about(layer)) and found.get("run") == str(explorer.run) for layer in self.viewer.layers):
            for layer in layers_of_run(explorer.run):
                self.viewer.add_layer(Layer.create(*layer))
        self.take(explorer.held.position)

    # A patch in hand

    @reported
    def take(self, position: tuple[int, int, int]) -> None:
        """Take a patch in hand: its point is marked, the viewer goes there, and a box shows it."""
        if self.explorer is not None:
            self._took(self.explorer.take(position).numpy())

    def _took(self, density: np.ndarray) -> None:
        explorer = self.explorer
        assert explorer is not None
        position = explorer.held.position
        self.layers.put(explorer.corner(position), explorer.patches.side, explorer.voxel_size)
        self.layers.go_to(explorer.middle(position))
        self._mark()
        self._target = None
        self.canvas.show_cursor(explorer.held.point)
        self._show(density, f"patch in hand, first voxel {position} (z, y, x)")

    def _mark(self) -> None:
        assert self.explorer is not None
        ends = [self.explorer.ends[name].point for name in ("from", "to") if name in self.explorer.ends]
        self.canvas.show_held(self.explorer.held.point, ends)

    def _pressed(self, x: float, y: float, reach_x: float, reach_y: float) -> None:
        if self.explorer is None:
            return
        found = self.explorer.nearest((x, y), (reach_x, reach_y))
        if found is None:
            self.drag(x, y)
        else:
            self.take(self.explorer.plane.positions[found])

    def _clicked(self, viewer: Any, event: Any) -> Any:
        """A click in the viewer, not a drag, takes the patch about it in hand while picking is on."""
        if self.explorer is None or not self.controls.pick.isChecked() or viewer.dims.ndisplay != 2 or event.button != 1:
            return
        yield
        if event.type == "mouse_move":
            return
        self.pick(event.position)

    @reported
    def pick(self, position: Sequence[float]) -> None:
        """Take the patch about a place of the viewer's world, in angstrom."""
        explorer = self.explorer
        if explorer is not None:
            place = [at / explorer.voxel_size for at in position[-3:]]
            self._took(explorer.take_about(place).numpy())

    # Decoding

    def drag(self, x: float, y: float) -> None:
        """Move the cursor to a point of the plane; the density there follows as fast as it can be decoded."""
        if self.explorer is None:
            return
        self._target = (x, y)
        self.canvas.show_cursor(self._target)
        if not self._soon.isActive():
            self._soon.start(0)

    @reported
    def _decode(self) -> None:
        if self.explorer is not None and self._target is not None:
            x, y = self._target
            whose = "about the patch in hand" if self.controls.about_held else "about the mean"
            self._show(self.explorer.decode((x, y), self.controls.about_held).numpy(), f"point ({x:.1f}, {y:.1f}), {whose}")

    def _decode_again(self, *ignored: Any) -> None:
        if self._target is not None:
            self._decode()

    @reported
    def draw(self, like_patches: bool, *ignored: Any) -> None:
        """Draw a new patch; its seed is one more than that of the last."""
        if self.explorer is None:
            return
        c = self.controls
        heat, seed = c.temperature.value(), c.seed.value()
        density, point = self.explorer.draw(like_patches, heat, seed)
        source = "like the patches" if like_patches else "from the prior"
        self._show(density.numpy(), f"drawn {source}, temperature {heat:g}, seed {seed}")
        self.canvas.show_cursor(point)
        c.seed.setValue(c.seed.value() + 1)

    def _end(self, name: str, *ignored: Any) -> None:
        if self.explorer is not None:
            self.explorer.ends[name] = self.explorer.held
            self.controls.show_ends({key: held.position for key, held in self.explorer.ends.items()})
            self._mark()

    @reported
    def walk(self, percent: int) -> None:
        """Decode what lies at ``percent`` of the way between the two ends."""
        if self.explorer is not None:
            density, point = self.explorer.walk(percent / 100)
            self._show(density.numpy(), f"{percent} % of the way")
            self.canvas.show_cursor(point)

    # What is seen

    def _show(self, density: np.ndarray, caption: str) -> None:
        assert self.explorer is not None
        self.slices.show_density(density, self.explorer.limits, caption)
        if self.controls.in_viewer.isChecked():
            self.layers.show_density(density, self.explorer.limits)

    def _show_layer(self, wanted: bool) -> None:
        """Put the decoded patch into the viewer, or take it out."""
        if self.explorer is not None and wanted and self.slices.shown is not None:
            self.layers.show_density(self.slices.shown, self.explorer.limits)
        elif not wanted:
            self.layers.remove_density()

    def leave(self) -> None:
        """Stop what is under way, and listen to the viewer no more."""
        self.cancel()
        self.viewer.layers.events.inserted.disconnect(self._list_runs)
        self.viewer.mouse_drag_callbacks.remove(self._clicked)
