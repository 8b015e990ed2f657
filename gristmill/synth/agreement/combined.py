"""Several samples in one prompt: which of them agrees most with the others, and one answer made of all.

``universal_vote`` is universal self-consistency (arXiv 2311.17311), ``aggregate`` generative self-aggregation
(arXiv 2503.04104). The prompts are the project's own. So are these rules: responses are shown in a seeded
order, since models prefer places; each has the same room, in which its beginning and its end are shown; and
each is quoted, so that no response can pose as an instruction.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, ClassVar

from msgspec import Meta, Struct
from msgspec.structs import replace

from gristmill.core.engine import Ability, Completion, Message, Request, Sampling
from gristmill.core.errors import RowRejected
from gristmill.core.prompts import fill, require, within
from gristmill.core.records import Problem, Sampled, Score, with_score
from gristmill.core.stages import Context, Estimate, Rejection, RowStage
from gristmill.filters.order import seeded_order
from gristmill.synth.drawing import CHAT, JUDGE_CALL, SEVERAL, drawn_of, engines_used, require_samples, summed
from gristmill.synth.sampling import Sample
from gristmill.verifiers.judges.base import bounds, fence, quote

_CHARS_PER_TOKEN = 4
_CUT = "\n[...]\n"
_WHICH = """Here is a problem and {count} responses to it, numbered from 1.

{problem}

{responses}

Which response agrees most with the others, in its final answer and in what it rests on? Weigh them in brief,
then end with a line "Most consistent: N", N being the number of one response."""
_ALL = """Here is a problem and {count} responses to it. Some may be wrong.

{problem}

{responses}

Compare what the responses do, keep what holds, correct what does not, and write one complete answer to the
problem. Do not refer to the responses."""


class _Combining(RowStage, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The options of the stages that put several samples of a problem into one prompt."""

    reads: ClassVar[type[Struct]] = Problem
    writes: ClassVar[type[Struct]] = Sampled

    sample: Sample = SEVERAL
    """The options of the stage ``sample``, which draws the responses."""
    tokens_each: Annotated[int, Meta(ge=16)] = 512
    """Tokens of each response that are shown, four characters each. Of a longer one the middle is left
    out."""
    sampling: Sampling = Sampling(temperature=0.0, max_tokens=1024)
    """How the answer to the joint prompt is sampled."""
    reader_engine: str | None = None
    """The name of the engine that reads the responses; ``null`` is the stage's own."""

    def __post_init__(self) -> None:
        require_samples(self.sample, 2)

    @property
    def needs(self) -> frozenset[Ability]:
        """To chat, unless other engines sample and read."""
        return self.sample.needs | (CHAT if self.reader_engine is None else frozenset())

    @property
    def uses(self) -> dict[str, frozenset[Ability]]:
        """The engines that are sampled, and the one that reads."""
        return engines_used(self.sample, self.reader_engine)

    @property
    def places(self) -> dict[str, frozenset[str]]:
        """What the prompts want of a row, by option."""
        return within("sample", self.sample.places)

    def _joint(self, problem: Problem, shown: Sequence[Sampled], prompt: str, seed: int) -> Request:
        code = fence(seed, [problem.problem, *(s.completion for s in shown)])
        room = self.tokens_each * _CHARS_PER_TOKEN
        responses = "\n\n".join(
            quote(f"RESPONSE {i}", shortened(s.completion, room), code) for i, s in enumerate(shown, 1)
        )
        quoted = quote("PROBLEM", problem.problem, code)
        text = fill(prompt, problem=quoted, responses=responses, count=str(len(shown)))
        return Request((Message("user", text),), self.sampling, seed)

    def _cost(self, problem: Problem, rows_max: int) -> Estimate:
        drawn = self.sample.estimate(problem)
        asked = bounds(1, 1, "text", self.sampling.max_tokens, problem.problem)
        shown = self.sample.count * min(self.tokens_each, drawn.completion_tokens)
        return summed(drawn, replace(asked, completions_min=0), shown, rows_max=rows_max)


class UniversalVote(_Combining, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Universal self-consistency (arXiv 2311.17311): samples each problem and asks which sample agrees most
    with the others, for answers that no verifier can compare.

    Every sample comes out with the score ``universal_vote``: 1 for the chosen one, 0 for the others, null
    where it was cut off. Where no number can be read, or one that no response has, the first finished sample
    is chosen; the summary shows how often as ``universal_vote defaults``. Identical texts are shown once.
    """

    prompt: str = _WHICH
    """The joint prompt, with the places ``{problem}``, ``{responses}`` and ``{count}``. The last number of
    the answer is the choice."""

    def __post_init__(self) -> None:
        require_samples(self.sample, 2)
        require("universal_vote.prompt", self.prompt, "responses", known=("problem", "count"))

    async def __call__(self, problem: Problem, context: Context) -> Sequence[Sampled | Rejection]:
        """Every sample with its score."""
        samples, dropped = await drawn_of(self.sample, problem, context)
        finished = list({s.completion: s for s in reversed(samples) if s.finish_reason == "stop"}.values())
        finished.sort(key=lambda s: s.index)
        if not finished:
            return [*dropped, *(with_score(s, Score("universal_vote")) for s in samples)]
        chosen, defaulted = finished[0], False
        if len(finished) > 1:
            seed = context.seed_for(problem.id, JUDGE_CALL)
            shown = [finished[i] for i in seeded_order(seed, [s.id for s in finished])]
            [answer] = await context.named(self.reader_engine).generate(
                self._joint(problem, shown, self.prompt, seed)
            )
            place = chosen_place(answer, len(shown))
            defaulted = place is None
            chosen = finished[0] if place is None else shown[place]
        context.measure("universal_vote defaults", int(defaulted))
        scored = [
            with_score(
                s,
                Score(
                    "universal_vote",
                    float(s.completion == chosen.completion) if s.finish_reason == "stop" else None,
                ),
            )
            for s in samples
        ]
        return [*scored, *dropped]

    def estimate(self, problem: Problem) -> Estimate:
        """The samples, and one prompt that shows all of them."""
        return self._cost(problem, self.sample.count)


class Aggregate(_Combining, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Generative self-aggregation (arXiv 2503.04104): samples each problem and has the model write one new
    answer in view of all of them; there is no vote.

    The answer comes out as a sample, judged by the recipe's verifier, with the id ``PROBLEM/aggregate``. A
    problem with fewer than two finished samples is rejected.
    """

    prompt: str = _ALL
    """The joint prompt, with the places ``{problem}``, ``{responses}`` and ``{count}``."""
    as_answer: bool = False
    """Whether ``messages`` are the problem's own prompt, so that the row trains an answer to the problem;
    otherwise they are the joint prompt, as it was sent."""
    verify: bool = True
    """Whether the recipe's verifier judges the answer where the problem has a reference."""

    def __post_init__(self) -> None:
        require_samples(self.sample, 2)
        require("aggregate.prompt", self.prompt, "responses", known=("problem", "count"))

    @property
    def verifies(self) -> bool:
        """Whether the answer is judged."""
        return self.verify

    async def __call__(self, problem: Problem, context: Context) -> Sequence[Sampled | Rejection]:
        """One answer, or a rejection."""
        samples, dropped = await drawn_of(self.sample, problem, context)
        finished = [s for s in samples if s.finish_reason == "stop"]
        if len(finished) < 2:
            detail = f"{len(finished)} of {len(samples)}"
            return [*dropped, Rejection(problem.id, "fewer than two finished samples", detail)]
        seed = context.seed_for(problem.id, JUDGE_CALL + 1)
        shown = [finished[i] for i in seeded_order(seed, [s.id for s in finished])]
        request = self._joint(problem, shown, self.prompt, seed)
        try:
            [answer] = await context.named(self.reader_engine).generate(request)
        except RowRejected as error:
            return [*dropped, Rejection(problem.id, error.reason, error.message)]
        judged = self.verify and problem.answer is not None
        made = Sampled(
            id=f"{problem.id}/aggregate",
            problem_id=problem.id,
            index=len(samples),
            problem=problem.problem,
            answer=problem.answer,
            messages=finished[0].messages if self.as_answer else request.messages,
            completion=answer.text,
            finish_reason=answer.finish_reason,
            prompt_tokens=answer.prompt_tokens,
            completion_tokens=answer.completion_tokens,
            verdict=await context.about(problem).judge(answer, problem.answer or "") if judged else None,
            model=self.reader_engine,
            meta=problem.meta,
            reasoning=answer.reasoning,
            reasoning_tokens=answer.reasoning_tokens,
        )
        return [made, *dropped]

    def estimate(self, problem: Problem) -> Estimate:
        """The samples, and one prompt that shows all of them."""
        return self._cost(problem, 1)


def chosen_place(answer: Completion, count: int) -> int | None:
    """The place, from 0, of the last number that a finished answer names; ``None`` where it names none, or
    one outside 1 to ``count``."""
    found = re.findall(r"(?<![\w.])\d+(?![\w]|\.\d)", answer.text) if answer.finished else []
    if not found or len(found[-1]) > _DIGITS:
        return None
    place = int(found[-1]) - 1
    return place if 0 <= place < count else None


_DIGITS = 6
"""A longer number is not that of a response, and need not be computed."""


def shortened(text: str, room: int) -> str:
    """``text``, of which the middle is left out where it has more than ``room`` characters."""
    if len(text) <= room:
        return text
    half = max(0, room - len(_CUT)) // 2
    return text[:half] + _CUT + text[len(text) - half :]
