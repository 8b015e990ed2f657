"""Whether the rows of a finished run are what its method's header says of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import msgspec

from gristmill.core.errors import GristmillError
from gristmill.filters.expressions import mask
from gristmill.pipelines.recipe.method import Expect, Method, MethodTraining
from gristmill.pipelines.recipe.plain import TRAININGS, convert
from gristmill.pipelines.rundir.directory import EXPORTS
from gristmill.pipelines.rundir.parts import REJECTED_FILE
from gristmill.pipelines.rundir.results import Run

if TYPE_CHECKING:
    import polars as pl


def unmet(method: Method, run: Run) -> list[str]:
    """What the run lacks of what the method's ``expect`` says, a line for each; empty where all of it holds.

    A stage or a column that is not there, and rows of another kind, are told like any other difference.
    """
    told = [line for expected in method.expect for line in _told(expected, run)]
    return told + ([] if method.train is None else list(_untrainable(method.train, run)))


def _told(expected: Expect, run: Run) -> Iterator[str]:
    where = expected.export or expected.stage or "the last stage"
    try:
        frame = _rows(expected, run)
        count = frame.height
        if count < expected.least or (expected.most is not None and count > expected.most):
            most = "" if expected.most is None else f" and at most {expected.most}"
            yield f"{where}: {count} rows, not at least {expected.least}{most}."
        for condition in expected.every:
            if (failing := count - _holding(frame, condition, where)) > 0:
                yield f"{where}: {condition!r} does not hold of {failing} of {count} rows."
        for condition in expected.some:
            if not _holding(frame, condition, where):
                yield f"{where}: {condition!r} holds of none of {count} rows."
        if expected.rejected:
            yield from _rejected(expected.rejected, run, expected.stage or None, where)
    except GristmillError as error:
        yield f"{where}: {error}"


def _rows(expected: Expect, run: Run) -> pl.DataFrame:
    import polars as pl

    if not expected.export:
        frame = run.rows(expected.stage or None).collect()
    else:
        path = run.path / EXPORTS / expected.export
        if not path.exists() or not path.stat().st_size:  # an export without a row is an empty file
            return pl.DataFrame()
        frame = pl.read_parquet(path) if path.suffix == ".parquet" else pl.read_ndjson(path)
    nested = [name for name, kind in frame.schema.items() if kind.is_nested()]
    return frame.with_columns(
        pl.Series(f"{name}_json", [msgspec.json.encode(value).decode() for value in frame[name].to_list()])
        for name in nested
    )


def _holding(frame: pl.DataFrame, condition: str, where: str) -> int:
    if not frame.height:
        return 0
    return int(mask(frame.lazy(), condition, "holds", where).select("holds").collect()["holds"].sum() or 0)


def _rejected(wanted: dict[str, int], run: Run, stage: str | None, where: str) -> Iterator[str]:
    path = run.folder(stage) / REJECTED_FILE
    reasons: list[Any] = (
        run.rejected(stage).select("reason").collect()["reason"].to_list() if path.exists() else []
    )
    for reason, least in wanted.items():
        found = sum(reason in given for given in reasons)
        if found < least:
            yield f"{where}: {found} rows were rejected for {reason!r}, not {least} or more."


def _untrainable(training: MethodTraining, run: Run) -> Iterator[str]:
    """Why the trainer would refuse the rows or the options."""
    import importlib

    from gristmill.pipelines.training import training_file

    try:
        module = importlib.import_module(f"gristmill.train.{training.kind.replace('-', '_')}")
        named = f"{run.path}:{training.stage}" if training.stage else str(run.path)
        data = training_file(named, training.kind.replace("-", "_"), run.path / "training")
        given = {"data": str(data), "model": "MODEL", "output": "OUT", **training.options}
        convert(given, module.OPTIONS, f"train {training.kind}", see=TRAININGS)
    except GristmillError as error:
        yield f"train {training.kind}: {error}"
