"""The named scores of a table of pairs as columns of numbers, and pairs turned round.

What a scorer says of a pair is a score for each side, ``chosen_NAME`` and ``rejected_NAME`` (the empty name
means ``chosen`` and ``rejected``, which sources write), or one score ``NAME`` of the pair. The names of
scores of a pair say what they become when the pair is turned round:

- of a side: the sides exchange them;
- ``margin`` and names that end in ``_margin`` or ``_strength``: a signed difference, chosen less rejected,
  which is negated;
- names with one of the endings ``SYMMETRIC``: they stay as they are;
- any other: the probability in [0, 1] that the chosen side is better, p, which becomes 1 - p.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from msgspec import Struct

from gristmill.core.errors import GristmillError, RecipeError
from gristmill.core.prompts import fields
from gristmill.core.registry import suggest
from gristmill.core.schema import schema
from gristmill.core.stages import REJECTED_REASON

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from numpy.typing import NDArray

    Numbers = NDArray[np.float64]
    Marks = NDArray[np.bool_]

SIDES = ("chosen", "rejected")
SYMMETRIC = (
    "spread",
    "deviation",
    "divergence",
    "uncertainty",
    "consistency",
    "difficulty",
    "agree",
    "similarity",
)
"""Endings of the names of scores that do not depend on which side is chosen."""
_SIGNED = ("_margin", "_strength")
_BLOCK = 65_536
"""Rows whose scores are in memory at once: a score with its empty verdict takes about 90 bytes."""
_TURNED, _NEW = "\x1fturned", "\x1fnew "


class PairScores(NamedTuple):
    """Scores of all rows of a table, by name; NaN where a row has none. ``seen`` has the names of all."""

    height: int
    values: Mapping[str, Numbers]
    seen: frozenset[str]

    def margin(self, scorer: str) -> Numbers:
        """Chosen less rejected by ``scorer``: the difference of its scores of the sides, else its score of
        the pair (2 p - 1 of a probability). NaN where it says nothing."""
        import numpy as np

        chosen, rejected = (self.values[side_score(side, scorer)] for side in SIDES)
        own = self.values[scorer] if scorer else np.full(self.height, np.nan)
        of_pair = own if is_margin(scorer) else 2 * own - 1
        return np.where(np.isnan(chosen - rejected), of_pair, chosen - rejected)

    def probability(self, scorer: str, beta: float = 1.0) -> Numbers:
        """The probability that the chosen side is better: a score of the pair as it is, or
        sigmoid(``beta`` margin)."""
        import numpy as np

        margin = self.margin(scorer)
        of_sides = ~np.isnan(
            self.values[side_score("chosen", scorer)] - self.values[side_score("rejected", scorer)]
        )
        own = self.values[scorer] if scorer and not is_margin(scorer) else np.full(self.height, np.nan)
        return np.where(of_sides | np.isnan(own), sigmoid(beta * margin), own)


def sigmoid(x: Numbers) -> Numbers:
    """1 / (1 + exp(-x)), without overflow; NaN stays NaN."""
    import numpy as np

    with np.errstate(invalid="ignore"):
        return np.exp(-np.logaddexp(0, -x))


def side_score(side: str, scorer: str) -> str:
    """The name of the score that ``scorer`` gives to a side."""
    return f"{side}_{scorer}" if scorer else side


def is_margin(name: str) -> bool:
    """Whether a score of a pair of that name is a signed difference."""
    return name == "margin" or name.endswith(_SIGNED)


def read_scores(frame: pl.LazyFrame, scorers: Sequence[str], where: str) -> PairScores:
    """What ``scorers`` say of the rows, read a block of rows at a time. A score without a number has that of
    its verdict, 1 or 0 where it has none either; an undecided verdict says nothing.

    ``GristmillError`` for a scorer of which the table has no score at all. Scores that are there and have no
    value, such as those of a judge whose replies could not be read, say nothing of their rows.
    """
    import numpy as np

    names = [
        name for s in scorers for name in (side_score("chosen", s), side_score("rejected", s), s) if name
    ]
    names = list(dict.fromkeys(names))
    blocks: dict[str, list[Numbers]] = {name: [] for name in names}
    seen: set[str] = set()
    height = 0
    for table in frame.select("scores").collect_batches(chunk_size=_BLOCK, maintain_order=True):
        block = table["scores"]
        height += block.len()
        found = _block(block, names, seen)
        # Most names are of no score: one column of NaN does for all of them.
        none = np.full(block.len(), np.nan)
        for i, name in enumerate(names):
            blocks[name].append(none if np.isnan(found[:, i]).all() else found[:, i].copy())
    nothing = np.full(height, np.nan)
    values = {
        name: np.concatenate([nothing[:0], *parts]) if name in seen else nothing
        for name, parts in blocks.items()
    }
    scores = PairScores(height, values, frozenset(seen))
    for scorer in scorers if height else ():
        if scorer not in seen and not {side_score(side, scorer) for side in ("chosen", "rejected")} <= seen:
            raise _nothing_from(scorer, scores.seen, where)
    return scores


def require_columns(frame: pl.LazyFrame, record: type[Struct], columns: Sequence[str], where: str) -> None:
    """``RecipeError`` unless ``frame``, an input of ``where``, has these columns of ``record``."""
    there, wanted = frame.collect_schema(), schema(record)
    for name in columns:
        if there.get(name) != wanted[name]:
            raise RecipeError(
                f"{where} lacks the column {name!r} of a {record.__name__}.",
                remedy=f"It has: {', '.join(there)}. Give 'from' its inputs in order.",
            )


def _block(scores: pl.Series, names: Sequence[str], seen: set[str]) -> Numbers:
    """The values of ``names`` in a column of scores: rows by names."""
    import numpy as np
    import polars as pl

    rows = np.repeat(np.arange(scores.len()), scores.list.len().fill_null(0).to_numpy())
    items = scores.filter(scores.list.len() > 0).explode()
    name = items.struct.field("name")
    seen.update(name.drop_nulls().unique())
    outcome = items.struct.field("verdict").struct.field("outcome")
    value = items.struct.field("value")
    if outcome.null_count() < outcome.len():
        own = items.struct.field("verdict").struct.field("score")
        known = (
            pl.when(outcome == "correct")
            .then(own.fill_null(1.0))
            .when(outcome == "incorrect")
            .then(own.fill_null(0.0))
        )
        value = pl.select(pl.coalesce(value, known)).to_series()
    table = np.full((scores.len(), len(names)), np.nan)
    place = name.cast(pl.Enum(names), strict=False).to_physical()
    wanted = place.is_not_null().to_numpy()
    table[rows[wanted], place.drop_nulls().to_numpy()] = value.fill_null(float("nan")).to_numpy()[wanted]
    return table


def _nothing_from(scorer: str, seen: Iterable[str], where: str) -> GristmillError:
    known = sorted({name.removeprefix("chosen_").removeprefix("rejected_") for name in seen} - {scorer})
    wanted = (
        "'chosen' and 'rejected'"
        if not scorer
        else f"{scorer!r}, nor 'chosen_{scorer}' and 'rejected_{scorer}'"
    )
    return GristmillError(
        f"{where}: no row has the score {wanted} (there are: {', '.join(known) or 'none'}).",
        remedy=suggest(scorer, known) or "Give the pairs that score in a stage before, or name another.",
    )


def curated(
    frame: pl.LazyFrame,
    *,
    reasons: Sequence[tuple[Marks, str]] = (),
    turned: Marks | None = None,
    scores: Mapping[str, Numbers] | None = None,
    columns: Mapping[str, Any] | None = None,
    seen: Collection[str] = (),
) -> pl.LazyFrame:
    """``frame`` with the first of ``reasons`` whose mark is set in ``REJECTED_REASON``, the pairs that are
    ``turned`` turned round, then ``columns`` replaced or added and ``scores`` added.

    ``scores`` and ``columns`` are of the rows as they come out. A score takes the place of one of its name;
    ``seen`` are the names of scores that the table has: with ``turned`` all of them, or nothing.
    """
    import numpy as np
    import polars as pl

    marks = [mark for mark, _ in reasons]
    texts = [text for _, text in reasons]
    first = np.select(marks, range(len(marks)), len(marks)) if marks else None
    given: dict[str, Any] = {f"{_NEW}{name}": values for name, values in (columns or {}).items()}
    given |= {
        f"{_NEW}score {name}": pl.Series(values).fill_nan(None) for name, values in (scores or {}).items()
    }
    if first is not None:
        given[REJECTED_REASON] = pl.Series(first, dtype=pl.UInt32).replace_strict(
            range(len(texts)), texts, default=None, return_dtype=pl.String
        )
    if turned is not None:
        given[_TURNED] = turned
    table = pl.concat([frame, pl.DataFrame(given).lazy()], how="horizontal") if given else frame
    if first is None:
        table = table.with_columns(pl.lit(None, pl.String).alias(REJECTED_REASON))
    if turned is not None and turned.any():
        _check_probabilities(table, seen)
        table = table.with_columns(_turned_round())
    if scores:
        table = table.with_columns(_with_scores(frame, list(scores), set(seen)))
    table = table.with_columns(pl.col(f"{_NEW}{name}").alias(name) for name in columns or {})
    return table.drop(name for name in given if name != REJECTED_REASON)


def _with_scores(frame: pl.LazyFrame, names: Sequence[str], seen: set[str]) -> pl.Expr:
    """The column of scores with the new ones at the end of each list."""
    import polars as pl

    kind: Any = frame.collect_schema()["scores"]
    old = pl.col("scores")
    if seen & set(names):
        old = old.list.eval(pl.element().filter(~pl.element().struct.field("name").is_in(list(names))))
    new = (pl.col(f"{_NEW}score {name}").cast(pl.Float64) for name in names)
    return (
        pl.struct(old.alias("old"), *new)
        .map_batches(lambda rows: _appended(rows, names, kind), return_dtype=kind, is_elementwise=True)
        .alias("scores")
    )


def _appended(rows: pl.Series, names: Sequence[str], kind: Any) -> pl.Series:
    """Lists of scores with one more for each of ``names``. (``polars.concat_list`` takes far longer.)"""
    import numpy as np
    import polars as pl
    import pyarrow as pa

    table = rows.struct.unnest()
    old = table["old"]
    lengths = old.list.len().fill_null(0).to_numpy().astype(np.int64)
    values = np.stack([table[f"{_NEW}score {name}"].fill_null(np.nan).to_numpy() for name in names], axis=1)
    fresh = pl.DataFrame(
        {"name": list(names) * len(table), "value": values.ravel()},
        schema_overrides={"name": pl.String, "value": pl.Float64},
    ).select(
        "name", pl.col("value").fill_nan(None), pl.lit(None, kind.inner.fields[2].dtype).alias("verdict")
    )
    items = pl.concat([old.filter(lengths > 0).explode(), fresh.to_struct(old.name)])
    ends = np.cumsum(lengths + len(names))
    is_new = np.zeros(len(items), bool)
    is_new[(ends[:, None] - np.arange(len(names), 0, -1)).ravel()] = True
    order = np.empty(len(items), np.int64)
    order[~is_new] = np.arange(lengths.sum())
    order[is_new] = np.arange(lengths.sum(), len(items))
    flat = items.gather(order).to_arrow()
    made = pa.LargeListArray.from_arrays(pa.array(np.concatenate([[0], ends]), pa.int64()), flat)
    return pl.Series(rows.name, made).cast(kind)


def _turned_round() -> list[pl.Expr]:
    """Sides, scores and meta of the rows to turn; the other rows as they are."""
    import polars as pl

    turn = pl.col(_TURNED)
    scores = pl.when(turn).then(pl.col("scores")).list.eval(_turned_score())
    meta = (
        pl.when(turn & (pl.col("meta") != "{}"))
        .then(pl.col("meta"))
        # Said to be of each row by itself: else Polars holds the whole table for it, the texts too.
        .map_batches(_turned_meta, return_dtype=pl.String, is_elementwise=True)
    )
    return [
        pl.when(turn).then("rejected").otherwise("chosen").alias("chosen"),
        pl.when(turn).then("chosen").otherwise("rejected").alias("rejected"),
        pl.when(turn).then(scores).otherwise("scores").alias("scores"),
        pl.coalesce(meta, "meta").alias("meta"),
    ]


def _kinds(name: pl.Expr) -> tuple[pl.Expr, pl.Expr, pl.Expr]:
    """Whether a score is of a side, a signed difference, or one that stays as it is."""
    import polars as pl

    of_side = name.is_in(SIDES) | name.str.starts_with("chosen_") | name.str.starts_with("rejected_")
    signed = (name == "margin") | pl.any_horizontal(name.str.ends_with(ending) for ending in _SIGNED)
    stays = pl.any_horizontal(name.str.ends_with(ending) for ending in SYMMETRIC)
    return of_side, ~of_side & signed, ~of_side & ~signed & stays


def _turned_score() -> pl.Expr:
    import polars as pl

    name, value, verdict = (pl.element().struct.field(f) for f in ("name", "value", "verdict"))
    of_side, signed, stays = _kinds(name)
    other = (
        pl.when(name.str.starts_with("chosen"))
        .then(pl.lit("rejected") + name.str.strip_prefix("chosen"))
        .otherwise(pl.lit("chosen") + name.str.strip_prefix("rejected"))
    )
    outcome, own = verdict.struct.field("outcome"), verdict.struct.field("score")
    opposite = verdict.struct.with_fields(
        pl.when(outcome == "correct")
        .then(pl.lit("incorrect"))
        .when(outcome == "incorrect")
        .then(pl.lit("correct"))
        .otherwise(outcome)
        .alias("outcome"),
        (1 - own).alias("score"),
    )
    kept = of_side | stays
    return pl.struct(
        pl.when(of_side).then(other).otherwise(name).alias("name"),
        pl.when(kept).then(value).when(signed).then(-value).otherwise(1 - value).alias("value"),
        pl.when(kept | verdict.is_null()).then(verdict).otherwise(opposite).alias("verdict"),
    )


def _check_probabilities(table: pl.LazyFrame, seen: Collection[str]) -> None:
    """Refuse to turn a pair with a score of which nobody can say what becomes of it.

    The table is not read for it where none of ``seen``, if it is given, can be a probability.
    """
    import polars as pl

    if seen and pl.select(pl.any_horizontal(_kinds(pl.lit(pl.Series(list(seen))))).all()).item():
        return
    score = pl.col("scores").struct
    of_side, signed, stays = _kinds(score.field("name"))
    odd = ~of_side & ~signed & ~stays & ~score.field("value").is_between(0, 1)
    rows = table.filter(_TURNED).select("id", "scores").explode("scores").filter(odd)
    found = rows.select("id", score.field("name"), score.field("value")).head(1).collect()
    if found.height:
        row, name, value = found.row(0)
        raise GristmillError(
            f"the pair {row!r} is to be turned round, and its score {name!r} is {value:g}, neither of a "
            "side, nor the probability in [0, 1] that the chosen side is better.",
            remedy=f"Call a signed difference '{name}_margin', and what is of both sides '{name}_spread'.",
        )


def _turned_meta(meta: pl.Series) -> pl.Series:
    """Keys that begin with the name of a side, such as ``chosen_model``, exchanged."""
    import polars as pl

    return pl.Series(meta.name, [None if one is None else swapped_meta(one) for one in meta], pl.String)


def swapped_meta(meta: str) -> str:
    """The JSON object ``meta`` with the sides' keys (``chosen``, ``rejected_model`` ...) exchanged."""
    import msgspec

    other = {"chosen": "rejected", "rejected": "chosen"}

    def renamed(key: str) -> str:
        side, line, rest = key.partition("_")
        return f"{other[side]}{line}{rest}" if side in other else key

    return msgspec.json.encode({renamed(k): v for k, v in fields(meta).items()}).decode()


def said(side: str) -> pl.Expr:
    """All that the assistant's turns of a side say, as one text."""
    import polars as pl

    turn = pl.element().struct
    spoken = turn.field("content").filter(turn.field("role") == "assistant")
    return pl.col(side).list.eval(spoken).list.join("\n\n")
