"""``cycles``: preferences that go round in a circle, found and removed by a stated rule.

A is preferred to B, B to C and C to A: no score explains that, as General Preference Modeling (arXiv
2410.02197) points out, which models such preferences. Most reward models and DPO cannot, so that the pairs
are worth a look or should go. A pair and its opposite are the smallest cycle.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from msgspec import Struct

from gristmill.core.errors import RecipeError
from gristmill.core.records import Pair
from gristmill.core.stages import Filter
from gristmill.filters.order import seeded_order
from gristmill.filters.preferences.scores import curated, read_scores, said

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from numpy.typing import NDArray

    Places = NDArray[np.int64]


class Cycles(Filter, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Reject the pairs that make preferences among the answers to one problem go round in a circle.

    Answers are one if their texts are. The reason says how many answers the circles join.
    """

    reads: ClassVar[type[Struct]] = Pair

    remove: Literal["all", "weakest"] = "all"
    """``all``: every pair of a cycle. ``weakest``: pairs are taken up from the strongest by ``scorer`` to the
    weakest, and one is rejected if those before it already lead from its rejected side to its chosen one
    (Tideman's ranked pairs); what is kept has no cycle."""
    scorer: str | None = None
    """With ``weakest``: by whose margin, as of ``strength``. Of equals a seeded hash of the ids decides."""

    def __post_init__(self) -> None:
        if (self.remove == "weakest") != (self.scorer is not None):
            raise RecipeError(
                f"cycles: remove is {self.remove!r}, and scorer is {self.scorer!r}.",
                remedy="Give 'remove: weakest' together with a scorer, or neither.",
            )

    def __call__(self, frame: pl.LazyFrame, seed: int) -> pl.LazyFrame:
        """All rows, with the reason for those to reject."""
        import numpy as np

        winners, losers = _answers(frame)
        circles = components(winners, losers)
        round_ = (
            (circles[winners] == circles[losers]) & (circles[winners] >= 0)
            if len(winners)
            else np.zeros(0, bool)
        )
        sizes = np.bincount(circles[circles >= 0]) if len(circles) else np.zeros(0, int)
        removed = round_
        if self.scorer is not None:
            strength = np.nan_to_num(
                read_scores(frame, [self.scorer], "cycles").margin(self.scorer), nan=-np.inf
            )
            ids = frame.select("id").collect()["id"].to_list()
            rows = [row for row in seeded_order(seed, ids) if round_[row]]
            rows.sort(key=lambda row: -strength[row])
            removed = np.zeros(len(ids), bool)
            removed[list(_closing(rows, winners, losers))] = True
        reasons = [
            (removed & (sizes[circles[winners]] == size), f"cycles: in a circle of {size} answers")
            for size in np.unique(sizes[sizes > 1])
        ]
        return curated(frame, reasons=reasons or [(removed, "cycles")])


def _answers(frame: pl.LazyFrame) -> tuple[Places, Places]:
    """The answers of the chosen and of the rejected sides, numbered from 0 over all problems."""
    import numpy as np
    import polars as pl

    table = frame.select(
        "problem_id", said("chosen").alias("chosen"), said("rejected").alias("rejected")
    ).collect()
    keys = pl.concat([table["problem_id"] + "\x1f" + table[side] for side in ("chosen", "rejected")])
    numbers = keys.rank("dense").cast(pl.Int64).to_numpy() - 1 if len(keys) else np.zeros(0, np.int64)
    return numbers[: table.height], numbers[table.height :]


def components(winners: Places, losers: Places) -> Places:
    """For each answer the number of the circle (strongly connected component of two answers or more) that it
    is in, or -1."""
    import numpy as np

    count = int(max(winners.max(), losers.max())) + 1 if len(winners) else 0
    found = np.full(count, -1, np.int64)
    # An answer that never wins or never loses is in no circle, nor is one that only meets such.
    left = np.ones(len(winners), bool)
    while True:
        wins, losses = np.bincount(winners[left], minlength=count), np.bincount(losers[left], minlength=count)
        inner = (wins > 0) & (losses > 0)
        next_left = left & inner[winners] & inner[losers]
        if (next_left == left).all():
            break
        left = next_left
    after: dict[int, list[int]] = {}
    for winner, loser in zip(winners[left].tolist(), losers[left].tolist(), strict=True):
        after.setdefault(winner, []).append(loser)
    number = 0
    for members in _strongly_connected(after):
        if len(members) > 1:
            found[members] = number
            number += 1
    return found


def _strongly_connected(after: dict[int, list[int]]) -> Iterator[list[int]]:
    """Tarjan's components of a graph, without recursion."""
    index: dict[int, int] = {}
    low: dict[int, int] = {}
    open_: list[int] = []
    in_open: set[int] = set()
    for start in after:
        work = [(start, iter(after[start]))] if start not in index else []
        while work:
            node, rest = work[-1]
            if node not in index:
                index[node] = low[node] = len(index)
                open_.append(node)
                in_open.add(node)
            for other in rest:
                if other not in index:
                    work.append((other, iter(after.get(other, ()))))
                    break
                if other in in_open:
                    low[node] = min(low[node], index[other])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == index[node]:
                    members: list[int] = []
                    while not members or members[-1] != node:
                        members.append(open_.pop())
                    in_open.difference_update(members)
                    yield members


def _closing(rows: Sequence[int], winners: Places, losers: Places) -> Iterator[int]:
    """The rows, of ``rows`` in order, that would close a circle with those kept before them."""
    after: dict[int, set[int]] = {}
    for row in rows:
        winner, loser = int(winners[row]), int(losers[row])
        reached, open_ = {loser}, [loser]
        while open_ and winner not in reached:
            news = after.get(open_.pop(), set()) - reached
            reached |= news
            open_ += news
        if winner in reached:
            yield row
        else:
            after.setdefault(winner, set()).add(loser)
