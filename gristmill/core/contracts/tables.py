"""Filters and relations: a dry run on empty tables, and what they made before it is written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from gristmill.core.contracts.naming import Part, place_of, shown
from gristmill.core.errors import GristmillError, RecipeError, RunStopped
from gristmill.core.schema import schema
from gristmill.core.stages import REJECTED_DETAIL, REJECTED_REASON, Filter, Relation

if TYPE_CHECKING:
    import polars as pl


def dry_run(name: str, stage: Filter | Relation, *records: type[Struct]) -> pl.Schema:
    """The columns that a filter or relation makes of empty tables of these ``records``.

    Raises ``RecipeError`` where it fails (one that it raises keeps its remedy), or breaks its contract: a
    filter keeps the columns of its input (where it declares ``writes``, it gives those), and adds
    ``REJECTED_REASON`` (and ``REJECTED_DETAIL``); a relation gives ``id``.
    """
    import polars as pl

    part = Part("stages", name, stage)
    frames = [pl.LazyFrame(schema=schema(record)) for record in records]
    try:
        made: Any = stage(frames[0], 0) if isinstance(stage, Filter) else stage(frames, 0)
        found = made.collect().schema if isinstance(made, pl.LazyFrame) else None
    except RecipeError as error:  # its options do not fit these tables: the recipe is at fault, not the part
        raise RecipeError(f"stage {name!r}: {error.message}", remedy=error.remedy) from error
    except Exception as error:  # foreign code may raise anything, and all of it is told
        message = error.message if isinstance(error, GristmillError) else f"{type(error).__name__}: {error}"
        raise part.fault(
            f"'__call__' fails on an empty table: {message.rstrip('.')}", "Let it return what it was given."
        ) from error
    if found is None:
        raise part.fault(
            f"'__call__' returns {shown(made)}, not a LazyFrame", "Return frame.with_columns(...) or such."
        )
    columns = dict(found)
    for column in (REJECTED_REASON, REJECTED_DETAIL):
        needed = column == REJECTED_REASON and isinstance(stage, Filter)
        _check_said(part, column, columns.pop(column, None), needed=needed)
    wanted = stage.writes if stage.writes is not None else records[0] if isinstance(stage, Filter) else None
    if wanted is None:
        wanted_columns: Mapping[str, Any] = {"id": pl.String()}
    else:
        wanted_columns = schema(wanted)
    for column, kind in wanted_columns.items():
        if columns.get(column) != kind:
            is_now = f"is {columns[column]} and not {kind}" if column in columns else "is missing"
            raise part.fault(
                f"the column {column!r} {is_now} in the table that '__call__' returns",
                "Return all columns of the input; set only REJECTED_REASON."
                if isinstance(stage, Filter)
                else "Return the columns of 'writes', with a text 'id'.",
            )
    if isinstance(stage, Filter) and stage.writes is None and len(columns) > len(wanted_columns):
        added = next(c for c in columns if c not in wanted_columns)
        raise part.fault(
            f"'__call__' adds the column {added!r}",
            "Drop it, or declare a record that has it as 'writes'.",
        )
    return found


def _check_said(part: Part, column: str, kind: Any, *, needed: bool) -> None:
    """Refuse a table without the column of reasons where it must be there, or with one that is not text."""
    import polars as pl

    if kind is None and needed:
        raise part.fault(
            f"the table that '__call__' returns has no column {column!r}",
            "Add it: the reason for each row to reject, null for each to keep.",
        )
    if kind is not None and kind not in (pl.String(), pl.Null()):
        raise part.fault(
            f"the column {column!r} is {kind}, not text",
            "Give the reason for each row to reject, null for each to keep.",
        )


def check_filter(name: str, stage: Filter, record: type[Struct]) -> None:
    """Refuse a filter that fails on an empty table of ``record``, or breaks its contract there."""
    dry_run(name, stage, record)


def check_table(name: str, stage: Filter | Relation, before: pl.Series | None, after: pl.DataFrame) -> None:
    """Refuse what a filter or relation made before any of it is written.

    ``before`` are the ids of a filter's input, in order: its rows are the same, in the same order. The ids of
    a relation are unique texts. Raises ``RunStopped``, which names the stage and the first id at fault.
    """
    import polars as pl

    where = f"stage {name!r} ({place_of(stage)})"
    if "id" not in after.columns or after["id"].dtype != pl.String:
        raise RunStopped(
            f"{where}: its table has no text column 'id'.", remedy="Return one, with unique texts."
        )
    ids = after["id"]
    if isinstance(stage, Filter) and before is not None:
        if ids.equals(before):
            return
        what = f"returned {ids.len():,} rows of {before.len():,}"
        if ids.len() == before.len():
            at = next(i for i, (a, b) in enumerate(zip(before, ids, strict=True)) if a != b)
            what = f"returned {ids[at]!r} where its input has {before[at]!r} (row {at + 1:,})"
        raise RunStopped(
            f"{where}: '__call__' {what}.",
            remedy=f"Return all rows in order, with the reason in {REJECTED_REASON!r}; a stage that adds or "
            "reorders rows inherits Relation.",
        )
    blank = ids.is_null() | (ids == "")
    if blank.any():
        raise RunStopped(
            f"{where}: row {(blank.arg_max() or 0) + 1:,} of its table has no id.",
            remedy="Give every row a unique text.",
        )
    if ids.n_unique() < ids.len():
        raise RunStopped(
            f"{where}: its table has the id {ids.filter(ids.is_duplicated())[0]!r} more than once.",
            remedy="Make ids unique, such as by adding an index.",
        )
