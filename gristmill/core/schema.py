"""Columns from record types, and records to and from Polars frames."""

from __future__ import annotations

import enum
import types
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, Optional, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec

if TYPE_CHECKING:
    import polars as pl

R = TypeVar("R", bound=msgspec.Struct)

_LATER = (
    frozenset({"tool_calls", "tool_call_id", "tools", "acted"}),
    frozenset({"reasoning", "reasoning_tokens"}),
)
"""Fields that records have got since the first files were written, the last first. They have defaults."""


@cache
def schema(record: type[msgspec.Struct]) -> pl.Schema:
    """The Polars schema of a record type; ``.to_frame().to_arrow().schema`` gives Arrow's."""
    import polars as pl

    return pl.Schema({name: _dtype(shape) for name, shape in shapes(record).items()})


@cache
def former_schemas(record: type[msgspec.Struct]) -> tuple[pl.Schema, ...]:
    """The schemas of a record type in files that were written before it had all its fields of today."""
    import polars as pl

    found, shape = [], shapes(record)
    for later in _LATER:
        shape = _former(shape, later)
        found.append(pl.Schema({name: _dtype(inner) for name, inner in shape.items()}))
    return tuple(found)


def _former(shape: Any, later: frozenset[str]) -> Any:
    if isinstance(shape, list):
        return [_former(shape[0], later)]
    if isinstance(shape, dict):
        return {name: _former(inner, later) for name, inner in shape.items() if name not in later}
    return shape


def needed(record: type[msgspec.Struct]) -> tuple[str, ...]:
    """The columns without which rows cannot be read as ``record``: all but those that it has got later."""
    return tuple(name for name in record.__struct_fields__ if not any(name in later for later in _LATER))


def shapes(record: type[msgspec.Struct]) -> dict[str, Any]:
    """The columns of a record type, without Polars: ``str``, ``int``, ``float``, ``bool``, a list with the
    shape of its items, a mapping of fields. ``TypeError`` for a field that no column can hold."""
    hints = get_type_hints(record)
    return {name: _shape(hints[name]) for name in record.__struct_fields__}


def _shape(hint: Any) -> Any:
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        inner = [a for a in args if a is not type(None)]
        if len(inner) == 1:
            return _shape(inner[0])
    elif origin is Literal:
        return str
    elif origin is tuple and len(args) == 2 and args[1] is Ellipsis:
        return [_shape(args[0])]
    elif isinstance(hint, type):
        if issubclass(hint, msgspec.Struct):
            return shapes(hint)
        for kind in (bool, int, float):
            if issubclass(hint, kind):
                return kind
        if issubclass(hint, (str, enum.Enum)):
            return str
    raise TypeError(f"{hint!r} has no column type; use str, int, float, bool, a record, or a tuple of one")


def _dtype(shape: Any) -> Any:
    import polars as pl

    if isinstance(shape, list):
        return pl.List(_dtype(shape[0]))
    if isinstance(shape, dict):
        return pl.Struct({name: _dtype(inner) for name, inner in shape.items()})
    return {bool: pl.Boolean(), int: pl.Int64(), float: pl.Float64(), str: pl.String()}[shape]


def record_of(
    columns: Mapping[str, Any], like: Sequence[type[msgspec.Struct]] = (), name: str = "Row"
) -> type[msgspec.Struct]:
    """A record type with these ``columns`` (Polars types by name).

    It has the fields of the first of ``like`` whose columns are all there, so that it can be used as one of
    those; where none is, those that it shares with the first. A field of a later one may be null besides, as
    may any other. Where the columns are those of one of ``like``, it is that type itself.
    """
    for kind in like:
        if dict(schema(kind)) == dict(columns):
            return kind
    whole = next((kind for kind in like if schema(kind).items() <= dict(columns).items()), None)
    like = like if whole is None else [whole, *like]
    fields: list[Any] = []
    for column, dtype in columns.items():
        known = [kind for kind in like if schema(kind).get(column) == dtype]
        hint = get_type_hints(known[0])[column] if known else _hint(column, dtype)
        if column == "id" or (known and known[0] is like[0]):
            fields.append((column, hint))
        else:
            fields.append((column, Optional[hint], None))  # noqa: UP045 - a type made at run time
    return msgspec.defstruct(name, fields, frozen=True, kw_only=True)


def _hint(name: str, dtype: Any) -> Any:
    """The type of a field whose column has this Polars type."""
    import polars as pl

    if isinstance(dtype, pl.List):
        return tuple[_hint(name, dtype.inner) | None, ...]  # type: ignore[misc]
    if isinstance(dtype, pl.Struct):
        inner = [(f.name, _hint(f.name, f.dtype) | None, None) for f in dtype.fields]
        return msgspec.defstruct(name.title(), inner, frozen=True, kw_only=True)
    if dtype == pl.Boolean:
        return bool
    if dtype.is_integer():
        return int
    if dtype.is_numeric():
        return float
    return str


def gives(
    kind: type[msgspec.Struct], wanted: type[msgspec.Struct], names: Sequence[str] | None = None
) -> bool:
    """Whether records of ``kind`` have every field of ``wanted``, or those of ``names``, in the same type."""
    have, need = get_type_hints(kind), get_type_hints(wanted)
    return all(have.get(name) == need[name] for name in names or wanted.__struct_fields__)


def message_struct(record: type[msgspec.Struct], **parts: pl.Expr) -> pl.Expr:
    """A message as a struct of the table of ``record``'s fields: the ``parts`` given, and for the others what
    a message without them has, an empty text or list."""
    import polars as pl

    kind: Any = schema(record)["prompt"]
    empty = {f.name: pl.lit([] if f.dtype.is_nested() else "", dtype=f.dtype) for f in kind.inner.fields}
    return pl.struct(expr.alias(name) for name, expr in (empty | parts).items())


def to_frame(records: Sequence[msgspec.Struct], record: type[msgspec.Struct]) -> pl.DataFrame:
    """A frame with one row a record."""
    import polars as pl

    rows = [_plain(r) for r in records]
    return pl.DataFrame(rows, schema=schema(record), orient="row")


def _plain(value: Any) -> Any:
    """A row as Polars takes it: records as dicts of columns (``omit_defaults`` must not drop any)."""
    if isinstance(value, msgspec.Struct):
        return {name: _plain(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, (tuple, list)):
        return [_plain(v) for v in value]
    if isinstance(value, enum.Enum):
        return value.value
    return value


def from_frame(frame: pl.DataFrame, record: type[R]) -> list[R]:
    """The records of a frame that ``to_frame`` made (or that was read back from Parquet).

    Columns that the frame lacks have their defaults; ``msgspec.ValidationError`` for one that has none.
    """
    there = [name for name in record.__struct_fields__ if name in frame.columns]
    return msgspec.convert(frame.select(there).to_dicts(), list[record])  # type: ignore[valid-type]
