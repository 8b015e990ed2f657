"""Reading the completion log: a request's own answers, and those of its relatives that it can use."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gristmill.core.engine import Completion
from gristmill.engines.log.claims import Place
from gristmill.engines.log.entry import LogKey, family, read, serves, without_limit
from gristmill.engines.log.file import BUSY_SECONDS, is_busy, log_error, patiently

_OWN = (
    "SELECT sample, CAST(completion AS BLOB), seal FROM completion"
    " WHERE key = ? AND sample >= ? AND sample < ? AND generation >= ?"
)
# The oldest first, so that a rerun finds the same one whatever has been added since.
_RELATED = (
    "SELECT c.sample, CAST(c.completion AS BLOB), c.seal, r.key, CAST(r.request AS BLOB), r.model"
    " FROM request AS r JOIN completion AS c ON c.key = r.key WHERE r.family = ? AND r.key != ?"
    " AND c.sample >= ? AND c.sample < ? AND c.generation >= ? ORDER BY c.rowid"
)

_logger = logging.getLogger(__name__)


class LogReader:
    """The answers in the log at ``path``, over an open connection.

    An entry that is broken counts as missing: it is told once by a warning, and noted in ``broken``.
    """

    def __init__(
        self, connection: sqlite3.Connection, path: Path, busy_seconds: float = BUSY_SECONDS
    ) -> None:
        self.broken: set[Place] = set()
        self.connection = connection
        self._path = path
        self._busy_seconds = busy_seconds

    def own(self, key: LogKey, first: int, n: int, generation: int | None) -> dict[int, Completion]:
        """Those of samples ``first .. first + n - 1`` that are in the log under ``key`` and of ``generation``
        or later."""
        have: dict[int, Completion] = {}
        for sample, text, sealed in self.rows(_OWN, (key.digest, first, first + n, generation or 0)):
            completion = read(key.digest, sample, text, sealed)
            if completion is not None:
                have[sample] = completion
            else:
                self._broke(key.digest, sample)
        return have

    def related(self, key: LogKey, first: int, n: int, generation: int | None) -> dict[int, Completion]:
        """Answers to the same request with another ``max_tokens`` that are answers to this one too."""
        have: dict[int, Completion] = {}
        number = family(key.model, key.request)
        rows = self.rows(_RELATED, (number, key.digest, first, first + n, generation or 0))
        if not rows:
            return have
        rest, asked = without_limit(key.request)
        for sample, text, sealed, digest, request, model in rows:
            other, given = without_limit(request.decode(errors="replace"))
            if sample in have or other != rest or model != key.model:  # family numbers may collide
                continue
            completion = read(digest, sample, text, sealed)
            if completion is not None and serves(completion, given, asked):
                have[sample] = completion
        return have

    def rows(self, query: str, values: Sequence[Any] = ()) -> list[Any]:
        """What a query gives. ``LogError`` where it fails."""

        def read_all() -> list[Any]:
            return self.connection.execute(query, values).fetchall()

        try:
            try:
                return read_all()
            except sqlite3.OperationalError as error:
                if not is_busy(error):
                    raise
                return patiently(self._path, self._busy_seconds, read_all)
        except sqlite3.Error as error:
            raise log_error(self._path, error) from error

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()

    def _broke(self, digest: bytes, sample: int) -> None:
        if (digest, sample) not in self.broken:
            self.broken.add((digest, sample))
            _logger.warning(
                "%s: sample %d under key %s is damaged, so it is asked for again (gristmill log check lists "
                "what is damaged).",
                self._path,
                sample,
                digest.hex(),
            )
