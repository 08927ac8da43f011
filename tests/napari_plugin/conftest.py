"""Windows under Xvfb, or under the screen there is; tests that open one are marked ``window``, and skipped where none can be."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

SIZE = "1400x900x24"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark the tests that use a window."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents and {"window", "make_napari_viewer", "qtbot"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.window)


@pytest.fixture(scope="session")
def display() -> Iterator[str]:
    """The number of a display: that of the user, or one of Xvfb for all tests."""
    pytest.importorskip("napari")
    if os.environ.get("DISPLAY") and "CI" not in os.environ:
        yield os.environ["DISPLAY"]
        return
    if shutil.which("Xvfb") is None:
        assert "CI" not in os.environ, "no Xvfb, but windows must be tested here: see pipelines/window.sh"
        pytest.skip("no DISPLAY and no Xvfb: no window can be opened")
    read, write = os.pipe()
    command = ["Xvfb", "-displayfd", str(write), "-screen", "0", SIZE, "+extension", "GLX", "-nolisten", "tcp"]
    server = subprocess.Popen(command, pass_fds=[write], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    os.close(write)
    with os.fdopen(read) as pipe:
        number = pipe.readline().strip()
    assert number, "Xvfb did not start"
    yield f":{number}"
    server.terminate()
    server.wait(timeout=10)


@pytest.fixture(scope="session")
def window(display: str) -> Iterator[None]:
    """A screen for Qt; with Mesa's software GL where it is Xvfb."""
    patch = pytest.MonkeyPatch()
    patch.setenv("DISPLAY", display)
    patch.setenv("QT_QPA_PLATFORM", "xcb")
    patch.setenv("LIBGL_ALWAYS_SOFTWARE", "1")
    yield
    patch.undo()


@pytest.fixture(scope="session")
def qapp_args(window: None) -> list[str]:
    """pytest-qt asks for this before it makes the application, and so the screen is there by then."""
    return ["cryovae-tests"]


@pytest.fixture
def make_viewer(window: None, make_napari_viewer):
    """napari's fixture, on that screen."""
    return make_napari_viewer


@pytest.fixture
def shown(monkeypatch) -> list[str]:
    """The notifications, which open no window."""
    texts: list[str] = []
    monkeypatch.setattr("cryovae.napari_plugin.notices.show", texts.append)
    return texts
