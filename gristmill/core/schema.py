"""Columns from record types, and records to and from Polars frames."""

from __future__ import annotations

import enum
import types
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec

if TYPE_CHECKING:
    import polars as pl

R = TypeVar("R", bound=msgspec.Struct)


@cache
def schema(record: type[msgspec.Struct]) -> pl.Schema:
    """The Polars schema of a record type; ``.to_frame().to_arrow().schema`` gives Arrow's."""
    import polars as pl

    return pl.Schema(_columns(record))


def _columns(record: type[msgspec.Struct]) -> dict[str, Any]:
    hints = get_type_hints(record)
    return {name: _dtype(hints[name]) for name in record.__struct_fields__}


def _dtype(hint: Any) -> Any:
    import polars as pl

    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        inner = [a for a in args if a is not type(None)]
        if len(inner) == 1:
            return _dtype(inner[0])
    elif origin is Literal:
        return pl.String()
    elif origin is tuple and len(args) == 2 and args[1] is Ellipsis:
        return pl.List(_dtype(args[0]))
    elif isinstance(hint, type):
        if issubclass(hint, msgspec.Struct):
            return pl.Struct(_columns(hint))
        for kind, dtype in ((bool, pl.Boolean), (int, pl.Int64), (float, pl.Float64)):
            if issubclass(hint, kind):
                return dtype()
        if issubclass(hint, (str, enum.Enum)):
            return pl.String()
    raise TypeError(f"{hint!r} has no column type; use str, int, float, bool, a record, or a tuple of one")


def gives(kind: type[msgspec.Struct], wanted: type[msgspec.Struct]) -> bool:
    """Whether records of ``kind`` have every field of ``wanted``, in the same type."""
    have, need = get_type_hints(kind), get_type_hints(wanted)
    return all(have.get(name) == need[name] for name in wanted.__struct_fields__)


def to_frame(records: Sequence[msgspec.Struct], record: type[msgspec.Struct]) -> pl.DataFrame:
    """A frame with one row a record."""
    import polars as pl

    rows = [_plain(r) for r in records]
    return pl.DataFrame(rows, schema=schema(record), orient="row")


def _plain(value: Any) -> Any:
    """A row as Polars takes it: records as dicts of columns (``omit_defaults`` must not drop any)."""
    if isinstance(value, msgspec.Struct):
        return {name: _plain(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, tuple):
        return [_plain(v) for v in value]
    if isinstance(value, enum.Enum):
        return value.value
    return value


def from_frame(frame: pl.DataFrame, record: type[R]) -> list[R]:
    """The records of a frame that ``to_frame`` made (or that was read back from Parquet)."""
    return msgspec.convert(frame.select(record.__struct_fields__).to_dicts(), list[record])  # type: ignore[valid-type]
