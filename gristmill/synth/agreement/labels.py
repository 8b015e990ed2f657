"""``pseudo_labels``: labels by vote with the confidence that a subset with gold answers teaches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, NamedTuple

from msgspec import Meta, Struct

from gristmill.core.errors import GristmillError
from gristmill.core.shares import wilson
from gristmill.core.stages import REJECTED_REASON, Relation
from gristmill.synth.agreement.vote import Voted
from gristmill.synth.refusal.measures import Level, bins, levels

if TYPE_CHECKING:
    import polars as pl


class Block(NamedTuple):
    """Neighbouring scores of one confidence: from ``low`` up to the next block's, ``right`` of ``total``
    labels are right."""

    low: float
    right: int
    total: int

    @property
    def share(self) -> float:
        """The share that is right."""
        return self.right / self.total


def calibrate(
    scores: Sequence[float], right: Sequence[bool], *, method: Literal["isotonic", "binned"], count: int = 10
) -> list[Block]:
    """Blocks of rising scores with the share of right labels in each.

    ``isotonic``: neighbouring scores are pooled until the shares rise with the scores (pool adjacent
    violators, the least-squares fit among rising functions). ``binned``: at most ``count`` bins of equal
    mass. Own code, since the libraries that have it bring scipy; equal scores are never divided, so that the
    order of rows does not matter. ``ValueError`` for lists of different length.
    """
    found = levels(right, scores)
    if method == "binned":
        return [Block(b.low, round(b.accuracy * b.total), b.total) for b in bins(found, count)]
    return _rising(list(reversed(found)))


def block_of(blocks: Sequence[Block], score: float) -> Block:
    """The block that a score falls into: the last that begins at or below it, or the first."""
    return next((block for block in reversed(blocks) if block.low <= score), blocks[0])


def _rising(found: Sequence[Level]) -> list[Block]:
    blocks: list[Block] = []
    for level in found:
        blocks.append(Block(level.score, level.right, level.total))
        # In integers, so that equal shares are pooled whatever their rounding.
        while len(blocks) > 1 and blocks[-2].right * blocks[-1].total >= blocks[-1].right * blocks[-2].total:
            last, before = blocks.pop(), blocks.pop()
            blocks.append(Block(before.low, before.right + last.right, before.total + last.total))
    return blocks


class PseudoLabels(Relation, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Gives every label of the stage ``vote`` the probability that it is right, with an interval.

    It learns from the rows whose ``right`` is known, the gold subset, how often a label of such a share is
    right, and writes ``confidence`` with its Wilson interval ``low`` to ``high``: of the gold rows in the
    same block, so an interval is wide where few of them are. Rows without a label are rejected, and with
    ``minimum`` those whose confidence is below it. The confidence of a gold row itself is in-sample.
    """

    reads: ClassVar[type[Struct]] = Voted

    method: Literal["isotonic", "binned"] = "isotonic"
    """``isotonic``: confidence that never falls with the score. ``binned``: the share of right labels in bins
    of equal mass."""
    by: Literal["share", "margin"] = "share"
    """The score: the label's share of the votes, or its lead over the next class."""
    bins: Annotated[int, Meta(ge=1, le=100)] = 10
    """The most bins of ``binned``."""
    gold: Annotated[int, Meta(ge=1)] = 30
    """The fewest rows with a known ``right`` to learn from; with fewer the run ends."""
    confidence: Annotated[float, Meta(gt=0, lt=1)] = 0.95
    """The level of the interval."""
    minimum: Annotated[float, Meta(ge=0, le=1)] = 0.0
    """The lowest confidence that is kept."""
    bound: Literal["confidence", "low"] = "confidence"
    """What ``minimum`` is compared with: the confidence, or the lower end of its interval."""

    def __call__(self, frames: Sequence[pl.LazyFrame], seed: int) -> pl.LazyFrame:
        """The rows in order with ``confidence``, ``low``, ``high``, and why those rejected are."""
        import polars as pl

        rows = frames[0].select("answer", "right", self.by).collect()
        known = rows.filter(pl.col("right").is_not_null() & pl.col("answer").is_not_null())
        if rows.height and known.height < self.gold:
            raise GristmillError(
                f"pseudo_labels: {known.height} of {rows.height} labels are known to be right or wrong, but "
                f"{self.gold} are needed to learn how far a share can be trusted.",
                remedy="Give more problems a reference answer, or lower 'gold'.",
            )
        blocks = calibrate(
            known[self.by].to_list(), known["right"].to_list(), method=self.method, count=self.bins
        )
        made: list[tuple[float | None, float | None, float | None, str | None]] = []
        for answer, _, score in rows.iter_rows():
            if answer is None:
                made.append((None, None, None, "pseudo_labels: no label"))
                continue
            block = block_of(blocks, score)
            low, high = wilson(block.right, block.total, self.confidence)
            least = block.share if self.bound == "confidence" else low
            reason = None if least >= self.minimum else f"pseudo_labels: {self.bound} below {self.minimum:g}"
            made.append((block.share, low, high, reason))
        columns = {
            name: pl.Series([row[i] for row in made], dtype=dtype)
            for i, (name, dtype) in enumerate(
                (
                    ("confidence", pl.Float64),
                    ("low", pl.Float64),
                    ("high", pl.Float64),
                    (REJECTED_REASON, pl.String),
                )
            )
        }
        frame = frames[0].drop("confidence", "low", "high", strict=False)
        return pl.concat([frame, pl.LazyFrame(columns)], how="horizontal")

    def rows_max(self, rows: Sequence[int]) -> int:
        """As many as come in."""
        return rows[0]
