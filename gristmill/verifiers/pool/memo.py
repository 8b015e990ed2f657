"""Verdicts that are kept, so that a pool does not send the same call to a worker twice."""

from __future__ import annotations

import threading
from hashlib import blake2b

from gristmill.core.verdicts import Outcome, Verdict

SIZE = 32_768
"""Verdicts that a pool keeps unless told otherwise; some 20 MB where each is short."""
_LONGEST = 1_000
"""Characters of evidence beyond which a verdict is not kept, so that the memory used is bounded."""

_PASSING = (Outcome.TIMEOUT, Outcome.ERROR)


class Memo:
    """The last ``size`` verdicts that were kept, by the bytes of their calls. For any number of threads.

    ``timeout`` and ``error`` are not kept: they may come from the machine and not from the texts. A call is
    held as its digest, so a long completion costs 16 bytes.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._kept: dict[bytes, Verdict] = {}
        self._lock = threading.Lock()

    def get(self, call: bytes) -> Verdict | None:
        """The verdict on ``call`` if it is kept."""
        return self._kept.get(_digest(call)) if self._kept else None

    def keep(self, call: bytes, verdict: Verdict) -> None:
        """Keep a verdict; the oldest makes room for it."""
        evidence = len(verdict.extracted or "") + len(verdict.rule) + len(verdict.detail)
        if self._size <= 0 or verdict.outcome in _PASSING or evidence > _LONGEST:
            return
        with self._lock:
            if len(self._kept) >= self._size:
                del self._kept[next(iter(self._kept))]
            self._kept[_digest(call)] = verdict


def _digest(call: bytes) -> bytes:
    return blake2b(call, digest_size=16).digest()
