"""Expressions over the columns of a table: what ``where``, ``derive`` and ``sort`` hold.

Text is Polars' SQL: ``==`` or ``=``, AND, OR, NOT, LIKE, IN, BETWEEN, CASE, functions such as LENGTH and
CAST, and fields of structs by a dot (``verdict.score``). Four things are written shorter than there:

- a column of verdicts, named alone, means its outcome: ``verdict == 'correct'`` (``"verdict"`` in double
  quotes is the whole verdict);
- ``scores.NAME`` is the value and ``verdicts.NAME`` the outcome of the score of that name, and
  ``verdicts.NAME.rule`` another field of that verdict; null where a row has no such score;
- ``meta.KEY`` (``meta.KEY.KEY`` further in) is a value in the JSON object ``meta``, and so is a name alone
  that is not a column's. It is text; where the expression only makes sense for a number or a truth value, it
  is read as that, and what is none is null. So its type never depends on the rows;
- a column that has the name of an SQL clause (``order``, ``user``, ``limit``) needs no quotes.

In Python a ``polars.Expr`` will do as well; it names the shorthands as columns, ``pl.col("scores.length")``.
A recipe's YAML keeps it in Polars' own JSON, from which nothing that runs code is ever read back.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple

from msgspec import Struct

from gristmill.core.errors import RecipeError

if TYPE_CHECKING:
    import polars as pl


class SavedExpr(Struct, frozen=True, forbid_unknown_fields=True):
    """A Polars expression as a recipe's YAML holds it."""

    polars: str
    """The expression in Polars' own JSON, as ``expr.meta.serialize(format="json")`` gives it."""


if TYPE_CHECKING:
    Expression = str | SavedExpr | pl.Expr
else:
    # A Polars expression becomes a SavedExpr in the stage that it is given to: see ``plain``.
    Expression = str | SavedExpr

_NAME = r"(?:[^\W\d]\w*|\"(?:[^\"]|\"\")*\")"
_TOKEN = re.compile(rf"'(?:[^']|'')*'|`[^`]*`|(?P<chain>{_NAME}(?:\.{_NAME})*)|\d[\w.]*|.", re.DOTALL)
_KEYWORDS = frozenset[str]().union(
    ["and", "or", "not", "in", "is", "null", "like", "ilike", "rlike", "regexp", "between", "case", "when"],
    ["then", "else", "end", "as", "true", "false", "cast", "distinct", "over", "partition", "from"],
    ["interval"],
)
"""Words that are SQL's own even where a column has their name; in double quotes they are the column."""
_RUNS_CODE = re.compile(r"Anonymous|Plugin|Python|SubPlan")
"""Parts of Polars' JSON that call Python, load a library, or read other tables."""
_OTHER_ROWS = re.compile(r'"(?:Agg|Over|Rank|Quantile|Rolling\w*)":|(?<!"String"):"Len"')
"""Parts of Polars' JSON that look at other rows than the one at hand, of those that SQL has."""
_MOST_KEYS = 6
"""Keys of ``meta`` in one expression: the types of all are tried together."""
_NEAR = 0.75
"""An unknown name this similar to a column's (``difflib``) is a slip, not a key of ``meta``."""


class _Bound(NamedTuple):
    """An expression for tables of one schema, with the columns to add before, named as it names them."""

    values: tuple[pl.Expr, ...]
    expr: pl.Expr


def plain(value: Any) -> str | SavedExpr:
    """An expression as a stage keeps it: text as it is, a ``polars.Expr`` as a ``SavedExpr``.

    ``RecipeError`` for anything else, and for a Polars expression that calls a Python function.
    """
    if isinstance(value, str | SavedExpr):
        return value
    import polars as pl

    if not isinstance(value, pl.Expr):
        raise RecipeError(
            f"{value!r} is not an expression.", remedy="Give SQL text or a Polars expression (pl.col(...))."
        )
    try:
        saved = SavedExpr(value.meta.serialize(format="json"))
    except pl.exceptions.ComputeError as e:
        raise _calls_python(str(value)) from e
    _from_saved(saved)
    return saved


def shown(expression: Expression) -> str:
    """The expression for a reader: the text itself, or how Polars prints it."""
    text = expression if isinstance(expression, str) else str(_expr(plain(expression)))
    return " ".join(text.split())


def evaluate(frame: pl.LazyFrame, columns: Mapping[str, Expression], where: str) -> pl.LazyFrame:
    """``frame`` with the value of each expression in a column of that name, new or in place of its own.

    All are evaluated on the columns as they were, and have the types that records have: int64, float64,
    text, booleans, lists and structs of them. ``where`` begins each error: ``RecipeError`` for a name that
    is not known, an invalid expression, and one whose type no record can hold.
    """
    return _with(frame, columns, where, truth=False)


def mask(
    frame: pl.LazyFrame,
    condition: Expression,
    column: str,
    where: str = "where",
    *,
    row_by_row: bool = False,
) -> pl.LazyFrame:
    """``frame`` with a column that says of each row whether ``condition`` holds: true, false or null.

    ``RecipeError`` as for ``evaluate``, and for an expression that is not true or false. With ``row_by_row``
    also for one that looks at other rows (AVG, COUNT, OVER): ``frame`` may then be a part of a table.
    """
    marked = _with(frame, {column: condition}, where, truth=True)
    if row_by_row:
        bound = _bind(plain(condition), tuple(frame.collect_schema().items()), True)
        if _of_other_rows(bound.expr):
            raise RecipeError(
                f"{where}: {shown(condition)!r} looks at other rows, and here there is one at a time.",
                remedy="Use the stage 'where', which has the whole table.",
            )
    return marked


def looks_at_other_rows(expression: Expression) -> bool:
    """Whether the value of an expression for a row may depend on other rows too (AVG, COUNT, OVER).

    True as well for one of Polars' own, which has more such functions than SQL, and for text that only makes
    sense with a table's columns at hand.
    """
    import polars as pl

    if not isinstance(expression, str):
        return True
    try:
        return _of_other_rows(_expr(expression))
    except (pl.exceptions.PolarsError, UnicodeError):
        return True


def _of_other_rows(expr: pl.Expr) -> bool:
    return _OTHER_ROWS.search(expr.meta.serialize(format="json")) is not None


def _with(frame: pl.LazyFrame, columns: Mapping[str, Expression], where: str, *, truth: bool) -> pl.LazyFrame:
    import polars as pl

    schema = frame.collect_schema()
    made = {name: f"\x1f{i}" for i, name in enumerate(columns)}
    for name, expression in columns.items():
        try:
            bound = _bind(plain(expression), tuple(schema.items()), truth)
        except RecipeError as e:
            raise RecipeError(f"{where}: {e.message}", remedy=e.remedy) from e
        frame = frame.with_columns(bound.values).with_columns(bound.expr.alias(made[name]))
        frame = frame.drop([value.meta.output_name() for value in bound.values])
    own = [pl.col(made.get(name, name)).alias(name) for name in schema]
    return frame.select(*own, *(pl.col(made[name]).alias(name) for name in made if name not in schema))


@lru_cache(maxsize=256)
def _bind(expression: str | SavedExpr, columns: tuple[tuple[str, Any], ...], truth: bool) -> _Bound:
    """The expression for tables with these columns; with ``truth``, one that is true or false."""
    import polars as pl

    schema, text = dict(columns), shown(expression)
    try:
        expr = _expr(expression, schema)
        if expr.meta.has_multiple_outputs():
            raise RecipeError(f"{text!r} stands for several columns.", remedy="Name one column.")
        if not expr.meta.eq(expr.meta.undo_aliases()):
            raise RecipeError(f"{text!r} gives its value a name.", remedy="Leave out the last word.")
        names = [name for name in dict.fromkeys(expr.meta.root_names()) if name not in schema]
    except (pl.exceptions.PolarsError, UnicodeError) as e:
        raise _invalid(text, e, schema) from e
    found = [_value(name, schema, text) for name in names]
    if len([f for f in found if isinstance(f, _Key)]) > _MOST_KEYS:
        raise RecipeError(
            f"{text!r} reads more than {_MOST_KEYS} keys of 'meta'.",
            remedy="Make columns of some of them first, with the stage 'derive'.",
        )
    failure: RecipeError | None = None
    # Text first: what makes sense for text and for numbers is text.
    for choice in product(*(f.readings() if isinstance(f, _Key) else [f] for f in found)):
        values = tuple(value.alias(name) for value, name in zip(choice, names, strict=True))
        try:
            # Run, not only resolved: some types are compared only then.
            probe = pl.LazyFrame(schema=schema).with_columns(values)
            _refuse_not_of_others(expr, probe.collect_schema())
            got = probe.select(_=expr).collect().schema["_"]
        except pl.exceptions.PolarsError as e:
            failure = failure or _invalid(text, e, schema)
            continue
        wanted = _storable(got)
        if truth and wanted != pl.Boolean:
            failure = failure or RecipeError(
                f"{text!r} is {_called(got)}, which is not true or false.",
                remedy="Compare it with something, as in: verdict == 'correct'.",
            )
        elif wanted is None:
            failure = failure or RecipeError(
                f"{text!r} is {_called(got)}, which no record can hold.",
                remedy="Make it text or a number: CAST(... AS VARCHAR), CAST(... AS DOUBLE).",
            )
        else:
            return _Bound(values, expr.cast(wanted))
    assert failure is not None
    raise failure


def _refuse_not_of_others(expr: pl.Expr, schema: Mapping[str, Any]) -> None:
    """NOT of a text fails only where there are rows, and NOT of a number is a truth; here both fail."""
    import polars as pl

    for name in re.findall(r'col\("([^"]*)"\)\.strict_cast\(Boolean\)', str(expr)):
        if schema.get(name) != pl.Boolean:
            raise pl.exceptions.InvalidOperationError(f"NOT needs a truth value, which {name!r} is not")


def _expr(expression: str | SavedExpr, schema: Mapping[str, Any] | None = None) -> pl.Expr:
    import polars as pl

    if isinstance(expression, SavedExpr):
        return _from_saved(expression)
    return pl.sql_expr(_rewritten(expression, schema or {}))


def _from_saved(saved: SavedExpr) -> pl.Expr:
    import polars as pl

    try:
        parts = json.loads(saved.polars)
    except ValueError as e:
        raise RecipeError(
            f"{saved.polars[:80]!r} is not Polars' JSON of an expression ({e}).",
            remedy="Write the expression as SQL text.",
        ) from e
    if any(_RUNS_CODE.search(key) for key in _keys(parts)):
        raise _calls_python(saved.polars[:80])
    try:
        return pl.Expr.deserialize(saved.polars.encode(), format="json")
    except pl.exceptions.PolarsError as e:
        raise RecipeError(
            f"{saved.polars[:80]!r} is not an expression of Polars {pl.__version__}.",
            remedy="Another version may have written it: write the expression as SQL text.",
        ) from e


def _keys(parts: Any) -> Iterator[str]:
    """All names in Polars' JSON that may be of a kind of expression (a unit variant is a text)."""
    if isinstance(parts, dict):
        yield from parts
        for value in parts.values():
            yield from _keys(value)
    elif isinstance(parts, list):
        for value in parts:
            yield from _keys(value)


def _calls_python(text: str) -> RecipeError:
    return RecipeError(
        f"{text!r} calls Python or a library, and an expression must be data.",
        remedy="Use Polars' own functions, or write a stage of your own.",
    )


def _rewritten(text: str, schema: Mapping[str, Any]) -> str:
    """The SQL with the shorthands written out, as names in double quotes."""

    def name(found: re.Match[str]) -> str:
        chain = found["chain"]
        if chain is None:
            return found[0]
        first, *further = re.findall(_NAME, chain)
        if further and first in ("scores", "verdicts", "meta") and not _has_field(schema.get(first), None):
            return _quoted(".".join(_unquoted(part) for part in (first, *further)))
        if first not in schema or first in _KEYWORDS:
            return chain
        if not further and _has_field(schema[first], "outcome"):
            further = ["outcome"]
        return ".".join((_quoted(first), *further))

    return _TOKEN.sub(name, text)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _unquoted(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name


def _has_field(dtype: Any, field: str | None) -> bool:
    """Whether a column's type is a struct, with this field if one is given."""
    import polars as pl

    return isinstance(dtype, pl.Struct) and (field is None or field in dict(dtype))


class _Key(NamedTuple):
    """A place in the JSON of ``meta``."""

    path: str

    def readings(self) -> list[pl.Expr]:
        """Its value as text, as a number and as a truth value; null where it is none."""
        import polars as pl

        text = pl.col("meta").str.json_path_match(self.path)
        truth = pl.when(text == "true").then(True).when(text == "false").then(False)
        return [text, text.cast(pl.Float64, strict=False), truth]


def _value(name: str, schema: Mapping[str, Any], text: str) -> pl.Expr | _Key:
    """What a name that is not a column's stands for."""
    import polars as pl

    first, *further = name.split(".")
    if further and first in ("scores", "verdicts") and isinstance(schema.get("scores"), pl.List):
        same = pl.element().struct.field("name") == further[0]
        score = pl.col("scores").list.eval(pl.element().filter(same)).list.first()
        if first == "scores":
            return score.struct.field("value")
        return score.struct.field("verdict").struct.field(".".join(further[1:]) or "outcome")
    has_meta = schema.get("meta") == pl.String
    if has_meta and further and first == "meta":
        return _Key("$" + "".join(map(_step, further)))
    if has_meta and not difflib.get_close_matches(name, schema, n=1, cutoff=_NEAR):
        return _Key("$" + _step(name))
    near = difflib.get_close_matches(name, schema, n=1)
    raise RecipeError(
        f"{text!r} names {name!r}, which is not a column.",
        remedy=(f"Did you mean {near[0]!r}? " if near else "")
        + f"The columns are: {', '.join(schema)}."
        + (f" For a key of 'meta' write meta.{name}." if has_meta else ""),
    )


def _step(key: str) -> str:
    """One step of a JSON path."""
    quote = '"' if "'" in key else "'"
    return f"[{quote}{key}{quote}]"


def _invalid(text: str, error: Exception, schema: Mapping[str, Any]) -> RecipeError:
    import polars as pl

    said = str(error).strip().partition("\n")[0]
    if isinstance(error, pl.exceptions.StructFieldNotFoundError):
        said = f"there is no field {said!r}"
    return RecipeError(
        f"{text!r} cannot be evaluated: {said}.", remedy=f"The columns are: {', '.join(schema)}."
    )


def _called(dtype: Any) -> str:
    """A type in words."""
    import polars as pl

    if dtype == pl.Null:
        return "of no known type"
    return "text" if dtype == pl.String else f"of type {dtype}"


def _storable(dtype: Any) -> Any:
    """The type in which records hold values of ``dtype``; ``None`` where they cannot."""
    import polars as pl

    if isinstance(dtype, pl.List):
        inner = _storable(dtype.inner)
        return None if inner is None else pl.List(inner)
    if isinstance(dtype, pl.Struct):
        fields = {field.name: _storable(field.dtype) for field in dtype.fields}
        return None if None in fields.values() else pl.Struct(fields)
    if dtype == pl.Boolean:
        return pl.Boolean()
    if dtype.is_integer():
        return pl.Int64()
    if dtype.is_numeric():
        return pl.Float64()
    return pl.String() if isinstance(dtype, pl.String | pl.Categorical | pl.Enum) else None
