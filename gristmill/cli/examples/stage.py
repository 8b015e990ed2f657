"""A row stage that has the engine say each problem in other words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from gristmill.core import (
    Ability,
    Context,
    Estimate,
    Message,
    Problem,
    Rejection,
    Request,
    RowStage,
    Sampling,
)


class Rephrase(RowStage, frozen=True, kw_only=True):
    """Says each problem in other words; its answer stays."""

    reads: ClassVar[type[Struct]] = Problem
    writes: ClassVar[type[Struct]] = Problem
    needs: ClassVar[frozenset[Ability]] = frozenset({Ability.CHAT})

    prompt: str = "Say this in other words. Reply with nothing else.\n\n"
    """What stands before the problem in the message to the engine."""
    sampling: Sampling = msgspec.field(default_factory=Sampling)
    """How to sample."""

    async def __call__(self, record: Problem, context: Context) -> Sequence[Problem | Rejection]:
        """The rephrased problem, or a rejection where the engine was cut off."""
        message = Message("user", self.prompt + record.problem)
        request = Request((message,), self.sampling, context.seed_for(record.id))
        [answer] = await context.engine.generate(request)
        if not answer.finished:
            return [Rejection(record.id, "unfinished", f"ended by {answer.finish_reason}")]
        return [replace(record, id=f"{record.id}/rephrased", problem=answer.text.strip())]

    def estimate(self, record: Problem) -> Estimate:
        """One completion; tokens are taken to be four characters each."""
        tokens = len(self.prompt + record.problem) // 4
        return Estimate(1, 1, tokens, self.sampling.max_tokens, rows_max=1)
