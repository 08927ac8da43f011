"""Takes in the tomograms of a folder as they appear, and restores them as the rows of a batch, in rounds.

A tomogram is ready when all its files are there (both halves, and its tilt file unless there is a range for all), have kept their
size and time for STABLE seconds, and can be opened. Each round is a batch of all that are ready; rows that are done are passed
over in it, and rows that failed are, until their files change.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cryovae.errors import InputError
from cryovae.io.names import in_one_line
from cryovae.io.star.layouts import ARETOMO, Layout, layout_of
from cryovae.io.star.pairing import checked_volumes, tomogram_rows
from cryovae.io.star.table import read_blocks, write_blocks
from cryovae.io.star.tilt_files import each_tilts_of
from cryovae.tomogram import TiltGeometry
from cryovae.workflows.run_folder import stamp

# Seconds between two looks, for which a file must stay as it is, and between two lines while nothing happens.
POLL, STABLE, LINE = 5.0, 15.0, 30.0
# Seconds for which a volume of AreTomo3 waits for its halves, which it writes after it.
HALVES_WAIT = 600.0
# Reasons that a line names at most.
MOST_REASONS = 3

# Restores the rows of the table, without those of some names; returns the state of each row by its name.
Round = Callable[[Collection[str]], Mapping[str, str]]
Stamp = tuple[int, int]


@dataclass
class Watched:
    """A folder that is watched, and what was seen in it so far.

    Attributes:
        folder: the folder.
        table: the STAR file of the tomograms that are ready, which this writes.
        tilts: tilts of all tomograms, or None to find a tilt file for each.
        voxel_size: in angstrom, instead of those of the headers, or None.
        clock: seconds since any moment.
        ready: files of each tomogram that is ready, its tilt file last if it has one.
        waiting: why others are not ready, by name.
        changed: when anything in the folder last changed, by the clock.
    """

    folder: Path
    table: Path
    tilts: TiltGeometry | None = None
    voxel_size: float | None = None
    clock: Callable[[], float] = time.monotonic
    ready: dict[str, tuple[Path, ...]] = field(default_factory=dict)
    waiting: dict[str, str] = field(default_factory=dict)
    changed: float = float("-inf")
    _content: Stamp | None = None
    _seen: dict[Path, tuple[Stamp, float]] = field(default_factory=dict)
    _taken: dict[str, list[Stamp]] = field(default_factory=dict)

    def look(self) -> bool:
        """Look into the folder; write the table anew, and return True, if a tomogram has become ready or has changed."""
        layout = self._layout()
        self.waiting = dict(layout.incomplete)
        if self._content != (content := _stamp_of(self.folder)):
            self._content, self.changed = content, self.clock()
        files = {
            name: (*volumes, *tilts) for name, volumes in layout.rows.items() if (tilts := self._tilts(layout, name)) is not None
        }
        now: dict[str, tuple[Path, ...]] = {}
        taken: dict[str, list[Stamp]] = {}
        for name, paths in files.items():
            self.waiting.pop(name, None)
            stamps = [_stamp_of(path) for path in paths]
            known = self._taken.get(name) == stamps and self.ready.get(name) == paths
            volumes = layout.rows[name]
            reason = None if known else self._why_not(layout, name, volumes, paths)
            if reason:
                self.waiting[name] = reason
            else:
                now[name], taken[name] = paths, stamps
        if all(self._taken.get(name) == stamps and self.ready[name] == now[name] for name, stamps in taken.items()):
            return False
        # The order in which they came stays, so that rows keep their numbers.
        order = [name for name in (*self.ready, *self._listed()) if name in now]
        self.ready = {name: now[name] for name in dict.fromkeys([*order, *sorted(now)])}
        self._write({name: layout.rows[name] for name in self.ready})
        self._taken = taken
        return True

    def _layout(self) -> Layout:
        try:
            return layout_of(self.folder)
        except InputError as error:
            # It may be resolved by what is written next, such as the second of two folders.
            return Layout("", self.folder, incomplete={str(self.folder): str(error)})

    def _tilts(self, layout: Layout, name: str) -> tuple[Path, ...] | None:
        """The tilt file of a tomogram, none if there are tilts for all; None, and a reason, if it is not there."""
        if self.tilts is not None:
            return ()
        for folder in layout.tilts:
            path = each_tilts_of(list(layout.rows), folder)[name]
            if isinstance(path, Path):
                return (path,)
            self.waiting.setdefault(name, str(path))
        return None

    def _unstable(self, paths: tuple[Path, ...]) -> str | None:
        """Why files are not stable: the name of one that is still being written, or has just appeared."""
        reason = None
        for path in paths:
            current = _stamp_of(path)
            before = self._seen.get(path)
            if before is None or before[0] != current:
                self._seen[path] = (current, self.clock())
            if reason is None and self.clock() - self._seen[path][1] < STABLE:
                reason = f"{path.name} is still being written, or is new"
        return reason

    def _why_not(self, layout: Layout, name: str, volumes: tuple[Path, ...], paths: tuple[Path, ...]) -> str | None:
        """Why a tomogram is not taken in now, or None."""
        return self._unstable(paths) or self._without_halves(layout, volumes) or self._unusable(name, volumes, paths)

    def _without_halves(self, layout: Layout, volumes: tuple[Path, ...]) -> str | None:
        """Why a volume of AreTomo3 waits: its halves may still come."""
        if layout.program != ARETOMO or len(volumes) > 1:
            return None
        left = HALVES_WAIT - (self.clock() - self._seen[volumes[0]][1])
        return f"{volumes[0].name} has no halves yet, taken without them in {left / 60:.0f} minutes" if left > 0 else None

    def _unusable(self, name: str, volumes: tuple[Path, ...], paths: tuple[Path, ...]) -> str | None:
        """Why the files of a tomogram cannot be opened, which a copy that has stalled may explain."""
        try:
            sizes = checked_volumes({name: volumes}, self.voxel_size)
            tomogram_rows({name: volumes}, self.tilts or {name: paths[-1]}, sizes, self.table)
        except (InputError, OSError) as error:
            return str(error)
        return None

    def _listed(self) -> list[str]:
        """The names in the table of an earlier run."""
        if not self.table.exists():
            return []
        return list(next(iter(read_blocks(self.table).values())).columns.get("rlnTomoName", ()))

    def _write(self, volumes: Mapping[str, tuple[Path, ...]]) -> None:
        sizes = checked_volumes(volumes, self.voxel_size)
        tilts = self.tilts if self.tilts is not None else {name: self.ready[name][-1] for name in volumes}
        write_blocks(self.table, {"": tomogram_rows(volumes, tilts, sizes, self.table)})


def watch(watched: Watched, restore: Round, idle_minutes: float | None, sleep: Callable[[float], None] = time.sleep) -> bool:
    """Restore the tomograms of a folder as they become ready, until nothing has changed for a while, or for ever.

    Args:
        watched: the folder.
        restore: restores the rows of the table, without those whose names it gets.
        idle_minutes: minutes without any change after which the watch ends; None for ever, until a signal.
        sleep: waits for so many seconds.

    Returns:
        Whether all tomograms that became ready were restored.
    """
    states: Mapping[str, str] = {}
    failed: dict[str, list[Stamp]] = {}
    began = last_line = watched.clock()
    print(f"watching {watched.folder}", flush=True)
    while True:
        if watched.look():
            passed = {name for name, stamps in failed.items() if name in watched.ready and _stamps(watched, name) == stamps}
            states = restore(passed)
            failed = {
                name: _stamps(watched, name) for name, state in states.items() if state == "failed" and name in watched.ready
            }
            began = last_line = watched.clock()
            continue
        idle = watched.clock() - max(began, watched.changed)
        if idle_minutes is not None and idle >= 60 * idle_minutes:
            print(f"nothing new in {watched.folder} for {idle_minutes:g} minutes: {_counts(states)}", flush=True)
            _print_left(watched)
            return all(state == "done" for state in states.values())
        if watched.clock() - last_line >= LINE:
            last_line = watched.clock()
            limit = "" if idle_minutes is None else f" of {idle_minutes:g}"
            waited = f"waiting for tomograms in {watched.folder}, {idle / 60:.1f}{limit} minutes"
            print(f"{waited}: {_counts(states)}{_reasons(watched)}", flush=True)
        sleep(POLL)


def _stamps(watched: Watched, name: str) -> list[Stamp]:
    return [_stamp_of(path) for path in watched.ready[name]]


def _stamp_of(path: Path) -> Stamp:
    """Size and time of a file, or of all files of a folder; zeros for one that has just gone."""
    try:
        about = stamp(path)
    except OSError:
        return (0, 0)
    return (about["bytes"], about["changed"])


def _counts(states: Mapping[str, str]) -> str:
    kinds = sorted(set(states.values()))
    counts = [f"{sum(state == kind for state in states.values())} {kind}" for kind in kinds]
    return ", ".join(counts) if counts else "none so far"


def _reasons(watched: Watched) -> str:
    reasons = list(watched.waiting.values())
    more = f"; and {len(reasons) - MOST_REASONS} more" if len(reasons) > MOST_REASONS else ""
    return in_one_line(f"; not ready: {'; '.join(reasons[:MOST_REASONS])}{more}") if reasons else ""


def _print_left(watched: Watched) -> None:
    for name, reason in watched.waiting.items():
        print(in_one_line(f"{name} was not taken in: {reason}"), file=sys.stderr)
