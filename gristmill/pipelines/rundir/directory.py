"""The run directory: who holds it, which recipe it belongs to, and folders that appear whole or not at all.

Files are synced before they are renamed, so that what has its name after a power failure is whole.

The lock is ``flock`` itself and not the package filelock: the kernel releases it when the process dies in any
way, and the file must not be removed, since a later run would then lock another file of that name.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from gristmill.core.errors import RunError
from gristmill.core.files import sync, sync_names, write_whole

if TYPE_CHECKING:
    from gristmill.engines.log.store import CompletionLog

RECIPE, SUMMARY, PARTIAL, LOG, EXPORTS = (
    "recipe.yaml",
    "summary.json",
    "partial.json",
    "log.txt",
    "exports",
)
_LOCK, _FRESH = ".lock", ".fresh"

_FREE = "Free some space, then run it again: it continues where it stopped and pays for nothing twice."
_WRITABLE = "Make the directory writable, or put the run elsewhere with --runs DIR."
_REMEDIES = {
    errno.ENOSPC: _FREE,
    errno.EDQUOT: _FREE,
    errno.EFBIG: _FREE,
    errno.EROFS: _WRITABLE,
    errno.EACCES: _WRITABLE,
    errno.EPERM: _WRITABLE,
    errno.ENOTDIR: "Put the run elsewhere with --runs DIR.",
}


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn an ``OSError`` met while writing ``path`` into a ``RunError`` with the remedy."""
    try:
        yield
    except OSError as error:
        remedy = _REMEDIES.get(error.errno or 0, "Check the disk, then give the same command again.")
        raise RunError(f"cannot write {path}: {error.strerror or error}.", remedy=remedy) from error


def write_file(path: Path, data: bytes) -> None:
    """``write_whole``, with a ``RunError`` where that fails."""
    with disk_errors(path):
        write_whole(path, data)


class _Fresh(Struct, frozen=True):
    """When a run was begun afresh: a generation of a log."""

    log: str
    generation: int


class RunDir:
    """A run directory that this process holds. Made by ``hold``."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def stage(self, index: int, name: str) -> StageDir:
        """The folder ``NN-name`` of a stage."""
        return StageDir(self.path, f"{index:02d}-{name}")

    def drop_stages_except(self, names: Iterable[str]) -> None:
        """Remove the folders of stages that the recipe no longer has."""
        keep = set(names)
        for folder in stage_folders(self.path):
            if folder.name not in keep:
                shutil.rmtree(folder)

    def write(self, name: str, data: bytes) -> None:
        """Put a file in place at once."""
        write_file(self.path / name, data)

    def note(self, text: str) -> None:
        """Append a line (or several) to ``log.txt``, with the time."""
        path = self.path / LOG
        with disk_errors(path), path.open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text.rstrip()}\n")

    def fresh_since(self, log: CompletionLog, *, start: bool) -> int | None:
        """The generation of ``log`` before which completions are not to be read; ``None`` to read them all.

        ``start`` begins a new one. It is kept, so that a fresh run that was stopped goes on as one. In
        another log than the one in which it began it means nothing: all that such a log holds is read.
        """
        path = self.path / _FRESH
        try:
            mark = None if start else msgspec.json.decode(path.read_bytes(), type=_Fresh | float)
        except FileNotFoundError:
            return None
        except msgspec.DecodeError as error:
            raise RunError(
                f"{path} does not say when the run was begun afresh: {error}.",
                remedy="Remove it, or use --fresh.",
            ) from error
        if not isinstance(mark, _Fresh):  # earlier versions kept the time of the start
            mark = _Fresh(log.id, log.next_generation(since=mark))
            write_file(path, msgspec.json.encode(mark) + b"\n")
        return mark.generation if mark.log == log.id else None


class StageDir:
    """A stage's folder. Its files are written beside it, out of sight, until ``commit``."""

    def __init__(self, parent: Path, name: str) -> None:
        self.name = name
        self.path = parent / name
        self.new = parent / f".{name}.new"
        self.old = parent / f".{name}.old"

    def begin(self) -> None:
        """Make the hidden folder, empty."""
        with disk_errors(self.path):
            shutil.rmtree(self.new, ignore_errors=True)
            self.new.mkdir()

    def write(self, name: str, data: bytes) -> None:
        """Write a file of the hidden folder."""
        with disk_errors(self.path / name):
            (self.new / name).write_bytes(data)

    def commit(self) -> None:
        """Put the hidden folder in place. A former one stays until the moment before."""
        with disk_errors(self.path):
            sync(self.new)
            if self.path.exists():
                self.path.rename(self.old)
            self.new.rename(self.path)
            sync_names(self.path.parent)
            shutil.rmtree(self.old, ignore_errors=True)


@contextmanager
def hold(path: Path) -> Iterator[RunDir]:
    """Make the directory where needed and hold its lock, which the kernel lets go when the process ends.

    Raises ``RunError`` where another process holds it, where it cannot be written or locked, and where the
    folder of a stage is a link.
    """
    with disk_errors(path):
        path.mkdir(parents=True, exist_ok=True)
        lock = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(lock, 32).decode("ascii", "replace").strip() or "unknown"
            raise RunError(
                f"{path} is in use by process {holder}.",
                remedy="Wait for it to end, or give this run another name with --set name=NAME.",
            ) from None
        except OSError as error:
            raise RunError(
                f"{path} cannot be locked: {error.strerror or error}.",
                remedy="Its file system has no locks. Put the run on another one with --runs DIR.",
            ) from error
        with disk_errors(path):
            os.ftruncate(lock, 0)
            os.pwrite(lock, str(os.getpid()).encode(), 0)
            _tidy(path)
        yield RunDir(path)
    finally:
        os.close(lock)


def run_path(run: str, runs: Path) -> Path:
    """A run given by its directory or by its name in ``runs``."""
    path = Path(run)
    return path if path.is_dir() else runs / run


def run_and_stage(what: str, runs: Path) -> tuple[Path, str]:
    """A run given as NAME or NAME:STAGE, and the stage; empty for none. A folder or file
    of that whole name goes first."""
    name, _, stage = what.rpartition(":")
    if not name or Path(what).exists():
        name, stage = what, ""
    return run_path(name, runs), stage


def stage_folders(path: Path) -> list[Path]:
    """The folders of a run directory's sources and stages, in order."""
    return sorted(folder for folder in path.glob("[0-9][0-9]-*") if folder.is_dir())


def half_made(path: Path) -> list[Path]:
    """The hidden folders of stages that are being written, or were when a run was killed, in order."""
    return sorted(path.glob(".[0-9][0-9]-*.new"))


def _tidy(path: Path) -> None:
    """Undo what a killed run left: half-made folders, and a former folder on its way out."""
    for place in (*path.glob("[0-9][0-9]-*"), *path.glob(".[0-9][0-9]-*")):
        if place.is_symlink():
            raise RunError(
                f"{place} is a link, and a run puts a folder of its own there.",
                remedy="Remove the link. To keep the rows on another disk, put the whole run there with "
                "--runs DIR, or make the run directory itself a link.",
            )
    for old in path.glob(".[0-9][0-9]-*.old"):
        place = path / old.name.removeprefix(".").removesuffix(".old")
        if place.exists():
            shutil.rmtree(old)
        else:
            old.rename(place)
    for new in half_made(path):
        shutil.rmtree(new)


def changed_keys(old: Mapping[str, Any], new: Mapping[str, Any], ignored: frozenset[str]) -> list[str]:
    """Dotted names of the keys whose values differ, except the ``ignored`` ones."""
    changed: list[str] = []
    _compare("", old, new, ignored, changed)
    return changed


def _compare(at: str, old: Any, new: Any, ignored: frozenset[str], changed: list[str]) -> None:
    if at in ignored or old == new:
        return
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in [*old, *(k for k in new if k not in old)]:
            _compare(f"{at}.{key}" if at else str(key), old.get(key), new.get(key), ignored, changed)
    elif isinstance(old, list | tuple) and isinstance(new, list | tuple) and len(old) == len(new):
        for i, (a, b) in enumerate(zip(old, new, strict=True)):
            _compare(f"{at}.{i}", a, b, ignored, changed)
    else:
        changed.append(at)
