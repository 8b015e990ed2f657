"""Sequential rejection sampling: attempts, self-evaluations, corrections (arXiv 2502.19613, section 3.1)."""

from __future__ import annotations

import random
from functools import cached_property
from typing import ClassVar

from msgspec import Struct

from gristmill.core.engine import Ability
from gristmill.core.errors import RowRejected
from gristmill.core.records import Exploration, Problem
from gristmill.core.stages import Context, Estimate, Rejection
from gristmill.synth.self_correction.expected import PROBLEMS, completions
from gristmill.synth.self_correction.goals import (
    Beta,
)
from gristmill.synth.self_correction.scheme import Scheme
from gristmill.synth.self_correction.search import Choices, Search


class Explore(Scheme, frozen=True, kw_only=True, forbid_unknown_fields=True, dict=True):
    """Draws attempts, self-evaluations and corrections for a problem.

    A correction continues the first evaluation that said "wrong": the model is told so by itself, also
    where the attempt was right. Attempts with the same text are worked only once.
    """

    reads: ClassVar[type[Struct]] = Problem
    writes: ClassVar[type[Struct]] = Exploration
    needs: ClassVar[frozenset[Ability]] = frozenset({Ability.CHAT})
    verifies: ClassVar[bool] = True

    async def __call__(self, record: Problem, context: Context) -> list[Exploration | Rejection]:
        """One exploration of the problem, whatever came of it, and a ``Rejection`` for each attempt whose
        evaluation or correction was refused: it is worked no further, and the others are."""
        if record.answer is None:
            raise RowRejected("no reference answer", f"problem {record.id!r} has no answer to verify against")
        search = Search(self, record, record.answer, context)
        stopped = await (search.adaptive() if self.scheme == "adaptive" else search.fixed())
        search.measure_shift()
        made = Exploration(record.id, record.problem, record.answer, self.style, tuple(search.bases), stopped)
        return [made, *search.rejections()]

    def estimate(self, record: Problem) -> Estimate:
        """Bounds: the least is one round of attempts, the most is the whole fixed scheme."""
        per_attempt = 1 + self.evaluations + max(self.corrections_of_wrong, self.corrections_of_right)
        prompts = self.turns.attempt, self.turns.evaluation, self.turns.correction
        chars = [sum(len(m.content) for m in p.messages) + len(record.problem) for p in prompts]
        least = self.attempts if self.scheme == "fixed" else min(self.attempts_per_round, self.attempts)
        return Estimate(
            completions_min=least,
            completions_max=self.attempts * per_attempt,
            prompt_tokens=sum(chars) // len(chars) // 4,
            completion_tokens=max(p.sampling.max_tokens for p in prompts),
            rows_max=1,
            completions_expected=None if self.scheme == "fixed" else self.expected,
        )

    @cached_property
    def expected(self) -> float:
        """The mean number of completions of an adaptive search, over problems drawn from the prior."""
        draw, prior = random.Random(0), Beta(self.prior.a, self.prior.b)
        return sum(completions(Choices(self), prior, draw) for _ in range(PROBLEMS)) / PROBLEMS
