"""Of two runs that would write the same files the second is refused; a run that ended, however, holds nothing."""

import json
import multiprocessing
import os
import platform
import threading
import time

import pytest

from cryovae.batch.steps import failure_noted
from cryovae.errors import InputError
from cryovae.io import claim
from cryovae.workflows.run_folder import RunFolder

FORK = multiprocessing.get_context("fork")


def _hold(folder, name, ready):
    with RunFolder(folder, name).claimed():
        ready.set()
        time.sleep(60)


@pytest.fixture
def holder(tmp_path):
    """A process that holds the claim of ts_01."""
    ready = FORK.Event()
    process = FORK.Process(target=_hold, args=(tmp_path, "ts_01", ready))
    process.start()
    assert ready.wait(20)
    yield process
    process.kill()
    process.join()


def test_the_second_run_of_a_name_is_refused_and_hears_of_the_first(tmp_path, holder):
    with (
        pytest.raises(InputError, match=f"process {holder.pid}, since .*pass another -o") as error,
        RunFolder(tmp_path, "ts_01").claimed(),
    ):
        pass
    assert platform.node() in str(error.value)


def test_another_tomogram_may_be_restored_into_the_same_folder_at_once(tmp_path, holder):
    folder = RunFolder(tmp_path, "ts_02")
    assert folder.prefix == ""
    with folder.claimed():
        assert folder.prefix == "ts_02_"
        with pytest.raises(InputError), RunFolder(tmp_path, "ts_02").claimed():
            pass


def test_a_killed_run_holds_nothing(tmp_path, holder):
    holder.kill()
    holder.join()
    with RunFolder(tmp_path, "ts_01").claimed():
        pass
    assert not list(tmp_path.iterdir())


def test_of_many_that_begin_at_once_one_holds_the_claim(tmp_path):
    """Threads open the file anew, so the locks of the system tell them apart as they do processes."""
    held, refused, most = [], [], []

    def run():
        try:
            with claim.claimed(tmp_path / ".run.claim", "a"):
                held.append(1)
                most.append(len(held))
                time.sleep(0.002)
                held.pop()
        except InputError:
            refused.append(1)

    for _ in range(5):
        threads = [threading.Thread(target=run) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert max(most) == 1
    assert refused
    assert len(most) + len(refused) == 40


@pytest.mark.parametrize(
    ("holder_is", "held"),
    [
        ("this process", True),
        ("a process that ended", False),
        ("a process with the number of one that ended", False),
        ("elsewhere", True),
    ],
)
def test_without_locks_the_file_says_whether_the_holder_runs(tmp_path, monkeypatch, holder_is, held):
    def no_locks(file, how):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(claim.fcntl, "flock", no_locks)
    born, number = claim._born(os.getpid()), os.getpid()
    content = {"name": "a", "host": platform.node(), "pid": number, "born": born}
    content |= {
        "this process": {},
        "a process that ended": {"pid": 2**22 + 1},
        "a process with the number of one that ended": {"born": "1"},
        "elsewhere": {"host": "another"},
    }[holder_is]
    path = tmp_path / ".run.claim"
    path.write_text(json.dumps(content))
    if not held:
        with claim.claimed(path, "a"):
            pass
        return
    with pytest.raises(InputError, match=r"delete .*\.run\.claim"), claim.claimed(path, "a"):
        pass
    assert path.exists()


def test_a_run_goes_on_with_its_own_prefixed_record(tmp_path):
    """The other run may have ended before it wrote run.json."""
    (tmp_path / "ts_02_run.json").write_text(json.dumps({"name": "ts_02"}))
    with RunFolder(tmp_path, "ts_02").claimed():
        assert RunFolder(tmp_path, "ts_02").prefix == "ts_02_"


def test_a_run_in_use_keeps_its_record_when_a_job_of_a_batch_meets_it(tmp_path, holder):
    folder = RunFolder(tmp_path, "ts_01")
    (tmp_path / "run.json").write_text('{"name": "ts_01", "status": "running"}')
    with pytest.raises(claim.InUse), failure_noted(folder), folder.claimed():
        pass
    assert json.loads((tmp_path / "run.json").read_text())["status"] == "running"


def test_a_refused_run_leaves_no_empty_folder_of_its_own(tmp_path):
    (tmp_path / "mine").mkdir()
    for name, is_left in (("new", False), ("mine", True)):
        folder = RunFolder(tmp_path / name, "ts_01")
        with pytest.raises(InputError, match="refused"), folder.claimed():
            raise InputError("refused")
        assert (tmp_path / name).exists() is is_left
