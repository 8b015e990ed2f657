"""The processes of one training, as torchrun or accelerate start them: how many, and which this is."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def processes() -> int:
    """How many processes train together; 1 where none were launched."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first() -> bool:
    """Whether this process is the one that writes."""
    return int(os.environ.get("RANK", "0")) == 0


@contextmanager
def in_turn(folder: Path) -> Iterator[None]:
    """Let the processes of a training do something in ``folder`` one after the other, such as to write the
    same file. ``OSError`` where the folder cannot be made."""
    if processes() == 1:
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".turn").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # let go with the file, also where the process dies
        yield
