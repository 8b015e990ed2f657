"""The rules by which two answers to one prompt become a pair: who may be chosen, who rejected, and which
pairs come first where a problem may give only so many."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

Rule = Literal["best_worst", "best_random", "outcome", "threshold", "all", "hard", "length_matched", "halves"]
_BATCH = 2_000_000
"""Pairs of candidates that are looked at together; this bounds the memory."""
_MIX = (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
"""The constants of splitmix64, a mixing of 64 bits that is in the public domain (Steele, Lea, Flood 2014)."""


class PairLimits(NamedTuple):
    """What the rules of a stage have in common: its options, by their names there."""

    margin: float
    above: float | None
    below: float | None
    similarity: float
    length_ratio: float


class Paths(NamedTuple):
    """A rule: which candidates may be the chosen and the rejected side, and what orders their pairs.

    ``least`` is the fewest candidates of a group. The order is ``random`` (a seeded hash), ``similar`` (the
    most similar texts first) or ``length`` (the most similar lengths first).
    """

    chosen: pl.Expr
    rejected: pl.Expr
    order: Literal["random", "similar", "length"] = "random"
    least: int = 2


def paths(rule: Rule, limits: PairLimits) -> Paths:
    """The rule of that name. Halves: UPO, arXiv 2409.11212."""
    import polars as pl

    anyone, at, size, value = pl.lit(True), pl.col("at"), pl.col("size"), pl.col("value")
    if rule == "best_worst":
        return Paths(at == 0, at == size - 1)
    if rule == "best_random":
        return Paths(at == 0, anyone)
    if rule == "outcome":
        return Paths(value == 1, value == 0)
    if rule == "threshold":
        return Paths(value >= limits.above, value <= limits.below)
    if rule == "halves":
        return Paths(at < size // 2, at >= size - size // 2, least=4)
    return Paths(anyone, anyone, {"hard": "similar", "length_matched": "length"}.get(rule, "random"))  # type: ignore[arg-type]


def pairs(
    table: pl.DataFrame, rule: Rule, limits: PairLimits, texts: Callable[[pl.Series], list[str]]
) -> Iterator[pl.DataFrame]:
    """The pairs of a rule, in batches of whole problems, each problem's in the rule's order.

    ``table`` is that of ``Candidates``. Columns: ``problem``, ``row`` and ``row_rejected``, ``margin``,
    ``similarity`` (null unless the rule asks for it) and ``length_before``: the mean difference in characters
    of the problem's pairs before any is left out for its length. Neither ties nor equal texts are in them.
    """
    import polars as pl

    path = paths(rule, limits)
    table = table.filter(pl.col("size") >= path.least)
    chosen, rejected = table.filter(path.chosen), table.filter(path.rejected)
    for first, last in _batches(chosen, rejected):
        here = pl.col("problem").is_between(first, last)
        found = chosen.filter(here).join(
            rejected.filter(here).select("group", "row", "value", "chars", "hash"),
            on="group",
            suffix="_rejected",
            maintain_order="left_right",
        )
        margin = pl.col("value") - pl.col("value_rejected")
        found = found.with_columns(margin.alias("margin")).filter(
            (pl.col("margin") > 0) & (pl.col("margin") >= limits.margin)
        )
        yield _ordered(found, path, limits, texts)


def _batches(chosen: pl.DataFrame, rejected: pl.DataFrame) -> Iterator[tuple[int, int]]:
    """First and last problems of batches with at most so many pairs, or of one problem."""
    import polars as pl

    sizes = (
        chosen.group_by("problem", "group")
        .len("left")
        .join(rejected.group_by("group").len("right"), on="group")
        .group_by("problem")
        .agg((pl.col("left").cast(pl.Int64) * pl.col("right")).sum().alias("pairs"))
        .sort("problem")
    )
    first, count, last = None, 0, 0
    for problem, n in sizes.iter_rows():
        if first is not None and count + n > _BATCH:
            yield first, last
            first, count = None, 0
        first, last, count = problem if first is None else first, problem, count + n
    if first is not None:
        yield first, last


def _ordered(
    found: pl.DataFrame, path: Paths, limits: PairLimits, texts: Callable[[pl.Series], list[str]]
) -> pl.DataFrame:
    import polars as pl

    mixed = mix(found["hash"].to_numpy(), found["hash_rejected"].to_numpy())
    chars, other = pl.col("chars"), pl.col("chars_rejected")
    found = found.with_columns(
        pl.Series("random", mixed),
        pl.lit(None, pl.Float64).alias("similarity"),
        (chars - other).mean().over("problem").alias("length_before"),
        (pl.max_horizontal(chars, other) / pl.min_horizontal(chars, other)).alias("ratio"),
    )
    order = [pl.col("random")]
    if path.order == "similar":
        likeness = similarities(texts(found["row"]), texts(found["row_rejected"]))
        found = found.with_columns(pl.Series("similarity", likeness, pl.Float64))
        found = found.filter(pl.col("similarity") >= limits.similarity)
        order = [-pl.col("similarity"), *order]
    elif path.order == "length":
        found = found.filter(pl.col("ratio") <= limits.length_ratio)
        order = [pl.col("ratio"), *order]
    found = found.sort("problem", *order, maintain_order=True)
    return found.select("problem", "row", "row_rejected", "margin", "similarity", "length_before")


def similarities(left: list[str], right: list[str]) -> list[float]:
    """How similar the texts of each place are, from 0 to 1: ``rapidfuzz``'s ratio, the share of characters
    that are in both in the same order."""
    from rapidfuzz import fuzz, process

    if not left:
        return []
    return (process.cpdist(left, right, scorer=fuzz.ratio, workers=-1) / 100).tolist()  # type: ignore[no-any-return]


def mix(chosen: np.ndarray, rejected: np.ndarray) -> np.ndarray:
    """A hash of each pair of hashes, in which the two sides count differently (unsigned, 64 bits)."""
    import numpy as np

    with np.errstate(over="ignore"):
        mixed = chosen.astype(np.uint64) * np.uint64(_MIX[0]) + rejected.astype(np.uint64)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(_MIX[1])
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(_MIX[2])
    return np.asarray(mixed ^ (mixed >> np.uint64(31)))
