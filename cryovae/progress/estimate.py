"""How much longer a plan takes: its expected seconds, corrected by what the phases before and the parts that are done have taken.

    factor = (prior * machine + sum of seconds spent) / (prior + sum of seconds expected for what is done)
    remaining = sum over tasks of factor * expected * (1 - share done)

A task that counts its parts is judged by its own pace instead, more and more up to a fifth of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

# Weight of the expectation beside what was measured: seconds, and a share of the whole plan.
PRIOR_SECONDS, PRIOR_SHARE = 2.0, 0.03
# Share of a task from which its own pace alone is believed.
OWN_PACE = 0.2
# Least remaining share of a task that does not count its parts and has taken longer than was expected.
LEAST_LEFT = 0.05


@dataclass(frozen=True)
class Task:
    """A phase of a run, and how long it is expected to take on the reference machine.

    Attributes:
        name: of the phase.
        seconds: of all its visits together.
        visits: how often it is entered.
        stage: a task is over when one of a later stage begins.
        bend: share of its parts and share of its work at which the pace changes, or None.
    """

    name: str
    seconds: float
    visits: int = 1
    stage: int = 0
    bend: tuple[float, float] | None = None

    def work(self, share: float) -> float:
        """The share of the work in a share of the parts."""
        if self.bend is None or not 0 < self.bend[0] < 1:
            return share
        at, done = self.bend
        return done * share / at if share <= at else done + (1 - done) * (share - at) / (1 - at)


class Estimate:
    """The state of a plan. Times are in seconds, of any clock.

    Args:
        tasks: the plan.
        machine: how many times slower this machine is than the reference.
    """

    def __init__(self, tasks: Sequence[Task], machine: float = 1.0) -> None:
        self.tasks, self.machine = {task.name: task for task in tasks}, machine
        self.spent = dict.fromkeys(self.tasks, 0.0)
        self._visits = dict.fromkeys(self.tasks, 0)
        self._parts: dict[str, float] = {}
        self._left_out: dict[str, float] = {}
        self._stage = -1
        self._prior = PRIOR_SECONDS + PRIOR_SHARE * sum(task.seconds for task in tasks)

    def begin(self, name: str) -> None:
        """A phase begins."""
        if name in self.tasks:
            self._stage = max(self._stage, self.tasks[name].stage)
            self._parts.pop(name, None)

    def end(self, name: str) -> None:
        """A phase ends."""
        if name in self.tasks:
            self._visits[name] += 1
            self._parts.pop(name, None)

    def spend(self, name: str, seconds: float) -> None:
        """A phase has taken so many seconds more."""
        if name in self.tasks:
            self.spent[name] += seconds

    def count(self, name: str, done: int, total: int, first: int = 0) -> None:
        """So many parts of a phase are done, the first of them by an earlier run."""
        task = self.tasks.get(name)
        if task is None or total <= 0:
            return
        before = task.work(min(first / total, 1.0))
        self._left_out[name] = before
        self._parts[name] = (task.work(min(done / total, 1.0)) - before) / max(1 - before, 1e-9)

    def remaining(self) -> float:
        """Seconds until all tasks are done."""
        shares = {name: self._share(name) for name in self.tasks}
        known = {name: share for name, share in shares.items() if share is not None and share > 0 and self._is_measured(name)}
        spent = sum(self.spent[name] for name in known)
        expected = sum(self._expected(name) * share for name, share in known.items())
        factor = (self._prior * self.machine + spent) / (self._prior + expected)
        return sum(self._left(name, share, factor) for name, share in shares.items())

    def _is_measured(self, name: str) -> bool:
        """Whether a task was entered: one that was left out says nothing of the machine."""
        return bool(self._visits[name]) or name in self._parts

    def _expected(self, name: str) -> float:
        return self.tasks[name].seconds * (1 - self._left_out.get(name, 0.0))

    def _share(self, name: str) -> float | None:
        """The share of a task that is done; None if it is under way and does not say."""
        task, visits = self.tasks[name], self._visits[name]
        if task.stage < self._stage or visits >= task.visits:
            return 1.0
        if name in self._parts:
            return min((visits + self._parts[name]) / task.visits, 1.0)
        return visits / task.visits if visits or not self.spent[name] else None

    def _left(self, name: str, share: float | None, factor: float) -> float:
        expected = factor * self._expected(name)
        if share is None:
            return max(expected - self.spent[name], LEAST_LEFT * expected)
        if share <= 0 or share >= 1:
            return expected * (1 - share)
        own, weight = self.spent[name] * (1 - share) / share, min(share / OWN_PACE, 1.0)
        return weight * own + (1 - weight) * expected * (1 - share)
