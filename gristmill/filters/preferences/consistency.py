"""``consistency``: soft labels by how alike two scorers, or two rounds of one, rank the answers to a problem.

CREAM (arXiv 2410.12735): of the scores of several answers to a problem by the current model and by the one
before, the consistency C in [0, 1] is (Kendall's tau + 1) / 2, (Spearman's rho + 1) / 2, or 1 where both have
the same best and the same worst. The loss is C L(chosen > rejected) + (1 - C) L(rejected > chosen), so
``flip`` is 1 - C.

Not as in the released code: tau is tau-b and ranks are averaged over ties, where ranks by position make
agreement of ties; ``top_order`` compares the best and the worst, not the first and the last; scores are
joined by the answers' own rows, so that none moves to another's place; and where consistency cannot be
computed, nothing replaces it silently.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from msgspec import Meta

from gristmill.core.errors import GristmillError
from gristmill.core.records import Pair, Sampled
from gristmill.core.stages import Relation
from gristmill.filters.preferences.scores import curated, read_scores, require_columns
from gristmill.filters.tables import key_column

if TYPE_CHECKING:
    import polars as pl

    from gristmill.filters.preferences.scores import Numbers

Likeness = Literal["kendall", "spearman", "top_order"]


class Consistency(Relation, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Give each pair the chance of a wrong label that follows from how alike two scorers rank samples.

    The first table has the pairs, the second the samples with the scores of both (or pairs or other records
    with scores), which belong together by problem. Pairs get the score ``consistency`` and ``flip`` 1 - C.
    """

    inputs: ClassVar[tuple[int, int | None]] = (2, 2)

    scorers: Annotated[list[str], Meta(min_length=2, max_length=2)]
    """The names of the two scores of a sample: two scorers, or two rounds of one."""
    measure: Likeness = "kendall"
    """How alike two rankings are: by Kendall's tau-b, by Spearman's rho, or whether the best and the worst
    are the same (``top_order``)."""
    over: Literal["data", "problem"] = "data"
    """``data``: all pairs get the mean over the problems. ``problem``: each its own problem's; a pair whose
    problem has fewer than two samples with both scores is rejected."""

    def __call__(self, frames: Sequence[pl.LazyFrame], seed: int) -> pl.LazyFrame:
        """The pairs, with reasons for those to reject."""
        import numpy as np

        pairs, samples = frames
        require_columns(pairs, Pair, Pair.__struct_fields__, "consistency: the first table")
        require_columns(samples, Sampled, ("id", "scores"), "consistency: the second table")
        key = key_column(samples.collect_schema(), "problem", "consistency")
        of_problem = self._by_problem(samples.select(key).collect()[key].to_list(), samples)
        problems = pairs.select("problem_id").collect()["problem_id"].to_list()
        if self.over == "problem":
            each = np.array([of_problem.get(problem, np.nan) for problem in problems], float)
        else:
            if problems and not of_problem:
                raise GristmillError(
                    "consistency: no problem has two samples with the scores "
                    + " and ".join(self.scorers)
                    + ".",
                    remedy="Score the samples by both in stages before.",
                )
            each = np.full(len(problems), np.mean(list(of_problem.values())) if of_problem else np.nan)
        unknown = np.isnan(each)
        return curated(
            pairs,
            reasons=[(unknown, "consistency: fewer than two samples have both scores")],
            columns={"flip": np.where(unknown, 0.0, 1 - each)},
            scores={"consistency": each},
            seen=["consistency"],
        )

    def _by_problem(self, problems: Sequence[str], samples: pl.LazyFrame) -> dict[str, float]:
        import numpy as np

        found = read_scores(samples, self.scorers, "consistency")
        first, second = (found.values[name] for name in self.scorers)
        rows: dict[str, list[int]] = {}
        for row in np.flatnonzero(~np.isnan(first) & ~np.isnan(second)).tolist():
            rows.setdefault(problems[row], []).append(row)
        return {
            p: rank_consistency(first[at], second[at], self.measure) for p, at in rows.items() if len(at) > 1
        }

    def rows_max(self, rows: Sequence[int]) -> int:
        """As many as there are pairs."""
        return rows[0]


def rank_consistency(first: Numbers, second: Numbers, measure: Likeness = "kendall") -> float:
    """How alike two lists of scores of the same answers (two or more) rank them, in [0, 1].

    A list in which all are equal ranks nothing: 0.5, neither alike nor opposed. ``top_order`` is 1 only where
    the best and the worst of both lists are one answer each, and the same.
    """
    import numpy as np

    if measure == "top_order":
        return float(
            all(
                _only(top) is not None and _only(top) == _only(other)
                for top, other in _extremes(first, second)
            )
        )
    if measure == "kendall":
        a, b = (np.sign(np.subtract.outer(x, x)).ravel() for x in (first, second))
    else:
        a, b = (_ranks(x) - (len(x) - 1) / 2 for x in (first, second))
    size = np.sqrt((a @ a) * (b @ b))
    return 0.5 if size == 0 else float((a @ b / size + 1) / 2)


def _extremes(first: Numbers, second: Numbers) -> list[tuple[list[int], list[int]]]:
    import numpy as np

    return [
        (np.flatnonzero(first == f(first)).tolist(), np.flatnonzero(second == f(second)).tolist())
        for f in (np.max, np.min)
    ]


def _only(places: list[int]) -> int | None:
    return places[0] if len(places) == 1 else None


def _ranks(x: Numbers) -> Numbers:
    """The ranks from 0, those of equals averaged."""
    import numpy as np

    x = np.asarray(x)
    below, not_above = (f.outer(x, x).sum(axis=1) for f in (np.greater, np.greater_equal))
    ranks: Numbers = (below + not_above - 1) / 2
    return ranks
