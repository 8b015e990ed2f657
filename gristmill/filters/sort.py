"""``sort``: rows in the order of expressions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from gristmill.core.errors import RecipeError
from gristmill.core.stages import Relation
from gristmill.filters.expressions import Expression, evaluate, looks_at_other_rows, plain, shown

if TYPE_CHECKING:
    import polars as pl


class Sort(Relation, frozen=True, forbid_unknown_fields=True):
    """Sort the rows; nulls come last, and rows that are equal in all keys stay in the order they had."""

    by: Expression | list[Expression]
    """An expression to sort by, or several, of which a later one decides where those before are equal."""
    descending: bool | list[bool] = False
    """Whether the largest come first; a list says so of each key."""

    def __post_init__(self) -> None:
        keys = [plain(key) for key in (self.by if isinstance(self.by, list) else [self.by])]
        if not keys or (isinstance(self.descending, list) and len(self.descending) != len(keys)):
            raise RecipeError(
                f"sort: there are {len(keys)} keys for descending: {self.descending}.",
                remedy="Name at least one key under 'by', and give 'descending' once or for each.",
            )
        msgspec.structs.force_setattr(self, "by", keys)

    def _keys(self) -> dict[str, Expression]:
        by = self.by if isinstance(self.by, list) else [self.by]
        return {f"\x1fkey{i}": key for i, key in enumerate(by)}

    def keyed(self, frame: pl.LazyFrame) -> pl.LazyFrame | None:
        """The keys, unless one looks at other rows."""
        keys = self._keys()
        if any(map(looks_at_other_rows, keys.values())):
            return None
        return evaluate(frame, keys, "sort").select("id", *keys)

    def __call__(self, frames: Sequence[pl.LazyFrame], seed: int) -> pl.LazyFrame:
        """The rows in their new order. ``RecipeError`` for a key that holds lists or records."""
        import polars as pl

        keys, keyed = self._keys(), frames[0]
        if not keys.keys() <= set(keyed.collect_schema()):
            keyed = evaluate(keyed, keys, "sort")
        schema = keyed.collect_schema()
        for name, key in keys.items():
            if isinstance(schema[name], pl.List | pl.Struct):
                raise RecipeError(
                    f"sort: {shown(key)!r} holds lists or records, which have no order.",
                    remedy="Sort by a text or a number in it, such as LENGTH(...) or NAME.FIELD.",
                )
        ordered = keyed.sort(list(keys), descending=self.descending, nulls_last=True, maintain_order=True)
        return ordered.drop(list(keys))

    def rows_max(self, rows: Sequence[int]) -> int:
        """As many as come in."""
        return rows[0]
