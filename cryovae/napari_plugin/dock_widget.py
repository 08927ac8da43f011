"""The base of the four widgets: parts in a column that scrolls, events of the viewer, work in a thread, one clean end."""

from __future__ import annotations

from collections.abc import Callable, Generator
from inspect import isgenerator
from typing import Any

from napari.qt.threading import create_worker
from qtpy.QtCore import QEvent
from qtpy.QtWidgets import QFrame, QScrollArea, QVBoxLayout, QWidget

from cryovae.napari_plugin import notices

# Pixels that the parts of a widget need side by side.
MIN_WIDTH = 300


def _caught(function: Callable[..., Any], *args: Any) -> Generator[Any, None, tuple[Any, BaseException | None]]:
    """Result and error of a function or generator function. napari reports an error raised in a thread as a bug."""
    try:
        result = function(*args)
        return (yield from result) if isgenerator(result) else result, None
    except notices.EXPECTED as error:
        return None, error


class DockWidget(QWidget):  # type: ignore[misc]
    """A widget of a viewer. ``leave`` is called once: when it is closed, or taken out of its dock as napari does.

    Attributes:
        viewer: The napari viewer.
        worker: The thread that is working, None if none is.
    """

    def __init__(self, viewer: Any) -> None:
        super().__init__()
        self.viewer = viewer
        self.worker: Any = None
        self._docked = self._left = False
        self._disconnect: list[Callable[[], Any]] = []

    def leave(self) -> None:
        """Stop what is running and restore the viewer."""
        raise NotImplementedError

    def stack(self, *parts: QWidget) -> None:
        """Lay the parts out one below the other; where the dock is low, they scroll."""
        inside = QWidget()
        column = QVBoxLayout(inside)
        for part in parts:
            column.addWidget(part)
        column.addStretch(1)
        area = QScrollArea()
        area.setWidgetResizable(True)
        area.setFrameShape(QFrame.Shape.NoFrame)
        area.setWidget(inside)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(area)
        self.setMinimumWidth(MIN_WIDTH)

    def listen(self, callback: Callable[..., Any], *events: Any) -> None:
        """Call ``callback`` at events of the viewer until the widget leaves."""
        for event in events:
            event.connect(callback)
            self._disconnect.append(lambda event=event: event.disconnect(callback))  # type: ignore[misc]

    def listen_to_clicks(self, callback: Callable[[Any], None], active: Callable[[], bool]) -> None:
        """Call ``callback`` with the position of each click in a 2D view while ``active`` is true, until the widget leaves."""
        self._click, self._takes_clicks = callback, active
        self.viewer.mouse_drag_callbacks.append(self._clicked)
        self._disconnect.append(lambda: self.viewer.mouse_drag_callbacks.remove(self._clicked))

    def _clicked(self, viewer: Any, event: Any) -> Any:
        if viewer.dims.ndisplay != 2 or event.button != 1 or not self._takes_clicks():
            return
        yield
        # A drag is no click.
        if event.type != "mouse_move":
            self._click(event.position)

    def start_thread(
        self, function: Callable[..., Any], *args: Any, done: Callable[[Any], None], yielded: Callable[[Any], None] | None = None
    ) -> None:
        """Run a function or generator function in a thread; ``work_ended`` is called after it.

        Args:
            function: What is run.
            args: Its arguments.
            done: Called with the result, if there was no error.
            yielded: Called with each value that a generator yields.
        """

        def returned(outcome: tuple[Any, BaseException | None]) -> None:
            result, error = outcome
            if error is not None:
                notices.show(notices.in_words(error))
            elif result is not None:
                done(result)

        self.worker = create_worker(_caught, function, *args, _start_thread=False)
        if yielded is not None:
            self.worker.yielded.connect(yielded)
        self.worker.returned.connect(returned)
        self.worker.finished.connect(self._thread_ended)
        self.worker.start()

    def _thread_ended(self) -> None:
        self.worker = None
        self.work_ended()

    def work_ended(self) -> None:
        """Called after a thread has ended, with or without a result."""

    def event(self, event: Any) -> bool:
        """Notice that the dock has released the widget."""
        if event.type() == QEvent.Type.ParentChange:
            if self.parent() is not None:
                self._docked = True
            elif self._docked:
                self._leave_once()
        return bool(super().event(event))

    def closeEvent(self, event: Any) -> None:
        """Closed as a window of its own."""
        self._leave_once()
        super().closeEvent(event)

    def _leave_once(self) -> None:
        if not self._left:
            self._left = True
            self.leave()
            for disconnect in self._disconnect:
                disconnect()
