"""What a run ends with: exports, the summary, and the closing table."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from gristmill.pipelines.recipe.recipe import Recipe
from gristmill.pipelines.rundir.directory import EXPORTS, RunDir
from gristmill.pipelines.rundir.parts import part_files
from gristmill.pipelines.rundir.summary import Spent, StageCounts, Summary
from gristmill.pipelines.running.sessions import Engines
from gristmill.pipelines.sources import source as sources


class Exported(NamedTuple):
    """By export's file: the rows, and what the format could not hold."""

    rows: dict[str, int]
    notes: dict[str, dict[str, int]]


def export_all(recipe: Recipe, rundir: RunDir) -> Exported:
    """Write every export of the recipe from the stages' parts in ``rundir``."""
    from gristmill.pipelines.exports import base as exports

    done = Exported({}, {})
    for entry in recipe.exports:
        parts = part_files(rundir.stage(recipe.graph.find(entry.reads_from), entry.reads_from).path)
        notes: Counter[str] = Counter()
        out = rundir.path / EXPORTS / entry.path
        done.rows[entry.path] = exports.write(entry.export, parts, out, notes)
        if notes:
            done.notes[entry.path] = dict(notes)
    return done


def summary_of(
    recipe: Recipe,
    engines: Engines | None,
    stages: list[StageCounts],
    exported: Exported,
    *,
    complete: bool,
    seconds: float,
    ended: str = "",
) -> Summary:
    """The summary of what was done until here; of a complete run also with the sources' fingerprints."""
    prints = [sources.fingerprint(s) for s in recipe.sources.values()] if complete else [""]
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
        spent=engines.spent if engines else Spent(),
        timing={"seconds": round(seconds, 3)},
        sandboxes={name: found for name, verifier in verifiers.items() if (found := verifier.sandbox())},
        ended=ended,
    )
