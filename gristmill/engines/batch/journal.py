"""Which batches have been submitted, in a folder beside the completion log: a file for each.

The file is written before the batch is created, and again with the batch's id; it is removed once all answers
have been handed out. So a process that is killed at any moment leaves behind what the next one needs to fetch
the answers instead of paying for them again.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from gristmill.core.errors import LogError
from gristmill.core.files import write_whole

_KEPT_DAYS = 29
"""Days after which no server keeps a batch's answers."""


class Submitted(Struct, kw_only=True):
    """One batch: the server and model that it was sent to, and the ids of its requests.

    ``batch`` is the id that the server gave it, ``None`` while it is being created; ``created`` is in Unix
    seconds.
    """

    uid: str
    server: str
    created: float
    ids: list[str]
    batch: str | None = None


class Journal:
    """The batches of one ``server`` in ``folder``. Raises ``LogError`` where that cannot be used."""

    def __init__(self, folder: Path, server: str) -> None:
        self.folder = folder
        self._server = server

    def open(self) -> Iterator[Submitted]:
        """The batches whose answers have not all been handed out, oldest first; outdated ones are removed."""
        found = []
        for path in sorted(self.folder.glob("*.json")):
            try:
                batch = msgspec.json.decode(path.read_bytes(), type=Submitted)
            except (OSError, msgspec.DecodeError) as error:
                raise LogError(
                    f"{path} cannot be read: {error}.",
                    remedy="It lists requests that were submitted. Restore it; or remove it, and they are "
                    "submitted and paid for again.",
                ) from error
            if batch.server != self._server:
                continue
            if batch.created < time.time() - 86400 * _KEPT_DAYS:
                path.unlink(missing_ok=True)
            else:
                found.append(batch)
        yield from sorted(found, key=lambda b: b.created)

    def begin(self, ids: Sequence[str]) -> Submitted:
        """Note that a batch of these requests is about to be created."""
        batch = Submitted(uid=uuid.uuid4().hex, server=self._server, created=time.time(), ids=list(ids))
        self.write(batch)
        return batch

    def write(self, batch: Submitted) -> None:
        """Put the batch's file in place."""
        path = self._path(batch)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, msgspec.json.encode(batch))
        except OSError as error:
            raise LogError(
                f"cannot write {path}: {error.strerror or error}.",
                remedy="Make the folder writable or free some space, then run it again.",
            ) from error

    def remove(self, batch: Submitted) -> None:
        """Forget a batch."""
        self._path(batch).unlink(missing_ok=True)

    def _path(self, batch: Submitted) -> Path:
        return self.folder / f"{batch.uid}.json"
