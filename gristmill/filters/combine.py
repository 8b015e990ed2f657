"""``union`` and ``mix``: the rows of several tables in one."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import accumulate
from math import floor
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import msgspec
from msgspec import Meta

from gristmill.core.errors import GristmillError, RecipeError
from gristmill.core.stages import REJECTED_REASON, Relation
from gristmill.filters.difficulty.mixture import ExcessWeights, ReplayWeights, evaluated
from gristmill.filters.order import seeded_order
from gristmill.filters.tables import with_unique_ids

if TYPE_CHECKING:
    import polars as pl

Weight = Annotated[float, Meta(gt=0, le=1e9)]


class Concat(Relation, frozen=True, forbid_unknown_fields=True):
    """All rows of the first table, then all of the second, and so on.

    Each table needs the columns of the first, in the same types; what it has besides is left out. An id that
    occurred before has ``#2``, ``#3`` ... behind it.
    """

    inputs: ClassVar[tuple[int, int | None]] = (2, None)

    def keyed(self, frame: pl.LazyFrame) -> pl.LazyFrame | None:
        """The ids."""
        return frame.select("id")

    def __call__(self, frames: Sequence[pl.LazyFrame], seed: int) -> pl.LazyFrame:
        """The rows. ``RecipeError`` for a table that lacks a column of the first."""
        import polars as pl

        return with_unique_ids(pl.concat(_alike(frames, "union")))

    def rows_max(self, rows: Sequence[int]) -> int:
        """All of them."""
        return sum(rows)


class Mix(Relation, frozen=True, forbid_unknown_fields=True):
    """Rows of several tables in wanted proportions, spread evenly: every stretch of rows has them.

    Within a table a seeded hash of the ids decides the order, so that more rows change a choice at its edge
    only. The shares are met to the nearest row. Columns and ids are as in ``union``.
    """

    inputs: ClassVar[tuple[int, int | None]] = (2, None)

    weights: dict[str, Weight] | list[Weight] | None = None
    """How many rows of each table there are for one another: by the tables' names, or in their order. By
    default as many of each."""
    until: Literal["shortest", "upsample", "all"] = "shortest"
    """``shortest``: until a table has no more rows for its share; rows left over are rejected. ``upsample``:
    until every row of every table is in; tables that are short for their share are repeated. ``all``: every
    row once; the proportions hold until a table ends."""
    by_losses: ReplayWeights | ExcessWeights | None = None
    """Weights by losses that were measured on the tables' rows, for which the rows are held in memory.
    ``{rule: replay, losses: [...]}`` takes no ``weights``; ``{rule: excess, loss, target}`` begins with
    them."""

    def for_inputs(self, names: Sequence[str]) -> Mix:
        """This stage for tables of these names: weights by name become weights in order.

        ``RecipeError`` where a table has no weight, or a weight no table.
        """
        if not isinstance(self.weights, dict):
            return self
        if set(self.weights) != set(names):
            raise RecipeError(
                f"mix: weights are for {', '.join(self.weights)}, and the tables are {', '.join(names)}.",
                remedy="Give each table a weight, by its name.",
            )
        return msgspec.structs.replace(self, weights=[self.weights[name] for name in names])

    def __post_init__(self) -> None:
        if self.weights is not None and isinstance(self.by_losses, ReplayWeights):
            raise RecipeError(
                "mix: 'weights' are given, and 'by_losses' gives others.", remedy="Leave one of them out."
            )

    def keyed(self, frame: pl.LazyFrame) -> pl.LazyFrame | None:
        """The ids, unless losses are measured."""
        return frame.select("id") if self.by_losses is None else None

    def __call__(self, frames: Sequence[pl.LazyFrame], seed: int) -> pl.LazyFrame:
        """The mixture, then the rows left over with their reason; ids are held in memory.

        ``GristmillError`` where one table has no rows to mix in and another has.
        """
        import polars as pl

        weights = self._weighed(frames)
        ids = [frame.select("id").collect()["id"].to_list() for frame in frames]
        lengths = [len(own) for own in ids]
        counts = self._counts(lengths, weights)
        starts = [0, *accumulate(lengths)]
        orders = [seeded_order(seed, own) for own in ids]
        # Row k of a table with weight w stands at (k + 1/2) / w: evenly spread, and in proportion.
        places = [
            pl.DataFrame(
                {
                    "place": [(k + 0.5) / weight for k in range(count)],
                    "row": [start + order[k % len(order)] for k in range(count)],
                },
                schema={"place": pl.Float64, "row": pl.UInt32},
            )
            for start, order, count, weight in zip(starts, orders, counts, map(float, weights), strict=False)
        ]
        rows = pl.concat(places).sort("place", maintain_order=True)["row"].to_list()
        left = [
            starts[table] + row
            for table, (order, count) in enumerate(zip(orders, counts, strict=True))
            for row in sorted(order[count:])
        ]
        reasons = pl.Series([None] * len(rows) + ["mix: above its share"] * len(left), dtype=pl.String)
        picked = pl.concat(_alike(frames, "mix")).select(
            pl.all().gather(pl.Series(rows + left, dtype=pl.UInt32))
        )
        column = pl.LazyFrame({REJECTED_REASON: reasons})
        return with_unique_ids(pl.concat([picked, column], how="horizontal"))

    def _weighed(self, frames: Sequence[pl.LazyFrame]) -> list[Fraction]:
        now = self._weights(len(frames))
        if self.by_losses is None:
            return now
        if not any(evaluated(frame, self.by_losses.expressions).head(1).collect().height for frame in frames):
            return now
        return [Fraction(weight) for weight in self.by_losses.weigh(frames, [float(w) for w in now])]

    def _weights(self, tables: int) -> list[Fraction]:
        if isinstance(self.weights, dict):
            raise RecipeError(
                "mix: weights are by name, and these tables have none.",
                remedy="Give them as a list, in the order of the tables.",
            )
        given = [1.0] * tables if self.weights is None else self.weights
        if len(given) != tables:
            raise RecipeError(
                f"mix: there are {len(given)} weights for {tables} tables.", remedy="Give one for each."
            )
        # By way of the decimal text: 0.1 to 0.3 is meant to be exactly one to three.
        return [Fraction(str(weight)) for weight in given]

    def _counts(self, lengths: Sequence[int], weights: Sequence[Fraction]) -> list[int]:
        """How many rows of each table the mixture has."""
        if self.until == "all" or not any(lengths):
            return list(lengths)
        if not all(lengths):
            raise GristmillError(
                f"mix: table {lengths.index(0) + 1} has no rows (the tables have "
                f"{', '.join(map(str, lengths))}), so the wanted shares cannot be met.",
                remedy="See why it is empty, leave it out, or use 'until: all'.",
            )
        scales = [length / weight for length, weight in zip(lengths, weights, strict=True)]
        scale = min(scales) if self.until == "shortest" else max(scales)
        return [floor(scale * weight + Fraction(1, 2)) for weight in weights]

    def rows_max(self, rows: Sequence[int]) -> int:
        """All of them; with ``upsample`` as many as the shares ask for."""
        known = not isinstance(self.weights, dict) and self.by_losses is None
        if self.until != "upsample" or not all(rows) or not known:
            return sum(rows)
        return sum(self._counts(rows, self._weights(len(rows))))


def _alike(frames: Sequence[pl.LazyFrame], where: str) -> list[pl.LazyFrame]:
    """The tables with the columns of the first. ``RecipeError`` for one that lacks some."""
    wanted = frames[0].collect_schema()
    for number, frame in enumerate(frames[1:], 2):
        has = frame.collect_schema()
        for name, dtype in wanted.items():
            if has.get(name) != dtype:
                lack = f"has it as {has[name]}" if name in has else "has none of that name"
                raise RecipeError(
                    f"{where}: table 1 has the column {name!r} ({dtype}); table {number} {lack}.",
                    remedy="Bring them to the same columns with the stage 'derive', or change their order.",
                )
    return [frame.select(wanted.names()) for frame in frames]
