"""What a run begins and ends with: what is to be said before, exports, and the summary."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import islice
from typing import NamedTuple

from gristmill.core.errors import InputError, RunError
from gristmill.core.stages import Rejection
from gristmill.pipelines.recipe.recipe import Recipe
from gristmill.pipelines.rundir.directory import EXPORTS, RunDir
from gristmill.pipelines.rundir.ledger import Ledger
from gristmill.pipelines.rundir.parts import part_files
from gristmill.pipelines.rundir.summary import FAILURES, Made, Spent, StageCounts, Summary
from gristmill.pipelines.running.sessions import Engines
from gristmill.pipelines.sources import source as sources
from gristmill.pipelines.sources.options import Source

_LOOK_ROWS, _LOOK_SECONDS = 1000, 0.2
"""How far the sources are looked at before a run begins, at most."""


class Exported(NamedTuple):
    """By export's file: the rows, and what the format could not hold."""

    rows: dict[str, int]
    notes: dict[str, dict[str, int]]


def export_all(recipe: Recipe, rundir: RunDir) -> Exported:
    """Write every export of the recipe from the stages' parts in ``rundir``."""
    from gristmill.pipelines.exports.writing import write

    done = Exported({}, {})
    for entry in recipe.exports:
        parts = part_files(rundir.stage(recipe.graph.find(entry.reads_from), entry.reads_from).path)
        notes: Counter[str] = Counter()
        out = rundir.path / EXPORTS / entry.path
        done.rows[entry.path] = write(entry.export, parts, out, notes)
        if notes:
            done.notes[entry.path] = dict(notes)
    return done


def summary_of(
    recipe: Recipe,
    engines: Engines | None,
    stages: list[StageCounts],
    exported: Exported,
    ledger: Ledger,
    *,
    complete: bool,
    seconds: float,
    ended: str = "",
    short: bool = False,
) -> Summary:
    """The summary of what was done until here; of a complete run also with the sources' fingerprints.

    ``short``: fewer rows were made than ``until`` wants.
    """
    prints = [sources.fingerprint(s) for s in recipe.sources.values()] if complete else [""]
    spent = engines.spent if engines else Spent()
    verifiers = {"verifier": recipe.verifier, **recipe.verifiers}
    return Summary(
        name=recipe.name,
        seed=recipe.seed,
        model=engines.main.model if engines else "",
        models={name: s.model for name, s in engines.named.items()} if engines else {},
        stages=stages,
        exports=exported.rows,
        notes=exported.notes,
        source=prints[0],
        sources=dict(zip(recipe.sources, prints, strict=True)) if len(prints) > 1 else {},
        spent=spent,
        total=ledger.spent.plus(spent),
        timing={"seconds": round(seconds, 3)},
        sandboxes={name: found for name, verifier in verifiers.items() if (found := verifier.sandbox())},
        ended=ended,
        made=made_of(recipe, stages, exported.rows, short=short),
        limit=recipe.limit,
        exported=ledger.exported,
    )


def made_of(recipe: Recipe, stages: list[StageCounts], exports: Mapping[str, int], *, short: bool) -> Made:
    """Whether a run made all that it was to make, some of it, or none.

    None: no last stage, that is one that no other reads, has kept a row, or all exports are empty. Some: rows
    were lost to failures, an export is empty, or fewer rows were made than ``until`` wants.
    """
    read = {i for node in recipe.graph.nodes for i in node.inputs}
    last = [counts.rows_out for i, counts in enumerate(stages) if i not in read]
    if not any(last) or (exports and not any(exports.values())):
        return "none"
    lost = any(counts.rejected.get(why) for counts in stages for why in FAILURES)
    return "some" if lost or short or not all(exports.values()) else "all"


def cautions(recipe: Recipe) -> Iterator[str]:
    """What is to be said before anything is paid for: of the stages' options, and of missing answers."""
    for node in recipe.stages:
        if node.row_stage is not None:
            yield from (f"{node.name}: {text}" for text in node.row_stage.cautions())
    for index in sorted(recipe.graph.judged_sources):
        name = recipe.graph.nodes[index].name
        yield from _unanswered(name, recipe.sources[name])


def _unanswered(name: str, source: Source) -> Iterator[str]:
    """That rows at the beginning of a local source have no reference answer."""
    if source.dataset is not None or source.shuffle is not False:
        return  # looking at it would mean fetching it, or reading all of it
    until, looked, missing = time.monotonic() + _LOOK_SECONDS, 0, 0
    with suppress(InputError, RunError):  # whoever reads the rows says what is wrong with them
        for record in islice(sources.read(source), _LOOK_ROWS):
            if not isinstance(record, Rejection):
                looked += 1
                missing += record.answer is None
            if time.monotonic() > until:
                break
    if missing:
        yield (
            f"{name}: {missing:,} of the first {looked:,} rows have no reference answer, so that nothing can "
            "be judged by it. If the file has answers, name their column: columns: {answer: NAME}."
        )
