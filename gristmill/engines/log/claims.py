"""Who is about to ask for what: several runs over one log pay for a completion once.

As long as a run is alone in its log, its claims are only noted in memory and cost nothing. Its writer looks
whether there is another run, with its commits (every 10 ms at most) and every second besides. If so it writes
what it has claimed into the log, and from then on a claim is committed before the request is sent. So when a
second run arrives, at most what is in flight at that moment is asked for twice.

The claims of a run that was killed are free at once, or after 5 seconds if its process cannot be looked up
(another container's, for example), since a run says every second that it lives. Times are those of the
monotonic clock, which all processes of a machine share (SQLite's write-ahead log does not work across
machines either); after a restart of the machine it begins anew, and times ahead of it count as past.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
import time
from collections.abc import Iterable

Place = tuple[bytes, int]
"""A completion's place in the log: the key's digest and the sample's index."""

BEAT_SECONDS = 1.0
_LOOK_SECONDS = 0.01
_ALIVE_SECONDS = 5.0
_OTHERS = "SELECT count(*) FROM owner WHERE id != ?1 AND seen BETWEEN ?2 - ?3 AND ?2 + ?3"
_BEAT = "INSERT INTO owner VALUES (?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET seen = excluded.seen"
_CLAIM = "INSERT OR IGNORE INTO claim VALUES (?, ?, ?)"
_OWNER = "SELECT owner FROM claim WHERE key = ? AND sample = ?"
_RELEASE = "DELETE FROM claim WHERE key = ? AND sample = ? AND owner = ?"


class Claims:
    """The claims of one open log. The attributes are read and set in any thread; the methods are called in
    the writer's, inside its transaction."""

    def __init__(self) -> None:
        self.held: set[Place] = set()
        """What this run has claimed and not yet given back."""
        self.known = False
        """Whether this run has claimed anything, so that others are to know of it."""
        self.shared = False
        """Whether another run uses the log, as far as the last commit has seen."""
        self._id = secrets.randbits(62)
        self._place = _place()
        self._beat = self._looked = 0.0

    def refresh(self, connection: sqlite3.Connection) -> None:
        """Say that this run lives (once a second), and see whether another one does."""
        now = time.monotonic()
        if now - self._looked < _LOOK_SECONDS:
            return
        self._looked = now
        if now - self._beat >= BEAT_SECONDS:
            connection.execute(_BEAT, (self._id, now, os.getpid(), self._place))
            owners = connection.execute("SELECT id, seen, pid, place FROM owner").fetchall()
            dead = [(owner,) for owner, *found in owners if not self._lives(now, *found)]
            connection.executemany("DELETE FROM claim WHERE owner = ?", dead)
            connection.executemany("DELETE FROM owner WHERE id = ?", dead)
            self._beat = now
        others = connection.execute(_OTHERS, (self._id, now, _ALIVE_SECONDS)).fetchone()[0] > 0
        before, self.shared = self.shared, others  # first, so that no claim is only noted any more
        if others and not before:
            connection.executemany(_CLAIM, [(*place, self._id) for place in self.held.copy()])
        elif before and not others:
            connection.execute("DELETE FROM claim WHERE owner = ?", (self._id,))

    def _lives(self, now: float, seen: float, pid: int, place: str) -> bool:
        if abs(now - seen) > _ALIVE_SECONDS:
            return False
        if place == self._place:
            try:
                os.kill(pid, 0)  # no signal: only whether there is such a process
            except ProcessLookupError:
                return False
            except PermissionError:  # there is, and it is another user's
                return True
        return True

    def take(self, connection: sqlite3.Connection, places: Iterable[Place]) -> list[Place]:
        """Those of ``places`` that no other run holds; they are this run's now."""
        mine = []
        for place in places:
            connection.execute(_CLAIM, (*place, self._id))
            if connection.execute(_OWNER, place).fetchone()[0] == self._id:
                mine.append(place)
        self.held.update(mine)
        return mine

    def give_back(self, connection: sqlite3.Connection, places: Iterable[Place]) -> None:
        """The claims on ``places`` are free again."""
        if self.shared:
            connection.executemany(_RELEASE, [(*place, self._id) for place in places])

    def end(self, connection: sqlite3.Connection) -> None:
        """This run uses the log no more."""
        if self.known:
            connection.execute("DELETE FROM claim WHERE owner = ?", (self._id,))
            connection.execute("DELETE FROM owner WHERE id = ?", (self._id,))


def _place() -> str:
    """Where the numbers of this process and of those of the same place are told apart."""
    try:
        return os.readlink("/proc/self/ns/pid")  # noqa: PTH115 - the text of the link, which is no path
    except OSError:
        return ""  # not Linux, where containers have a system of their own
