"""The votes of all problems of a table at once, with Polars.

What a vote means is in ``verifiers.rules.votes`` and ``answers``. Here its functions are called once for each
different case: the answers of a problem, how its classes stand, what is known of a class. Of millions of
samples there are few different ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from gristmill.synth.agreement.answers import Equal, grouping, truth
from gristmill.verifiers.rules.votes import Grouping, Standing, Totalling, can_vote, grouped, total

if TYPE_CHECKING:
    import polars as pl


def texts_of(rows: pl.DataFrame, equal: Equal) -> pl.DataFrame:
    """Each different answer of each problem that can vote, by problem, then by row.

    Columns: the ``number`` of the problem, the ``row`` of the first sample, ``class`` (a number within the
    problem), ``votes`` (how many gave it), ``yes`` and ``no`` (whether any of them is known to be right, or
    wrong), and the list of their ``weight`` where ``rows`` have weights.

    ``rows`` has a sample a row: ``row``, ``number``, ``said``, ``right``, and ``weight`` where one is used.
    """
    import polars as pl

    texts = (
        rows.filter(pl.col("said").is_not_null())
        .group_by("number", "said")
        .agg(
            pl.col("row").min(),
            pl.len().cast(pl.Int64).alias("votes"),
            pl.col("right").any().alias("yes"),
            pl.col("right").not_().any().alias("no"),
            *(pl.col(name) for name in ("weight",) if name in rows.columns),
        )
        .sort("number", "row")
    )
    mute = [said for said in texts["said"].unique() if not can_vote(said)]
    texts = texts.filter(pl.col("said").is_in(mute).not_())
    group = grouping(equal)
    places = _once(
        texts.group_by("number", maintain_order=True).agg("said"),
        lambda said: {"class": _places(said, group)},
        {"class": pl.List(pl.Int64)},
    )
    return texts.with_columns(places["class"].explode(empty_as_null=False))


def _places(said: Sequence[str], group: Grouping) -> list[int]:
    """The class of each of the different answers of a problem."""
    places = [0] * len(said)
    for place, one in enumerate(grouped(said, group)):
        for at in one:
            places[at] = place
    return places


def classes_of(
    texts: pl.DataFrame, golds: pl.DataFrame, equal: Equal, tally: Totalling | None
) -> pl.DataFrame:
    """The classes of each problem in order of their first samples, as the fields of ``VoteClass``, with
    ``number`` and ``class``. ``tally`` is ``None`` where each sample counts as one; ``golds`` has
    the reference (``gold``) of each ``number``."""
    import polars as pl

    found = texts.group_by("number", "class", maintain_order=True).agg(
        pl.col("said").first().alias("label"),
        pl.col("votes").sum(),
        pl.col("yes").any(),
        pl.col("no").any(),
        *(pl.col(name).explode() for name in ("weight",) if tally is not None),
    )
    if tally is None:
        totals = found["votes"].cast(pl.Float64)
    else:
        totals = pl.Series([total(weights, tally) for weights in found["weight"].to_list()], dtype=pl.Float64)
    known = pl.col("yes") | pl.col("no")
    cases = found.join(golds, on="number", how="left", maintain_order="left").select(
        "number",
        "yes",
        "no",
        # What the verifier has decided needs no look at the texts.
        pl.when(known).then(pl.lit("")).otherwise("label").alias("label"),
        pl.when(known).then(None).otherwise("gold").alias("gold"),
    )
    right = _once(
        cases,
        lambda yes, no, label, gold: {"right": truth([True] * yes + [False] * no, label, gold, equal)},
        {"right": pl.Boolean},
    )
    return found.select("number", "class", "label", "votes", totals.alias("total"), right["right"])


def standings_of(classes: pl.DataFrame, ties: bool) -> pl.DataFrame:
    """A row for each ``number`` that has ``classes``: how they stand, and ``classes`` themselves as a list.

    ``answer`` and ``right`` are those of the leading class; a tie has one only with ``ties``.
    """
    import polars as pl

    whole = classes.group_by("number", maintain_order=True).agg(
        pl.col("votes").alias("sizes"),
        pl.col("total").alias("totals"),
        pl.col("right").alias("rights"),
        pl.struct("label", "votes", "total", "right").alias("classes"),
        pl.col("label"),
        pl.col("votes").sum(),
    )
    columns = {
        "leader": pl.Int64,
        "right": pl.Boolean,
        "share": pl.Float64,
        "margin": pl.Float64,
        "tied": pl.Boolean,
        "entropy": pl.Float64,
        "credit": pl.Float64,
    }
    stand = _once(
        whole.select("number", "sizes", "totals", "rights"),
        lambda sizes, totals, rights: _standing(Standing(sizes=sizes, totals=totals), rights, ties),
        columns,
    )
    return (
        whole.drop("sizes", "totals", "rights")
        .hstack(stand.drop("number"))
        .with_columns(pl.col("label").list.get(pl.col("leader"), null_on_oob=True).alias("answer"))
    )


def _standing(tally: Standing, rights: Sequence[bool | None], ties: bool) -> dict[str, object]:
    shares, leaders, tied = tally.shares, tally.leaders, bool(tally.tied)
    first = leaders[0]
    leader = None if tied and not ties else first
    return {
        "leader": leader,
        "right": None if leader is None else rights[leader],
        "share": shares[first],
        "margin": shares[first] - max((s for i, s in enumerate(shares) if i != first), default=0.0),
        "tied": tied,
        "entropy": tally.entropy,
        "credit": tally.credit(rights),
    }


def _once(
    cases: pl.DataFrame, find: Callable[..., dict[str, object]], columns: Mapping[str, pl.DataType | type]
) -> pl.DataFrame:
    """What ``find`` makes of the columns of each row but ``number``, as ``columns`` in the rows' order; it is
    called once for each different row."""
    import polars as pl

    given = [name for name in cases.columns if name != "number"]
    cases = cases.with_row_index("at")
    kinds = cases.group_by(given).agg("at", "number")
    found = [find(*values) for values in kinds.select(given).iter_rows()]
    made = pl.DataFrame(found, schema=columns, orient="row")
    return made.hstack(kinds.select("at", "number")).explode("at", "number").sort("at").drop("at")
