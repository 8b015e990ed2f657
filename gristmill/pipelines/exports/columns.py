"""What rows carry beside the keys of their format: the option ``columns`` of every export."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from msgspec import Struct

from gristmill.core.errors import RecipeError
from gristmill.core.exports import Export
from gristmill.core.schema import record_of, schema
from gristmill.filters.expressions import evaluate

if TYPE_CHECKING:
    import polars as pl


class Row(Struct, frozen=True):
    """Any record."""

    id: str


class Rows(Export, frozen=True, forbid_unknown_fields=True):
    """The records as they are, or ``columns`` of them: as JSONL, Parquet or a folder of ``datasets``, by the
    file's suffix (``.jsonl``, ``.parquet``, ``.dataset``)."""

    reads: ClassVar[type[Struct]] = Row
    writes: ClassVar[type[Struct]] = Row
    suffix: ClassVar[str] = ".parquet"

    def rows(self, record: Row, /) -> Sequence[Row]:
        """The record's id; its columns come as those of any export."""
        return [record]


_SHORT = {"score": "verdict.score"}
"""Names that records have in another place."""


def keys_of(export: Export, columns: Mapping[str, Any]) -> dict[str, str]:
    """Expressions over records of these ``columns`` by the keys under which the rows carry them.

    ``RecipeError`` for a key that the format has itself, or that two expressions would have.
    """
    asked = export.columns
    if isinstance(asked, dict):
        found = list(asked.items())
    elif not asked and isinstance(export, Rows):
        # In double quotes a verdict is all of it, and not its outcome.
        found = [(name, '"{}"'.format(name.replace('"', '""'))) for name in columns if name != "id"]
    else:
        found = [(name.rpartition(".")[2], name) for name in asked]
    keys: dict[str, str] = {}
    for key, text in found:
        if key in keys or key in export.row_type.__struct_fields__:
            raise RecipeError(
                f"columns: the rows have a key {key!r} already.",
                remedy=f"Give it another: columns: {{other_{key}: {text}}}.",
            )
        short = text in _SHORT and text not in columns and "verdict" in columns
        keys[key] = _SHORT[text] if short else text
    return keys


def carried(export: Export, frame: pl.DataFrame) -> pl.DataFrame:
    """What the rows made of the records in ``frame`` carry, a row for each record.

    ``RecipeError`` for a name that the records do not have.
    """
    keys = keys_of(export, frame.schema)
    made = {f"\x1e{key}": text for key, text in keys.items()}
    table = evaluate(frame.lazy(), made, "columns").select(list(made)).collect()
    return table.rename({name: name[1:] for name in made})


def check_columns(export: Export, kind: type[Struct]) -> None:
    """Raise what ``carried`` would raise for records of ``kind``, without a record."""
    if export.columns:
        carried(export, schema(kind).to_frame())


def carrying(export: Export, extra: pl.DataFrame) -> type[Struct]:
    """The type of the export's rows with the columns of ``extra`` behind their own keys."""
    kind = export.row_type
    if not extra.width:
        return kind
    return record_of({**schema(kind), **extra.schema}, (kind,), f"Carrying{kind.__name__}")
