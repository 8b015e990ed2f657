"""``redact``: personal data taken out of texts, with its kind in its place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from msgspec import field

from gristmill.core.stages import Relation
from gristmill.filters.quality.personal import KINDS, PersonalKind, personal_data, suspects
from gristmill.filters.quality.presidio import Presidio
from gristmill.filters.tables import key_column

if TYPE_CHECKING:
    import polars as pl

_NOT_SAID = frozenset(["id", "problem_id", "finish_reason", "model", "kind", "role", "name"])
"""Fields of text by which rows are told apart, in which nothing is said."""


class Redact(Relation, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Put ``[EMAIL]``, ``[PHONE]`` ... in the place of personal data, in messages and turns too.

    The rules are those of ``quality: personal``. No row is rejected; ids, names of models and such stay as
    they are.
    """

    row_by_row: ClassVar[bool] = True

    columns: list[str] | None = None
    """The columns; by default all that hold text, or lists of messages or turns."""
    kinds: list[PersonalKind] = field(default_factory=lambda: list(KINDS))
    """What is taken out."""
    presidio: Presidio | None = None
    """Further kinds, by the recognisers of ``presidio-analyzer``; ``{}`` for those without a model."""

    def __call__(self, frames: Sequence[pl.LazyFrame], seed: int) -> pl.LazyFrame:
        """The same rows with other texts. ``RecipeError`` for a column that is not there."""
        frame, schema = frames[0], frames[0].collect_schema()
        for name in self.columns or ():
            if name not in schema:
                key_column(schema, name, "redact: columns", keyword=False)
        names = self.columns or [name for name in schema if name not in _NOT_SAID]
        return frame.with_columns(self._clean(name, schema[name]) for name in names if _texts(schema[name]))

    def _clean(self, name: str, dtype: pl.DataType) -> pl.Expr:
        import polars as pl

        column = pl.col(name)
        if dtype == pl.String:
            return self._text(column).alias(name)
        assert isinstance(dtype, pl.List) and isinstance(dtype.inner, pl.Struct)
        element = pl.element()
        content = self._text(element.struct.field("content")).alias("content")
        return column.list.eval(element.struct.with_fields(content)).alias(name)

    def _text(self, texts: pl.Expr) -> pl.Expr:
        import polars as pl

        kinds = tuple(self.kinds)

        def clean(text: str) -> str:
            made, until = [], 0
            for kind, start, end in personal_data(text, kinds, self.presidio):
                made += [text[until:start], f"[{kind.upper()}]"]
                until = end
            return "".join([*made, text[until:]])

        if (form := suspects(self.presidio)) is None:
            return texts.map_elements(clean, return_dtype=pl.String)
        looked = pl.when(texts.str.contains(form)).then(texts)
        return looked.map_elements(clean, return_dtype=pl.String).fill_null(texts)

    def rows_max(self, rows: Sequence[int]) -> int:
        """As many as come in."""
        return rows[0]


def _texts(dtype: pl.DataType) -> bool:
    import polars as pl

    if isinstance(dtype, pl.List) and isinstance(dtype.inner, pl.Struct):
        return dict(dtype.inner).get("content") == pl.String
    return dtype == pl.String
