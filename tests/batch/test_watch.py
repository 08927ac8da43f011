"""A folder that is watched: what is ready is restored, once; what grows, lacks a part or failed waits, and the line says why."""

import numpy as np
import pytest

from cryovae.batch import watch as module
from cryovae.batch.watch import Watched, watch
from cryovae.io.star.tomograms import read_tomograms
from cryovae.tomogram import TiltGeometry
from tests.conftest import write_mrc
from tests.helpers.cli import cryovae, refused

SHAPE = (12, 18, 16)


class Clock:
    """Time that passes only while somebody sleeps; ``then`` are actions at moments, in seconds."""

    def __init__(self, *then):
        self.now, self.then = 0.0, sorted(then, key=lambda at: at[0])

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds
        assert self.now < 10_000, "the watch did not end"
        while self.then and self.then[0][0] <= self.now:
            self.then.pop(0)[1]()


class Rounds:
    """Stands for the rounds of a batch: notes the rows of the table, and lets those of some names fail."""

    def __init__(self, table, failing=()):
        self.table, self.failing, self.calls, self.passed = table, failing, [], []

    def __call__(self, passed):
        self.calls.append([entry.name for entry in read_tomograms(self.table).entries])
        self.passed.append(set(passed))
        return {name: "failed" if name in self.failing else "done" for name in self.calls[-1]}


def halves(folder, name, seed=0):
    folder.mkdir(exist_ok=True)
    for half in ("EVN", "ODD"):
        voxels = np.random.default_rng(seed).normal(size=SHAPE).astype(np.float32)
        write_mrc(folder / f"{name}_{half}_Vol.mrc", voxels, 10.0)
    (folder / f"{name}.rawtlt").write_text("-60\n0\n60\n")


@pytest.fixture
def setting(tmp_path):
    folder, table = tmp_path / "in", tmp_path / "out" / "tomograms.star"
    folder.mkdir()
    return folder, table


def watched(setting, clock, **more):
    return Watched(*setting, clock=clock, **more)


def test_tomograms_are_restored_as_they_appear_and_each_but_once(setting, capsys):
    folder, table = setting
    halves(folder, "TS_2")
    clock = Clock((100, lambda: halves(folder, "TS_1")))
    rounds = Rounds(table)
    assert watch(watched(setting, clock), rounds, 2, clock.sleep)
    # Rows keep their numbers: the first to come is the first row.
    assert rounds.calls == [["TS_2"], ["TS_2", "TS_1"]]
    assert read_tomograms(table).entries[0].tilts.angles == (-60, 0, 60)
    assert 100 + 120 <= clock.now < 100 + 120 + 60
    assert "2 done" in capsys.readouterr().out


def test_a_file_is_taken_in_only_when_its_size_is_stable(setting, capsys):
    folder, table = setting
    halves(folder, "TS_1")
    complete = (folder / "TS_1_ODD_Vol.mrc").read_bytes()
    sizes = [len(complete) * step // 10 for step in range(3, 11)]

    def grown(size):
        return lambda: (folder / "TS_1_ODD_Vol.mrc").write_bytes(complete[:size])

    (folder / "TS_1_ODD_Vol.mrc").write_bytes(complete[: sizes[0]])
    clock = Clock(*[(10 * (number + 1), grown(size)) for number, size in enumerate(sizes)])
    rounds = Rounds(table)
    lines = watched(setting, clock)
    assert watch(lines, rounds, 1, clock.sleep)
    assert rounds.calls == [["TS_1"]]
    assert clock.now >= 80 + module.STABLE
    assert "TS_1_ODD_Vol.mrc is still being written" in capsys.readouterr().out


def test_a_copy_that_has_stalled_is_not_taken_in(setting, capsys):
    folder, table = setting
    halves(folder, "TS_1")
    content = (folder / "TS_1_ODD_Vol.mrc").read_bytes()
    (folder / "TS_1_ODD_Vol.mrc").write_bytes(content[: len(content) // 2])
    clock, rounds = Clock(), Rounds(table)
    watch(watched(setting, clock), rounds, 1, clock.sleep)
    assert rounds.calls == []
    assert not table.exists()
    assert "TS_1 was not taken in" in capsys.readouterr().err


@pytest.mark.parametrize("part", ["TS_2_ODD_Vol.mrc", "TS_2.rawtlt"])
def test_what_lacks_a_part_waits_for_it(setting, part):
    folder, table = setting
    halves(folder, "TS_1")
    halves(folder, "TS_2")
    (folder / part).rename(folder.parent / part)
    clock = Clock((90, lambda: (folder.parent / part).rename(folder / part)))
    rounds = Rounds(table)
    assert watch(watched(setting, clock), rounds, 2, clock.sleep)
    assert rounds.calls == [["TS_1"], ["TS_1", "TS_2"]]


def test_a_range_of_tilts_needs_no_tilt_files(setting):
    folder, table = setting
    halves(folder, "TS_1")
    (folder / "TS_1.rawtlt").unlink()
    clock, rounds = Clock(), Rounds(table)
    assert watch(watched(setting, clock, tilts=TiltGeometry.from_range(-50, 50)), rounds, 1, clock.sleep)
    assert read_tomograms(table).entries[0].tilts.lowest == -50


def test_a_row_that_failed_is_passed_over_until_its_files_change(setting):
    folder, table = setting
    halves(folder, "TS_1")
    clock = Clock((60, lambda: halves(folder, "TS_2")), (120, lambda: halves(folder, "TS_1", seed=7)))
    rounds = Rounds(table, failing={"TS_1"})
    assert not watch(watched(setting, clock), rounds, 2, clock.sleep)
    assert rounds.calls == [["TS_1"], ["TS_1", "TS_2"], ["TS_1", "TS_2"]]
    assert rounds.passed == [set(), {"TS_1"}, set()]


def test_while_nothing_happens_there_is_a_line_every_half_minute_at_most(setting, capsys):
    clock = Clock()
    assert watch(watched(setting, clock), Rounds(setting[1]), 5, clock.sleep)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("waiting")]
    assert 8 <= len(lines) <= 10
    assert all(str(setting[0]) in line for line in lines)


def test_a_second_watch_keeps_the_numbers_of_the_rows(setting):
    folder, table = setting
    halves(folder, "TS_9")
    clock = Clock((60, lambda: halves(folder, "TS_1")))
    watch(watched(setting, clock), Rounds(table), 2, clock.sleep)
    rounds = Rounds(table)
    clock = Clock((0, lambda: halves(folder, "TS_5")))
    watch(watched(setting, clock), rounds, 1, clock.sleep)
    assert rounds.calls[-1] == ["TS_9", "TS_1", "TS_5"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "pass one of them"),
        (["t.star", "--watch", "in"], "pass one of them"),
        (["t.star", "--idle", "3"], "--watch with it"),
        (["--watch", "in", "--idle", "0"], "expected minutes above 0"),
        (["--watch", "nowhere"], "is no folder"),
        (["--watch", "in", "-o", "in"], "are one folder"),
        (["--watch", "in", "--prepare"], "expected one of them"),
        (["t.star", "--from", "base", "--model", "m"], "--model and --from found"),
    ],
)
def test_options_that_do_not_fit_are_one_line(tmp_path, monkeypatch, options, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    refused(cryovae("batch", "run", *options), words)
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_a_volume_of_aretomo_waits_for_its_halves(setting):
    """They are written after it: it is restored once, with them; one that stays alone is taken as it is later."""
    folder, table = setting
    for name in ("TS_1", "TS_2"):
        write_mrc(folder / f"{name}_Vol.mrc", np.random.default_rng(1).normal(size=SHAPE).astype(np.float32), 10.0)
        (folder / f"{name}.rawtlt").write_text("-60\n0\n60\n")
    clock = Clock((100, lambda: halves(folder, "TS_1")), (100, lambda: halves(folder, "TS_2")))
    rounds = Rounds(table)
    assert watch(watched(setting, clock), rounds, 10, clock.sleep)
    assert rounds.calls == [["TS_1", "TS_2"]]
    assert all(len(entry.files) == 2 for entry in read_tomograms(table).entries)


def test_a_volume_of_aretomo_that_stays_alone_is_taken(setting):
    folder, table = setting
    write_mrc(folder / "TS_1_Vol.mrc", np.random.default_rng(1).normal(size=SHAPE).astype(np.float32), 10.0)
    (folder / "TS_1.rawtlt").write_text("-60\n0\n60\n")
    clock, rounds = Clock(), Rounds(table)
    assert watch(watched(setting, clock), rounds, 15, clock.sleep)
    assert rounds.calls == [["TS_1"]]
    assert clock.now >= module.HALVES_WAIT
