"""Keys of the plugin, and their list in the Help menu of napari."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Key:
    """A key.

    Attributes:
        keys: As napari writes it.
        does: What it does, in words.
    """

    keys: str
    does: str


KEYS = {
    "next": Key("Shift-Right", "next slice of interest, by falling standard deviation"),
    "previous": Key("Shift-Left", "previous slice of interest"),
    "toggle": Key("Shift-T", "input in place of the mean, and back"),
    "space": Key("Shift-D", "3D with protein bright, and back to slices"),
}
TITLE = "Keys of cryovae"


def listed() -> str:
    """The keys, one a line."""
    return "\n".join(f"{key.keys}: {key.does}" for key in KEYS.values())


def bind_keys(viewer: Any, widget: Any) -> Callable[[], None]:
    """Bind the keys to a View widget; returns what takes them back."""
    actions: dict[str, Callable[[], Any]] = {
        "next": lambda: widget.go(1),
        "previous": lambda: widget.go(-1),
        "toggle": widget.toggle,
        "space": widget.controls.show_3d.toggle,
    }
    for name, action in actions.items():
        viewer.bind_key(KEYS[name].keys, _called(action, KEYS[name].does), overwrite=True)

    def unbind() -> None:
        for key in KEYS.values():
            viewer.bind_key(key.keys, None)

    return unbind


def _called(action: Callable[[], Any], does: str) -> Callable[[Any], None]:
    def pressed(viewer: Any) -> None:
        action()

    pressed.__doc__ = f"cryovae: {does}"
    return pressed


def help_menu(widget: Any) -> Any:
    """The Help menu of the window in which a widget is docked, None if there is none."""
    from qtpy.QtWidgets import QMainWindow, QMenu

    window = widget.window()
    menus = window.findChildren(QMenu) if isinstance(window, QMainWindow) else []
    return next((menu for menu in menus if menu.title().replace("&", "") == "Help"), None)


def list_under_help(widget: Any) -> Callable[[], None] | None:
    """List the keys in the Help menu of a docked widget's window; returns what takes the entry back, None without a menu."""
    from qtpy.QtWidgets import QMessageBox

    menu = help_menu(widget)
    if menu is None:
        return None
    entry = menu.addAction(TITLE)
    entry.triggered.connect(lambda: QMessageBox.information(menu, TITLE, listed()))

    def remove() -> None:
        # The menu may have gone with its window.
        with suppress(RuntimeError):
            menu.removeAction(entry)

    return remove
