"""When to stop a run: failures that come from the engine or its set-up and not from single rows.

No library is used for this: circuit breakers such as pybreaker reject calls for a while and then try again,
whereas here the run ends with a reason, and being told to slow down must not count as a failure.
"""

from __future__ import annotations

from collections import deque
from time import monotonic
from typing import Literal, get_args

WINDOW = 200
"""The error rate is computed over this many of the latest tries."""
EARLY = 20
"""This many failures without one success mean a wrong key, a wrong model or a server that is down."""

Try = Literal["answered", "own", "limited", "congested", "refused", "failed", "silent"]
"""How a try ended: with an answer; refused for this one prompt; refused for the pace; refused for overload;
refused for another reason; failed; without any answer in time."""


class Breaker:
    """Decides when failures mean that the whole run should stop.

    It trips when more than ``rate`` (a share) of the last 200 tries failed; when the first 20 failed
    without one answer; when 20 in a row (or twice the concurrency, if that is more) got no answer from a
    working server, so that a server that goes down during a slow run does not cost rows; or when two
    requests got no answer in time and nobody else did for twice ``timeout`` seconds. An answer that asks to
    slow down ("congested") is not a failure while any request is answered; it counts as one after
    ``patience`` seconds without an answer. A refusal for the pace ("limited") never is one, but nothing
    else for ``timeout`` seconds trips it too. A refusal of one prompt ("own") says nothing about the
    others."""

    def __init__(self, rate: float, concurrency: int, patience: float, timeout: float) -> None:
        self._rate = rate
        self._streak_limit = max(EARLY, 2 * concurrency)
        self._patience = patience
        self._timeout = timeout
        self._window: deque[Try] = deque(maxlen=WINDOW)
        self._counts: dict[Try, int] = dict.fromkeys(get_args(Try), 0)
        self._streak = 0
        self._answered = False
        self._silent: set[object] = set()
        self.last_answer = monotonic()
        """When the server last showed that it works."""

    def record(self, result: Try, of: object = None) -> str | None:
        """Count a try of the request ``of``. Returns a sentence that says why the run should stop, or
        ``None``."""
        counts, window = self._counts, self._window
        if len(window) == WINDOW:  # full: the append below drops the oldest try
            counts[window[0]] -= 1
        window.append(result)
        counts[result] += 1
        if result in ("answered", "own"):
            self._streak, self.last_answer = 0, monotonic()
            self._answered = self._answered or result == "answered"
            self._silent.clear()
            return None
        # A refusal or a request to slow down comes from a server that works, so it ends the streak.
        self._streak = self._streak + 1 if result == "failed" else 0
        since = monotonic() - self.last_answer
        if result == "silent":
            self._silent.add(of)
            if len(self._silent) > 1 and since > 2 * self._timeout:
                return f"the server has answered nothing for {since:.0f} s"
        if result == "limited" and since > self._timeout:
            return f"for {since:.0f} s the server has refused everything for a limit on its use"
        failed, total = counts["refused"] + counts["failed"], len(window)
        if not counts["answered"] and since > self._patience:
            failed += counts["congested"] + counts["silent"]
        # Until the window is full its error rate says little, unless nothing was ever answered.
        early = not self._answered and failed >= EARLY
        if (early or total == WINDOW) and failed > self._rate * total:
            return f"{failed} of the last {total} requests failed (more than {self._rate:.0%})"
        if self._streak >= self._streak_limit:
            return f"the last {self._streak} requests all failed"
        return None
