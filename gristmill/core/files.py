"""Files and folders that appear whole or not at all.

Not the library ``atomicwrites``: it is no longer maintained, and does files only.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A place beside ``path``, to write a file or a folder to, which becomes ``path`` when the block ends.

    Where the block fails, what it wrote is removed, and what was at ``path`` before stays. What a killed
    process left in that place is removed first. A folder takes the place of an empty one only. ``OSError``
    where that cannot be.
    """
    unfinished = path.with_name(f".{path.name}.new")
    _remove(unfinished)
    try:
        yield unfinished
        unfinished.replace(path)
    finally:
        with suppress(OSError):  # the block has met it too, and said so
            _remove(unfinished)


def write_whole(path: Path, data: bytes) -> None:
    """Put ``data`` in place as ``path`` at once: a reader sees the former file or the whole new one."""
    with atomic(path) as unfinished:
        unfinished.write_bytes(data)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
