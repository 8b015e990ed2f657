"""Files that are there completely or not at all.

A library for this (atomicwrites) exists but is no longer maintained, and ten lines do it. Nothing is synced
to the disk here: that matters only after a power failure, and a caller that needs it calls ``os.fsync``
itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Give a hidden path next to ``path`` to write to, and rename it to ``path`` if the block succeeds.

    If the block fails, ``path`` is unchanged and nothing is left behind. Raises ``OSError`` if the file
    cannot be renamed. Two processes that write one path at the same time need a lock of their own.
    """
    unfinished = path.with_name(f".{path.name}.tmp")
    try:
        yield unfinished
        unfinished.replace(path)
    except BaseException:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)
        raise
