"""A napari window with the layers of a run and the widgets of this plugin, for ``cryovae view``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cryovae.napari_plugin.contents import layer_of_file, layers_of_run
from cryovae.napari_plugin.layers import LayerTuple

WIDGETS = ("Restore tomogram", "Compare", "Uncertainty", "Explore the latent space")


def layers_at(path: Path) -> list[LayerTuple]:
    """The layers of a run folder, or of one volume. InputError if it is neither."""
    return layers_of_run(path) if (path / "run.json").is_file() or not path.exists() else [layer_of_file(path)]


def opened(layers: list[LayerTuple], title: str, widgets: tuple[str, ...], show: bool = True) -> Any:
    """A napari viewer with layers and widgets.

    Args:
        layers: The layers.
        title: Title of the window.
        widgets: Names of widgets of this plugin, docked in tabs on the right.
        show: Whether the window is shown.
    """
    from napari import Viewer

    viewer = Viewer(title=title, show=show)
    for data, options, _ in layers:
        viewer.add_image(data, **options)
    shown = [layer for layer in viewer.layers if layer.visible]
    if shown:
        viewer.layers.selection.active = shown[-1]
    for number, name in enumerate(widgets):
        viewer.window.add_plugin_dock_widget("cryovae", name, tabify=number > 0)
    viewer.scale_bar.visible = True
    return viewer
