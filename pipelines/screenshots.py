"""Pictures of the widgets of the napari plugin at work: python pipelines/screenshots.py RUN [--out FOLDER] [--name NAME].

NAME_restore, _swipe, _compare, _doubt, _volume and _latent.png, a thousand pixels wide and of 256 colours. The run needs its
inputs for the first, its model for the last, and samples for the loop. A screen is needed, be it Xvfb: pipelines/screenshots.sh
starts one, and restores a sample first.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from napari import Viewer
from PIL import Image
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication, QDockWidget, QMainWindow

from cryovae.napari_plugin.compare_controls import OFF, SIDE, SWIPE
from cryovae.napari_plugin.compare_model import default_pair
from cryovae.napari_plugin.contents import layer_of_file
from cryovae.napari_plugin.layers import LayerTuple
from cryovae.napari_plugin.opening import layers_at, opened
from cryovae.napari_plugin.stage import Stage, camera_of
from cryovae.workflows.run_inputs import inputs_in, record_of

SIZE = (1280, 940)
# Steps of the training that is watched.
WATCHED = 120
WIDTH, COLOURS = 1000, 256
# Channels of a pixel that counts as grey are nearer to one another than this.
GREY = 24
DOCK = 380
# From where volumes are seen in degrees, how large beside what would fill the canvas, and between which percentiles.
ANGLES, ZOOM, SEEN = (-12.0, 28.0, -12.0), 0.68, (60, 99.8)


def wait(seconds: float, until: Callable[[], bool] = lambda: False) -> bool:
    """Let the window work for a time, or until something is so; whether it is."""
    began = time.monotonic()
    while time.monotonic() - began < seconds and not until():
        QApplication.processEvents()
        time.sleep(0.01)
    return until()


def palette_of(picture: Image.Image) -> Image.Image:
    """Half of the colours for what is grey, half for the rest: few pixels of a coloured line would count for nothing among it."""
    pixels = np.asarray(picture)
    grey = np.ptp(pixels.astype(int), axis=-1) < GREY
    found: list[int] = []
    for part in (pixels[grey], pixels[~grey]):
        if len(part):
            few = Image.fromarray(part[None]).quantize(COLOURS // 2, dither=Image.Dither.NONE, kmeans=2)
            found += few.getpalette()[: 3 * (COLOURS // 2)]
    holder = Image.new("P", (1, 1))
    holder.putpalette(found)
    return holder


class Camera:
    """A viewer with layers and one widget, and the folder into which its pictures go."""

    def __init__(self, layers: list[LayerTuple], out: Path, name: str) -> None:
        self.viewer: Viewer = opened(layers, f"cryovae: {name}", ())
        self.out, self.name = out, name
        self.dock: Any = None
        self.window = next(w for w in QApplication.topLevelWidgets() if isinstance(w, QMainWindow) and w.isVisible())
        self.window.resize(*SIZE)
        for dock in self.window.findChildren(QDockWidget):
            if dock.objectName() == "layer controls":
                dock.hide()
        wait(1)

    def widget(self, title: str) -> Any:
        """One widget in the dock, the one before it closed."""
        if self.dock is not None:
            self.dock.destroyOnClose()
        self.dock, found = self.viewer.window.add_plugin_dock_widget("cryovae", title)
        left = [dock for dock in self.window.findChildren(QDockWidget) if dock.objectName() == "layer list"]
        self.window.resizeDocks([*left, self.dock], [190] * len(left) + [DOCK], Qt.Orientation.Horizontal)
        wait(0.5)
        self.viewer.reset_view()
        return found

    def shoot(self, what: str) -> None:
        """The whole window as a small PNG."""
        wait(1)
        self.viewer.status = ""
        pixels = self.viewer.screenshot(canvas_only=False, flash=False)
        picture = Image.fromarray(pixels[..., :3])
        height = round(picture.height * WIDTH / picture.width)
        small = picture.resize((WIDTH, height), Image.Resampling.LANCZOS)
        path = self.out / f"{self.name}_{what}.png"
        small.quantize(palette=palette_of(small), dither=Image.Dither.NONE).save(path, optimize=True)
        print(f"{path}: {WIDTH} x {height}, {path.stat().st_size / 1000:.0f} kB")


def compare(camera: Camera) -> None:
    """The swipe with one voxel looked at; xz in two cells, with their spectra; both volumes in 3D."""
    widget = camera.widget("Compare")
    widget.look_at(strongest(camera))
    widget.controls.set_mode(SWIPE)
    camera.shoot("swipe")
    flat = camera.viewer.dims.order
    camera.viewer.dims.order = (*flat[:-3], flat[-2], flat[-3], flat[-1])
    widget.controls.set_mode(SIDE)
    wait(0.5)
    widget.measure()
    if not wait(60, lambda: widget.found is not None and widget.worker is None):
        raise SystemExit("nothing was measured: see the notification in the window")
    camera.shoot("compare")
    widget.controls.set_mode(OFF)
    camera.viewer.dims.order = flat
    in_space(camera)


def strongest(camera: Camera) -> tuple[float, ...]:
    """The voxel in the middle half of the middle slice where the mean is farthest from its median, in angstrom."""
    mean = default_pair(camera.viewer.layers)[1]
    middle = mean.data.shape[0] // 2
    values = np.asarray(mean.data[middle], dtype=np.float32)
    edges = tuple(size // 4 for size in values.shape)
    inner = np.abs(values - np.median(values))[edges[0] : -edges[0], edges[1] : -edges[1]]
    y, x = (int(i) + edge for i, edge in zip(np.unravel_index(inner.argmax(), inner.shape), edges, strict=True))
    return tuple(float(i * s) for i, s in zip((middle, y, x), mean.scale, strict=True))


def in_space(camera: Camera) -> None:
    """Input and mean in 3D side by side, seen from above and the side; protein bright, also where it is dark in the file."""
    pair = default_pair(camera.viewer.layers)
    mean = np.asarray(pair[1].data, dtype=np.float32)
    low, middle, high = np.percentile(mean, (0.1, 50, 99.9))
    sign = -1 if middle - low > high - middle else 1
    camera.dock.hide()
    stage = Stage(camera.viewer, lambda: None)
    stage.enter()
    for layer in pair:
        density = sign * np.asarray(layer.data, dtype=np.float32)
        limits = tuple(np.percentile(density, SEEN))
        stage.add(density, layer, f"{layer.name} in 3D", contrast_limits=limits, rendering="attenuated_mip", attenuation=0.02)
    camera.viewer.dims.ndisplay = 3
    stage.side_by_side()
    for layer in stage.props:
        layer.name_overlay.visible = True
    wait(1)
    camera.viewer.reset_view()
    lens = camera_of(camera.viewer)
    lens.angles, lens.zoom = ANGLES, ZOOM * lens.zoom
    camera.shoot("volume")
    camera.viewer.dims.ndisplay = 2
    stage.clear()
    camera.dock.show()


def doubt(camera: Camera) -> None:
    """The standard deviation over the mean."""
    widget = camera.widget("Uncertainty")
    widget.controls.cover.click()
    camera.shoot("doubt")


def explore(camera: Camera) -> None:
    """The plane of the patches, and what is decoded at a point of it."""
    widget = camera.widget("Explore the latent space")
    widget.start()
    if not wait(300, lambda: widget.explorer is not None and widget.worker is None):
        raise SystemExit("the patches could not be encoded: is the model of the run there?")
    widget.pick(strongest(camera))
    camera.viewer.reset_view()
    camera.shoot("latent")


def restoring(run: Path, out: Path, name: str) -> None:
    """The inputs of a run restored anew: the form, and how training comes on."""
    given = [path for role, path in inputs_in(record_of(run)).items() if role in ("tomogram", "half1", "half2")]
    camera = Camera([layer_of_file(path) for path in given], out, name)
    widget = camera.widget("Restore tomogram")
    with TemporaryDirectory() as folder:
        widget.controls.output.line.setText(str(Path(folder) / "restored"))
        widget.controls.steps.setValue(WATCHED)
        widget.controls.settings.setText("training.validate_every=20")
        widget.controls.run.click()
        job = widget.job
        if not wait(1200, lambda: not job.running or job.state().done >= WATCHED * 0.9):
            raise SystemExit("training did not come on")
        widget.look()
        shown = camera.viewer.layers[-1]
        camera.viewer.dims.set_point(0, float(np.mean(shown.extent.world[:, 0])))
        widget.controls.output.line.setText("restored")
        camera.shoot("restore")
        widget.cancel()
        wait(60, lambda: not job.running)
    camera.viewer.close()


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description="Pictures of the widgets of the napari plugin at work on a run")
    parser.add_argument("run", type=Path, help="the folder of a run of cryovae restore")
    parser.add_argument("--out", type=Path, default=Path("docs/pictures"), help="where the pictures go")
    parser.add_argument("--name", default=None, help="how they begin; the name of the run's folder by default")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    name = given.name or given.run.name
    restoring(given.run, given.out, name)
    camera = Camera(layers_at(given.run), given.out, name)
    for part in (compare, doubt, explore):
        part(camera)
    camera.viewer.close()


if __name__ == "__main__":
    main()
