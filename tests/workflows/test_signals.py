"""Signals: a command leaves at once, training at its next step, and never later than it may; then it can be resumed."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
import typer
from typer.testing import CliRunner

from cryovae.cli.app import app
from cryovae.cli.reporting import reported
from cryovae.workflows import signals as module
from cryovae.workflows.signals import StoppedMidStep, Terminated, interruptible, stoppable
from tests.helpers.cli import RANGE, TINY

pytestmark = pytest.mark.usefixtures("undrawn")


def _struck(*numbers):
    """Signals to this process, and then work that they should cut short."""
    for number in numbers:
        os.kill(os.getpid(), number)
    time.sleep(5)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_command_leaves_where_it_stands_and_handlers_are_put_back(number):
    before = signal.getsignal(number)
    began = time.monotonic()
    with pytest.raises(Terminated, match=signal.Signals(number).name), interruptible():
        _struck(number)
    assert time.monotonic() - began < 4
    assert signal.getsignal(number) is before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_training_is_asked_and_not_broken_off(number):
    with stoppable() as stop:
        assert not stop()
        os.kill(os.getpid(), number)
        assert stop()
        # Once training knows, nothing hurries it: it may take its time to save.
        assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_a_step_that_lasts_too_long_is_broken_off(monkeypatch):
    monkeypatch.setattr(module, "PATIENCE", 0.2)
    began = time.monotonic()
    with pytest.raises(StoppedMidStep), stoppable():
        _struck(signal.SIGTERM)
    assert 0.1 < time.monotonic() - began < 2
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_a_second_ctrl_c_breaks_off():
    with pytest.raises(KeyboardInterrupt), stoppable():
        _struck(signal.SIGINT, signal.SIGINT)


def test_other_threads_run_without_handlers():
    states = []

    def work():
        with interruptible(), stoppable() as stop:
            states.append(stop())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert states == [False]


@pytest.mark.parametrize(
    ("error", "code"),
    [(Terminated("t"), 75), (StoppedMidStep("l"), 75), (KeyboardInterrupt(), 130), (OSError(28, "No space left"), 1)],
)
def test_exit_codes(error, code):
    def command():
        raise error

    with pytest.raises(typer.Exit) as left:
        reported(command)()
    assert left.value.exit_code == code


def test_resume_with_nothing_saved_begins_and_says_so(small_files, tmp_path):
    """A job that is begun anew after it was killed asks to resume, whether it had come to saving anything or not."""
    words = ["restore", small_files["full"], *RANGE, "-o", tmp_path / "out", "--steps", "4", "--resume", *TINY]
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    assert "training begins at step 0" in result.stderr
    assert json.loads((tmp_path / "out/run.json").read_text())["status"] == "done"


def test_cpus_are_those_that_were_given():
    code = (
        "import os, torch; from cryovae.workflows.compute import ComputeOptions;"
        "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))});"
        "ComputeOptions('cpu').open_device(); print(torch.get_num_threads())"
    )
    bare = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    run = subprocess.run([sys.executable, "-c", code], env=bare, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "1"


def test_slurm_says_how_many_cpus(monkeypatch):
    from cryovae.workflows.compute import cpus

    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(12)))
    monkeypatch.delenv("SLURM_CPUS_PER_TASK", raising=False)
    assert cpus() == 12
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "5")
    assert cpus() == 5
