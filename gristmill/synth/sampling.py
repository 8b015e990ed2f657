"""Plain sampling: some completions of each problem, in one turn or in several dependent ones."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta, Struct

from gristmill.core.engine import Ability, Completion, Message, Request, Sampling
from gristmill.core.prompts import opening
from gristmill.core.records import Problem, Sampled
from gristmill.core.stages import Context, Estimate, Rejection, RowStage
from gristmill.core.verdicts import Verdict

_CHARS_PER_TOKEN = 4
"""For estimates only: English text under a byte-pair tokenizer."""


class Sample(RowStage, frozen=True, forbid_unknown_fields=True):
    """Samples conversations from each problem.

    ``prompt`` is the user turn in which ``{problem}`` stands for the problem's text; ``system`` and worked
    ``examples`` (user and assistant turns) come before it; each of
    ``follow_ups`` is a further user turn, sent after the answer to the one before it. ``verify`` judges
    the last answer where the problem has a reference; an unfinished answer is not judged by its text.
    """

    reads: ClassVar[type[Struct]] = Problem
    writes: ClassVar[type[Struct]] = Sampled
    needs: ClassVar[frozenset[Ability]] = frozenset({Ability.CHAT})

    samples: Annotated[int, Meta(ge=1)] = 1
    system: str | None = None
    examples: tuple[Message, ...] = ()
    prompt: Annotated[str, Meta(pattern=r"\{problem\}")] = "{problem}"
    follow_ups: tuple[str, ...] = ()
    sampling: Sampling = msgspec.field(default_factory=Sampling)
    verify: bool = True

    async def __call__(self, problem: Problem, context: Context) -> Sequence[Sampled | Rejection]:
        """One ``Sample`` for each conversation, or a ``Rejection`` where a turn before the last broke off."""
        messages = self._messages(problem)
        request = Request(messages, self.sampling, context.seed_for(problem.id))
        firsts = await context.engine.generate(request, n=self.samples)
        calls = [self._converse(problem, i, messages, first, context) for i, first in enumerate(firsts)]
        return [await calls[0]] if len(calls) == 1 else await asyncio.gather(*calls)

    def estimate(self, problem: Problem) -> Estimate:
        """Exact in completions; tokens count four characters each and every answer at its full length."""
        turns = 1 + len(self.follow_ups)
        chars = sum(len(m.content) for m in self._messages(problem))
        # A follow-up's prompt holds the turns before it: on average half of the conversation.
        later = sum(len(f) for f in self.follow_ups) // 2 // _CHARS_PER_TOKEN
        prompt = chars // _CHARS_PER_TOKEN + later + (turns - 1) * self.sampling.max_tokens // 2
        count = self.samples * turns
        return Estimate(count, count, prompt, self.sampling.max_tokens)

    def _messages(self, problem: Problem) -> tuple[Message, ...]:
        return opening(problem.problem, self.prompt, self.system, self.examples)

    async def _converse(
        self,
        problem: Problem,
        index: int,
        messages: tuple[Message, ...],
        answer: Completion,
        context: Context,
    ) -> Sampled | Rejection:
        record_id = f"{problem.id}/{index}"
        prompt_tokens, completion_tokens = answer.prompt_tokens, answer.completion_tokens
        for turn, text in enumerate(self.follow_ups, 1):
            if not answer.finished:
                detail = f"turn {turn} of {len(self.follow_ups) + 1} ended by {answer.finish_reason}"
                return Rejection(record_id, "unfinished turn before the last", detail)
            messages = (*messages, Message("assistant", answer.text), Message("user", text))
            request = Request(messages, self.sampling, context.seed_for(problem.id, turn))
            # Samples with equal answers send equal prompts; the index keeps their completions apart.
            [answer] = await context.engine.generate(request, first=index)
            prompt_tokens += answer.prompt_tokens
            completion_tokens += answer.completion_tokens
        return Sampled(
            id=record_id,
            problem_id=problem.id,
            index=index,
            problem=problem.problem,
            answer=problem.answer,
            messages=messages,
            completion=answer.text,
            finish_reason=answer.finish_reason,
            prompt_tokens=prompt_tokens,
            completion_tokens=completion_tokens,
            verdict=await self._judge(problem, answer, context),
        )

    async def _judge(self, problem: Problem, answer: Completion, context: Context) -> Verdict | None:
        if not self.verify or problem.answer is None:
            return None
        return await context.judge(answer, problem.answer)
