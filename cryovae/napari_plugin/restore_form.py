"""The estimate in the form of the restore widget: the time and the memory that its run will take."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from napari.qt.threading import create_worker
from qtpy.QtCore import QObject, QTimer

from cryovae.errors import InputError
from cryovae.napari_plugin.notices import in_words
from cryovae.napari_plugin.restore_controls import Controls
from cryovae.napari_plugin.restore_estimate import estimate
from cryovae.napari_plugin.restore_model import Request

# Milliseconds from a change of the form to its estimate.
PAUSE = 400


class FormEstimate:
    """Says what the run of a form will take, a moment after the form has changed.

    Args:
        parent: Of the timer.
        request: Makes the request of the form. InputError if it cannot be run.
    """

    def __init__(self, parent: QObject, request: Callable[[], Request]) -> None:
        self._request = request
        self._controls: Controls | None = None
        self._worker: Any = None
        self._soon = QTimer(parent)
        self._soon.setSingleShot(True)
        self._soon.timeout.connect(self._look)

    def watch(self, controls: Controls) -> None:
        """Set the form to watch."""
        self._controls = controls

    def changed(self) -> None:
        """The form has changed."""
        self._soon.start(PAUSE)

    def halt(self) -> None:
        """Keep the present estimate until the form changes."""
        self._soon.stop()
        self._worker = None

    def _look(self) -> None:
        """Show what the preset decides, and what the run will take; what is wrong is said there too."""
        c = self._controls
        if c is None:
            return
        try:
            c.show_preset(Request((), Path(), {"preset": c.values().get("preset")}).config())
            request = self._request()
        except InputError as error:
            c.estimate.setText(f"Not ready: {error}")
            return
        if request.table is not None:
            c.estimate.setText("A table: one run for each of its rows, one after another.")
            return
        # Timing the network takes longer than a window may stall.
        worker = create_worker(estimate, request)
        self._worker = worker
        worker.returned.connect(lambda result: self._say(c, worker, result.words()))
        worker.errored.connect(lambda error: self._say(c, worker, f"Not ready: {in_words(error)}"))
        worker.start()

    def _say(self, controls: Controls, worker: Any, text: str) -> None:
        """Show an estimate, unless the form has changed since, or is closed."""
        # The window may be gone.
        with suppress(RuntimeError):
            if self._worker is worker:
                controls.estimate.setText(text)
