"""Files and folders that appear whole or not at all, after a power failure as well.

Not the library ``atomicwrites``: it is no longer maintained, and does files only.
"""

from __future__ import annotations

import errno
import os
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
        sync(unfinished)
        unfinished.replace(path)
        sync_names(path.parent)
    finally:
        with suppress(OSError):  # the block has met it too, and said so
            _remove(unfinished)


def write_whole(path: Path, data: bytes) -> None:
    """Put ``data`` in place as ``path`` at once: a reader sees the former file or the whole new one."""
    with atomic(path) as unfinished:
        unfinished.write_bytes(data)


def sync(path: Path) -> None:
    """Bring what was written to a file, or to all files of a folder, to the disk.

    Without it a file that is renamed right after it was written may be empty after a power failure.
    """
    if not path.is_dir():
        _sync(path, os.O_RDONLY)
        return
    for inner in path.iterdir():
        sync(inner)
    sync_names(path)


def sync_names(folder: Path) -> None:
    """Bring the names of a folder's files to the disk: what was renamed in it stays renamed."""
    _sync(folder, os.O_RDONLY | os.O_DIRECTORY)


def _sync(path: Path, flags: int) -> None:
    file = os.open(path, flags)
    try:
        os.fsync(file)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EROFS):  # a kind of file that has no disk behind it
            raise
    finally:
        os.close(file)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
