"""``action_values``: values of a tool-using model's turns, by rollouts that go on behind each of them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, ClassVar

from msgspec import Struct
from msgspec.structs import replace

from gristmill.core.engine import Ability, Engine, Message
from gristmill.core.prompts import RowValues
from gristmill.core.records import Judged, Sampled, ToolSample, message_of
from gristmill.core.stages import Context, derive_seed
from gristmill.synth.step_values.estimate import RolloutWork, Solution, Valuing
from gristmill.synth.tool_use.loop import UsingTools
from gristmill.synth.tool_use.protocols import in_words


class ActionValues(Valuing, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Values the turns of a sample of ``use_tools``, as ``step_values`` values the steps of a solution.

    An action is one turn of the model: a call with what it says beside it, or the last answer. Its value is
    the share of right answers among conversations that go on behind the results of its calls, with the same
    tools and as many calls as are left. The last turn's is the verdict. ``step_actions``, ``process_labels``
    and the schemes (``fixed``, ``adaptive``, ``binary``) are those of ``step_values``.

    Rollouts from the question alone are the samples of ``use_tools`` with the same options, which the log
    answers.
    """

    reads: ClassVar[type[Struct]] = ToolSample

    using: UsingTools = UsingTools()
    """How the conversations go on: the tools and the options that ``use_tools`` had."""

    @property
    def needs(self) -> frozenset[Ability]:
        """To chat, and with ``native`` to call tools."""
        return self.using.abilities

    @property
    def longest(self) -> int:
        """As the turns are sampled. A rollout may be several of them."""
        return self.using.sampling.max_tokens

    def steps_of(self, record: Sampled) -> Sequence[str]:
        """The model's turns, with their calls in words."""
        return [in_words(step[0]) for step in _actions(record)[1]]

    def work(self, solution: Solution, record: Sampled, context: Context) -> RolloutWork:
        """Conversations behind the turns."""
        return _Conversations(self, solution, record, context)


class _Conversations(RolloutWork):
    """Rollouts that go on behind a turn and the results of its calls."""

    def __init__(self, options: ActionValues, solution: Solution, record: Any, context: Context) -> None:
        super().__init__(options, solution, record, context)
        self.messages, self.acted = _actions(record)
        turns = [i for i, step in enumerate(self.acted) for _ in step]
        self._callers = [turns[run.turn - len(self.messages)] for run in record.calls]

    async def draw(self, steps: int, first: int, n: int, prover: Engine | None = None) -> tuple[Judged, ...]:
        owner, call = self.seeds(steps, by_prover=prover is not None)
        base = self.context.seed_for(owner, call)
        before = [turn for step in self.acted[:steps] for turn in step]

        def seed(turn: int) -> int:
            if not steps and prover is None:
                return self.context.seed_for(owner, turn)  # as use_tools draws them
            return base if not turn else derive_seed(base, owner, turn)

        async def one(index: int) -> Judged:
            done = await self.options.using.converse(
                (*self.messages, *before),
                RowValues(self.record),
                prover or self.context.engine,
                seed,
                index,
                used=sum(step < steps for step in self._callers),
            )
            verdict = await self.context.judge(done.answer, self.solution.answer)
            tokens = sum(c.completion_tokens for c in done.drawn)
            return Judged(replace(done.answer, completion_tokens=tokens), verdict)

        return tuple(await asyncio.gather(*(one(first + i) for i in range(n))))


def _actions(record: Any) -> tuple[tuple[Message, ...], list[tuple[Message, ...]]]:
    """The turns before the model's first one; then each of its turns, with the results that follow it."""
    turns = [message_of(turn) for turn in record.turns]
    begins = [i for i, turn in enumerate(record.turns) if turn.train]
    first = begins[0] if begins else len(turns)
    ends = [*begins[1:], len(turns)]
    return tuple(turns[:first]), [tuple(turns[a:b]) for a, b in zip(begins, ends, strict=False)]
