"""When to stop a run: failures that are no longer a row's but the run's."""

from __future__ import annotations

from collections import deque
from time import monotonic
from typing import Literal

WINDOW = 200
"""The tries over which the error rate is taken."""
EARLY = 20
"""So many failures and no success at all is a wrong key, a wrong model or a dead server."""

Try = Literal["answered", "refused", "failed", "congested"]


class Breaker:
    """Decides when failures are the run's and no longer a row's.

    It trips when more than ``rate`` of the last 200 tries failed; when the first 20 failed without one
    answer; or when 20 in a row (or twice the concurrency) met no living server, so that a server that
    dies under a slow run does not cost rows. Being told to slow down is no failure as long as anything
    is answered; it counts once nothing was for ``patience`` seconds.
    """

    def __init__(self, rate: float, concurrency: int, patience: float) -> None:
        self._rate = rate
        self._streak_limit = max(EARLY, 2 * concurrency)
        self._patience = patience
        self._window: deque[Try] = deque(maxlen=WINDOW)
        self._counts: dict[Try, int] = {"answered": 0, "refused": 0, "failed": 0, "congested": 0}
        self._streak = 0
        self._answered = False
        self._last_answer = monotonic()

    def record(self, result: Try) -> str | None:
        """Count a try. When the run should stop, a sentence that says why."""
        counts, window = self._counts, self._window
        if len(window) == WINDOW:
            counts[window[0]] -= 1
        window.append(result)
        counts[result] += 1
        if result == "answered":
            self._streak, self._answered, self._last_answer = 0, True, monotonic()
            return None
        self._streak = self._streak + 1 if result == "failed" else 0
        failed, total = counts["refused"] + counts["failed"], len(window)
        if not counts["answered"] and monotonic() - self._last_answer > self._patience:
            failed += counts["congested"]
        early = not self._answered and failed >= EARLY
        if (early or total == WINDOW) and failed > self._rate * total:
            return f"{failed} of the last {total} requests failed (more than {self._rate:.0%})"
        if self._streak >= self._streak_limit:
            return f"the last {self._streak} requests all failed"
        return None
