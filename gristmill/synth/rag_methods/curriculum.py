"""``ranking_curriculum``: rows for a re-ranker, the easy ones weighing more in the first epochs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import NormalDist, mean, stdev
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta, Struct

from gristmill.core.engine import Message
from gristmill.core.errors import RecipeError, RowRejected
from gristmill.core.passages import passages
from gristmill.core.records import Labelled, Pair, Problem
from gristmill.core.schema import from_frame, schema, to_frame
from gristmill.core.stages import REJECTED_REASON, Relation
from gristmill.filters.tables import with_rejected
from gristmill.synth.rag.retrieve import SCORE
from gristmill.synth.rag_methods.base import held, own_ids

if TYPE_CHECKING:
    import polars as pl

Heuristic = Literal["reciprocal_rank", "normalised_score", "density"]


def nearness(heuristic: Heuristic, scores: Sequence[float | None]) -> list[float]:
    """How near each passage of a ranking is to its question, in [0, 1] (arXiv 2004.14269).

    ``reciprocal_rank``: 1 / rank, from 1. ``normalised_score``: (score - least) / (greatest - least), 1 for
    all where they are equal. ``density``: the share of the scores at or below it, smoothed by Gaussian
    kernels with Scott's bandwidth. ``ValueError`` for a score that is missing where scores count."""
    if heuristic == "reciprocal_rank":
        return [1 / rank for rank in range(1, len(scores) + 1)]
    known = [score for score in scores if score is not None]
    if len(known) < len(scores):
        raise ValueError("a passage without a score")
    low, high = min(known), max(known)
    if low == high:
        return [1.0] * len(known)
    if heuristic == "normalised_score":
        return [(score - low) / (high - low) for score in known]
    kernel = NormalDist(0.0, stdev(known) * len(known) ** -0.2)
    return [mean(kernel.cdf(score - other) for other in known) for score in known]


def easiness(near: float, relevant: bool) -> float:
    """How easy a passage is to judge: a relevant one that is near, another one that is not."""
    return near if relevant else 1 - near


def weight(easy: float, epoch: int, epochs: int) -> float:
    """The weight of a row in ``epoch``, from 0: easy + epoch / epochs (1 - easy), and 1 from ``epochs`` on
    (arXiv 2004.14269)."""
    return 1.0 if epoch >= epochs else easy + epoch / epochs * (1 - easy)


class RankingCurriculum(Relation, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Makes the rows of a re-ranker's curriculum (arXiv 2004.14269): each with a weight that begins with how
    easy it is and grows to 1.

    Reads questions with passages in the order of the ranking, and the ids of their own. ``pointwise``: each
    passage as an answer to its question, wanted or not (``Labelled``); ``pairwise``: each own passage against
    each of the others (``Pair``), as easy as the mean of its two sides. ``weight`` is that of ``epoch``, and
    ``meta.weights`` has those of the epochs 0 to ``epochs``, for a trainer that reads them.

    Rejected: a question that names no passages, one of whose own none was found, one that has no other, and
    one with a passage without a score where the heuristic needs scores (``retrieve`` with ``scores: true``).
    """

    reads: ClassVar[type[Struct]] = Problem
    writes: ClassVar[type[Struct] | None] = None

    form: Literal["pointwise", "pairwise"] = "pairwise"
    """What a row is: one passage with a label, or two."""
    heuristic: Heuristic = "reciprocal_rank"
    """How near a passage is: by its rank, by its score between the least and the greatest, or by the share of
    scores below it."""
    epochs: Annotated[int, Meta(ge=1)] = 5
    """The epochs after which every row weighs 1."""
    epoch: Annotated[int, Meta(ge=0)] = 0
    """The epoch whose weights the rows have."""

    def __post_init__(self) -> None:
        if self.epoch > self.epochs:
            raise RecipeError(
                f"ranking_curriculum: epoch is {self.epoch}, after the last of {self.epochs} epochs.",
                remedy=f"Set epoch to at most {self.epochs}: from there on every row weighs 1.",
            )

    def __call__(self, frames: Sequence[pl.LazyFrame], seed: int) -> pl.LazyFrame:
        """The rows in the order of the questions, then of the passages."""
        import polars as pl

        kind: type[Struct] = Pair if self.form == "pairwise" else Labelled
        rows: list[Any] = []
        gone: dict[str, str] = {}
        for one in from_frame(frames[0].select(Problem.__struct_fields__).collect(), Problem):
            try:
                rows += self._rows(one)
            except RowRejected as refused:
                gone[one.id] = refused.reason
        columns = {"id": list(gone), REJECTED_REASON: list(gone.values())}
        rejected = pl.LazyFrame(columns, schema=dict.fromkeys(columns, pl.String))
        return with_rejected(to_frame(rows, kind).lazy(), rejected).select(*schema(kind), REJECTED_REASON)

    def _rows(self, record: Problem) -> list[Pair] | list[Labelled]:
        meta, found = held(record)
        own = own_ids(meta)
        if own is None:
            raise RowRejected("ranking_curriculum: the question names no passages")
        relevant = [one.get("source") in own for one in found]
        if not any(relevant) or all(relevant):
            what = "none of its own passages was found" if not any(relevant) else "no other passage"
            raise RowRejected(f"ranking_curriculum: {what}")
        try:
            near = nearness(self.heuristic, [_number(one.get(SCORE)) for one in found])
        except ValueError as error:
            raise RowRejected(f"ranking_curriculum: {error}") from error
        easy = [easiness(*both) for both in zip(near, relevant, strict=True)]
        asked = (Message("user", record.problem),)
        said = [(Message("assistant", passages([one])),) for one in found]
        names = [str(one.get("source")) for one in found]
        if self.form == "pointwise":
            return [
                Labelled(
                    id=f"{record.id}/{names[n]}",
                    problem_id=record.id,
                    prompt=asked,
                    completion=said[n],
                    label=relevant[n],
                    weight=self._weight(easy[n]),
                    meta=self._meta(easy[n]),
                )
                for n in range(len(found))
            ]
        wanted = [n for n, own_one in enumerate(relevant) if own_one]
        others = [n for n, own_one in enumerate(relevant) if not own_one]
        return [
            Pair(
                id=f"{record.id}/{names[a]}-{names[b]}",
                problem_id=record.id,
                kind="re-ranking",
                prompt=asked,
                chosen=said[a],
                rejected=said[b],
                weight=self._weight((easy[a] + easy[b]) / 2),
                meta=self._meta((easy[a] + easy[b]) / 2),
            )
            for a in wanted
            for b in others
        ]

    def _weight(self, easy: float) -> float:
        return weight(easy, self.epoch, self.epochs)

    def _meta(self, easy: float) -> str:
        weights = [weight(easy, epoch, self.epochs) for epoch in range(self.epochs + 1)]
        return msgspec.json.encode({"easiness": easy, "weights": weights}).decode()

    def measured(self, kept: pl.DataFrame) -> Mapping[str, Sequence[int]]:
        """The mean weight of the epoch."""
        return {f"weight in epoch {self.epoch}, in %": [round(100 * one) for one in kept["weight"]]}


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) else None
