"""Sampling in rounds until a problem has right and wrong answers: groups that teach a policy something."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated

from msgspec import Meta

from gristmill.core.errors import RecipeError, RowRejected
from gristmill.core.prompts import RowValues, fill
from gristmill.core.records import Problem, Sampled
from gristmill.core.stages import Context, Estimate, Rejection
from gristmill.synth.sampling import Sample


class SampleBalanced(Sample, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Samples each problem in rounds until it has enough right and enough wrong answers, or its budget is
    spent.

    The sequential sampling of Reinforce-Ada (arXiv 2510.04996). Problems that are neither solved nor failed
    by a first few samples get more, others do not. All that was drawn comes out; ``balanced_groups`` makes
    groups of one size of it that carry the mean of the pool. Sample i is the one that ``sample`` draws as its
    i-th, so fixed and adaptive runs share what the log holds. What was drawn does not depend on other
    problems.
    """

    samples: Annotated[int, Meta(ge=1)] = 4
    """The number of samples in a round."""
    right: Annotated[int, Meta(ge=0)] = 4
    """Right samples that are enough."""
    wrong: Annotated[int, Meta(ge=0)] = 4
    """Wrong samples that are enough. Undecided ones are neither."""
    most: Annotated[int, Meta(ge=1)] = 32
    """The most samples of a problem."""
    budget: str | None = None
    """The column with a problem's own ``most``, such as ``budget`` from ``sampling_budget``; 0 draws
    nothing."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.engines) > 1:
            raise RecipeError(
                f"sample_balanced: {len(self.engines)} engines are named, and each problem has one pool.",
                remedy="Name one engine, and put another stage beside this one for another.",
            )
        if not self.verify or not self.right + self.wrong:
            raise RecipeError(
                "sample_balanced: there is nothing to balance.",
                remedy="Leave 'verify' on, and give 'right' or 'wrong' a number above 0.",
            )

    @property
    def count(self) -> int:
        """The most samples of a problem."""
        return self.most

    async def __call__(self, problem: Problem, context: Context) -> Sequence[Sampled | Rejection]:
        """The samples in order, as ``sample`` gives them.

        ``RowRejected`` for a problem without an answer, a column that a prompt names, or a budget.
        """
        if problem.answer is None:
            raise RowRejected("has no answer", "right and wrong samples cannot be told apart")
        row = RowValues(problem)
        messages = self._messages(row)
        later = [fill(text, row) for text in self.follow_ups]
        [name] = self.engines or (None,)
        made: list[Sampled | Rejection] = []
        most = self._most(row)
        while len(made) < most and not self._enough(made):
            places = range(len(made), min(len(made) + self.samples, most))
            failed = False
            try:
                firsts = await self._first(problem, name, messages, context, places)
            except RowRejected as error:
                if not made:
                    raise
                # What earlier rounds drew stays; another round would most likely fail as this one did.
                firsts, failed = [error] * len(places), True
            calls = [
                self._converse(problem, name, (place, place), messages, later, first, context)
                for place, first in zip(places, firsts, strict=True)
            ]
            made += await asyncio.gather(*calls)
            if failed:
                break
        return made

    def _enough(self, made: Sequence[Sampled | Rejection]) -> bool:
        verdicts = [s.verdict for s in made if isinstance(s, Sampled) and s.verdict is not None]
        right = sum(v.correct for v in verdicts)
        return right >= self.right and sum(v.decided for v in verdicts) - right >= self.wrong

    def _most(self, row: RowValues) -> int:
        if self.budget is None:
            return self.most
        own = row.get(self.budget)
        if not isinstance(own, int) or isinstance(own, bool) or own < 0:
            raise RowRejected(f"has no {self.budget!r}", f"{own!r} is not a whole number of samples")
        return min(own, self.most)

    def estimate(self, problem: Problem) -> Estimate:
        """From the fewest samples that can be enough, in whole rounds, to the most.

        A problem that lacks a column, a budget or an answer costs nothing.
        """
        try:
            most = self._most(RowValues(problem)) if problem.answer is not None else 0
        except RowRejected:
            most = 0
        whole = super().estimate(problem)
        if not most or not whole.completions_max:
            return Estimate(0, 0, 0, 0, rows_max=0)
        turns = 1 + len(self.follow_ups)
        rounds = -(-(self.right + self.wrong) // self.samples)
        least = min(rounds * self.samples, most)
        # A conversation that breaks off early costs its first turn at least.
        return Estimate(least, most * turns, whole.prompt_tokens, whole.completion_tokens, rows_max=most)
