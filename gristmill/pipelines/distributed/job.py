"""A distributed run as data: its phases, where each keeps its files, and what a phase leaves for the next.

    runs/NAME/.shards/job.json
    runs/NAME/.shards/NN-PHASE/result.json            what a single-task phase has counted until there
                               source-NN/             a source's rows, where no stage's folder holds them
                               tasks/00007/           a task's run directory, with its part of each stage
                               executor/              completions, logs and statistics of the executor
    .gristmill/tasks/NAME-DIGEST/GENERATION/NN-PHASE/task-00007.sqlite    the task's completion log
                                                      base.sqlite        what was paid for before

``.gristmill`` stands for the directory of the completion log. Everything here goes when the run is complete.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from gristmill.core.errors import RunError, RunStopped
from gristmill.pipelines.recipe import recipe as recipes
from gristmill.pipelines.recipe.graph import Graph
from gristmill.pipelines.recipe.recipe import Recipe
from gristmill.pipelines.rundir.directory import RunDir, hold, write_file
from gristmill.pipelines.rundir.summary import Spent, StageCounts
from gristmill.pipelines.running.rows import kept_sources

SHARDS, JOB, RESULT, TASKS, SOURCE_ROWS = ".shards", "job.json", "result.json", "tasks", "source"
LOGS = "tasks"
LOCK_SECONDS = 30.0
"""How long a task waits for a process that had it before and is on its way out."""


class Phase(Struct, frozen=True):
    """One job of an executor: the row stages behind the node ``root`` in many ``tasks``, or a single task
    between two of them.

    The single task reads the sources (if it is the first phase), merges what the tasks of the phase before
    made, runs the filters and relations ``tables`` and, if it is the ``last``, writes exports and summary.
    """

    index: int
    name: str
    tasks: int
    rows: bool
    root: int = -1
    tables: tuple[int, ...] = ()
    last: bool = False

    @property
    def label(self) -> str:
        """The name of its folders."""
        return f"{self.index:02d}-{self.name}"


def phases(graph: Graph, tasks: int) -> list[Phase]:
    """The phases of a graph, each depending on the one before. The first and the last are single tasks."""
    found: list[Phase] = []
    tables: list[int] = []

    def join(*, last: bool = False) -> None:
        name = "prepare" if not found else "finish" if last else "merge"
        found.append(Phase(len(found), name, 1, False, -1, tuple(tables), last))
        tables.clear()

    for root in graph.roots:
        if graph.nodes[root].stage is not None:
            tables.append(root)
        if members := graph.members(root):
            join()
            found.append(Phase(len(found), graph.nodes[members[0]].name, tasks, True, root))
    join(last=True)
    return found


def block(rows: int, tasks: int, rank: int) -> tuple[int, int]:
    """The rows (from, up to and without) of a task: contiguous, in order, of about equal size.

    Contiguous, so that the tasks' outputs one after the other are the output in input order.
    """
    return rank * rows // tasks, (rank + 1) * rows // tasks


class TaskResult(Struct):
    """What a phase or a task leaves when it is done. ``counts`` are of the source and then of every stage: a
    task's own, or all until there. ``heights`` are the rows in each part that the next phase reads."""

    counts: list[StageCounts]
    spent: Spent = msgspec.field(default_factory=Spent)
    seconds: float = 0.0
    heights: list[int] = []

    def add(self, other: TaskResult) -> None:
        """Add what another has counted."""
        for mine, theirs in zip(self.counts, other.counts, strict=True):
            mine.add(theirs)
        self.spent = self.spent.plus(other.spent)
        self.seconds += other.seconds


@contextmanager
def hold_soon(path: Path, seconds: float = LOCK_SECONDS) -> Iterator[RunDir]:
    """``hold``, waiting up to so many seconds for a process that had it and is on its way out."""
    until = time.monotonic() + seconds
    while True:
        held = hold(path)
        try:
            rundir = held.__enter__()
            break
        except RunError as error:
            if not isinstance(error.__context__, BlockingIOError) or time.monotonic() > until:
                raise
            time.sleep(0.1)
    try:
        yield rundir
    finally:
        held.__exit__(None, None, None)


class Job(Struct, frozen=True, kw_only=True):
    """A distributed run. ``recipe`` is as ``recipes.to_dict`` gives it; paths are absolute, except those in
    the recipe, which are relative to ``cwd``. ``started`` is in Unix seconds.

    ``stamp`` tells one state of the source from another without reading it. ``generation`` names the task
    logs of one division into tasks.
    """

    recipe: dict[str, Any]
    cwd: str
    rundir: str
    log: str
    tasks: int
    read_after: int | None
    stamp: str
    generation: str
    started: float
    gristmill: str

    def same_as(self, other: Job) -> bool:
        """Whether the outputs of tasks of one are those of the other (their recipes apart)."""
        names = ("cwd", "rundir", "log", "tasks", "read_after", "stamp", "gristmill")
        return all(getattr(self, name) == getattr(other, name) for name in names)

    def load(self) -> Recipe:
        """The recipe."""
        return recipes.from_dict(self.recipe)

    @property
    def shards(self) -> Path:
        """Where the phases have their folders."""
        return Path(self.rundir) / SHARDS

    @property
    def path(self) -> Path:
        """The file that holds this job."""
        return self.shards / JOB

    def folder(self, phase: Phase) -> Path:
        """A phase's folder."""
        return self.shards / phase.label

    def task(self, phase: Phase, rank: int) -> Path:
        """The run directory of a task."""
        return self.folder(phase) / TASKS / f"{rank:05d}"

    @property
    def all_logs(self) -> Path:
        """Where the task logs of this run directory are, of every generation."""
        digest = hashlib.blake2b(self.rundir.encode(), digest_size=4).hexdigest()
        return Path(self.log).parent / LOGS / f"{Path(self.rundir).name}-{digest}"

    def logs(self, phase: Phase) -> Path:
        """Where the task logs of a phase are."""
        return self.all_logs / self.generation / phase.label

    def task_log(self, phase: Phase, rank: int) -> Path:
        """A task's completion log."""
        return self.logs(phase) / f"task-{rank:05d}.sqlite"

    def base_log(self, phase: Phase) -> Path:
        """A snapshot of the completion log, which the tasks of a phase read; there may be none."""
        return self.logs(phase) / "base.sqlite"

    def write(self) -> None:
        """Put the job in its place."""
        self.shards.mkdir(parents=True, exist_ok=True)
        write_file(self.path, msgspec.json.encode(self))


def read_job(path: Path) -> Job | None:
    """The job in a file; ``None`` where there is none, or one of another version."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Job)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def write_result(folder: Path, result: TaskResult) -> None:
    """Say that the phase or task of a folder is done. This comes last, and appears whole or not at all."""
    write_file(folder / RESULT, msgspec.json.encode(result))


def done(folder: Path) -> bool:
    """Whether the phase or task of a folder has come to its end."""
    return (folder / RESULT).exists()


def read_result(folder: Path, what: str) -> TaskResult:
    """What a phase or task left. ``RunStopped`` if it has not come to its end."""
    try:
        return msgspec.json.decode((folder / RESULT).read_bytes(), type=TaskResult)
    except FileNotFoundError:
        raise RunStopped(
            f"{what} has not come to its end: there is no {folder / RESULT}.",
            remedy="Give the same command again: only what is unfinished runs.",
        ) from None


def input_of(job: Job, recipe: Recipe, phase: Phase) -> Path:
    """The folder of parts that a phase of row stages reads."""
    if recipe.graph.nodes[phase.root].stage is not None or phase.root in kept_sources(recipe):
        return stage_path(Path(job.rundir), recipe.graph, phase.root)
    return job.shards / source_rows(phase.root)


def source_rows(node: int) -> str:
    """The folder of a source's rows, where no stage's folder holds them."""
    return f"{SOURCE_ROWS}-{node:02d}"


def stage_path(rundir: Path, graph: Graph, index: int) -> Path:
    """The folder of a node in a run directory."""
    return RunDir(rundir).stage(index, graph.nodes[index].name).path
