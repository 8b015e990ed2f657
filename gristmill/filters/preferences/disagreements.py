"""``disagreements`` and ``adjudicate``: only what scorers disagree on goes to a stronger judge, or to a
person.

``disagreements`` divides a table. What it keeps goes on to a stage that asks a stronger judge
(``judge_pairs``), or is exported for a person as ``pair-questions``, a file of rulings to fill in. A source
reads it back (``reads: rulings``), and ``adjudicate`` gives the pairs their labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from msgspec import Meta, Struct

from gristmill.core.records import Pair
from gristmill.core.stages import Filter, Relation
from gristmill.filters.preferences.scores import curated, read_scores, require_columns, said

if TYPE_CHECKING:
    import polars as pl


class Disagreements(Filter, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Keep the pairs on which scorers disagree, or those on which they agree.

    They agree if all find the same side better, which includes the label where ``with_label`` is set. A tie,
    or a score that is missing, does not count as agreement.
    """

    reads: ClassVar[type[Struct]] = Pair

    scorers: Annotated[list[str], Meta(min_length=1)]
    """The scorers, by name, as of ``strength``."""
    with_label: bool = True
    """Whether they must agree with the label too: that the chosen side is better."""
    keep: Literal["disagreeing", "agreeing"] = "disagreeing"
    """Which pairs to keep; two stages on one table have each pair once."""

    def __call__(self, frame: pl.LazyFrame, seed: int) -> pl.LazyFrame:
        """All rows, with the reason for those to reject."""
        import numpy as np

        found = read_scores(frame, self.scorers, "disagreements")
        margins = np.stack([found.margin(scorer) for scorer in self.scorers])
        agreed = np.all(margins > 0, axis=0)
        if not self.with_label:
            agreed |= np.all(margins < 0, axis=0)
        if self.keep == "agreeing":
            return curated(frame, reasons=[(~agreed, "disagreements: the scorers disagree")])
        return curated(frame, reasons=[(agreed, "disagreements: the scorers agree")])


Better = Literal["first", "second", "tie"]


class Ruling(Struct, frozen=True):
    """What a person says of a pair: which of two texts is ``better``; null or empty while it is open.

    ``first`` and ``second`` are the texts as they were shown, so that a ruling fits its pair whichever side
    was chosen when it was asked. A pair of several texts by a side has them one below the other.
    """

    id: str
    first: str
    second: str
    better: str | None = None
    prompt: str = ""
    note: str = ""


class Adjudicate(Relation, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Give pairs (the first table) the labels that rulings (the second) say, by id.

    The side that was ruled the better becomes the chosen one. Rejected are pairs without a ruling, ties,
    rulings that are none of ``first``, ``second`` and ``tie``, those whose texts are not the pair's, and
    those that contradict each other.
    """

    inputs: ClassVar[tuple[int, int | None]] = (2, 2)

    without: Literal["reject", "keep"] = "reject"
    """What becomes of pairs without a ruling: rejected, or kept as they are."""

    def __call__(self, frames: Sequence[pl.LazyFrame], seed: int) -> pl.LazyFrame:
        """The pairs, with reasons for those to reject."""
        import polars as pl

        pairs, rulings = frames
        require_columns(pairs, Pair, Pair.__struct_fields__, "adjudicate: the first table")
        require_columns(rulings, Ruling, ("id", "first", "second", "better"), "adjudicate: the second table")
        word = pl.col("better").str.strip_chars().str.to_lowercase()
        ruled = rulings.select("id", "first", "second", word.alias("word")).filter(
            (pl.col("word") != "").fill_null(False)
        )
        asked = pairs.select("id", said("chosen").alias("chosen"), said("rejected").alias("rejected"))
        met = asked.join(ruled, on="id", how="left", maintain_order="left")
        ahead = (pl.col("first") == pl.col("chosen")) & (pl.col("second") == pl.col("rejected"))
        behind = (pl.col("first") == pl.col("rejected")) & (pl.col("second") == pl.col("chosen"))
        wins = pl.col("word").replace_strict({"first": 1, "second": -1, "tie": 0}, default=None)
        side = pl.when(ahead).then(wins).when(behind).then(-wins)
        found = met.group_by("id", maintain_order=True).agg(
            pl.col("word").count().alias("rulings"),
            (pl.col("word").is_not_null() & ~ahead & ~behind).any().alias("other"),
            (pl.col("word").is_not_null() & wins.is_null()).any().alias("unknown"),
            side.min().alias("least"),
            side.max().alias("most"),
        )
        table = found.collect()
        none = (table["rulings"] == 0).to_numpy()
        reasons = [
            (none, "adjudicate: no ruling"),
            (table["other"].to_numpy(), "adjudicate: the texts of the ruling are not the pair's"),
            (table["unknown"].to_numpy(), "adjudicate: the ruling is not first, second or tie"),
            (
                (table["least"] != table["most"]).fill_null(False).to_numpy(),
                "adjudicate: rulings contradict each other",
            ),
            ((table["most"] == 0).fill_null(False).to_numpy(), "adjudicate: a tie"),
        ]
        turned = (table["most"] < 0).fill_null(False).to_numpy()
        return curated(pairs, reasons=reasons[1:] if self.without == "keep" else reasons, turned=turned)

    def rows_max(self, rows: Sequence[int]) -> int:
        """As many as there are pairs."""
        return rows[0]
