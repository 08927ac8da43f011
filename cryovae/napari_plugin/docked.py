"""A widget of parts in a column that scrolls, which is told once when it is closed, however that is done."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QEvent
from qtpy.QtWidgets import QFrame, QScrollArea, QVBoxLayout, QWidget

# Pixels that the parts of a widget need side by side.
NARROWEST = 300


class Docked(QWidget):  # type: ignore[misc]
    """Calls ``leave`` when it is closed, or taken out of its dock, which is what the cross of a napari dock does."""

    def __init__(self) -> None:
        super().__init__()
        self._docked = False
        self._left = False

    def leave(self) -> None:
        """Put everything back as it was found."""
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
        self.setMinimumWidth(NARROWEST)

    def event(self, event: Any) -> bool:
        """Notice that the dock has let go."""
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
