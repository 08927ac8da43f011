"""The line of the swipe on napari's canvas: it is dragged with the mouse and names the layers on its two sides."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QEvent, QObject, Qt, Signal  # type: ignore[attr-defined]
from qtpy.QtOpenGLWidgets import QOpenGLWidget
from qtpy.QtWidgets import QFrame, QMainWindow, QWidget

from cryovae.napari_plugin.controls import plain_label
from cryovae.napari_plugin.temporary_layers import camera_of

# Pixels of the line, and of the strip on each side of it that can be dragged.
LINE, REACH = 2, 9
STYLE = "color: white; background: rgba(0, 0, 0, 150); padding: 2px 5px; border-radius: 3px;"


def canvas_of(widget: QWidget) -> QWidget | None:
    """The widget on which napari draws, in the window of a docked widget; None if it is not docked."""
    above: Any = widget
    while above is not None and not isinstance(above, QMainWindow):
        above = above.parentWidget()
    middle = None if above is None else above.centralWidget()
    return None if middle is None else middle.findChild(QOpenGLWidget)


class SwipeLine(QObject):  # type: ignore[misc]
    """A line across the canvas.

    Attributes:
        moved: Signal with the place along the horizontal axis, in angstrom, to which the line was dragged.
        canvas: Widget on which napari draws; None draws no line.
        place: Of the line along the horizontal axis, in angstrom.
    """

    moved = Signal(float)

    def __init__(self, viewer: Any, canvas: QWidget | None, left: str, right: str) -> None:
        super().__init__()
        self.viewer, self.canvas = viewer, canvas
        self.place = 0.0
        self.grip, self.names = QWidget(self.canvas), [plain_label(name, self.canvas) for name in (left, right)]
        line = QFrame(self.grip)
        line.setStyleSheet("background: #ffd400;")
        line.setGeometry(REACH - LINE // 2, 0, LINE, 10_000)
        self.grip.setStyleSheet("background: transparent;")
        self.grip.setCursor(Qt.CursorShape.SplitHCursor)
        self.grip.setToolTip("Drag: left of the line is A, right of it B")
        for name in self.names:
            name.setStyleSheet(STYLE)
            name.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
            name.adjustSize()
        self.grip.installEventFilter(self)
        if self.canvas is not None:
            self.canvas.installEventFilter(self)
        self.camera = camera_of(viewer)
        self.camera.events.connect(self._place_again)

    def show_at(self, place: float) -> None:
        """Move the line to a place along the horizontal axis, in angstrom; it is hidden in 3D."""
        self.place = place
        flat = self.viewer.dims.ndisplay == 2 and self.canvas is not None
        for widget in (self.grip, *self.names):
            widget.setVisible(flat)
        if not flat or self.canvas is None:
            return
        at = round(self.pixel_of(place))
        self.grip.setGeometry(at - REACH, 0, 2 * REACH, self.canvas.height())
        left, right = self.names
        left.move(at - REACH - left.width(), 8)
        right.move(at + REACH, 8)
        for widget in (self.grip, *self.names):
            widget.raise_()

    def pixel_of(self, place: float) -> float:
        """The column of the canvas where a place is drawn."""
        assert self.canvas is not None
        return float(self.canvas.width() / 2 + (place - self.camera.center[-1]) * self.camera.zoom)

    def place_of(self, pixel: float) -> float:
        """The place that is drawn at a column of the canvas."""
        assert self.canvas is not None
        return float(self.camera.center[-1] + (pixel - self.canvas.width() / 2) / self.camera.zoom)

    def _place_again(self, *ignored: Any) -> None:
        self.show_at(self.place)

    def eventFilter(self, watched: Any, event: Any) -> bool:
        """Follow the mouse that drags the grip, and the canvas when it is resized."""
        if watched is self.grip and event.type() == QEvent.Type.MouseMove and event.buttons() & Qt.MouseButton.LeftButton:
            self.moved.emit(self.place_of(self.grip.x() + event.position().x()))
            return True
        if watched is self.grip and event.type() in (QEvent.Type.MouseButtonPress, QEvent.Type.MouseButtonRelease):
            return True
        if watched is self.canvas and event.type() == QEvent.Type.Resize:
            self._place_again()
        return False

    def remove(self) -> None:
        """Remove the line from the canvas."""
        self.camera.events.disconnect(self._place_again)
        if self.canvas is not None:
            self.canvas.removeEventFilter(self)
        for widget in (self.grip, *self.names):
            widget.hide()
            widget.setParent(None)
            widget.deleteLater()
