"""``gristmill eval compare``: one measure of several systems on the same rows, with intervals of the change.

Each system is one run or several (seeds). A problem's value is the mean over its rows and over the seeds;
changes are paired by problem, and their interval is a bootstrap over problems. So a gain on what was trained
and what it cost elsewhere (the alignment tax) are in one table, by group.
"""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from msgspec import Struct

from gristmill.core.errors import RecipeError
from gristmill.core.registry import suggest
from gristmill.filters.expressions import evaluate
from gristmill.pipelines.rundir.directory import run_path
from gristmill.pipelines.rundir.results import Run, open_run
from gristmill.pipelines.rundir.summary import align, printable
from gristmill.synth.step_values import measures

_ALL = "all"
_GROUP, _VALUE = "\x1fgroup", "\x1fvalue"


class SystemRuns(Struct, frozen=True):
    """A system by name, and the runs of its seeds."""

    name: str
    runs: tuple[Run, ...]


class SystemMean(Struct, frozen=True):
    """The mean of a system over the problems of a group, each seed's own mean, and the change from the first
    system with a 95 % interval; ``None`` for the first, and where a group has no problem of both."""

    name: str
    mean: float | None
    seeds: tuple[float | None, ...]
    change: float | None = None
    low: float | None = None
    high: float | None = None


class GroupMeans(Struct, frozen=True):
    """All systems on the ``problems`` that each of them has rows of."""

    name: str
    problems: int
    systems: tuple[SystemMean, ...]


def read_systems(given: Sequence[str], runs: Path = Path("runs")) -> list[SystemRuns]:
    """Systems as ``NAME=RUN,RUN`` or ``RUN,RUN``; a run is a name in ``runs`` or a directory.

    Raises ``RunError`` where there is no such complete run.
    """
    found = []
    for text in given:
        name, equals, rest = text.partition("=")
        places = (rest if equals else text).split(",")
        opened = [open_run(run_path(p, runs)) for p in places]
        found.append(SystemRuns(name if equals else Path(places[0]).name, tuple(opened)))
    return found


def compare_systems(
    systems: Sequence[SystemRuns],
    *,
    value: str = "verdict == 'correct'",
    by: str | None = None,
    stage: str | None = None,
    draws: int = 1000,
    seed: int = 0,
) -> list[GroupMeans]:
    """Measure the systems on what all of them have, all problems first and then by group.

    ``value`` is an expression of a number or truth value for each row of ``stage`` (the last); rows for which
    it is null are not counted. ``by`` is an expression too, such as ``meta.subset``. Raises ``RecipeError``.
    """
    if not systems:
        raise RecipeError("there is nothing to compare.", remedy="Name two runs.")
    held = [[_values(run, stage, value, by) for run in system.runs] for system in systems]
    names = {problem: group for seeds in held for one in seeds for problem, (group, _) in one.items()}
    common = sorted(p for p in names if all(p in one for seeds in held for one in seeds))
    if not common:
        raise RecipeError(
            "the runs have no problem in common.",
            remedy="Compare runs over the same problems: their ids must be the same.",
        )
    groups: dict[str, list[str]] = {_ALL: common}
    if by is not None:
        for problem in common:
            groups.setdefault(names[problem], []).append(problem)
    return [_group(name, problems, systems, held, draws, seed) for name, problems in groups.items()]


def table(found: Sequence[GroupMeans]) -> str:
    """The measures as text: a block for each group."""
    blocks = []
    for group in found:
        rows = [
            (
                f"{printable(group.name)}: {group.problems:,} problems",
                "mean",
                "change",
                "95 % interval",
                "seeds",
            )
        ]
        for one in group.systems:
            interval = "" if one.low is None or one.high is None else f"{one.low:+.3f} to {one.high:+.3f}"
            change = "" if one.change is None else f"{one.change:+.3f}"
            seeds = " ".join(map(measures.share, one.seeds)) if len(one.seeds) > 1 else ""
            rows.append((printable(one.name), measures.share(one.mean), change, interval, seeds))
        blocks.append("\n".join(align(rows)))
    return "\n\n".join(blocks)


Values = Mapping[str, tuple[str, float]]
"""By problem its group and its value."""


def _values(run: Run, stage: str | None, value: str, by: str | None) -> Values:
    import polars as pl

    frame = run.rows(stage)
    columns = frame.collect_schema().names()
    key = "problem_id" if "problem_id" in columns else "id"
    wanted = {_VALUE: value} | ({} if by is None else {_GROUP: by})
    try:
        made = evaluate(frame, wanted, "--value").collect()
    except RecipeError as error:
        raise RecipeError(f"{run.path}: {error.message}", remedy=error.remedy) from error
    if not (made[_VALUE].dtype.is_numeric() or made[_VALUE].dtype == pl.Boolean):
        raise RecipeError(
            f"--value: {value!r} is neither a number nor true or false.",
            remedy=f"Compare it with something: verdict == 'correct'. {suggest(value, columns)}",
        )
    sums: dict[str, list[float]] = defaultdict(list)
    groups: dict[str, str] = {}
    group = made[_GROUP].cast(pl.String) if by is not None else [_ALL] * made.height
    numbers = made[_VALUE].cast(pl.Float64)
    if made.height and not numbers.drop_nulls().len():
        raise RecipeError(
            f"--value: {value!r} has no value in any row of {run.path}:{stage or run.stages[-1]}.",
            remedy=f"Name a stage that has it with --stage ({', '.join(run.stages)}), or give an expression "
            f"of this one's columns: {', '.join(columns)}.",
        )
    for problem, number, name in zip(made[key], numbers, group, strict=True):
        if number is not None and not math.isnan(number):
            sums[problem].append(number)
            groups[problem] = "(none)" if name is None else name
    return {p: (groups[p], math.fsum(v) / len(v)) for p, v in sums.items()}


def _group(
    name: str,
    problems: Sequence[str],
    systems: Sequence[SystemRuns],
    held: Sequence[Sequence[Values]],
    draws: int,
    seed: int,
) -> GroupMeans:
    means = [[[one[p][1] for p in problems] for one in seeds] for seeds in held]
    over = [[math.fsum(column) / len(column) for column in zip(*seeds, strict=True)] for seeds in means]
    made = []
    for i, (system, values) in enumerate(zip(systems, over, strict=True)):
        mean = math.fsum(values) / len(values)
        own = tuple(math.fsum(one) / len(one) for one in means[i])
        if not i:
            made.append(SystemMean(system.name, mean, own))
            continue
        changes = [after - before for before, after in zip(over[0], values, strict=True)]
        low, high = _bootstrap(changes, draws, seed)
        made.append(SystemMean(system.name, mean, own, math.fsum(changes) / len(changes), low, high))
    return GroupMeans(name, len(problems), tuple(made))


def _bootstrap(values: Sequence[float], draws: int, seed: int) -> tuple[float | None, float | None]:
    """The 2.5 and 97.5 percentiles of the mean over draws of as many problems; none for fewer than ten, of
    which percentiles hold far less than they say."""
    count = len(values)
    if count < 10:
        return None, None
    rng = random.Random(seed)
    means = sorted(math.fsum(rng.choices(values, k=count)) / count for _ in range(draws))
    return means[math.floor(0.025 * draws)], means[math.ceil(0.975 * draws) - 1]
