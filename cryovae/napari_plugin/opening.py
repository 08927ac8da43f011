"""napari with a run in place: its layers, and the widgets that belong to them. What ``cryovae view`` does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cryovae.napari_plugin.contents import layer_of_file, layers_of_run
from cryovae.napari_plugin.layers import LayerTuple

WIDGETS = ("Restore tomogram", "Compare", "Uncertainty", "Explore the latent space")


def layers_at(path: Path) -> list[LayerTuple]:
    """The layers of a run folder, or of one volume. InputError if it is neither."""
    return layers_of_run(path) if (path / "run.json").is_file() or not path.exists() else [layer_of_file(path)]


def opened(found: list[LayerTuple], title: str, widgets: tuple[str, ...], show: bool = True) -> Any:
    """A napari viewer that shows layers, with the widgets of this plugin by their names docked in tabs on its right."""
    from napari import Viewer

    viewer = Viewer(title=title, show=show)
    for data, options, _ in found:
        viewer.add_image(data, **options)
    shown = [layer for layer in viewer.layers if layer.visible]
    if shown:
        viewer.layers.selection.active = shown[-1]
    for number, name in enumerate(widgets):
        viewer.window.add_plugin_dock_widget("cryovae", name, tabify=number > 0)
    viewer.scale_bar.visible = True
    return viewer
