"""Builders of the controls that the widgets share: each sets text, range, value and tooltip in one call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QFormLayout,
    QGroupBox,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QSizePolicy,
    QSlider,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)
from superqt.utils import signals_blocked


def button(text: str, tip: str, width: int | None = None) -> Any:
    """A push button, at most ``width`` pixels wide."""
    control = QPushButton(text)
    control.setToolTip(tip)
    if width is not None:
        control.setMaximumWidth(width)
    return control


def check_box(text: str, tip: str, checked: bool = False) -> QCheckBox:
    """A box to tick."""
    control = QCheckBox(text)
    control.setChecked(checked)
    control.setToolTip(tip)
    return control


def choice(tip: str, items: Sequence[str] = (), index: int = 0) -> QComboBox:
    """A list of which one item is selected; it takes the width that is left in its row."""
    control = QComboBox()
    control.addItems(list(items))
    control.setCurrentIndex(index if items else -1)
    control.setMinimumWidth(80)
    control.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
    control.setToolTip(tip)
    return control


def spin_box(value: float, low: float, high: float, tip: str, *, prefix: str = "", suffix: str = "", step: float = 1) -> Any:
    """A number between two limits: whole numbers if ``value`` is an int, else one decimal."""
    control: Any = QSpinBox() if isinstance(value, int) else QDoubleSpinBox()
    if isinstance(value, float):
        control.setDecimals(1)
    control.setRange(low, high)
    control.setSingleStep(step)
    control.setValue(value)
    control.setPrefix(prefix)
    control.setSuffix(suffix)
    control.setToolTip(tip)
    return control


def slider(value: int, steps: int, tip: str) -> QSlider:
    """A horizontal slider from 0 to ``steps``."""
    control = QSlider(Qt.Orientation.Horizontal)
    control.setRange(0, steps)
    control.setValue(value)
    control.setToolTip(tip)
    return control


def note(text: str = "") -> QLabel:
    """A text with line breaks, shown without markup."""
    label = plain_label(text)
    label.setWordWrap(True)
    return label


def plain_label(text: str = "", parent: QWidget | None = None) -> QLabel:
    """A text that is shown as it is: Qt would read tags in it."""
    label = QLabel(parent)
    label.setTextFormat(Qt.TextFormat.PlainText)
    label.setText(text)
    return label


class PathField(QWidget):  # type: ignore[misc]
    """A line for a path, and a button that opens a dialogue for it."""

    def __init__(self, tip: str, hint: str, dialogue: Callable[[QWidget], str]) -> None:
        super().__init__()
        self.line = QLineEdit()
        self.line.setPlaceholderText(hint)
        self.line.setToolTip(tip)
        browse = button("…", tip, 30)
        browse.clicked.connect(lambda: self.line.setText(dialogue(self) or self.line.text()))
        fill_row(self, self.line, browse)

    @property
    def path(self) -> Path | None:
        """The path in the line, None if it is empty."""
        text = self.line.text().strip()
        return Path(text).expanduser() if text else None


def fill_row(parent: QWidget, *controls: QWidget) -> QWidget:
    """Put controls side by side into ``parent``."""
    layout = QHBoxLayout(parent)
    layout.setContentsMargins(0, 0, 0, 0)
    for control in controls:
        layout.addWidget(control)
    return parent


def row(*controls: QWidget) -> QWidget:
    """Controls side by side."""
    return fill_row(QWidget(), *controls)


def group(title: str, *rows: QWidget | tuple[str, QWidget]) -> QGroupBox:
    """A titled group of rows; a row is a control, or a caption and a control."""
    box = QGroupBox(title)
    form = QFormLayout(box)
    form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
    for entry in rows:
        form.addRow(*entry) if isinstance(entry, tuple) else form.addRow(entry)
    return box


class Folded(QWidget):  # type: ignore[misc]
    """Rows below a title that shows and hides them."""

    def __init__(self, title: str, rows: Sequence[QWidget | tuple[str, QWidget]]) -> None:
        super().__init__()
        self._title, self.content = title, QWidget()
        self.header = button("", "Show or hide these fields")
        self.header.setStyleSheet("text-align: left; padding: 3px 6px;")
        self.header.clicked.connect(lambda: self.expand(self.content.isHidden()))
        form = QFormLayout(self.content)
        form.setContentsMargins(6, 2, 2, 2)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        for entry in rows:
            form.addRow(*entry) if isinstance(entry, tuple) else form.addRow(entry)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addWidget(self.header)
        column.addWidget(self.content)
        self.expand(False)

    def expand(self, shown: bool = True) -> None:
        """Show the rows, or hide them."""
        self.content.setVisible(shown)
        self.header.setText(f"{'▾' if shown else '▸'} {self._title}")


def folded(title: str, *rows: QWidget | tuple[str, QWidget]) -> Folded:
    """A group of rows, as ``group``, that a click on its title shows; at first they are hidden."""
    return Folded(title, rows)


def offer(control: QComboBox, names: Sequence[str], default: str | None = None) -> None:
    """List names without emitting signals; the selected one stays if it is still listed, else ``default`` is selected."""
    before = control.currentText()
    with signals_blocked(control):
        control.clear()
        control.addItems(list(names))
        selected = before if before in names else default
        if selected is not None:
            control.setCurrentText(selected)


def set_checked(control: Any, checked: bool) -> None:
    """Tick or untick a box without emitting signals."""
    with signals_blocked(control):
        control.setChecked(checked)
