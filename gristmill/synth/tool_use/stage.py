"""``use_tools``: samples in which the model may call a calculator, Python in the sandbox, and a search."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated, ClassVar

from msgspec import Meta, Struct
from msgspec.structs import replace

from gristmill.core.engine import Ability, Message
from gristmill.core.errors import RowRejected
from gristmill.core.prompts import RowValues, opening, require_row, row_places
from gristmill.core.records import Problem, ToolSample, turn_of
from gristmill.core.stages import Context, Estimate, Rejection, RowStage, alike
from gristmill.synth.tool_use.loop import Finished, UsingTools

_CHARS_PER_TOKEN = 4
"""For estimates only: English text under a byte-pair tokenizer."""


class UseTools(UsingTools, RowStage, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Samples conversations in which the model calls tools before it answers.

    A row is a sample as of ``sample``, with the whole conversation in ``turns`` and each call in ``calls``.
    What the model writes carries loss, what a tool returns never does. A conversation that ends with a call
    has no answer: its verdict is ``unparseable``, and the row is kept. A tool that fails is shown to the
    model as an error and is in the row as one; it never rejects the row.

    Sample i of a turn is drawn with the seed of that turn + i. The log answers for completions; tools run
    again in a run that is repeated. So a program that prints the time makes other turns follow.
    """

    reads: ClassVar[type[Struct]] = Problem
    writes: ClassVar[type[Struct]] = ToolSample

    samples: Annotated[int, Meta(ge=1)] = 1
    """The conversations of each problem."""
    system: str | None = None
    """The system message, with places for the row's columns (``docs/prompts.md``)."""
    examples: tuple[Message, ...] = ()
    """Worked examples, with calls and their results, sent as they are before the prompt. Small models call
    tools only after some. They carry no loss."""
    prompt: str = "{problem}"
    """The user's message, with places as in ``system``."""
    verify: bool = True
    """Whether the recipe's verifier judges the last answer where the problem has a reference."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_row("use_tools", "prompt", self.places["prompt"])

    @property
    def places(self) -> dict[str, frozenset[str]]:
        """What the prompts want of a row, by option."""
        return row_places(system=self.system, prompt=self.prompt)

    @property
    def needs(self) -> frozenset[Ability]:
        """To chat, and with ``native`` to call tools."""
        return self.abilities

    @property
    def verifies(self) -> bool:
        """Whether the answers are judged."""
        return self.verify

    def cautions(self) -> Sequence[str]:
        """Samples that would all be alike."""
        return alike(self.samples, self.sampling, "sampling")

    def estimate(self, problem: Problem) -> Estimate:
        """One completion for each conversation at least, and one more for each call."""
        try:
            chars = sum(len(m.content) for m in self._messages(RowValues(problem)))
        except RowRejected:
            return Estimate(0, 0, 0, 0, rows_max=0)
        most, tokens = self.samples * (self.calls + 1), self.sampling.max_tokens
        prompt = chars // _CHARS_PER_TOKEN + self.calls * tokens // 2
        return Estimate(self.samples, most, prompt, tokens, rows_max=self.samples)

    async def __call__(self, problem: Problem, context: Context) -> Sequence[ToolSample | Rejection]:
        """A ``ToolSample`` for each conversation, or a ``Rejection`` where the engine refused one."""
        messages = self._messages(RowValues(problem))
        calls = (self._one(problem, messages, i, context) for i in range(self.samples))
        return await asyncio.gather(*calls)

    def _messages(self, row: RowValues) -> tuple[Message, ...]:
        asked = opening(row, self.prompt, self.system, self.examples)
        begun = self.system is not None
        system = self.told(asked[0].content if begun else None)
        first = () if system is None else (Message("system", system),)
        return (*first, *asked[begun:])

    async def _one(
        self, problem: Problem, messages: tuple[Message, ...], index: int, context: Context
    ) -> ToolSample | Rejection:
        name = f"{problem.id}/{index}"
        try:
            done = await self.converse(
                messages,
                RowValues(problem),
                context.engine,
                lambda turn: context.seed_for(problem.id, turn),
                index,
            )
        except RowRejected as error:
            return Rejection(name, error.reason, error.message)
        context.measure("tool calls", len(done.calls))
        verdict = None
        if self.verify and problem.answer is not None:
            verdict = await context.judge(done.answer, problem.answer)
        return replace(
            sampled(name, problem, messages, done, self.speaks.tools), index=index, verdict=verdict
        )


def sampled(
    name: str, problem: Problem, messages: tuple[Message, ...], done: Finished, tools: str
) -> ToolSample:
    """A conversation as a row: the messages that were sent, and all turns with their loss marks."""
    answer = done.answer
    last = Message("assistant", answer.text, answer.reasoning, answer.tool_calls)
    own = [turn_of(m, train=m.role == "assistant") for m in (*done.messages, last)]
    turns = (*(turn_of(m) for m in messages), *own)
    return ToolSample(
        id=name,
        problem_id=problem.id,
        index=0,
        problem=problem.problem,
        answer=problem.answer,
        messages=(*messages, *done.messages),
        completion=answer.text,
        finish_reason=answer.finish_reason,
        prompt_tokens=sum(c.prompt_tokens for c in done.drawn),
        completion_tokens=sum(c.completion_tokens for c in done.drawn),
        meta=problem.meta,
        reasoning=answer.reasoning,
        reasoning_tokens=sum(c.reasoning_tokens for c in done.drawn),
        turns=turns,
        calls=tuple(replace(run, turn=run.turn + len(messages)) for run in done.calls),
        tools=tools,
    )
