"""Rollouts: completions of a solution's prefix, each judged on the answer that it comes to."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import ClassVar

from msgspec import Struct, field

from gristmill.core.engine import Ability, Completion, Engine, Message, Request, Sampling
from gristmill.core.errors import RecipeError
from gristmill.core.records import Judged
from gristmill.core.stages import Context
from gristmill.core.verdicts import Verdict

CONTINUE = (
    "Continue your solution from exactly where it stops. Do not repeat any of it, do not start again, and "
    "end it as you were told."
)


class Rollouts(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How rollouts are drawn.

    The engine continues the assistant's turn after the prefix (``Ability.CONTINUE``), so that the prefix
    is not read as a finished turn. An engine that cannot do that is sent the prefix as a finished turn and
    ``fallback`` as the user's next one: the model may then repeat or restart, and its values are of that
    other policy. An empty ``fallback`` refuses such an engine.

    Spaces at the prefix's end are not sent (``begun``): tokenizers join a space to the word behind it, so
    after a lone one a model is off its own distribution. Line breaks are sent as they are.
    """

    default: ClassVar[Sampling] = Sampling(temperature=1.0, max_tokens=1024)

    sampling: Sampling = field(default_factory=lambda: Rollouts.default)
    """How a rollout is sampled."""
    fallback: str = CONTINUE
    """The user's turn that asks an engine to go on which cannot continue an assistant turn; empty: such an
    engine is refused."""

    def request(self, engine: Engine, messages: Sequence[Message], prefix: str, seed: int) -> Request:
        """The request for completions of ``prefix``, an answer begun to ``messages``."""
        prefix = begun(prefix)
        if not prefix or Ability.CONTINUE in engine.abilities:
            return Request(tuple(messages), self.sampling, seed, prefix)
        if not self.fallback:
            raise RecipeError(
                f"the engine {engine.model} cannot continue an assistant turn, and the fallback is empty.",
                remedy="Use an engine that can, or leave the fallback as it is.",
            )
        turns = (Message("assistant", prefix), Message("user", self.fallback))
        return Request((*messages, *turns), self.sampling, seed)

    async def draw(
        self,
        context: Context,
        messages: Sequence[Message],
        prefix: str,
        answer: str,
        *,
        seed: int,
        n: int,
        first: int = 0,
        engine: Engine | None = None,
    ) -> tuple[Judged, ...]:
        """Rollouts ``first .. first + n - 1`` from ``prefix``, in one request where the engine can.

        The verdict is on prefix and completion together, against ``answer``: a prefix that already holds
        the answer may be followed by nothing. Raises what the engine does.
        """
        if n == 0:
            return ()
        engine = engine or context.engine
        request = self.request(engine, messages, prefix, seed)
        drawn = await engine.generate(request, first=first, n=n)
        verdicts = await asyncio.gather(*(judge(context, prefix, c, answer) for c in drawn))
        return tuple(map(Judged, drawn, verdicts))


async def judge(context: Context, prefix: str, completion: Completion, answer: str) -> Verdict:
    """The verdict on a rollout."""
    return await context.judge(completion, answer, begun=begun(prefix))


def begun(prefix: str) -> str:
    """The prefix as it is sent, which a completion continues byte for byte; see ``Rollouts``."""
    return prefix.rstrip(" \t")
