"""What the terminal shows while jobs run: states, what is under way, the remaining time; plain lines where it is no terminal."""

import io

from rich.console import Console

from cryovae.batch.board import LOOK, Board, progress_of, table_for
from cryovae.batch.status import Status
from cryovae.progress.display import SECONDS

RUNNING = Status("TS_1", "running", "restoring (halves), patches 30/412  ETA 0:01:19", 75.0)
QUIET = Status("TS_1", "running", "report, 1 min 12 s since the start ETA 0:00:15", 90.0)


class _Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_the_last_line_of_a_log_says_what_is_done_and_when_it_ends():
    assert progress_of(RUNNING) == ("restoring (halves), patches 30/412", "ETA 0:01:19")
    assert progress_of(QUIET) == ("report", "ETA 0:00:15")
    assert progress_of(Status("TS_1", "running", "refilling the wedge of TS_1")) == ("refilling the wedge of TS_1", "")
    assert progress_of(Status("TS_2", "failed", "half1 is cut short ETA 0:00:01")) == ("half1 is cut short ETA 0:00:01", "")


def test_the_table_has_a_row_for_each_tomogram_and_names_are_no_markup():
    text = io.StringIO()
    states = [Status("model", "done", "", 3700.0), RUNNING, Status("[bold]x[/bold]", "waiting")]
    Console(file=text, width=100).print(table_for(states))
    lines = text.getvalue().splitlines()
    assert "2 tomograms: 1 running, 1 waiting" in lines[0]
    assert any("TS_1" in line and "0:01:19" in line and "0:01:15" in line for line in lines)
    assert any(line.startswith("[bold]x[/bold]") for line in lines)
    assert any("1:01:40" in line for line in lines)


def test_without_a_terminal_changes_are_said_at_once_and_the_rest_now_and_then(capsys):
    clock, states = _Clock(), [RUNNING, Status("TS_2", "waiting")]
    with Board(lambda: list(states), clock) as board:
        for second in range(int(3 * SECONDS)):
            clock.now = float(second)
            if second == 2 * LOOK:
                states[1] = Status("TS_2", "running", "training 1/2  ETA 0:00:09")
            board()
    lines = [line.split(" ", 1)[1] for line in capsys.readouterr().out.splitlines()]
    assert lines[:2] == ["TS_1: running restoring (halves), patches 30/412 ETA 0:01:19", "TS_2: waiting"]
    assert lines[2] == "TS_2: running training 1/2 ETA 0:00:09"
    # Both rows again, every quarter of a minute.
    assert lines[3:5] == [lines[0], lines[2]]
    assert len(lines) <= 9
