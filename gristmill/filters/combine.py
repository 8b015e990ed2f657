"""``union``, ``mix`` and ``same_prompts``: rows of several tables in one; ``compare_arms`` sums up."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import accumulate
from math import floor
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import msgspec
from msgspec import Meta, Struct

from gristmill.core.errors import GristmillError, RecipeError
from gristmill.core.records import Score
from gristmill.core.stages import REJECTED_REASON, Relation
from gristmill.filters.difficulty.mixture import ExcessWeights, ReplayWeights, evaluated
from gristmill.filters.order import seeded_order
from gristmill.filters.tables import with_unique_ids

if TYPE_CHECKING:
    import polars as pl

Weight = Annotated[float, Meta(gt=0, le=1e9)]
_LEAST, _TABLES, _NUMBER = "\x1fleast", "\x1ftables", "\x1fnumber"


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


class SamePrompts(Relation, frozen=True, forbid_unknown_fields=True):
    """The rows of several tables on the problems that all of them have, as many of each problem from every
    table: arms of a comparison in which nothing but the rows themselves was swapped.

    The first rows of a problem are taken, and ``where`` then gives an arm. Unpacking DPO and PPO (arXiv
    2406.09279) varies data, algorithm, reward model and prompts one at a time; this holds the prompts.
    Columns and ids are as in ``union``.
    """

    inputs: ClassVar[tuple[int, int | None]] = (2, None)

    key: str = "problem_id"
    """The column by which rows are of one problem."""
    column: str = "arm"
    """The new column with the name of the row's table."""
    names: tuple[str, ...] = ()
    """The names of the arms, in the order of the tables; by default the tables' own."""

    def for_inputs(self, names: Sequence[str]) -> SamePrompts:
        """This stage with the tables' names, unless it has names."""
        return self if self.names else msgspec.structs.replace(self, names=tuple(names))

    def __call__(self, frames: Sequence[pl.LazyFrame], seed: int) -> pl.LazyFrame:
        """The rows of the first arm, of the second and so on, then those left out with the reason.
        ``RecipeError`` without the column ``key``, and for names that do not fit."""
        import polars as pl

        if len(self.names) != len(frames) or len(set(self.names)) != len(frames):
            raise RecipeError(
                f"same_prompts: {len(self.names)} names ({', '.join(self.names)}) for {len(frames)} tables.",
                remedy="Give each table a name of its own.",
            )
        tables = _alike(frames, "same_prompts")
        if self.key not in (has := tables[0].collect_schema().names()):
            raise RecipeError(
                f"same_prompts: there is no column {self.key!r}. The columns are: {', '.join(has)}.",
                remedy="Name the one that tells which problem a row is of as 'key'.",
            )
        arms = pl.concat(
            table.with_columns(pl.lit(name).alias(self.column))
            for table, name in zip(tables, self.names, strict=True)
        )
        counts = arms.group_by(self.key, self.column).len().group_by(self.key)
        common = counts.agg(pl.col("len").min().alias(_LEAST), pl.len().alias(_TABLES))
        numbered = arms.with_columns(pl.int_range(pl.len()).over(self.column, self.key).alias(_NUMBER))
        reason = (
            pl.when(pl.col(_TABLES) < len(frames))
            .then(pl.lit("same_prompts: not every table has this problem"))
            .when(pl.col(_NUMBER) >= pl.col(_LEAST))
            .then(pl.lit("same_prompts: another table has fewer rows of this problem"))
        )
        joined = numbered.join(common, on=self.key, how="left", maintain_order="left", nulls_equal=True)
        marked = joined.with_columns(reason.alias(REJECTED_REASON))
        return with_unique_ids(marked.drop(_LEAST, _TABLES, _NUMBER))

    def rows_max(self, rows: Sequence[int]) -> int:
        """As many of each table as the smallest has."""
        return sum(rows)


class Arm(Struct, frozen=True):
    """An arm of a comparison: how many rows and problems it has, and the mean of each of its scores."""

    id: str
    rows: int
    problems: int
    scores: tuple[Score, ...] = ()


class CompareArms(Relation, frozen=True, forbid_unknown_fields=True):
    """A row for each arm of ``same_prompts``, with the mean of every score that its rows have.

    Scores without a value are left out of the mean. What two arms differ by before anything is trained, such
    as length, is what their models may differ by afterwards.
    """

    writes: ClassVar[type[Struct] | None] = Arm

    column: str = "arm"
    """The column that names the arm."""
    key: str = "problem_id"
    """The column by which rows are of one problem."""

    def __call__(self, frames: Sequence[pl.LazyFrame], seed: int) -> pl.LazyFrame:
        """The arms in the order in which they come. ``RecipeError`` for a column that is not there."""
        import polars as pl

        from gristmill.core.schema import to_frame

        has = frames[0].collect_schema().names()
        for name in (self.column, self.key, "scores"):
            if name not in has:
                raise RecipeError(
                    f"compare_arms: there is no column {name!r}. The columns are: {', '.join(has)}.",
                    remedy="Put 'same_prompts' before it, or name the columns.",
                )
        table = (
            frames[0]
            .select(pl.col(self.column).alias("arm"), pl.col(self.key).alias("key"), "scores")
            .collect()
        )
        made = []
        for (arm,), rows in table.group_by("arm", maintain_order=True):
            items = rows["scores"].list.explode().drop_nulls().struct.unnest()
            means = (
                items.drop_nulls("value").group_by("name", maintain_order=True).agg(pl.col("value").mean())
            )
            scores = tuple(Score(name, value) for name, value in means.iter_rows())
            made.append(Arm(str(arm), rows.height, rows["key"].n_unique(), scores))
        return to_frame(made, Arm).lazy()


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
