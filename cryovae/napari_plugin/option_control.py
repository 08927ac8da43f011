"""One option of ``cryovae restore`` as a control of the form: a line, a list, a box to tick, or a line with a dialogue."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qtpy.QtWidgets import QCheckBox, QComboBox, QFileDialog, QLineEdit, QWidget

from cryovae.napari_plugin.controls import button, check_box, choice, fill_row
from cryovae.napari_plugin.restore_fields import FormField, typed


class OptionControl(QWidget):  # type: ignore[misc]
    """The control.

    Attributes:
        field: What it shows.
        control: The box, list or line in it.
    """

    def __init__(self, field: FormField, changed: Callable[[], None]) -> None:
        super().__init__()
        self.field = field
        parts: list[QWidget]
        self.control: Any
        if field.is_switch:
            self.control = check_box(field.caption, field.tip)
            self.control.toggled.connect(lambda on: changed())
            parts = [self.control]
        elif field.items:
            self.control = choice(field.tip, field.items)
            self.control.setEditable(field.free)
            self.control.currentTextChanged.connect(lambda text: changed())
            parts = [self.control]
        else:
            self.control = QLineEdit()
            self.control.setPlaceholderText(field.hint)
            self.control.setToolTip(field.tip)
            self.control.textChanged.connect(lambda text: changed())
            parts = [self.control]
        if field.files:
            browse = button("…", field.tip, 30)
            browse.clicked.connect(self._browse)
            parts.append(browse)
        fill_row(self, *parts)

    def _browse(self) -> None:
        title = self.field.caption
        if self.field.files == "folder":
            path = QFileDialog.getExistingDirectory(self, title)
        else:
            path = QFileDialog.getOpenFileName(self, title, "", self.field.files)[0]
        if path:
            self.put(path)

    @property
    def text(self) -> str | bool:
        """What the control says."""
        if isinstance(self.control, QCheckBox):
            return bool(self.control.isChecked())
        return str(self.control.currentText() if isinstance(self.control, QComboBox) else self.control.text())

    @property
    def value(self) -> Any:
        """The value of the option, None if nothing was said. InputError for what is no such value."""
        return typed(self.field.name, self.text)

    def put(self, value: str | bool) -> None:
        """Set what the control says."""
        if isinstance(self.control, QCheckBox):
            self.control.setChecked(bool(value))
        elif isinstance(self.control, QComboBox):
            self.control.setCurrentText(str(value))
        else:
            self.control.setText(str(value))

    def hint(self, text: str) -> None:
        """Say in an empty line what is used then."""
        if isinstance(self.control, QLineEdit):
            self.control.setPlaceholderText(text)
