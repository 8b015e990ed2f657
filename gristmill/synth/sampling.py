"""Plain sampling: some completions of each problem, in one turn or in several dependent ones."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta, Struct

from gristmill.core.engine import Ability, Completion, Engine, Message, Request, Sampling
from gristmill.core.errors import RecipeError, RowRejected
from gristmill.core.prompts import RowValues, fill, opening, require_row, row_places
from gristmill.core.records import Problem, Sampled, Score
from gristmill.core.stages import Context, Estimate, Rejection, RowStage, alike
from gristmill.core.verdicts import Verdict
from gristmill.synth.confidence.tokens import TokenMeasure, by_phase, with_logprobs

_CHARS_PER_TOKEN = 4
"""For estimates only: English text under a byte-pair tokenizer."""
_CHAT = frozenset({Ability.CHAT})


class Sample(RowStage, frozen=True, forbid_unknown_fields=True):
    """Samples conversations from each problem, of one engine or of several."""

    reads: ClassVar[type[Struct]] = Problem
    writes: ClassVar[type[Struct]] = Sampled

    samples: Annotated[int, Meta(ge=1)] = 1
    """The number of conversations with each engine."""
    engines: tuple[str, ...] = ()
    """Names of the recipe's ``engines`` to sample from, whose samples are merged: each has its engine's name
    in ``model`` and in its id. Without names the stage's own engine is asked."""
    system: str | None = None
    """The system message before everything else. Like every prompt it may have places for the row's columns
    (``docs/prompts.md``)."""
    examples: tuple[Message, ...] = ()
    """Worked examples, user and assistant turns, sent as they are before the prompt."""
    prompt: str = "{problem}"
    """The user turn, in which ``{problem}`` is the problem's text and ``{NAME}`` any other column."""
    follow_ups: tuple[str, ...] = ()
    """Further user turns, with places like the prompt's, each sent after the answer to the one before it."""
    sampling: Sampling = msgspec.field(default_factory=Sampling)
    """How every turn is sampled."""
    keep_reasoning: bool = False
    """Whether a model that reasons is sent what it thought in earlier turns. Most models' chat templates
    leave it out, as it is left out here."""
    confidence: tuple[TokenMeasure, ...] = ()
    """Scores of the last answer's tokens, which need an engine with log-probabilities: ``mean_logprob``,
    ``min_logprob``, ``perplexity``, ``entropy``, ``self_certainty`` (``docs/confidence.md``). What a model
    thought has its own, ``thinking_NAME``. These requests differ from those without, so they are paid for
    anew; an answer for which the server returns no log-probabilities has no such scores."""
    vocabulary: Annotated[int, Meta(ge=2)] | None = None
    """The number of tokens that the model knows, for ``self_certainty``."""
    verify: bool = True
    """Whether the recipe's verifier judges the last answer where the problem has a reference. An unfinished
    answer is not judged by its text."""

    def __post_init__(self) -> None:
        require_row("sample", "prompt", self.places["prompt"])
        if len(set(self.engines)) < len(self.engines):
            raise RecipeError(
                f"sample: engines {list(self.engines)} has a name twice.",
                remedy="Name each engine once, and raise 'samples' for more of each.",
            )
        if "self_certainty" in self.confidence and self.vocabulary is None:
            raise RecipeError(
                "sample: confidence: self_certainty needs the size of the model's vocabulary.",
                remedy="Give it as 'vocabulary'; the model's config.json calls it vocab_size.",
            )

    @property
    def places(self) -> dict[str, frozenset[str]]:
        """What the prompts want of a row, by option."""
        return row_places(system=self.system, prompt=self.prompt, follow_ups=self.follow_ups)

    @property
    def count(self) -> int:
        """The samples of a problem, of all engines together."""
        return self.samples * max(1, len(self.engines))

    @property
    def needs(self) -> frozenset[Ability]:
        """Of the stage's own engine, where it is the one that is asked: to chat, and what confidence
        needs."""
        return frozenset() if self.engines else self._abilities

    @property
    def verifies(self) -> bool:
        """Whether the samples are judged."""
        return self.verify

    @property
    def uses(self) -> Mapping[str, frozenset[Ability]]:
        """The engines that are named."""
        return dict.fromkeys(self.engines, self._abilities)

    @property
    def _abilities(self) -> frozenset[Ability]:
        return _CHAT | {Ability.LOGPROBS} if self.confidence else _CHAT

    async def __call__(self, problem: Problem, context: Context) -> Sequence[Sampled | Rejection]:
        """One ``Sampled`` for each conversation, or a ``Rejection`` where a turn before the last broke off or
        was refused.

        ``RowRejected`` for a problem that lacks a column that a prompt names. An index counts the samples of
        a problem through all engines.
        """
        row = RowValues(problem)
        messages = self._messages(row)
        later = [fill(text, row) for text in self.follow_ups]
        named = self.engines or (None,)
        asked = [self._first(problem, name, messages, context) for name in named]
        drawn = [await asked[0]] if len(asked) == 1 else await asyncio.gather(*asked)
        calls = [
            self._converse(problem, name, (i, place * self.samples + i), messages, later, first, context)
            for place, (name, firsts) in enumerate(zip(named, drawn, strict=True))
            for i, first in enumerate(firsts)
        ]
        return [await calls[0]] if len(calls) == 1 else await asyncio.gather(*calls)

    def cautions(self) -> Sequence[str]:
        """Samples that would all be alike."""
        return alike(self.samples, self.sampling, "sampling")

    def estimate(self, problem: Problem) -> Estimate:
        """Exact in completions; tokens count four characters each and every answer at its full length.

        A problem that lacks a column costs nothing.
        """
        try:
            chars = sum(len(m.content) for m in self._messages(RowValues(problem)))
        except RowRejected:
            return Estimate(0, 0, 0, 0, rows_max=0)
        turns = 1 + len(self.follow_ups)
        # A follow-up's prompt holds the turns before it: on average half of the conversation.
        later = sum(len(f) for f in self.follow_ups) // 2 // _CHARS_PER_TOKEN
        prompt = chars // _CHARS_PER_TOKEN + later + (turns - 1) * self.sampling.max_tokens // 2
        calls = self.count * turns
        return Estimate(calls, calls, prompt, self.sampling.max_tokens, rows_max=self.count)

    def _messages(self, row: RowValues) -> tuple[Message, ...]:
        return opening(row, self.prompt, self.system, self.examples)

    async def _first(
        self,
        problem: Problem,
        name: str | None,
        messages: tuple[Message, ...],
        context: Context,
        places: range | None = None,
    ) -> Sequence[Completion | RowRejected]:
        """The first answers, or those at ``places`` among them. Where each sample is a request of its own,
        one that fails costs itself alone.

        ``RowRejected`` where all fail.
        """
        places = range(self.samples) if places is None else places
        request = Request(
            messages, with_logprobs(self.sampling, self.confidence), context.seed_for(problem.id)
        )
        engine = context.named(name)
        if len(places) == 1 or Ability.MANY in engine.abilities:
            return await engine.generate(request, first=places.start, n=len(places))
        calls = [_one(engine, request, i) for i in places]
        answers = await asyncio.gather(*calls)
        failed = [answer for answer in answers if isinstance(answer, RowRejected)]
        if len(failed) == len(answers):
            raise failed[0]
        return answers

    async def _converse(
        self,
        problem: Problem,
        name: str | None,
        index: tuple[int, int],
        messages: tuple[Message, ...],
        follow_ups: Sequence[str],
        answer: Completion | RowRejected,
        context: Context,
    ) -> Sampled | Rejection:
        own, whole = index
        record_id = f"{problem.id}/{own}" if name is None else f"{problem.id}/{name}/{own}"
        if isinstance(answer, RowRejected):
            return Rejection(record_id, answer.reason, answer.message)
        drawn, sampling = [answer], with_logprobs(self.sampling, self.confidence)
        for turn, text in enumerate(follow_ups, 1):
            if not answer.finished:
                detail = f"turn {turn} of {len(follow_ups) + 1} ended by {answer.finish_reason}"
                return Rejection(record_id, "unfinished turn before the last", detail)
            said = Message("assistant", answer.text, answer.reasoning if self.keep_reasoning else "")
            messages = (*messages, said, Message("user", text))
            request = Request(messages, sampling, context.seed_for(problem.id, turn))
            # Samples with equal answers send equal prompts; the index keeps their completions apart.
            answer = await _one(context.named(name), request, own)
            if isinstance(answer, RowRejected):
                detail = f"turn {turn + 1} of {len(follow_ups) + 1}: {answer.message}"
                return Rejection(record_id, answer.reason, detail)
            drawn.append(answer)
        return Sampled(
            id=record_id,
            problem_id=problem.id,
            index=whole,
            problem=problem.problem,
            answer=problem.answer,
            messages=messages,
            completion=answer.text,
            finish_reason=answer.finish_reason,
            prompt_tokens=sum(c.prompt_tokens for c in drawn),
            completion_tokens=sum(c.completion_tokens for c in drawn),
            verdict=await self._judge(problem, answer, context),
            scores=tuple(
                Score(score, value)
                for score, value in by_phase(answer, self.confidence, self.vocabulary).items()
            ),
            model=name,
            meta=problem.meta,
            reasoning=answer.reasoning,
            reasoning_tokens=sum(c.reasoning_tokens for c in drawn),
        )

    async def _judge(self, problem: Problem, answer: Completion, context: Context) -> Verdict | None:
        if not self.verify or problem.answer is None:
            return None
        return await context.judge(answer, problem.answer)


async def _one(engine: Engine, request: Request, index: int) -> Completion | RowRejected:
    """One sample of a request, or why there is none."""
    try:
        [answer] = await engine.generate(request, first=index)
    except RowRejected as error:
        return error
    return answer
