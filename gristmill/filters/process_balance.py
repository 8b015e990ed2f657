"""Balance between good and bad labels of process rows, by the position of the error or by the outcome."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from msgspec import Meta, Struct

from gristmill.core.stages import REJECTED_REASON, Filter
from gristmill.core.steps import ProcessRow
from gristmill.filters.order import seeded_order

if TYPE_CHECKING:
    import polars as pl

By = Literal["position", "outcome"]


class ProcessBalance(Filter, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Keeps as many good rows as bad ones.

    ``position``: a row is bad at its first step whose value is not above ``threshold``, or else good. For
    every bad row whose first bad step lies in a bucket of ``width`` steps, one good row that reaches that
    bucket is kept, so that a model cannot tell good from bad by where a step stands. A good row serves one
    bucket; later buckets, which fewer rows reach, choose first, so that the most pairs are found. What has
    no partner is dropped. (Nothing else is balanced: the steps before an error are good ones too.)

    ``outcome``: as many rows whose final answer is right as wrong; where that is not known a row is dropped.

    Kinds of labels are balanced apart. Which rows stay is decided by a seeded hash of their ids, after
    ``cap_per_problem``.
    """

    marks_only: ClassVar[bool] = True

    reads: ClassVar[type[Struct]] = ProcessRow
    writes: ClassVar[type[Struct]] = ProcessRow

    by: By = "position"
    """What good and bad means: ``position`` of the first bad step, or ``outcome`` of the solution."""
    threshold: float = 0.0
    """With ``position``: a step whose value is not above this is bad."""
    width: Annotated[int, Meta(ge=1)] = 1
    """With ``position``: steps in a bucket."""
    cap_per_problem: Annotated[int, Meta(ge=1)] | None = None
    """Keep at most this many rows of a problem and kind, before anything else."""

    def __call__(self, frame: pl.LazyFrame, seed: int) -> pl.LazyFrame:
        """All rows, with ``REJECTED`` set on those to drop; ids, values and outcomes are held in memory."""
        import polars as pl

        rows = frame.select("id", "problem_id", "kind", "values", "solved").collect()
        ids = rows["id"].to_list()
        order = seeded_order(seed, ids)
        reasons: list[str | None] = [None] * len(ids)
        kinds, problems = rows["kind"].to_list(), rows["problem_id"].to_list()
        seen: Counter[tuple[str, str]] = Counter()
        parts: dict[str, list[int]] = defaultdict(list)
        for row in order:
            seen[kinds[row], problems[row]] += 1
            if self.cap_per_problem is not None and seen[kinds[row], problems[row]] > self.cap_per_problem:
                reasons[row] = f"process balance: above {self.cap_per_problem} per problem"
            else:
                parts[kinds[row]].append(row)
        for part in parts.values():
            if self.by == "outcome":
                _by_outcome(part, rows["solved"].to_list(), reasons)
            else:
                self._by_position(part, rows["values"].to_list(), reasons)
        column = pl.LazyFrame({REJECTED_REASON: pl.Series(reasons, dtype=pl.String)})
        return pl.concat([frame, column], how="horizontal")

    def _by_position(self, order: list[int], values: list[list[float]], reasons: list[str | None]) -> None:
        bad: dict[int, list[int]] = defaultdict(list)
        good: dict[int, list[int]] = defaultdict(list)  # by the last bucket that they reach
        for row in order:
            if not values[row]:
                reasons[row] = "process balance: no steps"
                continue
            first = next((i for i, v in enumerate(values[row]) if v <= self.threshold), None)
            if first is None:
                good[(len(values[row]) - 1) // self.width].append(row)
            else:
                bad[first // self.width].append(row)
        rank = {row: place for place, row in enumerate(order)}
        free: list[int] = []  # good rows that reach this bucket, and so all that follow here
        for bucket in sorted(good.keys() | bad.keys(), reverse=True):
            free = sorted(free + good[bucket], key=rank.__getitem__)
            pairs = min(len(free), len(bad[bucket]))
            free = free[pairs:]
            for row in bad[bucket][pairs:]:
                reasons[row] = f"process balance: bad at {self._steps(bucket)}, without a good row"
        for row in free:
            reasons[row] = "process balance: good, above its share"

    def _steps(self, bucket: int) -> str:
        first = bucket * self.width
        return f"step {first}" if self.width == 1 else f"steps {first} to {first + self.width - 1}"


def _by_outcome(order: list[int], solved: list[bool | None], reasons: list[str | None]) -> None:
    sides: dict[bool | None, list[int]] = {True: [], False: [], None: []}
    for row in order:
        sides[solved[row]].append(row)
    for row in sides[None]:
        reasons[row] = "process balance: outcome not known"
    keep = min(len(sides[True]), len(sides[False]))
    for row in sides[True][keep:]:
        reasons[row] = "process balance: right, above its share"
    for row in sides[False][keep:]:
        reasons[row] = "process balance: wrong, above its share"
