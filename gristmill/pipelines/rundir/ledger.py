"""What of a run directory is of the run at work, so that no summary stands beside rows of another run.

``summary.json`` is of a run that came to its end. It goes before the first of its stages is replaced; from
then on ``partial.json`` says what each folder holds, until the next run comes to its end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
from msgspec.structs import replace

from gristmill.core.errors import RunError
from gristmill.pipelines.rundir.directory import (
    EXPORTS,
    PARTIAL,
    RECIPE,
    SUMMARY,
    RunDir,
    disk_errors,
    stage_folders,
)
from gristmill.pipelines.rundir.summary import Spent, StageState, Summary, Unfinished, decode

AT_WORK = "the run has not come to its end: it is at work, or was killed."


class Ledger:
    """Keeps ``partial.json`` and ``summary.json`` of a run directory true while a run is at work in it."""

    def __init__(self, rundir: RunDir, recipe: bytes, *, continues: bool = False) -> None:
        """``recipe`` is the text of ``recipe.yaml``. Nothing is written before ``begin``.

        ``continues``: this process continues the run of the process before it, as the phases of a
        distributed run do, which ``begin`` has begun.
        """
        self.summary: Callable[[], Summary] | None = None
        """What was done until now; it must be set before the first stage is put in place."""
        self._rundir = rundir
        self._recipe = recipe
        former = last_summary(rundir.path)
        self.keeps_former = (rundir.path / SUMMARY).exists()
        """Whether all that is there is still the earlier run that came to its end."""
        same = continues and not self.keeps_former
        self.spent = former.total if former else Spent()
        """What all earlier runs in this directory spent."""
        if former and same:
            self.spent = self.spent.minus(former.spent)
        self.exported = dict(former.exported) if former else {}
        """The files that were exported by hand."""
        self._stages = {
            name: replace(state, former=state.former or not same)
            for name, state in states_of(rundir.path, former).items()
        }

    def begin(self) -> None:
        """The run is about to work. An earlier run that came to its end stays what it is until its first
        stage is replaced."""
        if not self.keeps_former:
            self._rundir.write(RECIPE, self._recipe)
            self._write(AT_WORK)

    def anew(self) -> None:
        """The stages are run again, over more rows: what they have made is not whole."""
        self._stages = {n: replace(s, whole=s.whole and s.former) for n, s in self._stages.items()}

    @contextmanager
    def committing(self, name: str, *, whole: bool = True) -> Iterator[None]:
        """Put a stage's folder in place inside of the block; ``whole``: with all its rows."""
        if self.keeps_former:
            self.keeps_former = False
            self._write(AT_WORK)
            self._remove(SUMMARY)
            self._rundir.write(RECIPE, self._recipe)
        yield
        self._stages[name] = StageState(whole)
        self._write(AT_WORK)

    def stopped(self, why: str) -> Unfinished | None:
        """The run has stopped before its end; what to say of the directory, ``None`` where an earlier run is
        still all there."""
        if self.keeps_former:
            return None
        return self._write(why)

    def complete(self, summary: Summary) -> None:
        """The run has come to its end."""
        self._rundir.write(SUMMARY, summary.encode())
        self._remove(PARTIAL)

    def _write(self, why: str) -> Unfinished:
        assert self.summary is not None
        summary = self.summary()
        exports = self._rundir.path / EXPORTS
        former_exports = not summary.exports and exports.is_dir() and any(exports.iterdir())
        unfinished = Unfinished(why, dict(sorted(self._stages.items())), former_exports)
        self._rundir.write(PARTIAL, replace(summary, unfinished=unfinished).encode())
        return unfinished

    def _remove(self, name: str) -> None:
        path = self._rundir.path / name
        with disk_errors(path):
            path.unlink(missing_ok=True)


def last_summary(path: Path) -> Summary | None:
    """The summary of the last run in a directory, complete or not; ``None`` where there is none that can be
    read (the next run writes it anew)."""
    for name in (SUMMARY, PARTIAL):
        try:
            return decode((path / name).read_bytes())
        except FileNotFoundError:
            continue
        except msgspec.DecodeError:
            return None
        except OSError as error:
            remedy = "Check its permissions and the disk."
            raise RunError(
                f"{path / name} cannot be read: {error.strerror or error}.", remedy=remedy
            ) from error
    return None


def states_of(path: Path, summary: Summary | None) -> dict[str, StageState]:
    """What the folders of a run directory hold, by the names of sources and stages."""
    there = {folder.name[3:]: StageState(whole=True) for folder in stage_folders(path)}
    if summary is None or summary.unfinished is None:
        return there
    known = summary.unfinished.stages
    return {name: known.get(name, StageState(whole=False)) for name in there}
