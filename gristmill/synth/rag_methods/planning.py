"""``planner_rewards``: what a search plan gains, and what it costs."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from statistics import mean
from typing import TYPE_CHECKING, Annotated, ClassVar

from msgspec import Meta, Struct

from gristmill.core.errors import RecipeError
from gristmill.core.records import Sampled, score_of
from gristmill.core.schema import from_frame
from gristmill.core.stages import REJECTED_REASON, Relation
from gristmill.core.verdicts import Outcome
from gristmill.synth.agreement.scores import with_scores

if TYPE_CHECKING:
    import polars as pl

OUTCOME, COST, PLANNER, FRONT = "outcome", "cost", "planner", "front"
Weight = Annotated[float, Meta(ge=0, le=1e6)]


class PlannerRewards(Relation, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Scores plans of a search by what they gain and what they cost (AI-SearchPlanner, arXiv 2508.20368).

    Reads judged samples of plans; further tables are judged answers without a plan (the model alone, or with
    one plain retrieval). Scores of each plan:

    - ``outcome``: 0.5 + right - the greatest share of right answers to its question in a further table; right
      itself where there is no such answer.
    - ``cost``: 1 - searches / ``most_searches``, at least 0: more is cheaper.
    - ``planner``: outcome + ``process_weight`` * process + ``cost_weight`` * cost.
    - ``front``: 1 where no other plan of the question is at least as good in right answers, in process and in
      the number of searches, and better in one of them; else 0.

    Rejected: a plan whose verdict is not decided, and with ``process`` one without that score. The exact
    form of the paper's rewards was not at hand: how they are put together and scaled is this project's own.
    """

    reads: ClassVar[type[Struct]] = Sampled
    writes: ClassVar[type[Struct] | None] = None
    inputs: ClassVar[tuple[int, int | None]] = (1, None)

    search: str = r"<search>"
    """What a search looks like in a plan: a regular expression, whose matches are counted."""
    most_searches: Annotated[int, Meta(ge=1)] = 5
    """The searches from which on the cost reward is 0."""
    process: str | None = None
    """The name of the score that says how sensible the plan itself is, of a judge for example, in [0, 1];
    ``null``: none."""
    process_weight: Weight = 0.5
    """The weight of that score."""
    cost_weight: Weight = 0.1
    """The weight of the cost reward: over a range of weights the trained planners trace the Pareto front."""

    def __post_init__(self) -> None:
        try:
            re.compile(self.search)
        except re.error as error:
            raise RecipeError(
                f"planner_rewards: search: {self.search!r} is not a valid regular expression: {error}.",
                remedy="Correct it; a backslash before a bracket takes it as it is.",
            ) from error

    def __call__(self, frames: Sequence[pl.LazyFrame], seed: int) -> pl.LazyFrame:
        """The plans in order with their scores."""
        import polars as pl

        frame = frames[0].collect()
        rows = from_frame(frame.select(Sampled.__struct_fields__), Sampled)
        plain = [
            _shares(from_frame(f.select(Sampled.__struct_fields__).collect(), Sampled)) for f in frames[1:]
        ]
        reasons = [self._odd(row) for row in rows]
        plans = [
            self._plan(row) if reason is None else None for row, reason in zip(rows, reasons, strict=True)
        ]
        by_question: dict[str, list[_Plan]] = {}
        for row, plan in zip(rows, plans, strict=True):
            if plan is not None:
                by_question.setdefault(row.problem_id, []).append(plan)
        scores = [
            {}
            if plan is None
            else self._scores(plan, by_question[row.problem_id], [p.get(row.problem_id) for p in plain])
            for row, plan in zip(rows, plans, strict=True)
        ]
        return with_scores(frame.lazy(), scores).with_columns(pl.Series(REJECTED_REASON, reasons, pl.String))

    def _odd(self, row: Sampled) -> str | None:
        """Why a plan is rejected."""
        if row.verdict is None or row.verdict.outcome not in (Outcome.CORRECT, Outcome.INCORRECT):
            return "planner_rewards: its verdict is not decided"
        if self.process is not None:
            found = score_of(row, self.process)
            if found is None or found.value is None or not math.isfinite(found.value):
                return f"planner_rewards: no score {self.process!r}"
        return None

    def _plan(self, row: Sampled) -> _Plan:
        found = None if self.process is None else score_of(row, self.process)
        process = 0.0 if found is None or found.value is None else found.value
        right = row.verdict is not None and row.verdict.correct
        return _Plan(float(right), process, len(re.findall(self.search, row.completion)))

    def _scores(
        self, plan: _Plan, siblings: Sequence[_Plan], plain: Sequence[float | None]
    ) -> dict[str, float | None]:
        known = [share for share in plain if share is not None]
        outcome = 0.5 + plan.right - max(known) if known else plan.right
        cheap = max(0.0, 1 - plan.searches / self.most_searches)
        whole = outcome + self.process_weight * plan.process + self.cost_weight * cheap
        front = float(not any(other.beats(plan) for other in siblings))
        return {OUTCOME: outcome, COST: cheap, PLANNER: whole, FRONT: front}

    def measured(self, kept: pl.DataFrame) -> Mapping[str, Sequence[int]]:
        """The share of plans on the front."""
        fronts = [one["value"] for row in kept["scores"] for one in row if one["name"] == FRONT]
        return {"plans on the Pareto front, in %": [round(100 * one) for one in fronts]}

    def rows_max(self, rows: Sequence[int]) -> int:
        """As many as there are plans."""
        return rows[0]


class _Plan(Struct, frozen=True):
    right: float
    process: float
    searches: int

    def beats(self, other: _Plan) -> bool:
        """Whether this one is at least as good in all, and better in one."""
        mine, theirs = ((p.right, p.process, -p.searches) for p in (self, other))
        return mine != theirs and all(a >= b for a, b in zip(mine, theirs, strict=True))


def _shares(rows: Sequence[Sampled]) -> dict[str, float]:
    """The share of right ones among the decided answers to each question."""
    decided: dict[str, list[bool]] = {}
    for row in rows:
        if row.verdict is not None and row.verdict.outcome in (Outcome.CORRECT, Outcome.INCORRECT):
            decided.setdefault(row.problem_id, []).append(row.verdict.correct)
    return {own: mean(map(float, votes)) for own, votes in decided.items()}
