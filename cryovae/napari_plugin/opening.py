"""A napari window with the layers of a run and the widgets of this plugin, for ``cryovae view``."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from cryovae.napari_plugin.contents import layer_of_file, layers_of_run
from cryovae.napari_plugin.layers import KEY, LayerTuple
from cryovae.napari_plugin.temporary_layers import scale_bar_of

RUN_WIDGETS = ("View", "Compare", "Uncertainty", "Explore the latent space", "Restore tomogram")
VOLUME_WIDGETS = ("Restore tomogram", "View")
# Pixels of the window, and of the widgets on the right.
SIZE, DOCK = (1500, 950), 390


def layers_at(path: Path) -> list[LayerTuple]:
    """The layers of a run folder, or of one volume. InputError if it is neither."""
    if not (path / "run.json").is_file() and path.exists():
        return [layer_of_file(path)]
    layers = layers_of_run(path)
    for _, options, _ in layers:
        # One run is shown, which the title of the window names.
        info = options["metadata"][KEY]
        tempered = f", tempered {info['tempered']:g}" if "tempered" in info else ""
        options["name"] = f"{info['role']}{tempered}"
    return layers


def opened(layers: list[LayerTuple], title: str, widgets: tuple[str, ...], show: bool = True) -> Any:
    """A napari viewer with layers and widgets: the first widget in front, the slices fitted to what is left of the window.

    Args:
        layers: The layers.
        title: Title of the window.
        widgets: Names of widgets of this plugin, docked in tabs on the right.
        show: Whether the window is shown.
    """
    from napari import Viewer
    from qtpy.QtCore import Qt, QTimer

    viewer = Viewer(title=title, show=show)
    for data, options, _ in layers:
        viewer.add_image(data, **options)
    shown = [layer for layer in viewer.layers if layer.visible]
    if shown:
        viewer.layers.selection.active = shown[-1]
    docks = [viewer.window.add_plugin_dock_widget("cryovae", name, tabify=number > 0)[0] for number, name in enumerate(widgets)]
    scale_bar_of(viewer).visible = True
    window = docks[0].window() if docks else None

    def settle() -> None:
        # The viewer may be closed by then.
        with suppress(RuntimeError):
            if window is not None:
                window.resizeDocks([docks[0]], [DOCK], Qt.Orientation.Horizontal)
                docks[0].raise_()
            viewer.reset_view()

    if window is not None:
        window.resize(*SIZE)
    # The canvas has its size, and tabs their order, only after the window was laid out.
    for milliseconds in (0, 300):
        QTimer.singleShot(milliseconds, settle)
    return viewer
